"""Drawing rows from a mixture."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .covariance import STRUCTURES
from .parameters import Array

BLOCK_VALUES = 2**20  # 8 MiB of float64 at a time


def sample_blocks(
    means: Array,
    covariances: Array,
    covariance_type: str,
    counts: NDArray[np.int64],
    random_state: np.random.RandomState,
) -> Iterator[tuple[int, Array]]:
    """Yield (component, rows) blocks: counts[k] rows of component k, components in order.

    x = mean + L z with L L^T = covariance and z standard normal. Memory beyond the yielded block: one block.
    """
    structure = STRUCTURES[covariance_type]
    n_features = means.shape[1]
    size = max(1, BLOCK_VALUES // n_features)
    for k, count in enumerate(counts):
        if not count:
            continue
        factor = structure.component_cholesky(covariances, k, n_features)
        for first in range(0, int(count), size):
            z = random_state.standard_normal((min(size, int(count) - first), n_features))
            yield k, (z @ factor.T if factor.ndim == 2 else z * factor) + means[k]


def component_counts(weights: Array, n_samples: int, random_state: np.random.RandomState) -> NDArray[np.int64]:
    """Multinomial numbers of rows per component."""
    weights = np.asarray(weights, np.float64)
    return random_state.multinomial(n_samples, weights / weights.sum()).astype(np.int64)
