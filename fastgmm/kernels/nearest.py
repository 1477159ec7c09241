"""Squared distances of rows to centres, compared, slot by slot (parallel.py).

`blocks` is (n_blocks, n_features, block), float64, features padded to a multiple of four and rows to whole blocks, with
zeros: points are the vector lane. Padding rows have weight 0. What there is one of for each row is (n_blocks, block).
"""

from functools import cache
from typing import NamedTuple

import numba
import numpy as np
from numba.extending import register_jitable

from ._compile import jit
from .calls import address_of, array_at, call, pointer_to
from .distances import compute_two_distances
from .parallel import run_team, slot_bounds

THREADED_WORK = 5e6  # values times centres, about a millisecond: below, threads would cost more than they save
SLOTS = 16
VECTOR, MATRIX, CUBE = (numba.types.Array(numba.float64, n, "C") for n in (1, 2, 3))
LABELS = numba.types.Array(numba.int64, 2, "C")


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
    kind_of_first = (numba.int64, CUBE, MATRIX, MATRIX, MATRIX, CUBE, MATRIX)
    kind_of_second = (numba.int64, CUBE, MATRIX, MATRIX, LABELS, MATRIX, MATRIX, CUBE, MATRIX)
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
    return address_of(measure, (MATRIX, *(VECTOR,) * 4))


def workspace_bytes(block):
    """Bytes that a slot of a comparison works with."""
    return 2 * 8 * block


@register_jitable
def padded_to_four(n_features):
    """Features as the functions below see them: a multiple of four, also where there are none."""
    return max(1, (n_features + 3) // 4) * 4


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
