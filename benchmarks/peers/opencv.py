"""OpenCV's EM (cv2.ml, which OpenCV 5 dropped): full, diag and spherical in float64.

Its iteration count includes a closing E-step: n + 1 of its iterations take n M-steps.
"""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.cases import Start
from benchmarks.contenders import Fit
from benchmarks.numpy_reference import Mixture
from benchmarks.peers import covariance_matrices


def load(n_threads: int) -> Fit:
    """Return the fit, after giving OpenCV its number of threads; ImportError without cv2.ml."""
    if not hasattr(cv2, "ml"):
        raise ImportError(f"OpenCV {cv2.__version__} has no cv2.ml: install opencv-python-headless<5")
    cv2.setNumThreads(n_threads)
    return fit


def fit(X: np.ndarray, start: Start, n_iter: int) -> Mixture:
    """Run n_iter EM iterations."""
    model = cv2.ml.EM_create()
    model.setClustersNumber(len(start.weights))
    types = {
        "full": cv2.ml.EM_COV_MAT_GENERIC,
        "diag": cv2.ml.EM_COV_MAT_DIAGONAL,
        "spherical": cv2.ml.EM_COV_MAT_SPHERICAL,
    }
    model.setCovarianceMatrixType(types[start.covariance_type])
    model.setTermCriteria((cv2.TERM_CRITERIA_MAX_ITER, n_iter + 1, 0.0))
    # wrap_channels: else OpenCV takes the last axis of a small matrix for colours.
    matrices = cv2.Mat(np.ascontiguousarray(covariance_matrices(start)), wrap_channels=False)
    trained, *_ = model.trainE(X, start.means, matrices, start.weights[None, :])
    if not trained:
        raise RuntimeError("OpenCV's EM failed")
    covariances = np.array(model.getCovs())
    if start.covariance_type == "diag":
        covariances = np.diagonal(covariances, axis1=1, axis2=2)
    elif start.covariance_type == "spherical":
        covariances = covariances[:, 0, 0]
    return Mixture(model.getWeights()[0], model.getMeans(), covariances, np.empty(0))
