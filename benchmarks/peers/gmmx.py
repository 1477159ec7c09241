"""gmmx on JAX's CPU backend: full and diag in float32, the one dtype its classes accept.

`EMFitter.fit` compiles anew for every max_iter, so its E- and M-step are compiled here once, as one iteration. JAX has
no switch for its number of threads; it uses the processors that the process may run on.
"""

from __future__ import annotations

import os

import numpy as np

from benchmarks.cases import Start
from benchmarks.contenders import Fit
from benchmarks.numpy_reference import Mixture


def load(n_threads: int) -> Fit:
    """Return the fit."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    from gmmx import EMFitter, GaussianMixtureModelJax

    @jax.jit
    def iterate(x, model, reg_covar):
        fitter = EMFitter(reg_covar=reg_covar)
        log_likelihood, log_resp = fitter.e_step(x, model)
        return fitter.m_step(x, model, log_resp), log_likelihood

    def fit(X: np.ndarray, start: Start, n_iter: int) -> Mixture:
        model = GaussianMixtureModelJax.from_squeezed(
            means=start.means.astype(X.dtype),
            covariances=start.covariances.astype(X.dtype),
            weights=start.weights.astype(X.dtype),
            covariance_type=start.covariance_type,
        )
        x = jax.numpy.asarray(X)
        for _ in range(n_iter):
            model, _ = iterate(x, model, start.reg_covar)
        weights, means = np.asarray(model.weights_numpy), np.asarray(model.means_numpy)
        return Mixture(weights, means, np.asarray(model.covariances.values_numpy), np.empty(0))

    return fit
