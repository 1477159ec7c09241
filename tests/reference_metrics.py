"""The metrics as their definitions read, row by row: the oracle of tests/test_metrics.py.

Sets are of equal size. Nothing of the package under test is imported.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.stats import wasserstein_distance


def different_bins(train_counts: np.ndarray, counts: np.ndarray, z: float) -> int:
    """Two-proportion z-test, bin by bin."""
    n, m = train_counts.sum(), counts.sum()
    different = 0
    for a, b in zip(train_counts, counts, strict=True):
        pooled = (a + b) / (n + m)
        error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        different += abs(a / n - b / m) > z * error
    return different


def radius(rows: np.ndarray, i: int, n_neighbors: int) -> float:
    """Distance of row i to its k-th nearest other row."""
    others = [math.dist(rows[i], row) for j, row in enumerate(rows) if j != i]
    return sorted(others)[n_neighbors - 1]


def precision_recall_density_coverage(
    real: np.ndarray, generated: np.ndarray, n_neighbors: int
) -> tuple[float, float, float, float]:
    """Kynkäänniemi et al. 2019, equations 1 and 2; Naeem et al. 2020, equations 3 and 4."""
    distance = cdist(real, generated)
    in_real_ball = distance <= np.array([radius(real, i, n_neighbors) for i in range(len(real))])[:, None]
    in_generated_ball = distance <= np.array([radius(generated, j, n_neighbors) for j in range(len(generated))])
    return (
        in_real_ball.any(axis=0).mean(),
        in_generated_ball.any(axis=1).mean(),
        in_real_ball.sum() / (n_neighbors * len(generated)),
        in_real_ball.any(axis=1).mean(),
    )


def maximum_mean_discrepancy(real: np.ndarray, generated: np.ndarray) -> float:
    """Gretton et al. 2012, equation 3, averaged over five kernels."""
    median = np.median(pdist(real) ** 2)
    n, m = len(real), len(generated)
    estimates = []
    for factor in (0.25, 0.5, 1, 2, 4):
        among_real, among_generated, across = (
            np.exp(-(cdist(a, b) ** 2) / (factor * median))
            for a, b in ((real, real), (generated, generated), (real, generated))
        )
        np.fill_diagonal(among_real, 0)
        np.fill_diagonal(among_generated, 0)
        estimates.append(
            among_real.sum() / (n * (n - 1)) + among_generated.sum() / (m * (m - 1)) - 2 * across.sum() / (n * m)
        )
    return float(np.mean(estimates))


def sliced_wasserstein(real: np.ndarray, generated: np.ndarray, directions: np.ndarray) -> float:
    """Mean of SciPy's one-dimensional distances along the columns of `directions`."""
    return float(np.mean([wasserstein_distance(real @ v, generated @ v) for v in directions.T]))


def two_sample_accuracy(real: np.ndarray, generated: np.ndarray) -> float:
    """Leave-one-out accuracy of the nearest neighbour."""
    rows = np.concatenate([real, generated])
    labels = np.repeat([0, 1], [len(real), len(generated)])
    distance = cdist(rows, rows)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(axis=1)] == labels).mean())
