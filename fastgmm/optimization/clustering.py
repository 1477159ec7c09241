"""k-means on a sample of rows: seeding and Lloyd's iterations, for starting values only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.parameters import Array

BLOCK, STRIPE = 512, 32
MAX_ITER = 100


@dataclass(frozen=True)
class BlockedSample:
    """Rows transposed block by block, as the kernels read them.

    Attributes
    ----------
    blocks : ndarray of shape (n_blocks, n_features padded, block), float64
        Blocks of BLOCK rows; of fewer, as many as there are, in multiples of STRIPE.
    sample_weight : ndarray of shape (n_blocks * block,)
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
        from ..kernels.nearest import padded_to_four

        block = min(BLOCK, -(-n_rows // STRIPE) * STRIPE)
        n_blocks = -(-n_rows // block)
        whole = np.zeros((n_blocks * block, padded_to_four(n_features)))
        whole[:n_rows, :n_features] = rows
        weight = np.zeros(n_blocks * block)
        weight[:n_rows] = 1.0 if sample_weight is None else sample_weight
        blocks = np.ascontiguousarray(whole.reshape(n_blocks, block, -1).swapaxes(1, 2))
        return cls(blocks, weight, n_rows)

    def rows(self, index: Any) -> Array:
        """Return rows of these indices, shape (len(index), n_features padded)."""
        block = self.blocks.shape[2]
        return np.ascontiguousarray(self.blocks[np.asarray(index) // block, :, np.asarray(index) % block])


@dataclass(frozen=True)
class Nearest:
    """The nearest centre of every row of a blocked sample, padding included.

    Attributes
    ----------
    labels : ndarray of shape (n_blocks * block,), int64
    distance, second : ndarray of shape (n_blocks * block,)
        Squared distances to the nearest centre and to the next.
    """

    labels: NDArray[np.int64]
    distance: Array
    second: Array

    @classmethod
    def of(cls, sample: BlockedSample, centers: Array) -> "Nearest":
        """Compare every row with all centres (n_clusters, n_features padded)."""
        return _cluster(sample, centers.copy())


def _cluster(
    sample: BlockedSample,
    centers: Array,
    rng: np.random.Generator | None = None,
    seeds: bool = False,
    n_exchanges: int = 0,
    n_lloyd: int = 0,
) -> Nearest:
    """Move centres (n_clusters, n_features padded), in place; return where the rows are."""
    from ..kernels import kmeans, nearest, parallel

    n_blocks, n_features, size = sample.blocks.shape
    shape, n_clusters = (n_blocks, size), len(centers)
    found = nearest.Nearest(np.empty(shape, np.int64), np.empty(shape), np.empty(shape))
    n_numbers = kmeans.n_numbers(n_clusters, seeds, n_exchanges)
    numbers = np.empty(0) if rng is None else rng.random(n_numbers)
    parallel.run_leader(
        *(kmeans.cluster_slot, kmeans.clustering_bytes(n_blocks, n_features, size, n_clusters)),
        *(nearest.workspace_bytes(size), sample.blocks.size * max(n_clusters, 2) > nearest.THREADED_WORK),
        *(kmeans.cluster_address(), nearest.Sample(sample.blocks, sample.sample_weight.reshape(shape))),
        *(sample.n_rows, centers, found, int(seeds), n_exchanges, n_lloyd, numbers, nearest.comparing()),
        kind="cluster",
    )
    return Nearest(found.labels.ravel(), found.distance.ravel(), found.second.ravel())


def kmeans_plusplus(sample: BlockedSample, n_clusters: int, rng: np.random.Generator) -> Array:
    """Greedy k-means++ seeding: `kernels.kmeans.seed`. Returns centres of shape (n_clusters, n_features padded)."""
    centers = np.zeros((n_clusters, sample.blocks.shape[1]))
    _cluster(sample, centers, rng, seeds=True)
    return centers


def improve_seeds(sample: BlockedSample, centers: Array, n_steps: int, rng: np.random.Generator) -> Array:
    """Local search: `kernels.kmeans.exchange`."""
    centers = centers.copy()
    _cluster(sample, centers, rng, n_exchanges=n_steps)
    return centers


def lloyd(sample: BlockedSample, centers: Array, max_iter: int = MAX_ITER) -> Array:
    """At most `max_iter` of Lloyd's iterations from `centers`; returns the centres they end at."""
    centers = centers.copy()
    _cluster(sample, centers, n_lloyd=max_iter)
    return centers


def kmeans(sample: BlockedSample, n_clusters: int, n_exchanges: int, rng: np.random.Generator) -> Array:
    """Seeding, local search and Lloyd's iterations in one call; returns the centres."""
    centers = np.zeros((n_clusters, sample.blocks.shape[1]))
    _cluster(sample, centers, rng, True, n_exchanges, MAX_ITER)
    return centers
