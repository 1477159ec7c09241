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
    is_diag = start.covariance_type == "diag"
    covariances = start.covariances.astype(X.dtype)
    algorithm = daal4py.em_gmm(
        nComponents=len(start.weights),
        maxIterations=n_iter,
        accuracyThreshold=1e-30,
        fptype="double" if X.dtype == np.float64 else "float",
        covarianceStorage="diagonal" if is_diag else "full",
    )
    result = algorithm.compute(
        X,
        start.weights.astype(X.dtype)[None, :],
        start.means.astype(X.dtype),
        [row[None, :] for row in covariances] if is_diag else list(covariances),
    )
    if int(result.nIterations[0, 0]) != n_iter:
        raise RuntimeError(f"oneDAL ran {int(result.nIterations[0, 0])} iterations of the {n_iter} asked for")
    covariances = np.array(result.covariances)
    return Mixture(result.weights[0], result.means, covariances[:, 0] if is_diag else covariances, np.empty(0))
