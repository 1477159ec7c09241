"""k-means on a sample of rows: seeding and Lloyd's iterations, for starting values only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.covariance import padded
from ..model.parameters import Array

BLOCK = 512
MAX_ITER = 100
TOL = 1e-4  # on the mean squared move of a centre; columns are standardised


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


def kmeans_plusplus(sample: BlockedSample, n_clusters: int, rng: np.random.Generator) -> Array:
    """Greedy k-means++ seeding (Arthur and Vassilvitskii, 2007): the best of 2 + ln k candidates at every step.

    Returns centres of shape (n_clusters, n_features padded).
    """
    from ..kernels.kmeans import compute_closest_candidates

    weight = sample.sample_weight
    n_candidates = 2 + int(np.log(n_clusters))
    centers = np.empty((n_clusters, sample.blocks.shape[1]))
    centers[0] = sample.rows([rng.choice(len(weight), p=weight / weight.sum())])[0]
    closest = np.full(len(weight), np.inf)
    distances, potentials = np.empty((n_candidates, len(weight))), np.empty(n_candidates)
    compute_closest_candidates(sample.blocks, weight, centers[:1], closest, distances[:1], potentials[:1])
    closest, potential = distances[0].copy(), potentials[0]
    for k in range(1, n_clusters):
        cumulative = np.cumsum(weight * closest)
        drawn = np.searchsorted(cumulative, rng.random(n_candidates) * potential)
        candidates = sample.rows(np.minimum(drawn, sample.n_rows - 1))
        compute_closest_candidates(sample.blocks, weight, candidates, closest, distances, potentials)
        best = int(np.argmin(potentials))
        centers[k], closest, potential = candidates[best], distances[best].copy(), potentials[best]
    return centers


def kmeans(sample: BlockedSample, centers: Array, max_iter: int = MAX_ITER) -> NDArray[np.int64]:
    """Lloyd's iterations from `centers`; returns the labels of the nearest centres, shape (n_rows,).

    A cluster that empties moves to the row farthest from its centre. max_iter=0 only assigns.
    """
    from ..kernels.kmeans import accumulate_clusters, assign_labels

    weight = sample.sample_weight
    labels, distance = np.empty(len(weight), np.int64), np.empty(len(weight))
    assign_labels(sample.blocks, centers, labels, distance)
    for _ in range(max_iter):
        sums, counts = np.zeros_like(centers), np.zeros(len(centers))
        accumulate_clusters(sample.blocks, weight, labels, sums, counts)
        empty = np.flatnonzero(counts == 0)
        moved = sums / np.where(counts > 0, counts, 1.0)[:, None]
        if len(empty):
            farthest = np.argsort(np.where(weight > 0, -distance, np.inf), kind="stable")[: len(empty)]
            moved[empty] = sample.rows(farthest)
        step = ((moved - centers) ** 2).sum() / len(centers)
        centers = moved
        assign_labels(sample.blocks, centers, labels, distance)
        if step <= TOL:
            break
    return labels[: sample.n_rows]
