"""Principal components with an exact density: a linear map for what is kept, isotropic noise for the rest."""

from typing import Self

import numpy as np
import numpy.typing as npt
import scipy.linalg

from .transform import FloatArray, Table, Transform, check_table, float_blocks, map_blocks, summarise_finite

# Variances below this share of the mean column variance are raised to it: directions in which no training row
# varies (constant pixels) would otherwise have an infinite density, and when whitened an infinite scale.
_VARIANCE_FLOOR = 1e-6


class PCA(Transform):
    """Project rows onto the directions of largest variance, and model what is dropped as noise.

    With q of D directions kept, a row is x = mean + W u + e: u its coordinates in the kept directions, e isotropic
    Gaussian noise in the D - q others, of variance equal to the mean discarded eigenvalue (probabilistic PCA, its
    maximum likelihood). A density p(z) of the transformed rows is thereby a density of the rows themselves:

        log p(x) = log p(z) + log_abs_det(x),  log_abs_det(x) = log |det dz/du| + log p(e)

    Fitting takes two passes over the rows, in blocks, and O(n_features^2) memory; above about 5,000 features the
    eigendecomposition takes minutes. `fit` raises ValueError unless there are at least two rows, all of finite numbers,
    and a column that varies. `inverse_transform` gives the rows without a residual e.

    Parameters
    ----------
    n_components : int or float
        Directions kept: a number from 1 to min(n_samples, n_features), or, between 0 and 1, the share of the
        variance that they must reach; ValueError by `fit` where it is neither.
    whiten : bool, default=False
        Scale the kept coordinates to variance 1.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
    components_ : ndarray of shape (n_components_, n_features)
        Orthonormal rows, by decreasing variance; the largest entry of each is positive.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance (divided by n_samples) along each, at least the floor below.
    noise_variance_ : float
        Mean variance along the discarded directions, but at least 1e-6 of the mean variance of the columns; 0
        when none is discarded.
    n_components_, n_features_in_ : int

    References
    ----------
    M. E. Tipping and C. M. Bishop (1999), Probabilistic Principal Component Analysis, J. R. Statist. Soc. B
    61(3), equations 7 and 8.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.representation import PCA
    >>> X = np.random.default_rng(0).standard_normal((100, 3)) * [9.0, 3.0, 0.1]
    >>> pca = PCA(n_components=0.95).fit(X)
    >>> pca.transform(X).shape
    (100, 2)
    """

    def __init__(self, n_components: int | float, whiten: bool = False) -> None:
        self.n_components = n_components
        self.whiten = whiten

    def fit(self, X: npt.ArrayLike) -> Self:
        X = check_table(X, "X")
        n_samples, n_features = X.shape
        if n_samples < 2:
            raise ValueError(f"PCA needs at least 2 rows, got {n_samples}")
        self.mean_ = summarise_finite(X).mean
        covariance = np.zeros((n_features, n_features))
        for _, block in float_blocks(X):
            centred = block - self.mean_
            covariance += centred.T @ centred
        covariance /= n_samples
        mean_variance = np.trace(covariance) / n_features
        if mean_variance == 0:
            raise ValueError("every column of X is constant; there is no direction of variance to keep")

        eigenvalues, eigenvectors = scipy.linalg.eigh(covariance)
        eigenvalues, eigenvectors = np.maximum(eigenvalues[::-1], 0), eigenvectors[:, ::-1]
        kept = self._count_kept(eigenvalues, n_samples)
        components = eigenvectors[:, :kept].T
        largest = np.abs(components).argmax(axis=1)
        self.components_ = components * np.sign(components[np.arange(kept), largest])[:, np.newaxis]
        floor = _VARIANCE_FLOOR * mean_variance
        self.explained_variance_ = np.maximum(eigenvalues[:kept], floor)
        self.noise_variance_ = float(max(eigenvalues[kept:].mean(), floor)) if kept < n_features else 0.0
        self._scale = np.sqrt(self.explained_variance_) if self.whiten else np.ones(kept)
        self.n_components_, self.n_features_in_ = kept, n_features
        return self

    def transform(self, X: npt.ArrayLike) -> Table:
        X = self._check_rows(X)
        to_coordinates = self.components_.T / self._scale
        return map_blocks(X, self.n_components_, lambda _, block: (block - self.mean_) @ to_coordinates)

    def inverse_transform(self, Z: npt.ArrayLike) -> Table:
        Z = self._check_transformed(Z)
        to_rows = self._scale[:, np.newaxis] * self.components_
        return map_blocks(Z, self.n_features_in_, lambda _, block: self.mean_ + block @ to_rows)

    def log_abs_det(self, X: npt.ArrayLike) -> FloatArray:
        X = self._check_rows(X)
        log_prob = np.full(len(X), -np.log(self._scale).sum())
        n_dropped = self.n_features_in_ - self.n_components_
        if n_dropped == 0:
            return log_prob
        log_norm = n_dropped * np.log(2 * np.pi * self.noise_variance_)
        for start, block in float_blocks(X):
            centred = block - self.mean_
            # The residual itself, not |x|^2 - |u|^2, which would cancel.
            residual = centred - centred @ self.components_.T @ self.components_
            squares = np.einsum("id,id->i", residual, residual)
            log_prob[start : start + len(block)] -= 0.5 * (log_norm + squares / self.noise_variance_)
        return log_prob

    @property
    def n_features_out(self) -> int:
        return self.n_components_

    def _count_kept(self, eigenvalues: FloatArray, n_samples: int) -> int:
        """Return how many of the eigenvalues, in decreasing order, `n_components` asks for."""
        limit = min(n_samples, len(eigenvalues))
        asked = self.n_components
        if isinstance(asked, int | np.integer) and not isinstance(asked, bool) and 1 <= asked <= limit:
            return int(asked)
        if isinstance(asked, float) and 0 < asked < 1:
            share = np.cumsum(eigenvalues) / eigenvalues.sum()
            return min(int(np.searchsorted(share, asked)) + 1, limit)
        raise ValueError(
            f"n_components must be an int from 1 to min(n_samples, n_features) = {limit} or a share "
            f"of the variance between 0 and 1, got {asked!r}"
        )
