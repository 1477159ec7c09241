"""Starts of a small problem in one call: clusters, their first M-steps, short runs of EM, and the best of them."""

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from . import backend, kmeans
from ._compile import jit
from .calls import ALIGNMENT, array_at, beyond, call, padded_to_line
from .iterate import LEFT, RIVAL, SINGULAR, PassAddresses, clear, copy_mixture
from .m_step import DIAG, DONE, FULL, IS_SINGULAR, LACKS_DIGITS, LEAN, SPHERICAL
from .nearest import Comparing, Nearest, Sample, padded_to_four
from .passes import padded_components, slot_bytes
from .random import uniform

_blocks = backend.module("blocks")
load_block, sum_rows, padded_features = _blocks.load_block, _blocks.sum_rows, _blocks.padded_features

# Starts by number: k-means with one unit for all columns, k-means with each column's own, random rows.
STARTS = ("kmeans in units", "kmeans", "random rows")
IN_UNITS, STANDARDISED, RANDOM_ROWS = range(3)
MOST_LLOYD, MOST_EXCHANGES = 100, 32  # the second of optimization/compiled.py: n_exchanges
CANDIDATES = 4  # random rows looked at for each component, in search of different ones
TRIES = 20


class Choice(NamedTuple):
    """What starts are tried, and how long.

    starts: (n_starts,) int64; scales: (2, n_features), what columns are divided by: one unit, and each its own;
    numbers: (4,) float64: least gain of a short run's step and its most steps, by how much a better start must exceed
    another, relative; and steps of k-means' local search.
    """

    starts: np.ndarray
    scales: np.ndarray
    numbers: np.ndarray


class StartAddresses(NamedTuple):
    """Where the functions are that `begin` calls, and those that they call."""

    cluster: int
    iterate: int
    of_pass: PassAddresses
    comparing: Comparing


def begin_bytes(n_samples, n_features, n_components):
    """Bytes that `begin` works with."""
    block, n_blocks = blocks_of(n_samples)
    padded = padded_to_four(n_features)
    per_row = padded + 1 + 3  # blocks, weights, Nearest
    n_candidates = CANDIDATES * n_components
    n_numbers = kmeans.n_numbers(n_components, True, MOST_EXCHANGES)
    whole = 8 * (n_blocks * block * (per_row + 2) + n_components * padded + n_candidates + n_numbers) + ALIGNMENT
    in_pass = slot_bytes(512, padded_components(n_components), padded_features(n_features), 8, 0)
    return whole + max(kmeans.clustering_bytes(n_blocks, padded, block, n_components), in_pass)


@register_jitable
def blocks_of(n_samples):
    """Rows of a block of a sample, and how many there are."""
    block = min(512, (n_samples + 31) // 32 * 32)
    return block, (n_samples + block - 1) // block


@jit()
def fill_sample(X, sample_weight, shift, scale, sample):
    """Rows less the shift, in units of the scale, transposed block by block; weights, 0 beyond the last row."""
    n_samples, n_features = X.shape
    n_blocks, _, block = sample.blocks.shape
    sample.blocks[:] = 0.0
    sample.weight[:] = 0.0
    for b in range(n_blocks):
        for p in range(min(block, n_samples - b * block)):
            i = b * block + p
            sample.weight[b, p] = sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
            for d in range(n_features):
                sample.blocks[b, d, p] = (X[i, d] - shift[d]) / scale[d]


@jit()
def same_row(sample, one, other):
    """Whether two rows are equal."""
    block = sample.weight.shape[1]
    for d in range(sample.blocks.shape[1]):
        if sample.blocks[one // block, d, one % block] != sample.blocks[other // block, d, other % block]:
            return False
    return True


@jit()
def is_among(value, values, n):
    """Whether a number is one of the first n."""
    found = False
    for i in range(n):
        found = found or values[i] == value
    return found


@jit()
def draw_different_rows(sample, n_samples, centers, drawn, cumulative, state):
    """Overwrite centers by rows drawn by weight, no two of them equal while there are enough."""
    n_components, n_drawn, n_found = centers.shape[0], 0, 0
    ones = sample.weight
    s, block = 0.0, sample.weight.shape[1]
    for b in range(ones.shape[0]):
        for p in range(block):
            s += ones[b, p]
            cumulative[b * block + p] = s
    for _ in range(min(drawn.shape[0], n_samples)):
        row = -1
        for _ in range(TRIES):
            row = kmeans.draw_row(cumulative, n_samples, uniform(state))
            if not is_among(row, drawn, n_drawn):
                break
            row = -1
        if row < 0:
            continue
        equal = False
        for i in range(n_found):
            equal = equal or same_row(sample, row, drawn[i])
        drawn[n_drawn] = row
        n_drawn += 1
        if not equal:  # different ones first
            drawn[n_drawn - 1], drawn[n_found] = drawn[n_found], row
            n_found += 1
            if n_found == n_components:
                break
    for k in range(n_components):
        kmeans.copy_row(sample, drawn[min(k, n_drawn - 1)], centers[k])


@jit()
def sum_blocks(rows, labels, sums, workspace):
    """Sums of full covariances by the functions of a pass: blocks whose responsibilities are 1 for the label."""
    X, sample_weight, parameters, statistics = rows.X, rows.sample_weight, sums.parameters, sums.statistics
    n_components, n_features = parameters.means.shape
    like, size, in_block = parameters.means, rows.block, labels.shape[1]
    row = size * like.itemsize
    xt = array_at(workspace, 0, (n_features, size), like)
    resp = array_at(workspace, n_features * row, (n_components, size), like)
    scratch = array_at(workspace, (n_features + n_components) * row, (n_features + 8, size), like)
    end = (2 * n_features + n_components + 8) * row
    active = array_at(workspace, end, (size,), labels)
    mean_resp = array_at(workspace, end + 8 * size, (n_components,), statistics.totals)
    xt[:] = 0
    for first in range(0, X.shape[0], size):
        count = min(size, X.shape[0] - first)
        load_block(X, first, count, parameters.shift, xt)
        resp[:] = 0
        for p in range(count):
            i = first + p
            resp[labels[i // in_block, i % in_block], p] = sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
        sum_rows(resp, mean_resp)
        for k in range(n_components):
            mean_resp[k] /= count
        call(
            rows.functions.accumulate_block,
            (
                *(xt, resp, mean_resp, resp[:0], active, parameters, scratch),
                *(statistics.sum_first[0], statistics.sum_outer[0]),
            ),
        )


@jit()
def sum_labels(kind, rows, labels, sums, shift, work, workspace):
    """Sums of the rows of each label about their own means, as a pass under these means would leave them."""
    X, sample_weight, statistics = rows.X, rows.sample_weight, sums.statistics
    n_samples, n_features = X.shape
    n_components, block = work.rounded.shape[0], labels.shape[1]
    clear(statistics)
    work.rounded[:] = 0.0
    count, mean = statistics.sum_resp[0], work.rounded
    for i in range(n_samples):
        weight = sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
        k = labels[i // block, i % block]
        count[k] += weight
        for d in range(n_features):
            mean[k, d] += weight * (X[i, d] - shift[d])
    for k in range(n_components):
        for d in range(n_features):
            mean[k, d] /= count[k] if count[k] > 0 else 1.0
            if kind != FULL and kind != DIAG:
                statistics.sum_first[0, k, d] = mean[k, d] * count[k]
            if kind == FULL:
                sums.parameters.means[k, d] = mean[k, d]
                mean[k, d] = sums.parameters.means[k, d]
    if kind == FULL:
        sum_blocks(rows, labels, sums, workspace)
        return
    for i in range(n_samples):
        weight = sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
        k = labels[i // block, i % block]
        outer, diff = statistics.sum_outer[0, k if statistics.sum_outer.shape[1] > k else 0], work.scale
        for d in range(n_features):
            diff[d] = X[i, d] - shift[d] - mean[k, d]
        if kind == DIAG:
            for d in range(n_features):
                outer[0, d] += weight * diff[d] * diff[d]
        elif kind == SPHERICAL:
            for d in range(n_features):
                outer[0, 0] += weight * diff[d] * diff[d]


@jit()
def same_clusters(labels, others, n_samples, names):
    """Whether two clusterings of the rows are the same but for the names of the clusters.

    names: twice as long as there are clusters, overwritten.
    """
    n_components, block = names.shape[0] // 2, labels.shape[1]
    names[:] = -1
    for i in range(n_samples):
        label, other = labels[i // block, i % block], others[i // block, i % block]
        if names[label] == -1 and names[n_components + other] == -1:
            names[label], names[n_components + other] = other, label
        elif names[label] != other:
            return False
    return True


@jit()
def place_start(workspace, n_samples, n_features, n_components, n_exchanges, like, whole_numbers):
    """The arrays of a start in the workspace, and where what is left of it begins."""
    block, n_blocks = blocks_of(n_samples)
    padded = padded_to_four(n_features)
    sample = Sample(
        array_at(workspace, 0, (n_blocks, padded, block), like),
        array_at(workspace, 8 * n_blocks * padded * block, (n_blocks, block), like),
    )
    end, n_rows = 8 * n_blocks * (padded + 1) * block, 8 * n_blocks * block
    nearest = Nearest(
        array_at(workspace, end, (n_blocks, block), whole_numbers),
        array_at(workspace, end + n_rows, (n_blocks, block), like),
        array_at(workspace, end + 2 * n_rows, (n_blocks, block), like),
    )
    end += 3 * n_rows
    centers = array_at(workspace, end, (n_components, padded), like)
    end += 8 * n_components * padded
    drawn = array_at(workspace, end, (CANDIDATES * n_components,), whole_numbers)
    end += 8 * CANDIDATES * n_components
    cumulative = array_at(workspace, end, (n_blocks * block,), like)
    end += n_rows
    first = array_at(workspace, end, (n_blocks, block), whole_numbers)
    end += n_rows
    n_numbers = kmeans.n_numbers(n_components, True, n_exchanges)
    numbers = array_at(workspace, end, (n_numbers,), like)
    end = padded_to_line(end + 8 * n_numbers)  # tiles want lines
    return sample, nearest, centers, drawn, cumulative, first, numbers, end


@jit(by_address=True)
def begin(kind, rows, sums, columns, work, mixture, following, best, choice, course, state, at, team, workspace):
    """Overwrite `best` by the start of largest objective after a short run; the first of equals.

    Clusters that are those of the first start again are not tried twice.

    mixture, following: overwritten; course: its limits are those of `iterate`; state: of `random.uniform`; at: a
    StartAddresses. A start that becomes singular loses; course.outcome[1] is SINGULAR where all do, and LEFT where one
    comes to a step that compiled code cannot do.
    """
    n_samples, n_features = rows.X.shape
    n_components, like = mixture.means.shape[0], mixture.means
    n_exchanges = np.int64(choice.numbers[3])
    sample, nearest, centers, drawn, cumulative, first, numbers, end = place_start(
        workspace, n_samples, n_features, n_components, n_exchanges, like, choice.starts
    )
    highest, limits, why = -np.inf, course.limits, 0
    for i in range(choice.starts.shape[0]):
        start = choice.starts[i]
        if n_components == 1:
            nearest.labels[:] = 0
        else:
            fill_sample(rows.X, rows.sample_weight, columns.shift, choice.scales[min(start, 1)], sample)
            if start == RANDOM_ROWS:
                draw_different_rows(sample, n_samples, centers, drawn, cumulative, state)
            else:
                for j in range(numbers.shape[0]):
                    numbers[j] = uniform(state)
            steps = (False, 0, 0) if start == RANDOM_ROWS else (True, n_exchanges, MOST_LLOYD)
            call(
                at.cluster,
                (
                    *(sample, n_samples, centers, nearest, steps[0], steps[1], steps[2]),
                    *(numbers, at.comparing, team, beyond(workspace, end)),
                ),
            )
            if i == 0:
                for b in range(first.shape[0]):
                    kmeans.copy_to(nearest.labels[b], first[b])
            elif same_clusters(nearest.labels, first, n_samples, drawn):
                continue
        sum_labels(kind, rows, nearest.labels, sums, columns.shift, work, beyond(workspace, end))
        limits[0], limits[1], limits[2], limits[LEAN], limits[RIVAL] = choice.numbers[0], -np.inf, 0.0, 0.0, highest
        call(at.of_pass.maximise, (kind, sums.statistics, mixture, columns, limits, work, following, course.outcome))
        if course.outcome[DONE] == LACKS_DIGITS:
            why = LEFT
            break
        if course.outcome[DONE] == IS_SINGULAR:
            continue
        if n_components == 1:
            copy_mixture(following, best)
            highest = 0.0
            break
        copy_mixture(following, mixture)
        call(
            at.iterate,
            (
                *(kind, np.int64(choice.numbers[1]), rows, sums, columns, work, mixture, following, course),
                *(at.of_pass, team),
            ),
        )
        objective = limits[1]
        if course.outcome[1] == LEFT:
            why = LEFT
            break
        if course.outcome[1] < LEFT and (
            highest == -np.inf or objective - highest > choice.numbers[2] * max(1.0, abs(highest))
        ):
            highest = objective
            copy_mixture(mixture, best)
    course.outcome[0] = 0
    course.outcome[1] = SINGULAR if highest == -np.inf and why == 0 else why
