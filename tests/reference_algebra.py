"""The algebra of mixtures in slow, obvious float64: one component, one pair, one grid at a time.

Nothing of the package under test is imported.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.linalg import sqrtm
from scipy.optimize import brentq, linprog


class Mix(NamedTuple):
    weights: np.ndarray  # (k,)
    means: np.ndarray  # (k, d)
    covariances: np.ndarray  # (k, d, d)


def density(X: np.ndarray, mix: Mix) -> np.ndarray:
    """Evaluate p(x_i): (n,)."""
    parts = zip(*mix, strict=True)
    return sum(w * stats.multivariate_normal.pdf(X, m, S).reshape(len(X)) for w, m, S in parts)


def moments(mix: Mix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the whole."""
    mean = mix.weights @ mix.means
    parts = zip(*mix, strict=True)
    return mean, sum(w * (S + np.outer(m - mean, m - mean)) for w, m, S in parts)


def kl_gaussians(m: np.ndarray, S: np.ndarray, n: np.ndarray, T: np.ndarray) -> float:
    """KL(N(m, S) || N(n, T)), by determinants and inverses."""
    inverse = np.linalg.inv(T)
    log_ratio = np.linalg.slogdet(T)[1] - np.linalg.slogdet(S)[1]
    return 0.5 * float(np.trace(inverse @ S) + (n - m) @ inverse @ (n - m) - len(m) + log_ratio)


def variational_kl(p: Mix, q: Mix) -> float:
    """Hershey and Olsen (2007), equation 20."""
    total = 0.0
    for w, m, S in zip(*p, strict=True):
        same = sum(v * math.exp(-kl_gaussians(m, S, n, T)) for v, n, T in zip(*p, strict=True))
        other = sum(v * math.exp(-kl_gaussians(m, S, n, T)) for v, n, T in zip(*q, strict=True))
        total += w * math.log(same / other)
    return total


def grid(*mixes: Mix, n: int = 200_001) -> tuple[np.ndarray, float]:
    """Points over all that one-dimensional mixtures hold, (n, 1), and their distance."""
    low = min(float((m.means[:, 0] - 14 * np.sqrt(m.covariances[:, 0, 0])).min()) for m in mixes)
    high = max(float((m.means[:, 0] + 14 * np.sqrt(m.covariances[:, 0, 0])).max()) for m in mixes)
    x = np.linspace(low, high, n)
    return x[:, None], float(x[1] - x[0])


def integrals(p: Mix, q: Mix) -> tuple[float, float, float]:
    """KL(p || q), the L2 distance and the Cauchy-Schwarz divergence of one-dimensional mixtures, over a grid."""
    x, step = grid(p, q)
    a, b = density(x, p), density(x, q)
    seen = (a > 0) & (b > 0)
    kl = step * float(np.sum(a[seen] * np.log(a[seen] / b[seen])))
    l2 = math.sqrt(step * float(np.sum((a - b) ** 2)))
    cross, own = step * float(a @ b), step * math.sqrt(float(a @ a) * float(b @ b))
    return kl, l2, -math.log(cross / own)


def bures(S: np.ndarray, T: np.ndarray) -> float:
    """Squared Wasserstein distance of N(0, S) and N(0, T), by square roots of matrices."""
    root = sqrtm(S)
    return float(np.trace(S + T - 2 * np.real(sqrtm(root @ T @ root))))


def mw2(p: Mix, q: Mix) -> float:
    """The distance of Delon and Desolneux (2020), by a dense linear program."""
    k, j = len(p.weights), len(q.weights)
    costs = [
        [np.sum((m - n) ** 2) + bures(S, T) for n, T in zip(*q[1:], strict=True)] for m, S in zip(*p[1:], strict=True)
    ]
    sums = np.concatenate([np.kron(np.eye(k), np.ones(j)), np.kron(np.ones(k), np.eye(j))])
    result = linprog(np.ravel(costs), A_eq=sums, b_eq=np.concatenate([p.weights, q.weights]))
    return math.sqrt(max(result.fun, 0.0))


def merge(mix: Mix, i: int, j: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Two components as one, with their moments."""
    pair = Mix(mix.weights[[i, j]] / mix.weights[[i, j]].sum(), mix.means[[i, j]], mix.covariances[[i, j]])
    return mix.weights[[i, j]].sum(), *moments(pair)


def runnalls(mix: Mix, n_components: int) -> tuple[Mix, float]:
    """Merge the pair of least cost, all pairs looked at anew each time; and the sum of the costs."""
    total = 0.0
    while len(mix.weights) > n_components:
        best = None
        for i in range(len(mix.weights)):
            for j in range(i):
                w, m, S = merge(mix, i, j)
                logs = [np.linalg.slogdet(mix.covariances[k])[1] * mix.weights[k] for k in (i, j)]
                cost = 0.5 * (w * np.linalg.slogdet(S)[1] - sum(logs))
                if best is None or cost < best[0]:
                    best = cost, i, j, w, m, S
        cost, i, j, w, m, S = best
        total += cost
        rest = [k for k in range(len(mix.weights)) if k not in (i, j)]
        mix = Mix(
            np.append(mix.weights[rest], w),
            np.vstack([mix.means[rest], m]),
            np.concatenate([mix.covariances[rest], [S]]),
        )
    return mix, total


def gradient(x: np.ndarray, mix: Mix) -> np.ndarray:
    """Gradient of log p at one point."""
    parts = [(w * stats.multivariate_normal.pdf(x, m, S), m, S) for w, m, S in zip(*mix, strict=True)]
    return sum(p * np.linalg.solve(S, m - x) for p, m, S in parts) / sum(p for p, _, _ in parts)


def hessian(x: np.ndarray, mix: Mix, step: float = 1e-5) -> np.ndarray:
    """Second derivatives of log p at one point, by central differences of the gradient: right to 1e-9 or so."""
    axes = step * np.eye(len(x))
    return np.stack([(gradient(x + e, mix) - gradient(x - e, mix)) / (2 * step) for e in axes])


def cdf(x: float, mix: Mix, direction: np.ndarray) -> float:
    """P(direction . row <= x)."""
    return sum(
        w * stats.norm.cdf(x, direction @ m, math.sqrt(direction @ S @ direction)) for w, m, S in zip(*mix, strict=True)
    )


def quantile(p: float, mix: Mix, direction: np.ndarray) -> float:
    """By bisection over all that the mixture holds."""
    ends = [
        direction @ m + s * 40 * math.sqrt(direction @ S @ direction)
        for m, S in zip(*mix[1:], strict=True)
        for s in (-1, 1)
    ]
    return brentq(lambda x: cdf(x, mix, direction) - p, min(ends), max(ends), xtol=1e-14, rtol=1e-14)


def hdr_level(coverage: float, mix: Mix) -> float:
    """Log-density above which a one-dimensional mixture has this probability: points of a grid, sorted by density."""
    x, step = grid(mix, n=2_000_001)
    values = np.sort(density(x, mix))[::-1]
    return math.log(values[np.searchsorted(np.cumsum(values) * step, coverage)])


def draw(mix: Mix, n: int, seed: int) -> np.ndarray:
    """Rows of the mixture, for rejection."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(mix.weights), n, p=mix.weights)
    lower = np.linalg.cholesky(mix.covariances)
    return mix.means[labels] + np.einsum("nij,nj->ni", lower[labels], rng.standard_normal((n, mix.means.shape[1])))
