"""One adapter per contender: `fit(X, start, n_iter)` runs exactly n_iter EM iterations and returns the parameters.

Adapters never judge themselves: `benchmarks.report` times them and recomputes what they reached.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from benchmarks import numpy_reference
from benchmarks.cases import Case, Start
from benchmarks.numpy_reference import Mixture

Fit = Callable[[np.ndarray, Start, int], Mixture]


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
        # Not converging is the plan here, and the report judges what was reached.
        warnings.simplefilter("ignore", UserWarning)
        model.fit(X)
    if model.n_iter_ != n_iter:
        raise RuntimeError(f"{estimator_class.__module__} ran {model.n_iter_} iterations of the {n_iter} asked for")
    return Mixture(model.weights_, model.means_, model.covariances_, model.precisions_cholesky_)


def contenders(case: Case, n_threads: int) -> dict[str, Fit]:
    """Return what can run this case, by name: fastgmm, the NumPy variants, and scikit-learn where installed."""
    from fastgmm import GaussianMixture

    fits: dict[str, Fit] = {
        "fastgmm": lambda X, start, n_iter: fit_estimator(GaussianMixture, X, start, n_iter, n_jobs=n_threads),
        "numpy": numpy_reference.fit_fixed,
    }
    if n_threads > 1:
        fits["numpy-pool"] = lambda X, start, n_iter: numpy_reference.fit_fixed(X, start, n_iter, n_threads=n_threads)
    if case.covariance_type == "full":
        fits["numpy-packed"] = lambda X, start, n_iter: numpy_reference.fit_fixed(X, start, n_iter, packed=True)
    if find_spec("sklearn"):
        from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

        fits["scikit-learn"] = lambda X, start, n_iter: fit_estimator(SklearnGaussianMixture, X, start, n_iter)
    return fits
