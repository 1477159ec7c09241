"""Normal vectors in a box: probability and exact draws by minimax tilting (Botev, 2017).

Coordinates are drawn one after the other, each truncated given those before and with its mean shifted by mu. The
logarithm of the weight of what is drawn is psi(x, mu); at the saddle point of psi, concave in x and convex in mu, it is
nowhere above psi*, and hardly below: exp(psi - psi*) is the probability of acceptance, and the mean of exp(psi) the
probability of the box, with a small relative error also where it is tiny.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import root

from ..parameters import Array
from .components import LOG_2_PI
from .truncated import log_mass, truncated_normal

N_SHIFTS = 8
N_POINTS = 4093  # of the lattice, a prime


@dataclass(frozen=True, eq=False)
class Tilted:
    """One component in a box.

    Attributes
    ----------
    order : tuple of int
        Columns, in the order in which they are drawn: the improbable ones first.
    mean : ndarray of shape (n_features,)
    diagonal : ndarray of shape (n_features,)
        Of the Cholesky factor of the covariance in that order.
    strict : ndarray of shape (n_features, n_features)
        The factor with its rows divided by the diagonal, without it.
    low, high : ndarrays of shape (n_features,)
        The box about the mean, divided by the diagonal.
    mu : ndarray of shape (n_features,)
    bound : float
        psi*
    """

    order: tuple[int, ...]
    mean: Array
    diagonal: Array
    strict: Array
    low: Array
    high: Array
    mu: Array
    bound: float

    def draw(self, log_u: Array, log_rest: Array) -> tuple[Array, Array]:
        """Rows (n_rows, n_features) in standard coordinates, and psi of each; logs of uniform numbers u and 1 - u."""
        z, psi = np.zeros(log_u.shape), np.zeros(len(log_u))
        for i in range(len(self.mean)):
            shift = self.mu[i] + (z[:, :i] * self.strict[i, :i]).sum(axis=1)
            low, high = self.low[i] - shift, self.high[i] - shift
            own = truncated_normal(log_u[:, i], log_rest[:, i], low, high)
            z[:, i] = self.mu[i] + own
            psi += log_mass(low, high) + self.mu[i] * (0.5 * self.mu[i] - z[:, i])
        return z, psi

    def rows(self, z: Array) -> Array:
        """Rows of the component's own columns."""
        out = np.empty_like(z)
        for i, column in enumerate(self.order):
            out[:, column] = z[:, i] + (z[:, :i] * self.strict[i, :i]).sum(axis=1)
            out[:, column] = self.mean[i] + self.diagonal[i] * out[:, column]
        return out

    def log_probability(self) -> tuple[float, float]:
        """Log of the probability of the box, and its relative standard error, by a shifted lattice; no chance."""
        d = len(self.mean)
        # Evenly spaced first coordinates, Richtmyer's sequence for the others, and the tent transform.
        steps = np.outer(np.arange(N_POINTS), np.concatenate([[1 / N_POINTS], np.sqrt(_primes(d - 1))]))
        shifts = np.random.default_rng(0).random((N_SHIFTS, d))
        psi, jacobian = np.empty((N_SHIFTS, N_POINTS)), np.ones((N_SHIFTS, N_POINTS))
        for i, shift in enumerate(shifts):
            t = np.modf(steps + shift)[0]
            if d == 2:  # a single integral, which ends smoothly so: 1e-10 instead of 1e-6
                u, jacobian[i] = t - np.sin(2 * np.pi * t) / (2 * np.pi), 1 - np.cos(2 * np.pi * t[:, 0])
            else:
                u = np.abs(2 * t - 1)
            u = u.clip(1e-16, 1 - 1e-16)
            psi[i] = self.draw(np.log(u), np.log1p(-u))[1]
        most = float(psi.max())  # not the bound, which is far above where there is no saddle point
        if not np.isfinite(most):
            return -np.inf, 0.0
        means = (jacobian * np.exp(psi - most)).mean(axis=1)
        mean = means.mean()
        error = means.std(ddof=1) / np.sqrt(N_SHIFTS) / mean
        return most + float(np.log(mean)), float(error)


def _primes(n: int) -> Array:
    found: list[int] = []
    candidate = 2
    while len(found) < n:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return np.array(found, np.float64)


def _saddle(strict: Array, low: Array, high: Array) -> tuple[Array, Array] | None:
    """Where the gradient of psi in x and mu vanishes, or None."""
    n = len(low) - 1

    def gradient(y: Array) -> tuple[Array, Array]:
        x, mu = np.append(y[:n], 0.0), np.append(y[n:], 0.0)
        shift = mu + strict @ x
        a, b = low - shift, high - shift
        logs = log_mass(a, b)
        with np.errstate(over="ignore", invalid="ignore"):
            at_a, at_b = (np.exp(-0.5 * (z**2 + LOG_2_PI) - logs) for z in (a, b))
        hazard = at_a - at_b
        first = np.concatenate([-mu[:n] + hazard @ strict[:, :n], (mu - x + hazard)[:n]])
        a, b = np.where(np.isinf(a), 0.0, a), np.where(np.isinf(b), 0.0, b)
        slope = -(hazard**2) + a * at_a - b * at_b
        spread = slope[:, None] * strict
        across = (spread - np.eye(n + 1))[:n, :n]
        inner = (strict.T @ spread)[:n, :n]
        return first, np.block([[inner, across.T], [across, np.diag(1 + slope[:n])]])

    try:
        result = root(gradient, np.zeros(2 * n), jac=True)
    except (ValueError, FloatingPointError):
        return None
    if not np.isfinite(result.x).all() or not np.abs(result.fun).max() < 1e-7 * (1 + np.abs(result.x).max()):
        return None
    return np.append(result.x[:n], 0.0), np.append(result.x[n:], 0.0)


def tilted(mean: Array, covariance: Array, low: Array, high: Array) -> Tilted:
    """Prepare for one component and the box [low, high]."""
    scale = np.sqrt(np.diag(covariance))
    order = np.argsort(log_mass((low - mean) / scale, (high - mean) / scale), kind="stable")
    lower = np.linalg.cholesky(covariance[np.ix_(order, order)])
    diagonal = np.diag(lower).copy()
    strict = lower / diagonal[:, None] - np.eye(len(mean))
    a, b = (low - mean)[order] / diagonal, (high - mean)[order] / diagonal
    columns = tuple(int(column) for column in order)
    found = _saddle(strict, a, b)
    if found is None:  # without a shift psi is a sum of log-probabilities, at most that of the first
        return Tilted(columns, mean[order], diagonal, strict, a, b, np.zeros(len(mean)), float(log_mass(a[0], b[0])))
    x, mu = found
    shift = mu + strict @ x
    bound = float((log_mass(a - shift, b - shift) + mu * (0.5 * mu - x)).sum())
    return Tilted(columns, mean[order], diagonal, strict, a, b, mu, bound)
