"""Why a row is unusual: how surprising each of its values is given the others.

With P the precision of a component and r = x - mean, x_j given the others is normal about x_j - (P r)_j / P_jj with
variance 1 / P_jj, so that all columns cost one product with P. The components' probabilities given the others follow
from the joint density and that of x_j: log p(x_-j) = logsumexp_k(log w_k N_k(x) - log N_k(x_j | x_-j)).
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from ..rows.source import Source
from .missing import find_patterns
from .parameters import Array
from .scoring import Density, Gaussians

BLOCK_VALUES = 2**20  # of rows times columns times components worked on together


@dataclass(frozen=True)
class Surprises:
    """What each value of rows is beside what the others let expect; all (n_rows, n_features), NaN where it is missing.

    Attributes
    ----------
    surprise : ndarray
        -log p(x_j | the others) in nats, of columns in units of their standard deviations.
    expected, deviation : ndarrays
        Mean and standard deviation of x_j given the others.
    tail : ndarray
        Probability of a value at least so far in its tail, both sides.
    """

    surprise: Array
    expected: Array
    deviation: Array
    tail: Array

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Those of all rows."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def surprises(X: Array, mixture: Gaussians) -> Surprises:
    """Of rows without gaps under a Gaussian mixture."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(mixture.weights)
    lower = np.linalg.cholesky(mixture.covariances)
    identity = np.broadcast_to(np.eye(X.shape[1]), lower.shape)
    inverse = np.linalg.solve(lower, identity)
    precisions = np.swapaxes(inverse, 1, 2) @ inverse
    log_det = np.log(np.einsum("kdd->kd", lower)).sum(axis=1)
    own = np.einsum("kdd->kd", precisions)
    root = np.sqrt(own)
    mean = mixture.weights @ mixture.means
    spread = np.einsum("k,kdd->d", mixture.weights, mixture.covariances) + mixture.weights @ (mixture.means - mean) ** 2
    diff = X[None] - mixture.means[:, None]
    pulled = diff @ precisions
    z = pulled / root[:, None]
    joint = log_weights[:, None] - log_det[:, None] - 0.5 * np.einsum("knd,knd->kn", pulled, diff)
    alone = -0.5 * z**2 + np.log(root)[:, None]  # both without powers of 2 pi but one
    rest = joint[:, :, None] - alone
    log_rest = logsumexp(rest, axis=0)
    resp = np.exp(rest - log_rest)
    at = X[None] - z / root[:, None]
    expected = (resp * at).sum(axis=0)
    variance = (resp * (1.0 / own[:, None] + (at - expected) ** 2)).sum(axis=0)
    lower_tail = (resp * ndtr(z)).sum(axis=0)
    upper_tail = (resp * ndtr(-z)).sum(axis=0)
    density = logsumexp(joint, axis=0)[:, None] - log_rest - 0.5 * np.log(2 * np.pi)
    return Surprises(
        -density - 0.5 * np.log(spread),
        expected,
        np.sqrt(variance),
        np.minimum(2 * np.minimum(lower_tail, upper_tail), 1),
    )


def marginal_of(mixture: Gaussians, columns: NDArray[np.int64]) -> Gaussians:
    """The same of some of the columns."""
    covariances = np.ascontiguousarray(mixture.covariances[:, columns[:, None], columns])
    return Gaussians(mixture.weights, np.ascontiguousarray(mixture.means[:, columns]), covariances)


def surprised(part: Source, density: Density) -> Surprises:
    """`surprises` of the rows of a part; what a row lacks says nothing."""
    mixture, found = density.gaussians(), []
    size = max(64, BLOCK_VALUES // (part.n_features * len(mixture.weights)))
    for _, block in part.chunks():
        for first in range(0, len(block), size):
            X = np.ascontiguousarray(block[first : first + size], np.float64)
            found.append(_with_gaps(X, mixture) if np.isnan(X).any() else surprises(X, mixture))
    return Surprises.joined(found)


def _with_gaps(X: Array, mixture: Gaussians) -> Surprises:
    out = Surprises(*(np.full(X.shape, np.nan) for _ in range(4)))
    for pattern in find_patterns([(0, X)], X.shape[1]):
        rows = np.ascontiguousarray(X[pattern.index][:, pattern.observed])
        part = surprises(rows, marginal_of(mixture, pattern.observed))
        for item in fields(Surprises):
            getattr(out, item.name)[pattern.index[:, None], pattern.observed] = getattr(part, item.name)
    return out


def strangest(found: Surprises, top: int) -> NDArray[Any]:
    """Columns of the greatest surprises of each row, (n_rows, top), the greatest first."""
    ranked = np.where(np.isnan(found.surprise), -np.inf, found.surprise)
    return np.argsort(-ranked, axis=1, kind="stable")[:, :top]
