"""A pass over the rows: blocks are copied transposed, scored, and either added to statistics or written out.

`make_passes` composes the two block functions of a covariance type into the four functions that the layers above
call. Rows are cut into slots; each slot owns its accumulators, so any number of threads gives the same bits.
"""

from typing import NamedTuple

import numba
import numpy as np

from ._compile import jit
from .elementary import (
    compute_log_prob_norm,
    compute_total,
    compute_unnormalised_resp_inplace,
    compute_weighted_log_prob,
    log_floor,
)


class KernelParameters(NamedTuple):
    """What the block functions read: n_features padded to a multiple of four, means relative to `shift`.

    shift: (n_features unpadded,) float64; the others in the dtype of X: log_const (n_components,), means and offsets
    (n_components, n_features), factors (n_components or 1, rows, columns) as the covariance type says.
    """

    shift: np.ndarray
    log_const: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    offsets: np.ndarray


class SlotStatistics(NamedTuple):
    """One row of accumulators per slot, float64.

    totals: (n_slots, 2) log-likelihood and number of rows beyond every component's range; sum_resp: (n_slots,
    n_components); sum_first: (n_slots, n_components, n_features); sum_outer: (n_slots, n_components, rows, columns).
    What the last two hold is up to the covariance type; model/covariance.py centres them.
    """

    totals: np.ndarray
    sum_resp: np.ndarray
    sum_first: np.ndarray
    sum_outer: np.ndarray


class ScoreOutput(NamedTuple):
    """Where a score pass writes; an array of length 0 is not wanted.

    log_prob_norm: (n_samples,); labels: (n_samples,) int64; resp: (n_samples, n_components); n_far: (n_slots,) int64,
    added to: rows whose distance to every component left the float range.
    """

    log_prob_norm: np.ndarray
    labels: np.ndarray
    resp: np.ndarray
    n_far: np.ndarray


@jit()
def aligned_rows(n_rows, block, like):
    """Allocate (n_rows, block) of like's dtype on a 64-byte boundary: unaligned vectors cost up to half the speed."""
    size = n_rows * block
    lanes = 64 // like.itemsize
    buffer = np.empty(size + lanes, like.dtype)
    skip = (-(buffer.ctypes.data // like.itemsize)) % lanes
    return buffer[skip : skip + size].reshape((n_rows, block))


@jit()
def load_block(X, first, count, shift, xt):
    """xt[d, p] = X[first + p, d] - shift[d] in float64, rounded to xt's dtype; zero beyond `count` rows."""
    rows = X[first : first + count]
    for d in range(rows.shape[1]):
        column, out, s = rows[:, d], xt[d], shift[d]
        for p in range(count):
            out[p] = column[p] - s
    if count < xt.shape[1]:
        xt[:, count:] = 0


@jit()
def slot_bounds(n_samples, block, n_slots, slot):
    """First and last block of a slot: a function of the problem's shape only."""
    n_blocks = (n_samples + block - 1) // block
    return slot * n_blocks // n_slots, (slot + 1) * n_blocks // n_slots


@jit()
def load_resp(resp, count, out):
    """out[k, p] = resp[p, k], zero beyond `count` rows."""
    out[:, count:] = 0
    for p in range(count):
        for k in range(out.shape[0]):
            out[k, p] = resp[p, k]


@jit()
def compute_scale(sample_weight, first, count, total, scale):
    """scale[p] = weight of the row / total[p], zero beyond `count` rows."""
    for p in range(count):
        scale[p] = 1 / total[p]
    scale[count:] = 0
    if sample_weight.shape[0] > 0:
        for p in range(count):
            scale[p] *= sample_weight[first + p]


@jit()
def scale_rows_inplace(resp, scale, block_resp):
    """resp[k] *= scale, and block_resp[k] = sum of the new row."""
    for k in range(resp.shape[0]):
        row = resp[k]
        s = resp.dtype.type(0)
        for p in range(row.shape[0]):
            value = row[p] * scale[p]
            row[p] = value
            s += value
        block_resp[k] = s


@jit()
def write_labels(weighted_log_prob, best, labels):
    """labels[p] = the first component of largest log-probability; best: (block,) scratch; labels: (count,)."""
    count = labels.shape[0]
    labels[:] = 0
    for p in range(count):
        best[p] = weighted_log_prob[0, p]
    for k in range(1, weighted_log_prob.shape[0]):
        row = weighted_log_prob[k]
        for p in range(count):
            better = row[p] > best[p]
            best[p] = row[p] if better else best[p]
            labels[p] = k if better else labels[p]


@jit()
def write_resp(unnormalised, total, first, count, resp):
    """resp[first + p, k] = unnormalised[k, p] / total[p]."""
    for p in range(count):
        out = resp[first + p]
        scale = 1 / total[p]
        for k in range(out.shape[0]):
            out[k] = unnormalised[k, p] * scale


@jit()
def weighted_sum(values, sample_weight, first, count):
    """Sum of values[:count], each times the weight of its row."""
    s = 0.0
    if sample_weight.shape[0] > 0:
        for p in range(count):
            s += values[p] * sample_weight[first + p]
    else:
        for p in range(count):
            s += values[p]
    return s


@jit()
def count_far(peak, count):
    """Number of rows whose best log-probability is the finite floor: their distances left the float range."""
    limit = peak.dtype.type(0.9) * log_floor(peak[0])
    n_far = 0
    for p in range(count):
        n_far += peak[p] < limit
    return n_far


def make_passes(name, compute_mahalanobis, accumulate_block):
    """Compose the block functions of a covariance type into (accumulate_pass, accumulate_slot, score_pass, score_slot).

    A pass runs all slots in a prange; a slot function runs one, for other schedulers, and takes the slot's number as
    last argument. `sample_weight` of length 0 means weight 1. `resp` of length 0 means that responsibilities come
    from the parameters. Statistics are added to, not cleared; X is read only; nothing is allocated per block.
    """

    def accumulate_slot(X, sample_weight, resp, block, parameters, statistics, slot):
        n_components, n_features = parameters.means.shape
        xt = aligned_rows(n_features, block, parameters.means)
        mahalanobis = aligned_rows(n_components, block, parameters.means)
        log_prob = aligned_rows(n_components, block, parameters.means)
        scratch = aligned_rows(n_features + 4, block, parameters.means)
        vectors = aligned_rows(4, block, parameters.means)
        peak, total, scale, log_prob_norm = vectors[0], vectors[1], vectors[2], vectors[3]
        block_resp = np.empty(n_components, parameters.means.dtype)
        totals, sum_resp = statistics.totals[slot], statistics.sum_resp[slot]
        sum_first, sum_outer = statistics.sum_first[slot], statistics.sum_outer[slot]
        xt[:] = 0
        lower, upper = slot_bounds(X.shape[0], block, statistics.totals.shape[0], slot)
        for b in range(lower, upper):
            first = b * block
            count = min(block, X.shape[0] - first)
            load_block(X, first, count, parameters.shift, xt)
            compute_mahalanobis(xt, parameters, scratch, mahalanobis)
            if resp.shape[0] > 0:
                load_resp(resp[first:], count, log_prob)
                total[:] = 1
            else:
                compute_weighted_log_prob(parameters.log_const, mahalanobis, log_prob, peak)
                compute_unnormalised_resp_inplace(log_prob, peak, total)
                compute_log_prob_norm(peak, total, log_prob_norm)
                totals[0] += weighted_sum(log_prob_norm, sample_weight, first, count)
                totals[1] += count_far(peak, count)
            compute_scale(sample_weight, first, count, total, scale)
            scale_rows_inplace(log_prob, scale, block_resp)
            accumulate_block(xt, log_prob, block_resp, mahalanobis, parameters, scratch, sum_first, sum_outer)
            for k in range(n_components):
                sum_resp[k] += block_resp[k]

    def score_slot(X, block, parameters, output, slot):
        n_components, n_features = parameters.means.shape
        xt = aligned_rows(n_features, block, parameters.means)
        mahalanobis = aligned_rows(n_components, block, parameters.means)
        log_prob = aligned_rows(n_components, block, parameters.means)
        scratch = aligned_rows(n_features + 4, block, parameters.means)
        vectors = aligned_rows(3, block, parameters.means)
        peak, total, log_prob_norm = vectors[0], vectors[1], vectors[2]
        xt[:] = 0
        lower, upper = slot_bounds(X.shape[0], block, output.n_far.shape[0], slot)
        for b in range(lower, upper):
            first = b * block
            count = min(block, X.shape[0] - first)
            load_block(X, first, count, parameters.shift, xt)
            compute_mahalanobis(xt, parameters, scratch, mahalanobis)
            compute_weighted_log_prob(parameters.log_const, mahalanobis, log_prob, peak)
            output.n_far[slot] += count_far(peak, count)
            if output.labels.shape[0] > 0:
                write_labels(log_prob, total, output.labels[first : first + count])
            if output.resp.shape[0] > 0:
                compute_unnormalised_resp_inplace(log_prob, peak, total)
                write_resp(log_prob, total, first, count, output.resp)
            elif output.log_prob_norm.shape[0] > 0:
                compute_total(log_prob, peak, total)
            if output.log_prob_norm.shape[0] > 0:
                compute_log_prob_norm(peak, total, log_prob_norm)
                output.log_prob_norm[first : first + count] = log_prob_norm[:count]

    accumulate_slot.__qualname__ = f"{name}.accumulate_slot"
    score_slot.__qualname__ = f"{name}.score_slot"
    accumulate_slot = jit()(accumulate_slot)
    score_slot = jit()(score_slot)

    def accumulate_pass(X, sample_weight, resp, block, parameters, statistics):
        for slot in numba.prange(statistics.totals.shape[0]):
            accumulate_slot(X, sample_weight, resp, block, parameters, statistics, np.int64(slot))

    def score_pass(X, block, parameters, output):
        for slot in numba.prange(output.n_far.shape[0]):
            score_slot(X, block, parameters, output, np.int64(slot))

    accumulate_pass.__qualname__ = f"{name}.accumulate_pass"
    score_pass.__qualname__ = f"{name}.score_pass"
    return jit(parallel=True)(accumulate_pass), accumulate_slot, jit(parallel=True)(score_pass), score_slot
