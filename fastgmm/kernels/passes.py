"""A pass over the rows: blocks are copied transposed, scored, and either added to statistics or written out.

Two functions of a covariance type do the work on a block; `run_slot` finds them by address. Rows are cut into slots;
each slot owns its accumulators, so any number of threads gives the same bits.
"""

from typing import NamedTuple

import numba
import numpy as np
from numba.extending import register_jitable

from . import backend
from ._compile import jit
from .calls import address_of, array_at, call
from .elementary import compute_log_prob_norm, log_floor
from .parallel import slot_bounds

_blocks = backend.module("blocks")
load_block, sum_rows, padded_features = _blocks.load_block, _blocks.sum_rows, _blocks.padded_features


class KernelParameters(NamedTuple):
    """What the block functions read: features and components padded, means relative to `shift`.

    shift: (n_features but at least 8,) float64; the others in the dtype of X: log_const (n_components,), means and
    offsets (n_components, n_features), factors (n_components or 1, rows, columns) as the covariance type says. Padding
    features hold zeros; padding components have a log_const of -inf and zeros elsewhere.
    """

    shift: np.ndarray
    log_const: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    offsets: np.ndarray


class SlotStatistics(NamedTuple):
    """One row of accumulators per slot, float64.

    totals: (n_slots, 2) log-likelihood and number of rows beyond every component's range. The others are empty where
    only scores are wanted: sum_resp (n_slots, n_components); sum_first (n_slots, n_components, n_features); sum_outer
    (n_slots, n_components, rows, columns). What the last two hold is up to the covariance type; model/covariance.py
    centres them.
    """

    totals: np.ndarray
    sum_resp: np.ndarray
    sum_first: np.ndarray
    sum_outer: np.ndarray


class ScoreOutput(NamedTuple):
    """Where a pass writes; an array of length 0 is not wanted.

    log_prob_norm: (n_samples,); labels: (n_samples,) int64; resp and log_prob, the weighted log-densities of the
    components: (n_samples, n_components).
    """

    log_prob_norm: np.ndarray
    labels: np.ndarray
    resp: np.ndarray
    log_prob: np.ndarray


@jit()
def load_resp(resp, weight, first, count, out):
    """out[k, p] = resp[first + p, k] times the row's weight, zero beyond `count` rows and in padding components."""
    out[:] = 0
    for p in range(count):
        for k in range(resp.shape[1]):
            out[k, p] = resp[first + p, k] * weight[p]


@jit()
def load_weight(sample_weight, first, count, weight):
    """weight[p] = sample_weight[first + p] (1 without weights), zero beyond `count` rows."""
    weight[:] = 0
    if sample_weight.shape[0] > 0:
        for p in range(count):
            weight[p] = sample_weight[first + p]
    else:
        weight[:count] = 1


@jit()
def write_labels(label, first, count, out):
    """out[first + p] = label[p], as an integer."""
    rows = out[first : first + count]
    for p in range(count):
        rows[p] = np.int64(label[p])


@jit()
def harden_inplace(block_resp, weight, label):
    """block_resp[k, p] = weight[p] where label[p] is k, else 0; label[p] = 1, the sum of hard responsibilities."""
    one = label.dtype.type(1)
    for k in range(block_resp.shape[0]):
        row, number = block_resp[k], label.dtype.type(k)
        for p in range(label.shape[0]):
            row[p] = weight[p] if label[p] == number else label.dtype.type(0)
    for p in range(label.shape[0]):
        label[p] = one


@jit()
def write_resp(block_resp, first, count, resp):
    """resp[first + p, k] = block_resp[k, p]."""
    for p in range(count):
        for k in range(resp.shape[1]):
            resp[first + p, k] = block_resp[k, p]


@jit()
def write_log_prob(block_log_prob, first, count, log_prob):
    """log_prob[first + p, k] = block_log_prob[k, p], and -inf where that is the finite floor."""
    limit = far_limit(block_log_prob[0])
    for p in range(count):
        for k in range(log_prob.shape[1]):
            value = block_log_prob[k, p]
            log_prob[first + p, k] = value if value >= limit else -np.inf


@jit()
def write_rows(values, first, count, out):
    """out[first + p] = values[p]; a slice assignment would compile two seconds of code for its error message."""
    for p in range(count):
        out[first + p] = values[p]


@jit()
def weighted_sum(values, weight, count):
    """Sum of values[p] weight[p], in float64."""
    s = 0.0
    for p in range(count):
        s += np.float64(values[p]) * weight[p]
    return s


@jit()
def far_limit(values):
    """Log-probabilities below this are the finite floor, in the dtype of `values`: a distance left the float range."""
    return values.dtype.type(0.9) * log_floor(values[0])


@jit()
def count_far(peak, count):
    """Number of rows whose best log-probability is the finite floor."""
    limit = far_limit(peak)
    n_far = 0
    for p in range(count):
        n_far += peak[p] < limit
    return n_far


@register_jitable
def padded_components(n_components):
    """Components as the block functions see them: pairs."""
    return -(-n_components // 2) * 2


class BlockFunctions(NamedTuple):
    """What is done with a block: addresses (calls.py), and whether distances pass between the last two.

    e_step is `e_step_of_fit` or `e_step_in_general`. The others are a covariance type's:
    compute_resp(xt, parameters, scratch, mahalanobis, weight, X, following, only_log_prob, resp, peak, total) scores,
    accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer) adds up, where
    mean_resp is that of `run_slot`.
    With `hard`, rows belong to their most probable component alone (classification EM).
    """

    e_step: int
    compute_resp: int
    accumulate_block: int
    keeps_distances: int
    hard: int


def workspace_bytes(block, parameters, functions):
    """Bytes that `run_slot` works with."""
    return slot_bytes(block, *parameters.means.shape, parameters.means.itemsize, functions.keeps_distances)


@register_jitable
def slot_bytes(block, n_components, n_features, itemsize, keeps_distances):
    """Bytes that `run_slot` works with, for padded numbers of components and features."""
    n_rows = 2 * n_features + 8 + n_components * (1 + keeps_distances)
    return n_rows * block * itemsize + 8 * (block + n_components)


@jit(by_address=True)
def e_step_of_fit(arguments, slot, first, xt, block_resp, mahalanobis, scratch):
    """Score the block of the rows from `first` on: block_resp, and two numbers to add to the slot's totals.

    arguments, slot: those of `run_slot`, by address because handing over the 170 words they stand for took a tenth of
    the time of a block of two features; xt: (n_features, block), the block; block_resp: (n_components, block);
    mahalanobis: likewise, or empty where the covariance type keeps no distances; scratch: (n_features + 8, block),
    whose last four rows are the weights, on entry, and what the scoring leaves.
    """
    X, _, _, _, parameters, functions, statistics, output = arguments[0]
    weight, peak, total, log_prob_norm = scratch[-4], scratch[-3], scratch[-2], scratch[-1]
    block = weight.shape[0]
    count = min(block, X.shape[0] - first)
    scoring = (xt, parameters, scratch, mahalanobis, weight, X, first + block)
    call(functions.compute_resp, (*scoring, False, block_resp, peak, total))
    compute_log_prob_norm(peak, total, log_prob_norm)
    statistics.totals[slot, 0] += weighted_sum(log_prob_norm, weight, count)
    statistics.totals[slot, 1] += count_far(peak, count)
    if output.log_prob_norm.shape[0] > 0:
        write_rows(log_prob_norm, first, count, output.log_prob_norm)


@jit(by_address=True)
def e_step_in_general(arguments, slot, first, xt, block_resp, mahalanobis, scratch):
    """`e_step_of_fit` with given or hard responsibilities and all outputs, which take half as long to compile as a fit.

    Without outputs and given responsibilities it is a fit's.
    """
    X, _, resp, _, parameters, functions, statistics, output = arguments[0]
    weight, peak, total, log_prob_norm = scratch[-4], scratch[-3], scratch[-2], scratch[-1]
    block = weight.shape[0]
    count = min(block, X.shape[0] - first)
    scoring = (xt, parameters, scratch, mahalanobis, weight, X, first + block)
    labels, log_prob = output.labels.shape[0] > 0, output.log_prob.shape[0] > 0
    given, writes = resp.shape[0] > 0, output.log_prob_norm.shape[0] + output.resp.shape[0] > 0
    if labels or log_prob or (given and mahalanobis.shape[0] > 0):  # or for the distances alone
        call(functions.compute_resp, (*scoring, True, block_resp, peak, total))
    if log_prob:
        write_log_prob(block_resp, first, count, output.log_prob)
    if labels:
        write_labels(total, first, count, output.labels)
    if not given and (writes or not (labels or log_prob)):
        call(functions.compute_resp, (*scoring, functions.hard > 0, block_resp, peak, total))
        if functions.hard > 0:
            harden_inplace(block_resp, weight, total)
        compute_log_prob_norm(peak, total, log_prob_norm)
        statistics.totals[slot, 0] += weighted_sum(log_prob_norm, weight, count)
    if given:
        load_resp(resp, weight, first, count, block_resp)
    else:
        statistics.totals[slot, 1] += count_far(peak, count)
    if output.resp.shape[0] > 0:
        write_resp(block_resp, first, count, output.resp)
    if output.log_prob_norm.shape[0] > 0:
        write_rows(log_prob_norm, first, count, output.log_prob_norm)


_block_functions: dict[object, BlockFunctions] = {}


def block_functions(module, parameters, general):
    """Return the BlockFunctions of a covariance type's module for parameters in their dtype, compiled if need be.

    general: whether responsibilities are given or hard, or anything but log-densities is written.
    """
    narrow = parameters.means.shape[1] == 2
    key = module, parameters.means.dtype, narrow, general
    found = _block_functions.get(key)
    if found is not None:
        return found
    compute_resp = module.compute_resp
    accumulate_block = getattr(module, "accumulate_block", None)  # low_rank has a pass of its own
    if narrow:  # only the functions of the width at hand: the others take half of the time to compile
        compute_resp = getattr(module, "narrow_compute_resp", compute_resp)
        accumulate_block = getattr(module, "narrow_accumulate_block", accumulate_block)
    number = numba.from_dtype(parameters.means.dtype)
    values, sums = ([numba.types.Array(kind, n, "C") for n in range(5)] for kind in (number, numba.float64))
    kind = numba.typeof(parameters)
    rows = numba.types.Array(number, 2, "C", readonly=True)
    where = (rows, numba.int64)
    scoring = (values[2], kind, *(values[2],) * 2, values[1], *where, numba.boolean, values[2], *(values[1],) * 2)
    offsets = numba.types.Array(numba.int64, 1, "C")
    adding = (values[2], values[2], sums[1], values[2], offsets, kind, values[2], sums[2], sums[3])
    weight, given = (numba.types.Array(numba.float64, n, "C", readonly=True) for n in (1, 2))
    functions = numba.types.NamedUniTuple(numba.int64, 5, BlockFunctions)
    statistics = numba.types.NamedTuple((sums[2], sums[2], sums[3], sums[4]), SlotStatistics)
    output = numba.types.NamedTuple((values[1], offsets, values[2], values[2]), ScoreOutput)
    arguments = numba.types.Tuple((rows, weight, given, numba.int64, kind, functions, statistics, output))
    stepping = (numba.types.CPointer(arguments), numba.int64, numba.int64, *(values[2],) * 4)
    _block_functions[key] = BlockFunctions(
        address_of(e_step_in_general if general else e_step_of_fit, stepping),
        address_of(compute_resp, scoring),
        address_of(accumulate_block, adding) if accumulate_block else 0,
        int(module.KEEPS_DISTANCES),
        0,
    )
    return _block_functions[key]


@jit(by_address=True)
def run_slot(arguments, slot, workspace):
    """Run one slot of a pass, which adds up statistics, or fills outputs, or both.

    arguments[0]: X, sample_weight, resp, block, KernelParameters, BlockFunctions, SlotStatistics and ScoreOutput.
    Arrays without entries are not wanted: `sample_weight` of length 0 means weight 1, and without `resp`
    responsibilities come from the parameters. Statistics are added to, not cleared; X is read only. What is small
    enough to be left out of a component's moments is told by its mean responsibility over the slot's rows so far; that
    is 0 for a component which the block lacks.
    """
    X, sample_weight, _, size, parameters, functions, statistics, output = arguments[0]
    n_components, n_features = parameters.means.shape
    n_kept, row = n_components * functions.keeps_distances, size * parameters.means.itemsize
    xt = array_at(workspace, 0, (n_features, size), parameters.means)
    block_resp = array_at(workspace, n_features * row, (n_components, size), parameters.means)
    mahalanobis = array_at(workspace, (n_features + n_components) * row, (n_kept, size), parameters.means)
    end = (n_features + n_components + n_kept) * row
    scratch = array_at(workspace, end, (n_features + 8, size), parameters.means)
    end += (n_features + 8) * row
    active = array_at(workspace, end, (size,), output.labels)
    mean_resp = array_at(workspace, end + 8 * size, (n_components,), statistics.totals)
    weight = scratch[n_features + 4]
    accumulates = statistics.sum_resp.shape[0] > 0
    xt[:] = 0
    lower, upper = slot_bounds((X.shape[0] + size - 1) // size, statistics.totals.shape[0], slot)
    for b in range(lower, upper):
        first = b * size
        count = min(size, X.shape[0] - first)
        load_block(X, first, count, parameters.shift, xt)
        load_weight(sample_weight, first, count, weight)
        call(functions.e_step, (arguments, slot, first, xt, block_resp, mahalanobis, scratch))
        if accumulates:
            sum_first, sum_outer = statistics.sum_first[slot], statistics.sum_outer[slot]
            sum_resp, n_rows = statistics.sum_resp[slot], first + count - lower * size
            sum_rows(block_resp, mean_resp)
            for k in range(n_components):
                sum_resp[k] += mean_resp[k]
                mean_resp[k] = sum_resp[k] / n_rows if mean_resp[k] > 0 else 0.0
            call(
                functions.accumulate_block,
                (xt, block_resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer),
            )
