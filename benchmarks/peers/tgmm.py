"""tgmm on PyTorch, on the CPU: all four covariance types, float32 and float64."""

from __future__ import annotations

import warnings

import numpy as np
import tgmm
import torch

from benchmarks.cases import Start
from benchmarks.contenders import Fit
from benchmarks.numpy_reference import Mixture


def load(n_threads: int) -> Fit:
    """Return the fit, after giving PyTorch its number of threads."""
    torch.set_num_threads(n_threads)
    return fit


def fit(X: np.ndarray, start: Start, n_iter: int) -> Mixture:
    """Run n_iter iterations; RuntimeError if tgmm stopped earlier (its n_iter_ counts from 0)."""
    model = tgmm.GaussianMixture(
        n_components=len(start.weights),
        n_features=X.shape[1],
        covariance_type={"tied": "tied_full"}.get(start.covariance_type, start.covariance_type),
        reg_covar=start.reg_covar,
        tol=1e-300,  # must be positive
        max_iter=n_iter,
        init_means=torch.from_numpy(start.means.astype(X.dtype)),
        init_weights=torch.from_numpy(start.weights.astype(X.dtype)),
        init_covariances=torch.from_numpy(start.covariances.astype(X.dtype)),
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # not converging is the plan
        model.fit(torch.from_numpy(X))
    if model.n_iter_ + 1 != n_iter:
        raise RuntimeError(f"tgmm ran {model.n_iter_ + 1} iterations of the {n_iter} asked for")
    return Mixture(model.weights_.numpy(), model.means_.numpy(), model.covariances_.numpy(), np.empty(0))
