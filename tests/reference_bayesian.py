"""The lower bound of a Bayesian mixture's evidence, term by term: the oracle of the variational tests.

Bishop, Pattern Recognition and Machine Learning (2006), equations 10.71 to 10.77, full covariances, one component at a
time; weights from a Dirichlet distribution or from broken sticks (Blei and Jordan, 2006). Nothing of the package under
test is imported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, digamma, gammaln, multigammaln


@dataclass(frozen=True)
class Prior:
    concentration: float
    mean_precision: float
    mean: np.ndarray  # (d,)
    dof: float
    scatter: np.ndarray  # (d, d), the inverse of the Wishart's scale


@dataclass(frozen=True)
class Posterior:
    concentration: np.ndarray  # (k,), or (2, k) for sticks
    mean_precision: np.ndarray  # (k,)
    means: np.ndarray  # (k, d)
    dof: np.ndarray  # (k,)
    scatters: np.ndarray  # (k, d, d)


def log_wishart_norm(scatter: np.ndarray, dof: float) -> float:
    """ln B(W, nu) of equation B.79, W the inverse of `scatter`."""
    d = len(scatter)
    log_det_w = -np.linalg.slogdet(scatter)[1]
    return -0.5 * dof * log_det_w - 0.5 * dof * d * np.log(2) - multigammaln(0.5 * dof, d)


def expected_log_det(scatter: np.ndarray, dof: float) -> float:
    """E[ln |precision|], equation 10.65."""
    d = len(scatter)
    return sum(digamma(0.5 * (dof + 1 - i)) for i in range(1, d + 1)) + d * np.log(2) - np.linalg.slogdet(scatter)[1]


def weight_terms(prior: Prior, concentration: np.ndarray) -> tuple[np.ndarray, float, float]:
    """E[ln weight] of each component, E[ln p(weights)] and E[ln q(weights)]."""
    if concentration.ndim == 1:
        log_weights = digamma(concentration) - digamma(concentration.sum())
        k, a0 = len(concentration), prior.concentration
        log_prior = gammaln(k * a0) - k * gammaln(a0) + (a0 - 1) * log_weights.sum()
        log_posterior = gammaln(concentration.sum()) - gammaln(concentration).sum()
        return log_weights, log_prior, log_posterior + ((concentration - 1) * log_weights).sum()
    a, b = concentration
    log_v, log_rest = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
    log_weights = np.array([log_v[k] + log_rest[:k].sum() for k in range(len(a))])
    log_prior = (np.log(prior.concentration) + (prior.concentration - 1) * log_rest).sum()
    log_posterior = ((a - 1) * log_v + (b - 1) * log_rest - betaln(a, b)).sum()
    return log_weights, log_prior, log_posterior


def lower_bound(X: np.ndarray, resp: np.ndarray, prior: Prior, posterior: Posterior) -> float:
    """All seven terms of the evidence's lower bound, in nats."""
    d = X.shape[1]
    log_weights, log_prior_weights, log_posterior_weights = weight_terms(prior, posterior.concentration)
    total = log_prior_weights - log_posterior_weights
    total += (resp @ log_weights).sum()
    total -= (resp * np.log(np.where(resp > 0, resp, 1.0))).sum()
    for k in range(len(posterior.means)):
        nk, mean, scatter = resp[:, k].sum(), posterior.means[k], posterior.scatters[k]
        beta, nu = posterior.mean_precision[k], posterior.dof[k]
        W = np.linalg.inv(scatter)
        center = resp[:, k] @ X / nk
        S = (resp[:, k] * (X - center).T) @ (X - center) / nk
        log_det = expected_log_det(scatter, nu)
        far = (center - mean) @ W @ (center - mean)
        total += 0.5 * nk * (log_det - d / beta - nu * np.trace(S @ W) - nu * far - d * np.log(2 * np.pi))
        b0, v0 = prior.mean_precision, prior.dof
        moved = (mean - prior.mean) @ W @ (mean - prior.mean)
        total += 0.5 * (d * np.log(b0 / (2 * np.pi)) + log_det - d * b0 / beta - b0 * nu * moved)
        total += log_wishart_norm(prior.scatter, v0) + 0.5 * (v0 - d - 1) * log_det
        total -= 0.5 * nu * np.trace(prior.scatter @ W)
        total -= 0.5 * log_det + 0.5 * d * np.log(beta / (2 * np.pi)) - 0.5 * d
        total -= log_wishart_norm(scatter, nu) + 0.5 * (nu - d - 1) * log_det - 0.5 * nu * d
    return float(total)
