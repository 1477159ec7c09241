"""k-means for starting values: greedy k-means++ seeding and Lloyd's iterations on blocks of a transposed sample.

`blocks` is (n_blocks, n_features, block), float64, features padded to a multiple of four and rows to whole blocks, with
zeros: points are the vector lane. Padding rows have weight 0. What there is one of for each row is (n_blocks, block).
Comparing rows with centres is run slot by slot (parallel.py); what compares again and again, `cluster`, is compiled as
a whole: a step of k-means++ on a sample of a few hundred rows takes less time than calling one function from Python.
"""

import math
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
from numba.extending import register_jitable

from ._compile import jit
from .calls import address_of, array_at, call, pointer_to
from .distances import compute_two_distances
from .parallel import Team, run_team, slot_bounds
from .random import uniform

THREADED_WORK = 5e6  # values times centres, about a millisecond: below, threads would cost more than they save
SLOTS = 16
TOL = 1e-4  # on the mean squared move of a centre; columns are standardised
_VECTOR, _MATRIX, _CUBE = (numba.types.Array(numba.float64, n, "C") for n in (1, 2, 3))
_LABELS = numba.types.Array(numba.int64, 2, "C")


class Sample(NamedTuple):
    """Rows as the functions below read them.

    blocks: (n_blocks, n_features, block); weight: (n_blocks, block), 0 beyond the last row.
    """

    blocks: np.ndarray
    weight: np.ndarray


class Nearest(NamedTuple):
    """Of each row, (n_blocks, block): the nearest centre, the squared distance to it, and to the next nearest."""

    labels: np.ndarray
    distance: np.ndarray
    second: np.ndarray


class Comparing(NamedTuple):
    """Addresses of what compares: `measure`, `compare_candidates_slot`, `assign_labels_slot`."""

    measure: int
    candidates: int
    labels: int


@cache
def comparing():
    """Where the functions are that compare rows with centres."""
    kind_of_first = (numba.int64, _CUBE, _MATRIX, _MATRIX, _MATRIX, _CUBE, _MATRIX)
    kind_of_second = (numba.int64, _CUBE, _MATRIX, _MATRIX, _LABELS, _MATRIX, _MATRIX, _CUBE, _MATRIX)
    return Comparing(
        measure_address(),
        *(
            address_of(function, (numba.types.CPointer(numba.types.Tuple(kinds)), numba.int64, numba.int64))
            for function, kinds in (
                (compare_candidates_slot, kind_of_first),
                (assign_labels_slot, kind_of_second),
            )
        ),
    )


@jit(by_address=True)
def measure(xt, mean_a, mean_b, out_a, out_b):
    """`compute_two_distances`, compiled once for both functions below."""
    compute_two_distances(xt, mean_a, mean_b, out_a, out_b)


@cache
def measure_address():
    """Where `measure` is."""
    return address_of(measure, (_MATRIX, *(_VECTOR,) * 4))


def workspace_bytes(block):
    """Bytes that a slot of a comparison works with."""
    return 2 * 8 * block


@register_jitable
def padded_to_four(n_features):
    """Features as the functions below see them: a multiple of four, also where there are none."""
    return max(1, (n_features + 3) // 4) * 4


def n_candidates(n_centers):
    """Candidates for the next centre of k-means++."""
    return 2 + int(math.log(max(1, n_centers)))


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


@jit(by_address=True)
def compare_candidates_slot(arguments, slot, workspace):
    """distances[c] = min(closest, squared distance to candidate c); potentials[slot, c] = the slot's weighted sum.

    arguments[0]: address of `measure`, blocks, sample_weight, candidates (n_candidates, n_features), closest, distances
    (n_candidates, n_blocks, block), potentials (n_slots, n_candidates), the last two overwritten.
    """
    measure_at, blocks, sample_weight, candidates, closest, distances, potentials = arguments[0]
    n_candidates = candidates.shape[0]
    lower, upper = slot_bounds(blocks.shape[0], potentials.shape[0], slot)
    spare = array_at(workspace, 0, (blocks.shape[2],), blocks)
    for c in range(n_candidates):
        potentials[slot, c] = 0
    for b in range(lower, upper):
        for c in range(0, n_candidates, 2):
            d = min(c + 1, n_candidates - 1)
            second = distances[d, b] if d > c else spare
            call(measure_at, (blocks[b], candidates[c], candidates[d], distances[c, b], second))
        best, weight = closest[b], sample_weight[b]
        for c in range(n_candidates):
            out = distances[c, b]
            s = 0.0
            for p in range(out.shape[0]):
                value = out[p] if out[p] < best[p] else best[p]
                out[p] = value
                s += weight[p] * value
            potentials[slot, c] += s


@jit(by_address=True)
def assign_labels_slot(arguments, slot, workspace):
    """Find the nearest centre of each row: labels, distance, its square, and second, that to the next nearest.

    arguments[0]: address of `measure`, blocks, sample_weight, centers, labels, distance, second (infinite for a single
    centre), all overwritten; sums (n_slots, n_centers, n_features) and counts (n_slots, n_centers): the slot's weighted
    rows of every cluster and their weights are added, unless `sums` holds nothing.
    """
    measure_at, blocks, sample_weight, centers, labels, distance, second, sums, counts = arguments[0]
    n_centers, size = centers.shape[0], blocks.shape[2]
    to = array_at(workspace, 0, (2, size), blocks)
    to_first, to_second = to[0], to[1]
    lower, upper = slot_bounds(blocks.shape[0], counts.shape[0], slot)
    for b in range(lower, upper):
        best, runner_up, label, weight = distance[b], second[b], labels[b], sample_weight[b]
        for p in range(size):
            best[p] = runner_up[p] = np.inf
            label[p] = 0
        for k in range(0, n_centers, 2):
            partner = min(k + 1, n_centers - 1)
            call(measure_at, (blocks[b], centers[k], centers[partner], to_first, to_second))
            for p in range(size):
                from_first = to_first[p]
                from_second = to_second[p] if partner > k else np.inf  # an odd last centre has no partner
                low = from_first if from_first <= from_second else from_second
                high = from_second if from_first <= from_second else from_first
                closer = k if from_first <= from_second else k + 1
                beaten = low if best[p] < low else best[p]
                high = high if high <= runner_up[p] else runner_up[p]
                runner_up[p] = beaten if beaten <= high else high
                label[p] = closer if low < best[p] else label[p]
                best[p] = low if low < best[p] else best[p]
        if sums.shape[1] > 0:
            for p in range(size):
                counts[slot, label[p]] += weight[p]
            for d in range(blocks.shape[1]):
                for p in range(size):
                    sums[slot, label[p], d] += weight[p] * blocks[b, d, p]


@jit()
def slots_of(sample, n_centers):
    """Slots of a comparison with so many centres."""
    n_blocks = sample.blocks.shape[0]
    work = float(n_blocks * sample.blocks.shape[1] * sample.blocks.shape[2]) * n_centers
    return min(SLOTS, n_blocks) if work > THREADED_WORK else 1


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
def draw_row(cumulative, n_rows, state):
    """A row in proportion to the mass whose cumulative sums these are; the last row where there is none."""
    wanted, low, high = uniform(state) * cumulative[n_rows - 1], 0, n_rows - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > wanted:
            high = middle
        else:
            low = middle + 1
    return low


@jit()
def compare(sample, candidates, closest, distances, potentials, at, team):
    """`compare_candidates_slot` for all slots; potentials[0] is their sum."""
    n_slots = slots_of(sample, candidates.shape[0])
    arguments = (at.measure, sample.blocks, sample.weight, candidates, closest, distances, potentials[:n_slots])
    run_team(team, at.candidates, pointer_to(arguments), n_slots)
    for slot in range(1, n_slots):
        for c in range(candidates.shape[0]):
            potentials[0, c] += potentials[slot, c]


@jit()
def assign(sample, centers, nearest, sums, counts, at, team):
    """`assign_labels_slot` for all slots; sums[0] and counts[0] are theirs, unless sums have no centres."""
    n_slots = slots_of(sample, centers.shape[0])
    sums[:], counts[:] = 0.0, 0.0
    arguments = (
        *(at.measure, sample.blocks, sample.weight, centers),
        *(nearest.labels, nearest.distance, nearest.second, sums[:n_slots], counts[:n_slots]),
    )
    run_team(team, at.labels, pointer_to(arguments), n_slots)
    for slot in range(1, n_slots):
        for k in range(counts.shape[1]):
            counts[0, k] += counts[slot, k]
            for d in range(sums.shape[2]):
                sums[0, k, d] += sums[slot, k, d]


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
def seed(sample, n_rows, centers, state, at, team, workspace):
    """Overwrite centers (n_centers, n_features) by seeds of greedy k-means++ (Arthur and Vassilvitskii, 2007).

    At every step the best of 2 + ln n_centers candidates, drawn in proportion to their squared distance to the nearest
    centre so far.
    """
    n_blocks, n_features, block = sample.blocks.shape
    n_centers, like = centers.shape[0], centers
    n_tried = 2 + int(math.log(n_centers))
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
            copy_row(sample, draw_row(cumulative, n_rows, state), candidates[c])
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
def exchange(sample, n_rows, centers, nearest, n_steps, state, at, team, workspace):
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
    for _ in range(n_steps):
        copy_row(sample, draw_row(cumulative, n_rows, state), candidate[0])
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
def cluster(sample, n_rows, centers, nearest, seeds, n_exchanges, n_lloyd, state, at, team, workspace):
    """Find centres, and the nearest of them to every row.

    centers: (n_centers, n_features), overwritten, from where they are unless `seeds`; nearest: a Nearest, overwritten;
    n_exchanges, n_lloyd: steps of `exchange` and `lloyd`; state: of `random.uniform`; at: a Comparing.
    """
    if seeds:
        seed(sample, n_rows, centers, state, at, team, workspace)
    if n_exchanges > 0:
        exchange(sample, n_rows, centers, nearest, n_exchanges, state, at, team, workspace)
    if n_lloyd > 0:
        lloyd(sample, centers, nearest, n_lloyd, at, team, workspace)
    n_features, like = centers.shape[1], centers
    no_sums, no_counts = array_at(workspace, 0, (SLOTS, 0, n_features), like), array_at(workspace, 0, (SLOTS, 0), like)
    assign(sample, centers, nearest, no_sums, no_counts, at, team)


@cache
def cluster_address():
    """Where `cluster` is."""
    sample = numba.types.NamedTuple((_CUBE, _MATRIX), Sample)
    nearest = numba.types.NamedTuple((_LABELS, _MATRIX, _MATRIX), Nearest)
    at = numba.types.NamedUniTuple(numba.int64, 3, Comparing)
    team = numba.types.NamedUniTuple(numba.int64, 3, Team)
    state = numba.types.Array(numba.uint64, 1, "C")
    whole = numba.int64
    kinds = (sample, whole, _MATRIX, nearest, numba.boolean, whole, whole, state, at, team, whole)
    return address_of(cluster, kinds)


@jit(by_address=True)
def cluster_slot(arguments, slot, workspace):
    """`cluster`, called from Python; arguments[0]: its address, its arguments but for the workspace."""
    address, sample, n_rows, centers, nearest, seeds, n_exchanges, n_lloyd, state, at, team = arguments[0]
    call(address, (sample, n_rows, centers, nearest, seeds != 0, n_exchanges, n_lloyd, state, at, team, workspace))
