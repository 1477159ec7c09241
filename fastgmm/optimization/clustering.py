"""k-means on a sample of rows: seeding and Lloyd's iterations, for starting values only."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.parameters import Array

BLOCK = 512
MAX_ITER = 100
THREADED_WORK = 5e6  # values times centres, about a millisecond: starting threads takes a tenth of that
TOL = 1e-4  # on the mean squared move of a centre; columns are standardised


def padded(n_features: int) -> int:
    """Features as the kernels see them: a multiple of four."""
    return -(-n_features // 4) * 4


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
        """Compare every row with all centres (n_clusters, n_features padded), in threads where that takes long."""
        from ..kernels.kmeans import assign_labels
        from ..kernels.parallel import get_n_threads

        n, n_blocks = len(sample.sample_weight), len(sample.blocks)
        nearest = cls(np.empty(n, np.int64), np.empty(n), np.empty(n))

        def assign(first: int) -> None:
            rows = slice(first * BLOCK, (first + size) * BLOCK)
            assign_labels(
                *(sample.blocks[first : first + size], centers),
                *(nearest.labels[rows], nearest.distance[rows], nearest.second[rows]),
            )

        n_threads = get_n_threads() if sample.blocks.size * len(centers) > THREADED_WORK else 1
        size = -(-n_blocks // n_threads)
        if n_threads == 1:
            assign(0)
        else:
            with ThreadPoolExecutor(n_threads) as pool:
                for _ in pool.map(assign, range(0, n_blocks, size)):
                    pass
        return nearest


def kmeans_plusplus(sample: BlockedSample, n_clusters: int, rng: np.random.Generator) -> Array:
    """Greedy k-means++ seeding (Arthur and Vassilvitskii, 2007): the best of 2 + ln k candidates at every step.

    Returns centres of shape (n_clusters, n_features padded).
    """
    from ..kernels.kmeans import compute_closest_candidates

    weight = sample.sample_weight
    n_candidates = 2 + int(np.log(n_clusters))
    centers = np.empty((n_clusters, sample.blocks.shape[1]))
    centers[0] = _draw(sample, weight, 1, rng)[0]
    closest = np.full(len(weight), np.inf)
    distances, potentials = np.empty((n_candidates, len(weight))), np.empty(n_candidates)
    compute_closest_candidates(sample.blocks, weight, centers[:1], closest, distances[:1], potentials[:1])
    closest = distances[0].copy()
    for k in range(1, n_clusters):
        candidates = _draw(sample, weight * closest, n_candidates, rng)
        compute_closest_candidates(sample.blocks, weight, candidates, closest, distances, potentials)
        best = int(np.argmin(potentials))
        centers[k], closest = candidates[best], distances[best].copy()
    return centers


def _draw(sample: BlockedSample, mass: Array, n_rows: int, rng: np.random.Generator) -> Array:
    """Rows drawn in proportion to `mass` (n_blocks * BLOCK,), with replacement."""
    cumulative = np.cumsum(mass)
    drawn = np.searchsorted(cumulative, rng.random(n_rows) * cumulative[-1], side="right")
    return sample.rows(np.minimum(drawn, sample.n_rows - 1))


def improve_seeds(sample: BlockedSample, centers: Array, n_steps: int, rng: np.random.Generator) -> Array:
    """Local search (Lattanzi and Sohler, 2019): exchange a centre for a row drawn like a seed where that pays.

    Lloyd's iterations cannot move a centre from a cluster that has two to a cluster that has none; this does. One
    exchange at most per step; potential = sum of squared distances to the nearest centre.
    """
    from ..kernels.kmeans import compute_closest_candidates

    weight, centers = sample.sample_weight, centers.copy()
    nearest = Nearest.of(sample, centers)
    distances, everywhere = np.empty((1, len(weight))), np.full(len(weight), np.inf)
    potential = float(weight @ nearest.distance)
    for _ in range(n_steps):
        candidate = _draw(sample, weight * nearest.distance, 1, rng)
        compute_closest_candidates(sample.blocks, weight, candidate, everywhere, distances, np.empty(1))
        kept = np.minimum(nearest.distance, distances[0])
        loss = weight * (np.minimum(nearest.second, distances[0]) - kept)  # of a row whose centre goes
        losses = np.bincount(nearest.labels, loss, minlength=len(centers))
        leaving = int(np.argmin(losses))
        if weight @ kept + losses[leaving] < potential:
            centers[leaving] = candidate[0]
            nearest = Nearest.of(sample, centers)
            potential = float(weight @ nearest.distance)
    return centers


def lloyd(sample: BlockedSample, centers: Array, max_iter: int = MAX_ITER) -> Array:
    """At most `max_iter` of Lloyd's iterations from `centers`; returns the centres they end at.

    A cluster that empties moves to the row farthest from its centre.
    """
    from ..kernels.kmeans import accumulate_clusters

    weight = sample.sample_weight
    for _ in range(max_iter):
        nearest = Nearest.of(sample, centers)
        sums, counts = np.zeros_like(centers), np.zeros(len(centers))
        accumulate_clusters(sample.blocks, weight, nearest.labels, sums, counts)
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
