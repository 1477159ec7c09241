"""The problems: seeded data made with NumPy alone, one start that every contender is given, and what a profile runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.numpy_reference import cholesky_of_precisions

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
DTYPES = ("float64", "float32")
KINDS = ("iteration", "scoring", "sample", "start", "cold", "threads", "fit", "scaling")


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


@dataclass(frozen=True)
class Profile:
    """Cases for every kind of measurement; `kinds` run unless the command line says otherwise."""

    kinds: tuple[str, ...]
    cases: dict[str, list[Case]]
    fit_seeds: tuple[int, ...] = (0, 1)
    contenders: tuple[str, ...] | None = None


def _grid(
    shapes: Iterable[tuple[int, int, int]], types: tuple[str, ...] = COVARIANCE_TYPES, dtypes: tuple[str, ...] = DTYPES
) -> list[Case]:
    return [Case(*shape, covariance_type, dtype) for shape in shapes for dtype in dtypes for covariance_type in types]


F64 = DTYPES[:1]
SMOKE = [(4_000, 4, 5)]
# From few to many features; about 10^7 row-component pairs each, so that no iteration hides in a cache.
SHAPES = [(1_000_000, 2, 8), (500_000, 8, 16), (300_000, 16, 32), (100_000, 64, 16)]
STANDARD = [*_grid(SHAPES), *_grid([(50_000, 128, 16)], ("full",))]
ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
SCALING = _grid([(n, 8, 16) for n in ROWS], ("full", "diag"), F64)
SCALING += _grid([(50_000, 16, k) for k in (8, 16, 32, 64, 128, 256, 512, 1024)], ("full", "diag"), F64)

STANDARD_CASES = {
    "iteration": STANDARD,
    "scoring": [case for case in STANDARD if case.covariance_type in ("full", "diag")],
    "sample": _grid([(10_000_000, 16, 32)], ("full", "diag"), F64),
    "start": _grid([(1_000_000, 2, 8), (1_000_000, 16, 32)], ("full",), F64),
    "cold": _grid([(20_000, 8, 16)]),
    "threads": _grid(SHAPES, ("full", "diag"), F64),
    "fit": _grid([(100_000, 8, 16), (50_000, 16, 32)], ("full", "diag"), F64),
    "scaling": SCALING,
}


def _large_grids() -> list[Case]:
    """One axis at a time; with many features or components the rows get fewer, so that no iteration takes minutes."""
    rows = [(n, 8, 16) for n in (1_000, *ROWS)]
    features = [(min(500_000, 1_000_000_000 // (d * d + 8 * d)), d, 16) for d in (1, 2, 3, 4, 8, 16, 32, 64, 128, 256)]
    components = [(min(300_000, 10_000_000 // k), 16, k) for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)]
    return _grid(dict.fromkeys([*rows, *features, *components]), dtypes=F64)


PROFILES = {
    "smoke": Profile(
        kinds=tuple(kind for kind in KINDS if kind != "cold"),  # a cold start compiles for seconds
        cases={
            "iteration": _grid(SMOKE),
            "scoring": _grid(SMOKE, ("full", "spherical"), F64),
            "sample": _grid(SMOKE, ("full",), F64),
            "start": _grid(SMOKE, ("full",), F64),
            "cold": _grid(SMOKE, ("spherical",), F64),
            "threads": _grid(SMOKE, ("full",), F64),
            "fit": _grid(SMOKE, ("full",), F64),
            "scaling": _grid([(n, 4, 5) for n in (1_000, 4_000, 16_000)], ("full",), F64)
            + _grid([(4_000, 4, k) for k in (2, 4, 8)], ("full",), F64),
        },
        fit_seeds=(0,),
    ),
    "standard": Profile(kinds=KINDS[:-1], cases=STANDARD_CASES),
    "large": Profile(
        kinds=("iteration", "fit", "scaling"),
        cases=STANDARD_CASES | {"iteration": _large_grids(), "fit": _grid([(1_000_000, 16, 32)], ("full",), F64)},
        fit_seeds=(0,),
        contenders=("fastgmm", "numpy", "scikit-learn"),
    ),
}


def make_data(case: Case) -> np.ndarray:
    """Draw the rows of a case, C-contiguous (n_samples, n_features); the same rows for every covariance type.

    Clusters are ellipsoids with means about four of their standard deviations apart, so that responsibilities are
    neither all hard nor all flat.
    """
    return _make_rows(case.n_samples, case.n_features, case.n_components).astype(case.dtype)


@lru_cache(maxsize=1)  # neighbouring cases share their rows
def _make_rows(n_samples: int, n_features: int, n_components: int) -> np.ndarray:
    rng = np.random.default_rng([n_samples, n_features, n_components])
    counts = rng.multinomial(n_samples, rng.dirichlet(np.full(n_components, 5.0)))
    X = rng.standard_normal((n_samples, n_features))
    stop = 0
    for count in counts:
        start, stop = stop, stop + count
        root = np.eye(n_features) + 0.5 * rng.standard_normal((n_features, n_features)) / np.sqrt(n_features)
        mean = 4 / np.sqrt(2 * n_features) * rng.standard_normal(n_features)
        X[start:stop] = X[start:stop] @ root + mean
    return X[rng.permutation(n_samples)]


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
