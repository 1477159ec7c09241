"""Seeded data drawn from a mixture with known parameters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.covariance import STRUCTURES

_BLOCK_ROWS = 16_384  # float64 rows drawn at once: 1 MiB in 8 features


@dataclass(frozen=True)
class SyntheticMixture:
    """Rows drawn from a mixture, and the truth behind them.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    labels : ndarray of shape (n_samples,), int64
        The component each row was drawn from.
    weights : ndarray of shape (n_components,), float64
    means : ndarray of shape (n_components, n_features), float64
    covariances : ndarray, float64
        Full (n_components, n_features, n_features), tied (n_features, n_features), diag (n_components,
        n_features), spherical (n_components,).
    """

    X: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]
    covariances: npt.NDArray[np.float64]


def make_mixture(
    n_samples: int,
    n_features: int,
    n_components: int,
    *,
    covariance_type: str = "full",
    separation: float = 4.0,
    dtype: npt.DTypeLike = np.float64,
    random_state: int | np.random.Generator | None = None,
) -> SyntheticMixture:
    """Draw rows from a random mixture whose components lie a stated distance apart.

    Standard deviations along the axes of each component lie between 0.3 and 1, the smallest distance between
    two means is `separation`, the largest weight is at most three times the smallest. Rows are drawn in
    blocks: the memory taken is the result's plus a few MiB.

    Parameters
    ----------
    n_samples, n_features, n_components : int
        The shape of the problem, each at least 1.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        The structure the covariances are drawn with.
    separation : float, default=4.0
        The smallest distance between two means, in units of the largest standard deviation a component may
        have in any direction; from about 4 components hardly overlap, below about 2 they merge.
    dtype : float32 or float64, default=float64
        Of `X`; rows are drawn in float64 and then rounded.
    random_state : int, numpy.random.Generator or None, default=None
        Seed; None draws other data at every call.

    Raises
    ------
    ValueError
        A size below 1, a `separation` that is not positive, an unknown `covariance_type` or another `dtype`.

    Examples
    --------
    >>> from fastgmm.datasets import make_mixture
    >>> mixture = make_mixture(1000, 2, 3, random_state=0)
    >>> mixture.X.shape, mixture.means.shape
    ((1000, 2), (3, 2))
    """
    for name, size in (("n_samples", n_samples), ("n_features", n_features), ("n_components", n_components)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if not 0 < separation < np.inf:
        raise ValueError(f"separation must be a positive number, got {separation}")
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
    rng = np.random.default_rng(random_state)
    weights = rng.uniform(0.5, 1.5, n_components)
    weights /= weights.sum()
    means = _spread_means(rng, n_components, n_features, separation)
    covariances, transforms = _draw_covariances(rng, n_components, n_features, covariance_type)

    X = np.empty((n_samples, n_features), dtype)
    labels = np.empty(n_samples, np.int64)
    for start in range(0, n_samples, _BLOCK_ROWS):
        block = slice(start, min(start + _BLOCK_ROWS, n_samples))
        labels[block] = rng.choice(n_components, size=block.stop - start, p=weights)
        noise = rng.standard_normal((block.stop - start, n_features))
        for k in np.unique(labels[block]):
            rows = np.flatnonzero(labels[block] == k)
            X[start + rows] = means[k] + noise[rows] @ transforms[k].T
    return SyntheticMixture(X, labels, weights, means, covariances)


def _spread_means(
    rng: np.random.Generator, n_components: int, n_features: int, separation: float
) -> npt.NDArray[np.float64]:
    """Draw means (n_components, n_features) whose smallest distance is `separation`.

    Each is the one of 32 normal candidates that lies farthest from the means already chosen ("best candidate"
    sampling), so that the smallest distance is not far below the typical one.
    """
    means = np.empty((n_components, n_features))
    means[0] = rng.standard_normal(n_features)
    smallest = np.inf
    for k in range(1, n_components):
        candidates = rng.standard_normal((32, n_features))
        distances = np.linalg.norm(candidates[:, np.newaxis] - means[:k], axis=2).min(axis=1)
        means[k] = candidates[distances.argmax()]
        smallest = min(smallest, distances.max())
    return means if n_components == 1 else means * (separation / smallest)


def _draw_covariances(
    rng: np.random.Generator, n_components: int, n_features: int, covariance_type: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw covariances, and per component an (n_features, n_features) matrix A with A A^T = covariance."""
    if covariance_type not in STRUCTURES:
        raise ValueError(f"covariance_type must be one of {', '.join(STRUCTURES)}; got {covariance_type!r}")
    structure = STRUCTURES[covariance_type]
    if not structure.is_matrix:
        scales = rng.uniform(0.3, 1.0, structure.shape(n_components, n_features))
        return scales**2, scales.reshape(n_components, -1, 1) * np.eye(n_features)
    n_matrices = 1 if structure.pools_components else n_components
    rotations = np.linalg.qr(rng.standard_normal((n_matrices, n_features, n_features))).Q
    transforms = rotations * rng.uniform(0.3, 1.0, (n_matrices, 1, n_features))
    covariances = transforms @ transforms.transpose(0, 2, 1)
    covariances = covariances[0] if structure.pools_components else covariances
    return covariances, np.broadcast_to(transforms, (n_components, n_features, n_features))
