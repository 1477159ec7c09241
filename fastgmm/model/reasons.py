"""Why a row is unusual: how surprising each of its values is given the others.

With P the precision of a component and r = x - mean, x_j given the others is normal about x_j - (P r)_j / P_jj with
variance 1 / P_jj, so that all columns cost one product with P. The components' probabilities given the others follow
from the joint density and that of x_j: log p(x_-j) = logsumexp_k(log w_k N_k(x) - log N_k(x_j | x_-j)).
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from ..rows.source import Source, blocks
from .far import NonFiniteRowsError
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


def explained(part: Source, density: Density, may_miss: bool, top: int) -> tuple[NDArray[np.int64], Array]:
    """Columns of the greatest surprises of each row of a part, (n_rows, top), and what is said of them.

    The greatest come first; (n_rows, 5, top): surprise, value, expected, deviation and tail. What a row lacks says
    nothing. NonFiniteRowsError for an infinity, and for NaN unless it `may_miss`.
    """
    mixture = density.gaussians()
    size, columns, said = max(64, BLOCK_VALUES // (part.n_features * len(mixture.weights))), [], []
    for _, block in blocks(part.chunks(), size):
        X = np.ascontiguousarray(block, np.float64)
        missing = np.isnan(X).any()
        if np.isinf(X).any() or (missing and not may_miss):
            raise NonFiniteRowsError
        found = _with_gaps(X, density) if missing else surprises(X, mixture)
        ranked = np.where(np.isnan(found.surprise), -np.inf, found.surprise)
        columns.append(np.argsort(-ranked, axis=1, kind="stable")[:, :top])
        tables = np.stack([found.surprise, X, found.expected, found.deviation, found.tail], axis=1)
        said.append(np.take_along_axis(tables, columns[-1][:, None], axis=2))
    return np.concatenate(columns), np.concatenate(said)


def _with_gaps(X: Array, density: Density) -> Surprises:
    out = Surprises(*(np.full(X.shape, np.nan) for _ in range(4)))
    for pattern in find_patterns([(0, X)], X.shape[1]):
        rows = np.ascontiguousarray(X[pattern.index][:, pattern.observed])
        part = surprises(rows, density.marginal(pattern.observed).gaussians())
        for item in fields(Surprises):
            getattr(out, item.name)[pattern.index[:, None], pattern.observed] = getattr(part, item.name)
    return out
