"""oneDAL's EM through daal4py: full and diag, float32 and float64, fused passes on oneDAL's own threads.

Its accuracyThreshold, on the total log-likelihood, must be positive: 1e-30 stops only a fit that stands still. It adds
nothing to covariances; one that is not positive definite it repairs through eigenvalues.
"""

from __future__ import annotations

import daal4py
import numpy as np

from benchmarks.cases import Start
from benchmarks.contenders import Fit
from benchmarks.numpy_reference import Mixture


def load(n_threads: int) -> Fit:
    """Return the fit, after giving oneDAL its number of threads."""
    daal4py.daalinit(n_threads)
    return fit


def fit(X: np.ndarray, start: Start, n_iter: int) -> Mixture:
    """Run n_iter iterations; RuntimeError if oneDAL stopped earlier."""
    mixture, done = fit_to_tolerance(X, start, n_iter, 1e-30)
    if done != n_iter:
        raise RuntimeError(f"oneDAL ran {done} iterations of the {n_iter} asked for")
    return mixture


def fit_to_tolerance(X: np.ndarray, start: Start, max_iter: int, tol: float) -> tuple[Mixture, int]:
    """Run until the total log-likelihood changes by less than `tol`; the mixture and the iterations."""
    is_diag = start.covariance_type == "diag"
    covariances = start.covariances.astype(X.dtype)
    algorithm = daal4py.em_gmm(
        nComponents=len(start.weights),
        maxIterations=max_iter,
        accuracyThreshold=tol,
        fptype="double" if X.dtype == np.float64 else "float",
        covarianceStorage="diagonal" if is_diag else "full",
    )
    result = algorithm.compute(
        X,
        start.weights.astype(X.dtype)[None, :],
        start.means.astype(X.dtype),
        [row[None, :] for row in covariances] if is_diag else list(covariances),
    )
    covariances = np.array(result.covariances)
    covariances = covariances[:, 0] if is_diag else covariances
    return Mixture(result.weights[0], result.means, covariances, np.empty(0)), int(result.nIterations[0, 0])
