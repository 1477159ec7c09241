"""The grid of problems: seeded data made with NumPy alone, and one start that every contender is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.numpy_reference import cholesky_of_precisions

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


@dataclass(frozen=True)
class Case:
    """One cell of the grid: the shape of the problem, its covariance structure and the dtype of the data."""

    n_samples: int
    n_features: int
    n_components: int
    covariance_type: str
    dtype: str

    def __str__(self) -> str:
        shape = f"{self.n_samples}x{self.n_features}-k{self.n_components}"
        return f"{shape}-{self.covariance_type}-{self.dtype}"


@dataclass(frozen=True)
class Start:
    """Where EM begins, in scikit-learn's shapes; float64 whatever the data."""

    covariance_type: str
    reg_covar: float
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    precisions: np.ndarray
    precisions_cholesky: np.ndarray


def _cases(shapes: list[tuple[int, int, int]], types: tuple[str, ...], dtypes: tuple[str, ...]) -> list[Case]:
    return [Case(*shape, covariance_type, dtype) for shape in shapes for dtype in dtypes for covariance_type in types]


# The shapes of `standard` span few to many features; the first is the one the project's promises are stated for.
SHAPES = [(300_000, 16, 32), (2_000_000, 2, 8), (1_000_000, 8, 16), (200_000, 64, 16)]
BOTH = ("float64", "float32")
PROFILES = {
    "smoke": _cases([(4_000, 4, 5)], COVARIANCE_TYPES, BOTH),
    "standard": _cases(SHAPES[:1], COVARIANCE_TYPES, BOTH) + _cases(SHAPES[1:], ("full", "diag"), ("float64",)),
    "full": _cases([*SHAPES, (50_000, 128, 32), (500_000, 16, 256)], COVARIANCE_TYPES, BOTH),
}


def make_data(case: Case) -> np.ndarray:
    """Draw the rows of a case, C-contiguous (n_samples, n_features); the same rows for every covariance type.

    Clusters are ellipsoids with means about four of their standard deviations apart, so that responsibilities are
    neither all hard nor all flat.
    """
    n_samples, n_features, n_components = case.n_samples, case.n_features, case.n_components
    rng = np.random.default_rng([n_samples, n_features, n_components])
    counts = rng.multinomial(n_samples, rng.dirichlet(np.full(n_components, 5.0)))
    X = rng.standard_normal((n_samples, n_features))
    stop = 0
    for count in counts:
        start, stop = stop, stop + count
        root = np.eye(n_features) + 0.5 * rng.standard_normal((n_features, n_features)) / np.sqrt(n_features)
        mean = 4 / np.sqrt(2 * n_features) * rng.standard_normal(n_features)
        X[start:stop] = X[start:stop] @ root + mean
    rng.shuffle(X)
    return X.astype(case.dtype)


def make_start(case: Case, X: np.ndarray) -> Start:
    """Distinct rows of X as means, equal weights, and the column variances of X as every covariance."""
    n_components = case.n_components
    rng = np.random.default_rng(n_components)
    means = X[rng.choice(len(X), n_components, replace=False)].astype(np.float64)
    variances = X.var(axis=0, dtype=np.float64)
    covariances = {
        "full": np.tile(np.diag(variances), (n_components, 1, 1)),
        "tied": np.diag(variances),
        "diag": np.tile(variances, (n_components, 1)),
        "spherical": np.full(n_components, variances.mean()),
    }[case.covariance_type]
    factor = cholesky_of_precisions(covariances, case.covariance_type)
    is_matrix = case.covariance_type in ("full", "tied")
    precisions = factor @ factor.swapaxes(-1, -2) if is_matrix else factor**2
    weights = np.full(n_components, 1 / n_components)
    return Start(case.covariance_type, 1e-6, weights, means, covariances, precisions, factor)
