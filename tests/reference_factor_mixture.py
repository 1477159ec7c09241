"""A mixture of factor analysers in slow, obvious float64: the oracle of the tests.

Every covariance is a dense matrix of pixels x pixels, every conditional expectation follows the textbook (Bishop,
Pattern Recognition and Machine Learning, 2006, section 12.2.4). Nothing of the package under test is imported.
Missing pixels are NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import logsumexp

NOISE_STRUCTURES = ("diag", "shared", "isotropic")


class Parameters(NamedTuple):
    weights: np.ndarray  # (k,)
    means: np.ndarray  # (k, d)
    loadings: np.ndarray  # (k, d, l)
    noise: np.ndarray  # (k, d): variances; rows equal if shared, columns equal if isotropic


class InverseGamma(NamedTuple):
    """Prior of every free variance of the noise: density proportional to v^(-shape - 1) exp(-scale / v)."""

    shape: float
    scale: float


class Expectations(NamedTuple):
    """What the E-step knows, with z~ = [z; 1]."""

    responsibilities: np.ndarray  # (n, k)
    z: np.ndarray  # (n, k, l + 1): E[z~ | x, k]
    zz: np.ndarray  # (n, k, l + 1, l + 1): E[z~ z~' | x, k]


def covariance(loadings: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Write one component's covariance as a matrix."""
    return loadings @ loadings.T + np.diag(noise)


def visible_patterns(X: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, visible pixels), as indices, for each set of pixels that rows have in common."""
    patterns, index = np.unique(~np.isnan(X), axis=0, return_inverse=True)
    for p, pattern in enumerate(patterns):
        yield np.flatnonzero(index.ravel() == p), np.flatnonzero(pattern)


def log_prob(
    X: np.ndarray, weights: np.ndarray, means: np.ndarray, loadings: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Evaluate log(weight_k N(x_i | mean_k, covariance_k)) in nats, over the visible pixels of each row: (n, k)."""
    result = np.tile(np.log(weights), (len(X), 1))
    for rows, v in visible_patterns(X):
        for k in range(len(weights)):
            if v.size:
                normal = stats.multivariate_normal(means[k, v], covariance(loadings[k, v], noise[k, v]))
                result[rows, k] += normal.logpdf(X[np.ix_(rows, v)])
    return result


def log_likelihood(X: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Evaluate the observed-data log-likelihood of each row in nats: (n,)."""
    return logsumexp(log_prob(X, *parameters), axis=1)


def responsibilities(X: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Evaluate p(k | visible pixels of x_i): (n, k), rows sum to 1."""
    joint = log_prob(X, *parameters)
    return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))


def expectations(X: np.ndarray, parameters: Parameters) -> Expectations:
    """E-step given the visible pixels v of each row.

    E[z | x_v] = L_v' Sigma_vv^-1 (x_v - mean_v), Cov[z | x_v] = I - L_v' Sigma_vv^-1 L_v.
    """
    _, means, loadings, noise = parameters
    n_components, _, n_factors = loadings.shape
    z = np.ones((len(X), n_components, n_factors + 1))
    zz = np.empty((len(X), n_components, n_factors + 1, n_factors + 1))
    for rows, v in visible_patterns(X):
        for k in range(n_components):
            L = loadings[k, v]
            gain = L.T @ np.linalg.inv(covariance(L, noise[k, v]))
            z[rows, k, :-1] = (X[np.ix_(rows, v)] - means[k, v]) @ gain.T
            zz[rows, k] = np.einsum("na,nb->nab", z[rows, k], z[rows, k])
            zz[rows, k, :-1, :-1] += np.eye(n_factors) - gain @ L
    return Expectations(responsibilities(X, parameters), z, zz)


def em_step(
    X: np.ndarray,
    parameters: Parameters,
    sample_weight: np.ndarray | None = None,
    noise: str = "diag",
    floor: float = 0.0,
    prior: InverseGamma | None = None,
) -> Parameters:
    """One EM step without missing pixels: [L mean] of a component solves the normal equations of x on z~.

    S_kd = sum_i r_ik E[(x_id - mean_kd - L_kd z)^2] is what the variances of the noise are made of.
    """
    resp, z, zz = expectations(X, parameters)
    if sample_weight is not None:
        resp = resp * sample_weight[:, None]
    counts = resp.sum(axis=0)
    coef, S = np.empty((*parameters.means.shape, z.shape[2])), np.empty(parameters.means.shape)
    for k in range(len(counts)):
        r = resp[:, k]
        coef[k] = np.einsum("n,nd,na->da", r, X, z[:, k]) @ np.linalg.inv(np.einsum("n,nab->ab", r, zz[:, k]))
        square = X**2 - 2 * X * (z[:, k] @ coef[k].T) + np.einsum("da,nab,db->nd", coef[k], zz[:, k], coef[k])
        S[k] = r @ square
    variances = noise_variances(S, np.repeat(counts[:, None], X.shape[1], axis=1), noise, floor, prior)
    return Parameters(counts / counts.sum(), coef[:, :, -1], coef[:, :, :-1], variances)


def em_step_missing(
    X: np.ndarray,
    parameters: Parameters,
    sample_weight: np.ndarray | None = None,
    noise: str = "diag",
    floor: float = 0.0,
    prior: InverseGamma | None = None,
) -> Parameters:
    """One exact EM step with hidden pixels integrated out and z as the latent variable.

    Pixel d of a component has normal equations of its own, over the rows where it is visible. A pixel that no row
    shows keeps its parameters.
    """
    resp, z, zz = expectations(X, parameters)
    if sample_weight is not None:
        resp = resp * sample_weight[:, None]
    means, loadings = parameters.means.copy(), parameters.loadings.copy()
    S, counts = np.zeros(means.shape), np.zeros(means.shape)
    for k, d in np.ndindex(means.shape):
        v = ~np.isnan(X[:, d])
        if not v.any():
            continue
        r, x = resp[v, k], X[v, d]
        coef = np.linalg.solve(np.einsum("n,nab->ab", r, zz[v, k]), (r * x) @ z[v, k])
        loadings[k, d], means[k, d] = coef[:-1], coef[-1]
        S[k, d] = r @ (x**2 - 2 * x * (z[v, k] @ coef) + np.einsum("a,nab,b->n", coef, zz[v, k], coef))
        counts[k, d] = r.sum()
    variances = noise_variances(S, counts, noise, floor, prior)
    variances = np.where(np.isnan(variances), parameters.noise, variances)
    total = resp.sum(axis=0)
    return Parameters(total / total.sum(), means, loadings, variances)


def noise_variances(
    S: np.ndarray, counts: np.ndarray, noise: str, floor: float, prior: InverseGamma | None
) -> np.ndarray:
    """Pool the residuals S and their numbers over what shares a variance: S / N, with a prior the posterior mode.

    NaN where there is nothing to estimate a variance from.
    """
    axis = {"diag": (), "shared": 0, "isotropic": 1}[noise]
    pooled, number = S.sum(axis=axis, keepdims=True), counts.sum(axis=axis, keepdims=True)
    if prior is not None:
        pooled, number = pooled + 2 * prior.scale, number + 2 * prior.shape + 2
    variances = np.divide(pooled, number, out=np.full(pooled.shape, np.nan), where=number > 0)
    return np.broadcast_to(np.maximum(variances, floor), S.shape).copy()


def expected_complete_log_likelihood(
    X: np.ndarray, old: Parameters, new: Parameters, sample_weight: np.ndarray | None = None
) -> float:
    """Evaluate Q = E[log p(visible x, z, k | new)] under the posterior of z and k given `old`, summed over rows.

    The M-step maximises it over `new`; with a prior, Q + log_prior.
    """
    resp, z, zz = expectations(X, old)
    if sample_weight is not None:
        resp = resp * sample_weight[:, None]
    total = 0.0
    for k, weight in enumerate(new.weights):
        coef = np.hstack([new.loadings[k], new.means[k, :, None]])
        square = X**2 - 2 * X * (z[:, k] @ coef.T) + np.einsum("da,nab,db->nd", coef, zz[:, k], coef)
        log_x = np.nansum(stats.norm.logpdf(0, scale=np.sqrt(new.noise[k])) - 0.5 * square / new.noise[k], axis=1)
        factors = zz[:, k, :-1, :-1]
        log_z = -0.5 * (np.trace(factors, axis1=1, axis2=2) + factors.shape[1] * np.log(2 * np.pi))
        total += resp[:, k] @ (np.log(weight) + log_x + log_z)
    return float(total)


def log_prior(noise_variances: np.ndarray, noise: str, prior: InverseGamma) -> float:
    """Evaluate the log-density of the prior, each free variance counted once."""
    free = {"diag": noise_variances, "shared": noise_variances[0], "isotropic": noise_variances[:, 0]}[noise]
    return float(stats.invgamma(prior.shape, scale=prior.scale).logpdf(free).sum())


def impute(X: np.ndarray, parameters: Parameters, obs_noise: float = 0.0) -> np.ndarray:
    """Replace every NaN by its conditional mean; `obs_noise` is added to the variances of visible pixels."""
    weights, means, loadings, noise = parameters
    resp = responsibilities(X, Parameters(weights, means, loadings, noise + obs_noise))
    filled = X.copy()
    for i, x in enumerate(X):
        h = np.isnan(x)
        filled[i, h] = 0
        for k in range(len(weights)):
            gain = loadings[k, h] @ loadings[k, ~h].T
            gain = gain @ np.linalg.inv(covariance(loadings[k, ~h], noise[k, ~h] + obs_noise))
            filled[i, h] += resp[i, k] * (means[k, h] + gain @ (x[~h] - means[k, ~h]))
    return filled
