"""Who takes part: `fit(X, start, n_iter)` runs exactly n_iter EM iterations from `start` and returns the parameters.

Adapters never judge themselves: `benchmarks.measure` times them and recomputes what they reached. A contender whose
package is missing is recorded as absent; one that cannot take part fairly is recorded with its reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks import numpy_reference
from benchmarks.cases import COVARIANCE_TYPES, DTYPES, Case, Start
from benchmarks.numpy_reference import Mixture

Fit = Callable[[np.ndarray, Start, int], Mixture]


class NotComparableError(Exception):
    """The contender cannot solve the same problem; the message says why."""


@dataclass(frozen=True)
class Contender:
    """A name, what it can fit, and how to get its `fit` for a number of threads (imports its package)."""

    name: str
    title: str
    load: Callable[[int], Fit]
    package: str | None = None
    covariance_types: tuple[str, ...] = COVARIANCE_TYPES
    dtypes: tuple[str, ...] = DTYPES
    regularises: bool = True  # adds reg_covar to variances; if not, it is compared with a reference that does not

    def runs(self, case: Case) -> bool:
        """Whether it has this covariance type and dtype."""
        return case.covariance_type in self.covariance_types and case.dtype in self.dtypes


def fit_estimator(estimator_class: type, X: np.ndarray, start: Start, n_iter: int, **parameters: object) -> Mixture:
    """Fit a class of scikit-learn's shape from `start`; RuntimeError unless it ran all n_iter iterations."""
    model = estimator_class(
        len(start.weights),
        covariance_type=start.covariance_type,
        reg_covar=start.reg_covar,
        tol=0,
        max_iter=n_iter,
        weights_init=start.weights.astype(X.dtype),
        means_init=start.means.astype(X.dtype),
        precisions_init=start.precisions.astype(X.dtype),
        **parameters,
    )
    with warnings.catch_warnings():
        # Not converging is the plan here, and `measure` judges what was reached.
        warnings.simplefilter("ignore", UserWarning)
        model.fit(X)
    if model.n_iter_ != n_iter:
        raise RuntimeError(f"{estimator_class.__module__} ran {model.n_iter_} iterations of the {n_iter} asked for")
    return Mixture(model.weights_, model.means_, model.covariances_, model.precisions_cholesky_)


def _load_fastgmm(n_threads: int) -> Fit:
    from fastgmm import GaussianMixture

    return lambda X, start, n_iter: fit_estimator(GaussianMixture, X, start, n_iter, n_jobs=n_threads)


def _load_sklearn(n_threads: int) -> Fit:
    from sklearn.mixture import GaussianMixture

    return lambda X, start, n_iter: fit_estimator(GaussianMixture, X, start, n_iter)


def _load_numpy_pool(n_threads: int) -> Fit:
    if n_threads == 1:
        raise NotComparableError("one thread: the same as numpy")
    return lambda X, start, n_iter: numpy_reference.fit_fixed(X, start, n_iter, n_threads=n_threads)


def _load_numpy_packed(n_threads: int) -> Fit:
    return lambda X, start, n_iter: numpy_reference.fit_fixed(X, start, n_iter, packed=True)


def _load_peer(module: str) -> Callable[[int], Fit]:
    return lambda n_threads: import_module(f"benchmarks.peers.{module}").load(n_threads)


FULL_DIAG = ("full", "diag")
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("fastgmm", "fastgmm", _load_fastgmm, "fastgmm"),
        Contender("numpy", "NumPy", lambda n_threads: numpy_reference.fit_fixed, "numpy"),
        Contender("numpy-pool", "NumPy, pool of threads", _load_numpy_pool),
        Contender("numpy-packed", "NumPy, packed", _load_numpy_packed, covariance_types=("full",)),
        Contender("scikit-learn", "scikit-learn", _load_sklearn, "scikit-learn"),
        Contender("onedal", "oneDAL", _load_peer("onedal"), "scikit-learn-intelex", FULL_DIAG, regularises=False),
        Contender("gmmx", "gmmx (JAX)", _load_peer("gmmx"), "gmmx", FULL_DIAG, DTYPES[1:]),
        Contender("tgmm", "tgmm (PyTorch)", _load_peer("tgmm"), "tgmm"),
        Contender(
            "opencv",
            "OpenCV",
            _load_peer("opencv"),
            "opencv-python-headless",
            ("full", "diag", "spherical"),
            DTYPES[:1],
            regularises=False,
        ),
        Contender("mlpack", "mlpack", _load_peer("mlpack"), "mlpack", FULL_DIAG, DTYPES[:1]),
    )
}


def load_contenders(names: Collection[str], n_threads: int) -> tuple[dict[str, Fit], dict[str, dict[str, Any]]]:
    """Return the fits that can run here, and for every name its title and version, or why it takes no part."""
    fits: dict[str, Fit] = {}
    records: dict[str, dict[str, Any]] = {}
    for name in names:
        contender = CONTENDERS[name]
        record = records[name] = {"title": contender.title}
        try:
            fits[name] = contender.load(n_threads)
        except (ImportError, OSError) as error:  # OSError: a shared library that is not there
            if name == "fastgmm":
                raise
            record["absent"] = str(error).strip().partition("\n")[0]
        except NotComparableError as error:
            record["not_comparable"] = str(error)
        else:
            if contender.package:
                record["version"] = version(contender.package)
    return fits, records
