"""EM of a Gaussian mixture that is told everything at once, in slow, obvious float64: the oracle of its combinations.

The model: a row with a label was drawn from that component; any other from a component or, where there is noise, from
the uniform density over a box. Of a row, the values that are not NaN are seen; a row without any value and without a
label says nothing. Weights count rows. The objective is the log-density of what is seen, plus that of the prior without
the terms that no parameter is in, per unit of weight of the rows that say something. Nothing of the package under test
is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from tests.reference import Mixture, dense_covariances


class Prior(NamedTuple):
    """Dirichlet weights, normal means and inverse-Wishart covariances (diag, spherical: inverse-gamma variances)."""

    concentration: float  # of every component; the noise has 1
    mean_precision: float
    mean: np.ndarray
    dof: float  # of inverse-gamma variances twice their shape
    scale: np.ndarray  # full, tied: (d, d); diag: (d,); spherical: a number


class State(NamedTuple):
    mixture: Mixture  # weights sum to 1 minus that of the noise
    noise_weight: float = 0.0


@dataclass(frozen=True)
class Told:
    """What a fit is told. NaN marks what is free of the fixed parameters; None means that all of it is."""

    X: np.ndarray
    sample_weight: np.ndarray
    labels: np.ndarray  # -1: not known
    prior: Prior | None = None
    weights: np.ndarray | None = None
    equal_weights: bool = False
    means: np.ndarray | None = None
    covariances: np.ndarray | None = None
    bounds: np.ndarray | None = None  # of the noise
    reg_covar: float = 0.0  # without a prior
    floor: float = 0.0  # a share of the columns' variances

    @property
    def speaks(self) -> np.ndarray:
        """Rows that say something."""
        return (self.labels >= 0) | ~np.isnan(self.X).all(axis=1)


def column_variances(told: Told) -> np.ndarray:
    """Weighted variance of each column's values."""
    result = []
    for column in told.X.T:
        seen = ~np.isnan(column)
        weight = told.sample_weight[seen]
        mean = weight @ column[seen] / weight.sum()
        result.append(weight @ (column[seen] - mean) ** 2 / weight.sum())
    return np.array(result)


def box(X: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
    """The smallest box around the rows that count: (2, d)."""
    rows = X[sample_weight > 0]
    return np.stack([np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)])


# ---- densities ----


def by_gaps(X: np.ndarray):
    """Yield the numbers of the rows that miss the same columns, the columns they have and those they miss."""
    for gaps in np.unique(np.isnan(X), axis=0):
        yield np.flatnonzero((np.isnan(X) == gaps).all(axis=1)), np.flatnonzero(~gaps), np.flatnonzero(gaps)


def log_densities(X: np.ndarray, state: State, bounds: np.ndarray | None) -> np.ndarray:
    """Log of weight times density of the seen values: (n, k + 1), the noise last."""
    mixture, n_components = state.mixture, len(state.mixture.weights)
    weights = np.append(mixture.weights, 0.0 if bounds is None else state.noise_weight)
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    result = np.full((len(X), n_components + 1), -np.inf)
    for rows, seen, _ in by_gaps(X):
        if len(seen) == 0:
            result[rows] = log_weights
            continue
        values = X[np.ix_(rows, seen)]
        for k, covariance in enumerate(dense_covariances(mixture)):
            factor = np.linalg.cholesky(covariance[np.ix_(seen, seen)])
            white = solve_triangular(factor, (values - mixture.means[k, seen]).T, lower=True)
            constant = -0.5 * len(seen) * np.log(2 * np.pi) - np.sum(np.log(np.diag(factor)))
            result[rows, k] = log_weights[k] + constant - 0.5 * np.sum(white**2, axis=0)
        if bounds is not None:
            low, high = bounds[:, seen]
            inside = ((values >= low) & (values <= high)).all(axis=1)
            result[rows, -1] = np.where(inside, log_weights[-1] - np.sum(np.log(high - low)), -np.inf)
    return result


def score_samples(X: np.ndarray, state: State, bounds: np.ndarray | None) -> np.ndarray:
    """Log-density of each row's seen values in nats: (n,)."""
    return logsumexp(log_densities(X, state, bounds), axis=1)


def predict_proba(X: np.ndarray, state: State, bounds: np.ndarray | None) -> np.ndarray:
    """The responsibilities of the components, (n, k + 1), the noise last."""
    log_prob = log_densities(X, state, bounds)
    return np.exp(log_prob - logsumexp(log_prob, axis=1, keepdims=True))


def log_prior(mixture: Mixture, prior: Prior) -> float:
    """Log-density of the prior, without terms in which there is no parameter."""
    total = (prior.concentration - 1) * np.sum(np.log(mixture.weights)) if prior.concentration != 1 else 0.0
    covariances, d = mixture.covariances, mixture.means.shape[1]
    if mixture.covariance_type in ("full", "tied"):
        for covariance in covariances.reshape(-1, d, d):
            total -= 0.5 * (prior.dof + d + 1) * np.linalg.slogdet(covariance)[1]
            total -= 0.5 * np.trace(np.linalg.solve(covariance, prior.scale))
    else:
        total -= np.sum((0.5 * prior.dof + 1) * np.log(covariances) + 0.5 * prior.scale / covariances)
    if prior.mean_precision > 0:
        for mean, covariance in zip(mixture.means, dense_covariances(mixture), strict=True):
            total -= 0.5 * np.linalg.slogdet(covariance)[1]
            diff = mean - prior.mean
            total -= 0.5 * prior.mean_precision * diff @ np.linalg.solve(covariance, diff)
    return float(total)


def objective(told: Told, state: State) -> float:
    """What EM raises: nats per unit of weight."""
    log_prob = log_densities(told.X, state, told.bounds)
    known = told.labels >= 0
    per_row = np.where(known, log_prob[np.arange(len(log_prob)), told.labels], logsumexp(log_prob, axis=1))
    weight = np.where(told.speaks, told.sample_weight, 0.0)
    counts = weight > 0
    total = weight[counts] @ per_row[counts]
    if told.prior is not None:
        total += log_prior(state.mixture, told.prior)
    return float(total / weight.sum())


# ---- parameters ----


def held_weights(told: Told, counts: np.ndarray) -> np.ndarray:
    """The weights, that of the noise last, which maximise sum counts log(weights) among those that are allowed."""
    if told.equal_weights:
        noise = counts[-1] / counts.sum()
        return np.append(np.full(len(counts) - 1, (1 - noise) / (len(counts) - 1)), noise)
    if told.weights is None:
        return counts / counts.sum()
    free = np.append(np.isnan(told.weights), True)
    left = 1 - np.sum(told.weights[~free[:-1]])
    shares = counts * free
    if shares.sum() == 0:  # no row tells how to share: free components alike, the noise where there are none
        shares = np.append(free[:-1], not free[:-1].any())
    return np.where(free, left * shares / shares.sum(), np.append(told.weights, 0.0))


def held(values: np.ndarray, fixed: np.ndarray | None) -> np.ndarray:
    """The values with the fixed ones in their places."""
    return values if fixed is None else np.where(np.isnan(fixed), values, fixed)


def begin(told: Told, start: Mixture, noise_weight: float) -> State:
    """The start with the fixed parameters in their places, and with noise of this weight."""
    weights = held_weights(told, np.append(start.weights * (1 - noise_weight), noise_weight))
    covariances = held(start.covariances, told.covariances)
    mixture = Mixture(weights[:-1], held(start.means, told.means), covariances, start.covariance_type)
    return State(mixture, float(weights[-1]))


def floored(covariances: np.ndarray, covariance_type: str, floor: np.ndarray) -> np.ndarray:
    """Raise eigenvalues below 1, in units in which the floor of every column is 1."""
    if covariance_type == "diag":
        return np.maximum(covariances, floor)
    if covariance_type == "spherical":
        return np.maximum(covariances, np.mean(floor))
    root = np.sqrt(floor)
    values, vectors = np.linalg.eigh(covariances / np.outer(root, root))
    return np.einsum("...ij,...j,...kj->...ik", vectors, np.maximum(values, 1.0), vectors) * np.outer(root, root)


def responsibilities(told: Told, state: State) -> np.ndarray:
    """Of the components and, last, the noise, times the weight of the rows; those of labels are known."""
    resp = predict_proba(told.X, state, told.bounds)
    known = told.labels >= 0
    resp[known] = np.eye(resp.shape[1])[told.labels[known]]
    return resp * np.where(told.speaks, told.sample_weight, 0.0)[:, np.newaxis]


def moments(told: Told, state: State, resp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each component's idea of the rows, (k, n, d), and the sum of the covariances of what it guessed, (k, d, d)."""
    means, X = state.mixture.means, told.X
    filled, spread = np.stack([X] * len(means)), np.zeros((*means.shape, means.shape[1]))
    for rows, seen, gaps in by_gaps(X):
        for k, covariance in enumerate(dense_covariances(state.mixture)):
            slope = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, gaps)]).T
            filled[k][np.ix_(rows, gaps)] = means[k, gaps] + (X[np.ix_(rows, seen)] - means[k, seen]) @ slope.T
            rest = covariance[np.ix_(gaps, gaps)] - slope @ covariance[np.ix_(seen, gaps)]
            spread[k][np.ix_(gaps, gaps)] += resp[rows, k].sum() * rest
    return filled, spread


def covariances_of(scatters: np.ndarray, counts: np.ndarray, covariance_type: str, prior: Prior | None) -> np.ndarray:
    """The covariances at the top of likelihood times prior; scatters include what the prior of the means adds."""
    n_components, d = scatters.shape[:2]
    dof, scale, normal = (-d - 1.0, 0.0, 0.0) if prior is None else (prior.dof, prior.scale, prior.mean_precision > 0)
    if covariance_type == "full":
        return (scatters + scale) / (counts + dof + d + 1 + normal)[:, np.newaxis, np.newaxis]
    if covariance_type == "tied":
        return (scatters.sum(axis=0) + scale) / (counts.sum() + dof + d + 1 + n_components * normal)
    dof = -2.0 if prior is None else dof
    squares = np.diagonal(scatters, axis1=1, axis2=2)
    if covariance_type == "diag":
        return (squares + scale) / (counts + dof + 2 + normal)[:, np.newaxis]
    return (squares.sum(axis=1) + scale) / (counts * d + dof + 2 + d * normal)


def m_step(told: Told, state: State, resp: np.ndarray) -> State:
    """The parameters of largest expected objective under these responsibilities, among those that are allowed."""
    prior, kind = told.prior, state.mixture.covariance_type
    filled, spread = moments(told, state, resp)
    counts = resp.sum(axis=0)
    concentration = np.append(np.full(len(counts) - 1, 0.0 if prior is None else prior.concentration - 1), 0.0)
    weights = held_weights(told, counts + concentration)
    pull = 0.0 if prior is None else prior.mean_precision
    centre = np.zeros(told.X.shape[1]) if prior is None else prior.mean
    means = np.stack([resp[:, k] @ rows + pull * centre for k, rows in enumerate(filled)])
    means = held(means / (counts[:-1] + pull)[:, np.newaxis], told.means)
    scatters = spread + pull * np.einsum("ki,kj->kij", means - centre, means - centre)
    for k, rows in enumerate(filled):
        scatters[k] += (resp[:, k] * (rows - means[k]).T) @ (rows - means[k])
    covariances = covariances_of(scatters, counts[:-1], kind, prior)
    if prior is None:
        covariances = covariances + told.reg_covar * (np.eye(told.X.shape[1]) if kind in ("full", "tied") else 1.0)
    if told.floor > 0:
        covariances = floored(covariances, kind, told.floor * column_variances(told))
    return State(Mixture(weights[:-1], means, held(covariances, told.covariances), kind), float(weights[-1]))


def em(told: Told, state: State, n_iter: int) -> tuple[State, list[float]]:
    """Iterate; also the objective before each M-step."""
    bounds = []
    for _ in range(n_iter):
        bounds.append(objective(told, state))
        state = m_step(told, state, responsibilities(told, state))
    return state, bounds
