"""EM for mixtures of factor analysers in NumPy: the yardstick of the image benchmarks.

The model is x = mean_k + loadings_k z + e with z ~ N(0, I) and e ~ N(0, diag(noise_k)), so that the covariance of
component k is L L' + Psi (Ghahramani & Hinton, 1996; Richardson & Weiss, 2018). No matrix of pixels x pixels is built:
with I + L' Psi^-1 L = C C' and V = Psi^-1 L C'^-1,

    log det(L L' + Psi) = sum log psi + 2 sum log C_ii,    d' (L L' + Psi)^-1 d = sum d^2 / psi - |V' d|^2,
    E[z | x] = C'^-1 V' d,                                 Cov[z | x] = (C C')^-1,             d = x - mean.

The E-step is three BLAS products with all components at once. The M-step loops over components and leaves out rows
whose responsibility is below NEGLIGIBLE: with hundreds of pixels nearly all are, and it costs 1/K of a dense one.
Rows in float32 halve the time of the product with V; the squares, which cancel, and all sums stay in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

BLOCK = 2048  # rows per product: scratch of BLOCK x (n_components * n_factors)
NEGLIGIBLE = 1e-12
NOISE_STRUCTURES = ("diag", "shared", "isotropic")
KMEANS_PASSES = 8


class FactorMixture(NamedTuple):
    """Parameters; `noise` holds variances, broadcast over components (shared) or pixels (isotropic) where tied."""

    weights: np.ndarray  # (n_components,)
    means: np.ndarray  # (n_components, n_features)
    loadings: np.ndarray  # (n_components, n_features, n_factors)
    noise: np.ndarray  # (n_components, n_features)

    def log_joint(self, X: np.ndarray) -> np.ndarray:
        """Log of weight times density, in nats: (n_samples, n_components)."""
        n_components, n_features, n_factors = self.loadings.shape
        root, V = factorise(self)
        projection = V.transpose(1, 0, 2).reshape(n_features, -1).astype(X.dtype)
        offset = np.einsum("kd,kdl->kl", self.means, V)
        precision = 1 / self.noise
        linear = self.means * precision
        log_det = np.log(self.noise).sum(axis=1) - 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        constant = np.einsum("kd,kd->k", self.means, linear) + log_det + n_features * np.log(2 * np.pi)
        log_joint = np.empty((len(X), n_components))
        for first in range(0, len(X), BLOCK):
            rows = X[first : first + BLOCK]
            whitened = (rows @ projection).reshape(len(rows), n_components, n_factors) - offset
            explained = np.einsum("nkl,nkl->nk", whitened, whitened)
            rows = rows.astype(np.float64, copy=False)
            squared = np.square(rows) @ precision.T - 2 * (rows @ linear.T) + constant
            log_joint[first : first + BLOCK] = -0.5 * (squared - explained)
        return log_joint + np.log(self.weights)

    def log_density(self, X: np.ndarray) -> np.ndarray:
        """Log-likelihood of each row in nats: (n_samples,)."""
        return logsumexp(self.log_joint(X), axis=1)

    def sample(self, n: int, seed: int = 0, add_noise: bool = True) -> np.ndarray:
        """Draw rows; without noise, points of the factor subspaces: mean + L z."""
        rng = np.random.default_rng(seed)
        n_components, n_features, n_factors = self.loadings.shape
        component = rng.choice(n_components, size=n, p=self.weights)
        z = rng.standard_normal((n, n_factors))
        X = self.means[component]
        for k in np.unique(component):
            X[component == k] += z[component == k] @ self.loadings[k].T
        if add_noise:
            X += np.sqrt(self.noise[component]) * rng.standard_normal((n, n_features))
        return X

    def inpaint(self, X: np.ndarray, hidden: np.ndarray, obs_noise: float = 0.0) -> np.ndarray:
        """Replace the pixels where `hidden` is true by their posterior mean.

        `hidden` has shape (n_features,): the same pixels in every row. `obs_noise` is a variance added to that of the
        visible pixels, which softens the choice of components and the factors.
        """
        visible = ~hidden
        seen = FactorMixture(
            self.weights, self.means[:, visible], self.loadings[:, visible], self.noise[:, visible] + obs_noise
        )
        resp = compute_responsibilities(seen.log_joint(X[:, visible]))[0]
        root, V = factorise(seen)
        filled = X.astype(np.float64)
        filled[:, hidden] = 0
        for k, rows in relevant_rows(resp):
            z = (X[np.ix_(rows, visible)] - seen.means[k]) @ V[k] @ root[k]
            completion = self.means[k, hidden] + z @ self.loadings[k, hidden].T
            filled[np.ix_(rows, hidden)] += resp[rows, k, None] * completion
        return filled


class Gaussian(NamedTuple):
    """One full Gaussian, the simplest model of a whole image."""

    mean: np.ndarray
    covariance: np.ndarray

    def log_density(self, X: np.ndarray) -> np.ndarray:
        """Log-likelihood of each row in nats: (n_samples,)."""
        L = np.linalg.cholesky(self.covariance)
        whitened = (X - self.mean) @ np.linalg.inv(L).T
        log_det = 2 * np.log(np.diagonal(L)).sum()
        return -0.5 * (np.square(whitened).sum(axis=1) + log_det + X.shape[1] * np.log(2 * np.pi))

    def inpaint(self, X: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """Replace the pixels where `hidden`, shape (n_features,), is true by their conditional mean."""
        visible = ~hidden
        regression = np.linalg.solve(
            self.covariance[np.ix_(visible, visible)], self.covariance[np.ix_(visible, hidden)]
        )
        filled = X.astype(np.float64)
        filled[:, hidden] = self.mean[hidden] + (X[:, visible] - self.mean[visible]) @ regression
        return filled


def fit_gaussian(X: np.ndarray, ridge: float) -> Gaussian:
    """Mean and covariance of the rows, `ridge` added to every variance."""
    return Gaussian(X.mean(axis=0), np.cov(X, rowvar=False, bias=True) + ridge * np.eye(X.shape[1]))


def fit(
    X: np.ndarray,
    n_components: int,
    n_factors: int,
    n_iter: int = 12,
    floor: float = 1e-4,
    seed: int = 0,
    noise: str = "diag",
    cutoff: float = NEGLIGIBLE,
) -> FactorMixture:
    """Fit by `n_iter` EM steps from k-means; no variance of the noise is below `floor`.

    `noise` is one of NOISE_STRUCTURES: "diag" has one variance per component and pixel, "shared" one per pixel,
    "isotropic" one per component, which makes the model a mixture of probabilistic PCA.
    """
    mixture = start(X, n_components, n_factors, floor, seed, noise)
    for _ in range(n_iter):
        mixture, _ = em_step(X, mixture, floor, noise, cutoff)
    return mixture


def start(
    X: np.ndarray, n_components: int, n_factors: int, floor: float = 1e-4, seed: int = 0, noise: str = "diag"
) -> FactorMixture:
    """k-means, then the maximum-likelihood probabilistic PCA of every cluster, its residual variances as noise."""
    labels = kmeans(X, n_components, np.random.default_rng(seed))
    counts = np.bincount(labels, minlength=n_components)
    n_features = X.shape[1]
    means = np.empty((n_components, n_features))
    loadings = np.zeros((n_components, n_features, n_factors))
    residual = np.empty((n_components, n_features))
    for k in range(n_components):
        rows = X[labels == k].astype(np.float64)
        means[k] = rows.mean(axis=0)
        centred = rows - means[k]
        variances = np.square(centred).mean(axis=0)
        directions, eigenvalues = leading_eigenvectors(centred, n_factors)
        rest = (variances.sum() - eigenvalues.sum()) / (n_features - n_factors)
        loadings[k, :, : len(eigenvalues)] = directions * np.sqrt(np.maximum(eigenvalues - rest, 0))
        residual[k] = variances - np.square(loadings[k]).sum(axis=1)
    return FactorMixture(counts / len(X), means, loadings, tie_noise(residual * counts[:, None], counts, noise, floor))


def em_step(
    X: np.ndarray, mixture: FactorMixture, floor: float = 0.0, noise: str = "diag", cutoff: float = NEGLIGIBLE
) -> tuple[FactorMixture, float]:
    """One exact EM step: new parameters, and the mean log-likelihood under the given ones.

    Rows of a responsibility up to `cutoff` are left out of the sums; -1 takes all rows, as the textbooks do.

    Means and loadings are updated together: with z~ = [z; 1], regression of x - mean on z~.
    """
    resp, log_likelihood = compute_responsibilities(mixture.log_joint(X))
    counts = resp.sum(axis=0)
    root, V = factorise(mixture)
    means, loadings = mixture.means.copy(), mixture.loadings.copy()
    residual = mixture.noise * counts[:, None]  # stays for a component that no row belongs to
    for k, rows in relevant_rows(resp, cutoff):
        r = resp[rows, k]
        centred = X[rows] - mixture.means[k]
        z = np.hstack([centred @ V[k] @ root[k], np.ones((len(rows), 1))])
        weighted = r[:, None] * z
        moments = weighted.T @ z
        moments[:-1, :-1] += r.sum() * root[k].T @ root[k]
        cross = weighted.T @ centred
        coef = np.linalg.solve(moments, cross)
        loadings[k] = coef[:-1].T
        means[k] += coef[-1]
        residual[k] = r @ np.square(centred) - np.einsum("ld,ld->d", coef, cross)
    weights = np.maximum(counts / len(X), np.finfo(np.float64).tiny)
    return FactorMixture(weights, means, loadings, tie_noise(residual, counts, noise, floor)), log_likelihood


def compute_responsibilities(log_joint: np.ndarray) -> tuple[np.ndarray, float]:
    """Responsibilities, shape (n_samples, n_components), and the mean log-likelihood."""
    log_density = logsumexp(log_joint, axis=1)
    return np.exp(log_joint - log_density[:, None]), float(log_density.mean())


def relevant_rows(resp: np.ndarray, cutoff: float = NEGLIGIBLE) -> Iterator[tuple[int, np.ndarray]]:
    """Every component that owns anything, with the rows whose responsibility is not negligible."""
    for k, column in enumerate(np.ascontiguousarray(resp.T)):
        rows = np.flatnonzero(column > cutoff)
        if rows.size:
            yield k, rows


def factorise(mixture: FactorMixture) -> tuple[np.ndarray, np.ndarray]:
    """C^-1 with C C' = I + L' Psi^-1 L, C lower triangular, and V = Psi^-1 L C'^-1, of every component.

    E[z | x] is (x - mean) V C^-1 for rows x, Cov[z | x] is C'^-1 C^-1.
    """
    scaled = mixture.loadings / mixture.noise[:, :, None]
    C = np.linalg.cholesky(np.eye(scaled.shape[2]) + mixture.loadings.transpose(0, 2, 1) @ scaled)
    root = np.linalg.inv(C)
    return root, scaled @ root.transpose(0, 2, 1)


def tie_noise(residual: np.ndarray, counts: np.ndarray, noise: str, floor: float) -> np.ndarray:
    """Variances of the noise from sums of squared residuals (n_components, n_features), tied as `noise` says."""
    tiny = np.finfo(np.float64).tiny
    if noise == "shared":
        variances = residual.sum(axis=0) / counts.sum()
    else:
        variances = residual / np.maximum(counts, tiny)[:, None]
        if noise == "isotropic":
            variances = variances.mean(axis=1, keepdims=True)
    return np.ascontiguousarray(np.broadcast_to(np.maximum(variances, floor), residual.shape))


def leading_eigenvectors(centred: np.ndarray, n_factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors (n_features, at most n_factors) and eigenvalues of the covariance of centred rows.

    Through the Gram matrix of the rows where there are fewer of them than pixels.
    """
    n_samples, n_features = centred.shape
    if n_samples < n_features:
        # The covariance of n centred rows has at most n - 1 eigenvalues that are not 0.
        n_factors = min(n_factors, n_samples - 1)
        eigenvalues, vectors = np.linalg.eigh(centred @ centred.T)
        eigenvalues, vectors = eigenvalues[::-1][:n_factors], vectors[:, ::-1][:, :n_factors]
        positive = eigenvalues > 1e-12 * eigenvalues[:1]
        eigenvalues, vectors = eigenvalues[positive], vectors[:, positive]
        return centred.T @ vectors / np.sqrt(eigenvalues), eigenvalues / n_samples
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred)
    return vectors[:, ::-1][:, :n_factors], eigenvalues[::-1][:n_factors] / n_samples


def kmeans(X: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Labels after KMEANS_PASSES Lloyd passes from k-means++ seeds; no cluster is empty."""
    norms = np.einsum("nd,nd->n", X, X)

    def distances(centres: np.ndarray) -> np.ndarray:
        return np.maximum(norms[:, None] - 2 * (X @ centres.T) + np.square(centres).sum(axis=1), 0)

    centres = X[[rng.integers(len(X))]]
    nearest = distances(centres)[:, 0]
    for _ in range(1, n_clusters):
        chance = nearest.astype(np.float64)
        seed = X[[rng.choice(len(X), p=chance / chance.sum())]]
        nearest = np.minimum(nearest, distances(seed)[:, 0])
        centres = np.vstack([centres, seed])
    for _ in range(KMEANS_PASSES):
        squared = distances(centres)
        labels = squared.argmin(axis=1)
        counts = np.bincount(labels, minlength=n_clusters)
        # A cluster that lost all its rows takes the one farthest from its centre.
        for empty in np.flatnonzero(counts == 0):
            farthest = np.where(counts[labels] > 1, squared[np.arange(len(X)), labels], -1).argmax()
            counts[labels[farthest]] -= 1
            counts[empty] += 1
            labels[farthest] = empty
        one_hot = np.zeros((n_clusters, len(X)), dtype=X.dtype)
        one_hot[labels, np.arange(len(X))] = 1
        centres = one_hot @ X / counts[:, None].astype(X.dtype)
    return labels
