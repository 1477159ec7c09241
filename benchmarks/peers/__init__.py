"""One module per peer library: `load(n_threads)` imports it and returns its `fit(X, start, n_iter)`."""

from __future__ import annotations

import numpy as np

from benchmarks.cases import Start


def covariance_matrices(start: Start) -> np.ndarray:
    """The starting covariances as matrices, (n_components, n_features, n_features); for full, diag and spherical."""
    n_features = start.means.shape[1]
    if start.covariance_type == "full":
        return start.covariances
    return start.covariances.reshape(len(start.means), -1, 1) * np.eye(n_features)
