"""EM for Gaussian mixtures in NumPy: the yardstick of the benchmarks, written to be as fast as NumPy allows.

The matrix products are BLAS calls over blocks of rows whose scratch stays in cache, buffers are allocated once per
pass and filled through `out=`, and nothing of size n_samples x n_components is stored. BLAS may use every thread;
`n_threads > 1` instead gives each thread of a pool its own rows and one BLAS thread, which also spreads NumPy's
element-wise functions over the cores.

What a block of rows computes, with x shifted by the column means and r the responsibilities:

- tied, diag, spherical, packed: log-probabilities linear in features of x, so that each step is one product with
  all components at once, `coef @ features` and `r @ features.T`. The features are [x, 1] for tied, whose x x^T is
  summed once per fit; [x^2, x, 1] for diag; [|x|^2, x, 1] for spherical; [x_d x_e for d <= e, x, 1] for packed.
  Second moments about the shift lose digits where clusters are far apart relative to their width.
- full: y = U_k^T (x - mean_k) for all k in one product, log-probabilities from |y|^2, covariances from
  sum r y y^T: moments about the current means, which keep their digits wherever the clusters are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

# exp of anything lower underflows, and NumPy's vectorised exp then takes its scalar path: 6 ns per element in place
# of 0.7. The smallest responsibility becomes 1e-304 (1e-35 in float32), which no sum can feel.
LOWEST_LOG_RESP = {np.dtype(np.float64): -700.0, np.dtype(np.float32): -80.0}


class Mixture(NamedTuple):
    """Parameters in scikit-learn's shapes."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    precisions_cholesky: np.ndarray


class Start(Protocol):
    """Where EM begins; `benchmarks.cases.Start` is one."""

    covariance_type: str
    reg_covar: float
    weights: np.ndarray
    means: np.ndarray
    precisions_cholesky: np.ndarray


class Statistics(NamedTuple):
    """Sums over rows: r times features, r y y^T (empty unless full), log-sum-exp of the weighted log-probabilities."""

    linear: np.ndarray
    outer: np.ndarray
    log_prob_norm: float


class LinearPass:
    """E- and M-step over blocks of rows where the log-probability is linear in the features."""

    def __init__(self, coef: np.ndarray, packed: bool) -> None:
        n_components, n_coef = coef.shape
        # 2048 rows at 32 components: shorter blocks lose to call overhead, longer ones to the L2 cache.
        self.block = int(np.clip(65536 // n_components, 256, 8192))
        self.coef, self.packed = coef, packed
        self.expanded = np.empty((n_coef, self.block if packed else 0), dtype=coef.dtype)
        self.scores = np.empty((n_components, self.block), dtype=coef.dtype)
        self.product = np.empty((n_components, n_coef), dtype=coef.dtype)
        self.linear = np.zeros((n_components, n_coef))
        self.outer = np.zeros(0)

    def e_step(self, features: np.ndarray) -> np.ndarray:
        """Return the weighted log-probabilities of a block, shape (n_components, n_rows)."""
        n_rows = features.shape[1]
        self.block_features = expand_packed(features, self.expanded[:, :n_rows]) if self.packed else features
        return np.matmul(self.coef, self.block_features, out=self.scores[:, :n_rows])

    def m_step(self, resp: np.ndarray) -> None:
        """Add the statistics of the block of the last E-step."""
        self.linear += np.matmul(resp, self.block_features.T, out=self.product)


class FullPass:
    """E- and M-step over blocks of rows for full covariances.

    25 ns per row and component at 300,000 x 16, 32 components, 2 BLAS threads. Tried and no faster there: a Python
    loop over components with smaller scratch 28, sqrt(r) y times its own transpose, of which BLAS computes one
    triangle, 33, einsum for |y|^2 2 more. Points as rows cost the same from 16 features on, and twice at 2 and 4.
    """

    def __init__(self, coef: np.ndarray, offset: np.ndarray) -> None:
        n_components, n_features = len(offset), coef.shape[1] - 1
        self.block = int(np.clip(393216 // len(coef), 64, 8192))
        self.coef, self.offset = coef, offset
        shape = (n_components, n_features, self.block)
        self.whitened, self.scratch = np.empty(shape, dtype=coef.dtype), np.empty(shape, dtype=coef.dtype)
        self.minus_half = np.full(n_features, -0.5, dtype=coef.dtype)
        self.scores = np.empty((n_components, self.block), dtype=coef.dtype)
        self.product = np.empty((n_components, n_features, n_features), dtype=coef.dtype)
        self.linear = np.zeros((n_components, n_features + 1))
        self.outer = np.zeros(self.product.shape)

    def e_step(self, features: np.ndarray) -> np.ndarray:
        """Return the weighted log-probabilities of a block, shape (n_components, n_rows)."""
        n_rows = features.shape[1]
        self.block_features = features
        whitened, scratch = self.whitened[:, :, :n_rows], self.scratch[:, :, :n_rows]
        np.matmul(self.coef, features, out=self.whitened.reshape(-1, self.block)[:, :n_rows])
        np.multiply(whitened, whitened, out=scratch)
        scores = np.matmul(self.minus_half, scratch, out=self.scores[:, :n_rows])
        scores += self.offset
        return scores

    def m_step(self, resp: np.ndarray) -> None:
        """Add the statistics of the block of the last E-step."""
        n_rows = resp.shape[1]
        whitened, scratch = self.whitened[:, :, :n_rows], self.scratch[:, :, :n_rows]
        np.multiply(whitened, resp[:, None, :], out=scratch)
        self.outer += np.matmul(scratch, whitened.transpose(0, 2, 1), out=self.product)
        self.linear += resp @ self.block_features.T


def expand_packed(rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` with [x_d x_e for d <= e, x, 1] from rows [x, 1]; one column per point."""
    n_features = len(rows) - 1
    stop = 0
    for d in range(n_features):
        start, stop = stop, stop + n_features - d
        np.multiply(rows[d:n_features], rows[d], out=out[start:stop])
    out[stop:] = rows
    return out


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Turn `scores` into responsibilities in place; return their log-sum-exp over components, shape (n_rows,)."""
    largest = scores.max(axis=0)
    scores -= largest
    np.maximum(scores, LOWEST_LOG_RESP[scores.dtype], out=scores)
    np.exp(scores, out=scores)
    total = scores.sum(axis=0)
    scores *= 1 / total
    return largest + np.log(total)


def compute_features(X: np.ndarray, shift: np.ndarray, structure: str) -> np.ndarray:
    """Return the features of every row as columns, in the dtype of X."""
    n_samples, n_features = X.shape
    n_squares = {"diag": n_features, "spherical": 1}.get(structure, 0)
    features = np.empty((n_features + n_squares + 1, n_samples), dtype=X.dtype)
    shifted = features[n_squares:-1]
    np.subtract(X.T, shift[:, None], out=shifted)
    if structure == "diag":
        np.multiply(shifted, shifted, out=features[:n_squares])
    elif structure == "spherical":
        np.einsum("dn,dn->n", shifted, shifted, out=features[0])
    features[-1] = 1
    return features


def compute_coefficients(mixture: Mixture, shift: np.ndarray, structure: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what turns features into weighted log-probabilities: (coef, offset), offset within coef unless full.

    For tied, -|U^T x|^2 / 2 is left out: it is the same for every component.
    """
    means, U = mixture.means - shift, mixture.precisions_cholesky
    n_features = means.shape[1]
    if structure in ("full", "packed"):
        whitened_means = np.einsum("kd,kde->ke", means, U)
        log_det = np.log(np.diagonal(U, axis1=1, axis2=2)).sum(axis=1)
    elif structure == "tied":
        whitened_means = means @ U
        log_det = np.log(np.diagonal(U)).sum()
    else:
        scale = np.broadcast_to(U.reshape(len(means), -1), means.shape)
        whitened_means = means * scale
        log_det = np.log(scale).sum(axis=1)
    offset = (np.log(mixture.weights) + log_det - 0.5 * n_features * np.log(2 * np.pi))[:, None]
    if structure == "full":
        coef = np.concatenate([U.transpose(0, 2, 1), -whitened_means[:, :, None]], axis=2)
        return coef.reshape(-1, n_features + 1), offset
    offset = offset - 0.5 * np.square(whitened_means).sum(axis=1, keepdims=True)
    if structure == "tied":
        return np.hstack([whitened_means @ U.T, offset]), offset
    if structure == "packed":
        rows, columns = np.triu_indices(n_features)
        precisions = U @ U.transpose(0, 2, 1)
        quadratic = np.where(rows == columns, -0.5, -1.0) * precisions[:, rows, columns]
        return np.hstack([quadratic, np.einsum("ke,kde->kd", whitened_means, U), offset]), offset
    quadratic = -0.5 * np.square(U.reshape(len(means), -1))
    return np.hstack([quadratic, whitened_means * scale, offset]), offset


def estimate_mixture(statistics: Statistics, mixture: Mixture, problem: Problem, reg_covar: float) -> Mixture:
    """M-step: the parameters that the statistics imply."""
    n_features = mixture.means.shape[1]
    nk = statistics.linear[:, -1]
    means = statistics.linear[:, -1 - n_features : -1] / nk[:, None]
    second = statistics.linear[:, : -1 - n_features] / nk[:, None]
    identity = np.eye(n_features)
    if problem.structure == "full":
        # x - mean = U^-T y; the new mean differs from the one that y was centred on by `moved`.
        root = np.linalg.inv(mixture.precisions_cholesky)
        moved = means + problem.shift - mixture.means
        covariances = root.transpose(0, 2, 1) @ (statistics.outer / nk[:, None, None]) @ root
        covariances += reg_covar * identity - moved[:, :, None] * moved[:, None, :]
    elif problem.structure == "packed":
        rows, columns = np.triu_indices(n_features)
        covariances = np.empty((len(means), n_features, n_features))
        covariances[:, rows, columns] = covariances[:, columns, rows] = second
        covariances += reg_covar * identity - means[:, :, None] * means[:, None, :]
    elif problem.structure == "tied":
        covariances = (problem.scatter - (nk[:, None] * means).T @ means) / nk.sum() + reg_covar * identity
    elif problem.structure == "diag":
        covariances = second - np.square(means) + reg_covar
    else:
        covariances = (second[:, 0] - np.square(means).sum(axis=1)) / n_features + reg_covar
    weights = nk / nk.sum()
    return Mixture(weights, means + problem.shift, covariances, cholesky_of_precisions(covariances, problem.structure))


def cholesky_of_precisions(covariances: np.ndarray, structure: str) -> np.ndarray:
    """Return upper triangular U with U U^T the precision; 1 / standard deviation for diag and spherical."""
    if structure in ("diag", "spherical"):
        return 1 / np.sqrt(covariances)
    return np.linalg.inv(np.linalg.cholesky(covariances)).swapaxes(-1, -2)


def start_pass(mixture: Mixture, shift: np.ndarray, structure: str, dtype: np.dtype) -> LinearPass | FullPass:
    coef, offset = (array.astype(dtype) for array in compute_coefficients(mixture, shift, structure))
    return FullPass(coef, offset) if structure == "full" else LinearPass(coef, packed=structure == "packed")


class Problem:
    """The rows of one fit: their features, and the moments that no iteration changes."""

    def __init__(self, X: np.ndarray, structure: str, n_threads: int = 1) -> None:
        self.structure, self.n_threads = structure, n_threads
        self.n_samples, n_features = X.shape
        self.shift = X.mean(axis=0, dtype=np.float64)
        self.features = compute_features(X, self.shift, structure)
        self.scatter = np.zeros((n_features, n_features))
        if structure == "tied":
            for first in range(0, self.n_samples, 8192):
                rows = self.features[:-1, first : first + 8192]
                self.scatter += rows @ rows.T

    def estimate_statistics(self, mixture: Mixture) -> Statistics:
        """E-step and sums over all rows."""
        span = -(-self.n_samples // self.n_threads)
        spans = [self.features[:, first : first + span] for first in range(0, self.n_samples, span)]

        def run(features: np.ndarray) -> Statistics:
            block_pass = start_pass(mixture, self.shift, self.structure, features.dtype)
            log_prob_norm = 0.0
            for first in range(0, features.shape[1], block_pass.block):
                scores = block_pass.e_step(features[:, first : first + block_pass.block])
                log_prob_norm += float(log_sum_exp(scores).sum(dtype=np.float64))
                block_pass.m_step(scores)
            return Statistics(block_pass.linear, block_pass.outer, log_prob_norm)

        if self.n_threads == 1:
            return run(self.features)
        with ThreadPoolExecutor(self.n_threads) as pool:
            return Statistics(*(sum(parts) for parts in zip(*pool.map(run, spans), strict=True)))

    def iterate(self, mixture: Mixture, reg_covar: float) -> tuple[Mixture, float]:
        """One EM iteration: new parameters, and the mean log-likelihood under the old ones."""
        statistics = self.estimate_statistics(mixture)
        total = statistics.log_prob_norm
        if self.structure == "tied":
            total -= 0.5 * np.sum((mixture.precisions_cholesky.T @ self.scatter) * mixture.precisions_cholesky.T)
        return estimate_mixture(statistics, mixture, self, reg_covar), total / self.n_samples


def em_iteration(
    X: np.ndarray,
    weights: np.ndarray,
    means: np.ndarray,
    precisions_cholesky: np.ndarray,
    covariance_type: str,
    reg_covar: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """One EM iteration: (weights, means, covariances, precisions_cholesky, mean log-likelihood of the given ones)."""
    given = Mixture(weights, means, np.empty(0), precisions_cholesky)
    mixture, log_likelihood = Problem(X, covariance_type).iterate(given, reg_covar)
    return (*mixture, log_likelihood)


def em_iteration_packed(
    X: np.ndarray, weights: np.ndarray, means: np.ndarray, precisions_cholesky: np.ndarray, reg_covar: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """`em_iteration` for full covariances through quadratic features.

    2.5 times as fast, but covariances are differences of second moments about the column means: relative to the
    variance v of a cluster at distance a from those means, the error is about a^2 / v units in the last place.
    """
    return em_iteration(X, weights, means, precisions_cholesky, "packed", reg_covar)


def fit_fixed(X: np.ndarray, start: Start, n_iter: int, packed: bool = False, n_threads: int = 1) -> Mixture:
    """Run `n_iter` EM iterations from `start`; `packed` as in `em_iteration_packed`."""
    mixture = Mixture(start.weights, start.means, np.empty(0), start.precisions_cholesky)
    problem = Problem(X, "packed" if packed else start.covariance_type, n_threads)
    with threadpool_limits(None if n_threads == 1 else 1, user_api="blas"):
        for _ in range(n_iter):
            mixture, _ = problem.iterate(mixture, start.reg_covar)
    return mixture


def score_blocks(X: np.ndarray, mixture: Mixture, covariance_type: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, weighted log-probabilities of shape (n_components, n_rows)) for each block of rows."""
    shift = mixture.weights @ mixture.means
    block_pass = start_pass(mixture, shift, covariance_type, X.dtype)
    for first in range(0, len(X), block_pass.block):
        rows = slice(first, first + block_pass.block)
        features = compute_features(X[rows], shift, covariance_type)
        scores = block_pass.e_step(features)
        if covariance_type == "tied":
            whitened = mixture.precisions_cholesky.T.astype(X.dtype) @ features[:-1]
            scores -= 0.5 * np.einsum("dn,dn->n", whitened, whitened)
        yield rows, scores


def score_samples(X: np.ndarray, mixture: Mixture, covariance_type: str) -> np.ndarray:
    """Log-density of each row, shape (n_samples,)."""
    log_prob = np.empty(len(X), dtype=X.dtype)
    for rows, scores in score_blocks(X, mixture, covariance_type):
        log_prob[rows] = log_sum_exp(scores)
    return log_prob


def predict(X: np.ndarray, mixture: Mixture, covariance_type: str) -> np.ndarray:
    """Most probable component of each row, shape (n_samples,)."""
    labels = np.empty(len(X), dtype=np.intp)
    for rows, scores in score_blocks(X, mixture, covariance_type):
        # The first component that reaches the maximum: 1.8 ns per pair, argmax of the scores themselves 2.7.
        labels[rows] = np.argmax(scores == scores.max(axis=0), axis=0)
    return labels


def predict_proba(X: np.ndarray, mixture: Mixture, covariance_type: str) -> np.ndarray:
    """Responsibilities, shape (n_samples, n_components)."""
    resp = np.empty((len(X), len(mixture.weights)), dtype=X.dtype)
    for rows, scores in score_blocks(X, mixture, covariance_type):
        log_sum_exp(scores)
        resp[rows] = scores.T
    return resp


def sample(
    mixture: Mixture, covariance_type: str, n_samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows, grouped by component, and their component labels."""
    n_features = mixture.means.shape[1]
    counts = rng.multinomial(n_samples, mixture.weights)
    labels = np.repeat(np.arange(len(counts)), counts)
    X = rng.standard_normal((n_samples, n_features))
    if covariance_type in ("diag", "spherical"):
        X *= np.sqrt(mixture.covariances).reshape(len(counts), -1)[labels]
    else:
        factors = np.linalg.cholesky(mixture.covariances)
        for k, stop in enumerate(np.cumsum(counts)):
            rows = slice(stop - counts[k], stop)
            X[rows] = X[rows] @ (factors if covariance_type == "tied" else factors[k]).T
    X += mixture.means[labels]
    return X, labels
