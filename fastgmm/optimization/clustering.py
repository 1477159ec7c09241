"""k-means on a sample of rows: seeding and Lloyd's iterations, for starting values only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.parameters import Array

BLOCK = 512
MAX_ITER = 100
THREADED_WORK = 5e6  # values times centres, about a millisecond
SLOTS = 16
TOL = 1e-4  # on the mean squared move of a centre; columns are standardised


def padded(n_features: int) -> int:
    """Features as the kernels see them: a multiple of four, also where no column varies and there are none."""
    return max(1, -(-n_features // 4)) * 4


@dataclass(frozen=True)
class BlockedSample:
    """Rows transposed block by block, as the kernels read them.

    Attributes
    ----------
    blocks : ndarray of shape (n_blocks, n_features padded, BLOCK), float64
    sample_weight : ndarray of shape (n_blocks * BLOCK,)
        0 for the rows that fill the last block up.
    n_rows : int
    """

    blocks: Array
    sample_weight: Array
    n_rows: int

    @classmethod
    def from_rows(cls, rows: NDArray[Any], sample_weight: Array | None) -> "BlockedSample":
        """Pad and transpose rows of shape (n_rows, n_features)."""
        n_rows, n_features = rows.shape
        n_blocks = -(-n_rows // BLOCK)
        whole = np.zeros((n_blocks * BLOCK, padded(n_features)))
        whole[:n_rows, :n_features] = rows
        weight = np.zeros(n_blocks * BLOCK)
        weight[:n_rows] = 1.0 if sample_weight is None else sample_weight
        blocks = np.ascontiguousarray(whole.reshape(n_blocks, BLOCK, -1).swapaxes(1, 2))
        return cls(blocks, weight, n_rows)

    def rows(self, index: Any) -> Array:
        """Return rows of these indices, shape (len(index), n_features padded)."""
        return np.ascontiguousarray(self.blocks[np.asarray(index) // BLOCK, :, np.asarray(index) % BLOCK])


@dataclass(frozen=True)
class Nearest:
    """The nearest centre of every row of a blocked sample, padding included.

    Attributes
    ----------
    labels : ndarray of shape (n_blocks * BLOCK,), int64
    distance, second : ndarray of shape (n_blocks * BLOCK,)
        Squared distances to the nearest centre and to the next.
    """

    labels: NDArray[np.int64]
    distance: Array
    second: Array

    @classmethod
    def of(cls, sample: BlockedSample, centers: Array) -> "Nearest":
        """Compare every row with all centres (n_clusters, n_features padded)."""
        return _assign(sample, centers, 0)[0]


def _n_slots(sample: BlockedSample, n_centers: int) -> int:
    """Slots of a comparison with so many centres: one where starting threads would take longer than they save."""
    return min(SLOTS, len(sample.blocks)) if sample.blocks.size * n_centers > THREADED_WORK else 1


def _assign(sample: BlockedSample, centers: Array, n_summed: int) -> tuple[Nearest, Array, Array]:
    """Find the nearest centres; also the weighted sums and weights of the first `n_summed` clusters: all or none."""
    from ..kernels import kmeans, parallel

    n_blocks, n_features, size = sample.blocks.shape
    n_slots = _n_slots(sample, len(centers))
    labels, distances = np.empty((n_blocks, size), np.int64), np.empty((2, n_blocks, size))
    sums, counts = np.zeros((n_slots, n_summed, n_features)), np.zeros((n_slots, n_summed))
    parallel.run_slots(
        *(kmeans.assign_labels_slot, n_slots, kmeans.workspace_bytes(size)),
        *(kmeans.measure_address(), sample.blocks, sample.sample_weight.reshape(n_blocks, size), centers),
        *(labels, *distances, sums, counts),
    )
    nearest = Nearest(labels.ravel(), distances[0].ravel(), distances[1].ravel())
    return nearest, sums.sum(axis=0), counts.sum(axis=0)


def _compare(sample: BlockedSample, candidates: Array, closest: Array) -> tuple[Array, Array]:
    """Squared distances (n_candidates, n_rows) to a candidate or what is closest already, and their weighted sums."""
    from ..kernels import kmeans, parallel

    n_blocks, _, size = sample.blocks.shape
    n_slots = _n_slots(sample, len(candidates))
    distances, potentials = np.empty((len(candidates), n_blocks, size)), np.empty((n_slots, len(candidates)))
    parallel.run_slots(
        *(kmeans.compare_candidates_slot, n_slots, kmeans.workspace_bytes(size)),
        *(kmeans.measure_address(), sample.blocks, sample.sample_weight.reshape(n_blocks, size), candidates),
        *(closest.reshape(n_blocks, size), distances, potentials),
    )
    return distances.reshape(len(candidates), -1), potentials.sum(axis=0)


def kmeans_plusplus(sample: BlockedSample, n_clusters: int, rng: np.random.Generator) -> Array:
    """Greedy k-means++ seeding (Arthur and Vassilvitskii, 2007): the best of 2 + ln k candidates at every step.

    Returns centres of shape (n_clusters, n_features padded).
    """
    weight = sample.sample_weight
    centers = np.empty((n_clusters, sample.blocks.shape[1]))
    candidates, closest = _drawn(sample, weight, rng.random(1)), np.full(len(weight), np.inf)
    for k in range(n_clusters):
        if k > 0:
            candidates = _drawn(sample, weight * closest, rng.random(2 + int(np.log(n_clusters))))
        distances, potentials = _compare(sample, candidates, closest)
        best = int(np.argmin(potentials))
        centers[k], closest = candidates[best], distances[best]
    return centers


def _drawn(sample: BlockedSample, mass: Array, numbers: Array) -> Array:
    """The rows at which numbers in [0, 1) fall, in proportion to `mass` (n_blocks * BLOCK,)."""
    cumulative = np.cumsum(mass)
    drawn = np.searchsorted(cumulative, numbers * cumulative[-1], side="right")
    return sample.rows(np.minimum(drawn, sample.n_rows - 1))


def improve_seeds(sample: BlockedSample, centers: Array, n_steps: int, rng: np.random.Generator) -> Array:
    """Local search (Lattanzi and Sohler, 2019): exchange a centre for a row drawn like a seed where that pays.

    Lloyd's iterations cannot move a centre from a cluster that has two to a cluster that has none; this does. One
    exchange at most per step; potential = sum of squared distances to the nearest centre.
    """
    weight, centers = sample.sample_weight, centers.copy()
    nearest = Nearest.of(sample, centers)
    everywhere, mass = np.full(len(weight), np.inf), weight * nearest.distance
    numbers = rng.random(n_steps)
    while len(numbers):
        # Where a comparison costs no more than its call, of all candidates that are left at once: in a fit of a few
        # hundred rows, one by one they took a quarter of the time. Those after an exchange are drawn again.
        tried = numbers if _n_slots(sample, len(numbers)) == 1 else numbers[:1]
        candidates = _drawn(sample, mass, tried)
        distances, _ = _compare(sample, candidates, everywhere)
        kept = np.minimum(nearest.distance, distances)
        loss = weight * (np.minimum(nearest.second, distances) - kept)  # of a row whose centre goes
        labels = nearest.labels + len(centers) * np.arange(len(tried))[:, None]
        losses = np.bincount(labels.ravel(), loss.ravel(), len(tried) * len(centers)).reshape(len(tried), -1)
        pays = (weight * kept).sum(axis=1) + losses.min(axis=1) < mass.sum()
        done = int(np.argmax(pays)) + 1 if pays.any() else len(tried)
        numbers = numbers[done:]
        if pays.any():
            centers[np.argmin(losses[done - 1])] = candidates[done - 1]
            nearest = Nearest.of(sample, centers)
            mass = weight * nearest.distance
    return centers


def lloyd(sample: BlockedSample, centers: Array, max_iter: int = MAX_ITER) -> Array:
    """At most `max_iter` of Lloyd's iterations from `centers`; returns the centres they end at.

    A cluster that empties moves to the row farthest from its centre.
    """
    weight = sample.sample_weight
    for _ in range(max_iter):
        nearest, sums, counts = _assign(sample, centers, len(centers))
        empty = np.flatnonzero(counts == 0)
        moved = sums / np.where(counts > 0, counts, 1.0)[:, None]
        if len(empty):
            ranked = np.argsort(np.where(weight > 0, -nearest.distance, np.inf), kind="stable")
            moved[empty] = sample.rows(ranked[: len(empty)])
        step = ((moved - centers) ** 2).sum() / len(centers)
        centers = moved
        if step <= TOL:
            break
    return centers
