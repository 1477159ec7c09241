"""k-means for starting values: greedy k-means++ seeding, local search and Lloyd's iterations (distances: nearest.py).

`cluster` is compiled as a whole: a step of k-means++ on a sample of a few hundred rows takes less time than calling one
function from Python.
"""

import math
from functools import cache

import numba
import numpy as np
from numba.extending import register_jitable

from ._compile import jit
from .calls import address_of, array_at, call
from .nearest import CUBE, LABELS, MATRIX, SLOTS, VECTOR, Comparing, Nearest, Sample, assign, compare
from .parallel import Team

TOL = 1e-4  # on the mean squared move of a centre; columns are standardised


@register_jitable
def n_candidates(n_centers):
    """Candidates for the next centre of k-means++."""
    return 2 + int(math.log(max(1, n_centers)))


@register_jitable
def n_numbers(n_centers, seeds, n_exchanges):
    """Random numbers that `cluster` takes."""
    return (1 + (n_centers - 1) * n_candidates(n_centers) if seeds else 0) + n_exchanges


def clustering_bytes(n_blocks, n_features, block, n_centers):
    """Bytes that `cluster` works with."""
    n_tried = n_candidates(n_centers)
    per_row = n_tried + 2 + 1  # distances, two more, closest
    return 8 * (
        n_blocks * block * (per_row + 1)
        + n_tried * (n_features + SLOTS)
        + SLOTS * n_centers * (n_features + 1)
        + n_centers * (n_features + 2)
    )


@jit()
def copy_row(sample, row, out):
    """out[d] = feature d of the row of this number."""
    block = sample.weight.shape[1]
    for d in range(out.shape[0]):
        out[d] = sample.blocks[row // block, d, row % block]


@jit()
def copy_to(source, out):
    """out[d] = source[d]; a slice assignment makes a copy first, in case the two overlap."""
    for d in range(out.shape[0]):
        out[d] = source[d]


@jit()
def draw_row(cumulative, n_rows, number):
    """The row at which a number in [0, 1) falls, by the mass whose cumulative sums these are; the last one of none."""
    wanted, low, high = number * cumulative[n_rows - 1], 0, n_rows - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > wanted:
            high = middle
        else:
            low = middle + 1
    return low


@jit()
def cumulate(weight, distance, cumulative):
    """cumulative[i] = sum of weight times distance of the rows up to i; return the sum of all."""
    s, block = 0.0, weight.shape[1]
    for b in range(weight.shape[0]):
        for p in range(block):
            s += weight[b, p] * distance[b, p]
            cumulative[b * block + p] = s
    return s


@jit()
def seed(sample, n_rows, centers, numbers, at, team, workspace):
    """Overwrite centers (n_centers, n_features) by seeds of greedy k-means++ (Arthur and Vassilvitskii, 2007).

    At every step the best of 2 + ln n_centers candidates, drawn in proportion to their squared distance to the nearest
    centre so far.
    """
    n_blocks, n_features, block = sample.blocks.shape
    n_centers, like = centers.shape[0], centers
    n_tried = n_candidates(n_centers)
    distances = array_at(workspace, 0, (n_tried, n_blocks, block), like)
    end = 8 * n_tried * n_blocks * block
    closest = array_at(workspace, end, (n_blocks, block), like)
    cumulative = array_at(workspace, end + 8 * n_blocks * block, (n_blocks * block,), like)
    end += 16 * n_blocks * block
    candidates = array_at(workspace, end, (n_tried, n_features), like)
    end += 8 * n_tried * n_features
    closest[:] = 1.0
    cumulate(sample.weight, closest, cumulative)
    closest[:] = np.inf
    for k in range(n_centers):
        n_now = n_tried if k > 0 else 1
        potentials = array_at(workspace, end, (SLOTS, n_now), like)
        for c in range(n_now):
            number = numbers[0 if k == 0 else 1 + (k - 1) * n_tried + c]
            copy_row(sample, draw_row(cumulative, n_rows, number), candidates[c])
        compare(sample, candidates[:n_now], closest, distances[:n_now], potentials, at, team)
        best = 0
        for c in range(1, n_now):
            if potentials[0, c] < potentials[0, best]:
                best = c
        copy_to(candidates[best], centers[k])
        for b in range(n_blocks):
            copy_to(distances[best, b], closest[b])
        if k + 1 < n_centers:
            cumulate(sample.weight, closest, cumulative)


@jit()
def exchange(sample, n_rows, centers, nearest, numbers, at, team, workspace):
    """Local search (Lattanzi and Sohler, 2019): exchange a centre for a row drawn like a seed where that pays.

    Lloyd's iterations cannot move a centre from a cluster that has two to a cluster that has none; this does. One
    exchange at most per step; potential = sum of squared distances to the nearest centre.
    """
    n_blocks, n_features, block = sample.blocks.shape
    n_centers, like, weight = centers.shape[0], centers, sample.weight
    distances = array_at(workspace, 0, (1, n_blocks, block), like)
    everywhere = array_at(workspace, 8 * n_blocks * block, (n_blocks, block), like)
    cumulative = array_at(workspace, 16 * n_blocks * block, (n_blocks * block,), like)
    end = 24 * n_blocks * block
    candidate = array_at(workspace, end, (1, n_features), like)
    potentials = array_at(workspace, end + 8 * n_features, (SLOTS, 1), like)
    losses = array_at(workspace, end + 8 * (n_features + SLOTS), (n_centers,), like)
    no_sums, no_counts = array_at(workspace, 0, (SLOTS, 0, n_features), like), array_at(workspace, 0, (SLOTS, 0), like)
    everywhere[:] = np.inf
    assign(sample, centers, nearest, no_sums, no_counts, at, team)
    mass = cumulate(weight, nearest.distance, cumulative)
    for step in range(numbers.shape[0]):
        copy_row(sample, draw_row(cumulative, n_rows, numbers[step]), candidate[0])
        compare(sample, candidate, everywhere, distances, potentials, at, team)
        losses[:] = 0.0
        s = 0.0
        for b in range(n_blocks):
            for p in range(block):
                new, old = distances[0, b, p], nearest.distance[b, p]
                kept = min(old, new)
                s += weight[b, p] * kept
                losses[nearest.labels[b, p]] += weight[b, p] * (min(nearest.second[b, p], new) - kept)
        least = 0
        for k in range(1, n_centers):
            if losses[k] < losses[least]:
                least = k
        if s + losses[least] < mass:
            copy_to(candidate[0], centers[least])
            assign(sample, centers, nearest, no_sums, no_counts, at, team)
            mass = cumulate(weight, nearest.distance, cumulative)


@jit()
def move_empty(sample, counts, distance, moved):
    """Put the centres without rows at the rows of positive weight that are farthest from theirs, each taken once."""
    block = sample.weight.shape[1]
    for k in range(counts.shape[0]):
        if counts[k] == 0:
            farthest = -1
            for i in range(sample.weight.shape[0] * block):
                value = distance[i // block, i % block]
                if sample.weight[i // block, i % block] > 0 and (
                    farthest < 0 or value > distance[farthest // block, farthest % block]
                ):
                    farthest = i
            if farthest >= 0:
                copy_row(sample, farthest, moved[k])
                distance[farthest // block, farthest % block] = -1.0


@jit()
def lloyd(sample, centers, nearest, most, at, team, workspace):
    """At most `most` of Lloyd's iterations; a cluster that empties moves to the row farthest from its centre."""
    n_features = sample.blocks.shape[1]
    n_centers, like = centers.shape[0], centers
    sums = array_at(workspace, 0, (SLOTS, n_centers, n_features), like)
    counts = array_at(workspace, 8 * SLOTS * n_centers * n_features, (SLOTS, n_centers), like)
    moved = array_at(workspace, 8 * SLOTS * n_centers * (n_features + 1), (n_centers, n_features), like)
    for _ in range(most):
        assign(sample, centers, nearest, sums, counts, at, team)
        for k in range(n_centers):
            if counts[0, k] > 0:
                for d in range(n_features):
                    moved[k, d] = sums[0, k, d] / counts[0, k]
            else:
                copy_to(centers[k], moved[k])
        move_empty(sample, counts[0], nearest.distance, moved)
        step = 0.0
        for k in range(n_centers):
            for d in range(n_features):
                step += (moved[k, d] - centers[k, d]) ** 2
                centers[k, d] = moved[k, d]
        if step / n_centers <= TOL:
            break


@jit(by_address=True)
def cluster(sample, n_rows, centers, nearest, seeds, n_exchanges, n_lloyd, numbers, at, team, workspace):
    """Find centres, and the nearest of them to every row.

    centers: (n_centers, n_features), overwritten, from where they are unless `seeds`; nearest: a Nearest, overwritten;
    n_exchanges, n_lloyd: steps of `exchange` and `lloyd`; numbers: (n_numbers,), uniform in [0, 1); at: a Comparing.
    """
    if seeds:
        seed(sample, n_rows, centers, numbers, at, team, workspace)
    if n_exchanges > 0:
        first = n_numbers(centers.shape[0], seeds, 0)
        exchange(sample, n_rows, centers, nearest, numbers[first : first + n_exchanges], at, team, workspace)
    if n_lloyd > 0:
        lloyd(sample, centers, nearest, n_lloyd, at, team, workspace)
    n_features, like = centers.shape[1], centers
    no_sums, no_counts = array_at(workspace, 0, (SLOTS, 0, n_features), like), array_at(workspace, 0, (SLOTS, 0), like)
    assign(sample, centers, nearest, no_sums, no_counts, at, team)


@cache
def cluster_address():
    """Where `cluster` is."""
    sample = numba.types.NamedTuple((CUBE, MATRIX), Sample)
    nearest = numba.types.NamedTuple((LABELS, MATRIX, MATRIX), Nearest)
    at = numba.types.NamedUniTuple(numba.int64, 3, Comparing)
    team = numba.types.NamedUniTuple(numba.int64, 3, Team)
    whole = numba.int64
    kinds = (sample, whole, MATRIX, nearest, numba.boolean, whole, whole, VECTOR, at, team, whole)
    return address_of(cluster, kinds)


@jit(by_address=True)
def cluster_slot(arguments, slot, workspace):
    """`cluster`, called from Python; arguments[0]: its address, its arguments but for the workspace."""
    address, sample, n_rows, centers, nearest, seeds, n_exchanges, n_lloyd, numbers, at, team = arguments[0]
    call(address, (sample, n_rows, centers, nearest, seeds != 0, n_exchanges, n_lloyd, numbers, at, team, workspace))
