"""Mixtures from mixtures in closed form: affine images, sums of independent vectors, products of densities."""

import numpy as np
from scipy.special import logsumexp

from ..parameters import Array
from .components import Components, from_logs, log_normal, log_overlaps, symmetrised

EPS = float(np.finfo(np.float64).eps)


def affine(mixture: Components, matrix: Array, offset: Array) -> Components:
    """The mixture of matrix x + offset; LinAlgError where the image has no density."""
    n_out = len(matrix)
    scale = np.linalg.norm(matrix, axis=1)
    if not (scale > 0).all() or np.linalg.matrix_rank(matrix / scale[:, None]) < n_out:
        raise np.linalg.LinAlgError
    factor = matrix @ mixture.lower
    return Components(mixture.weights, mixture.means @ matrix.T + offset, symmetrised(factor @ factor.mT))


def convolution(a: Components, b: Components) -> Components:
    """The mixture of x + y for independent x and y: every pair of components, means and covariances added."""
    d = a.n_features
    return from_logs(
        np.add.outer(a.log_weights, b.log_weights).ravel(),
        (a.means[:, None] + b.means).reshape(-1, d),
        (a.covariances[:, None] + b.covariances).reshape(-1, d, d),
    )


def product(a: Components, b: Components) -> tuple[Components, float]:
    """The mixture in proportion to the product of the densities, and the log of the product's integral."""
    d = a.n_features
    log_weights = np.add.outer(a.log_weights, b.log_weights) + log_overlaps(a, b)
    total = float(logsumexp(log_weights))
    factors = np.broadcast_arrays(a.upper_precision.mT[:, None], b.upper_precision.mT)
    shift = b.precisions @ (b.means - a.means[:, None])[..., None]  # pulls the means of a towards those of b
    covariances = _inverse_of_sum(np.concatenate(factors, axis=-2))
    means = a.means[:, None] + (covariances @ shift)[..., 0]
    return from_logs(log_weights.ravel(), means.reshape(-1, d), covariances.reshape(-1, d, d)), total


def times_normal(mixture: Components, target: Array, scale: Array) -> tuple[Components, float]:
    """The product with a normal density about target, of independent columns; NaN in target leaves a column free."""
    given = np.flatnonzero(~np.isnan(target))
    diff = target[given] - mixture.means[:, given]
    seen = mixture.covariances[:, given[:, None], given] + np.diag(scale[given] ** 2)
    log_weights = mixture.log_weights + log_normal(diff, seen)
    rows = np.zeros((len(given), mixture.n_features))
    rows[np.arange(len(given)), given] = 1 / scale[given]
    stacked = np.concatenate(np.broadcast_arrays(mixture.upper_precision.mT, _padded(rows)[None]), axis=-2)
    covariances = _inverse_of_sum(stacked)
    pull = covariances[:, :, given] @ (diff / scale[given] ** 2)[..., None]
    return from_logs(log_weights, mixture.means + pull[..., 0], covariances), float(logsumexp(log_weights))


def _padded(rows: Array) -> Array:
    """With rows of 0 to a square matrix."""
    out = np.zeros((rows.shape[1], rows.shape[1]))
    out[: len(rows)] = rows
    return out


def _inverse_of_sum(stacked: Array) -> Array:
    """(F^T F)^-1 of stacks of rows F, by QR: neither subtracts covariances nor squares condition numbers."""
    inverse = np.linalg.inv(np.linalg.qr(stacked, mode="r"))
    return symmetrised(inverse @ inverse.mT)
