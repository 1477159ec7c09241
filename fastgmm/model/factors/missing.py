"""Rows of which every one may lack other values: the algebra of the visible features of each.

The likelihood of a row is that of its visible part, whose mean, loadings and noise are rows of the component's own.
What depends on which features are visible is M = I + W_v^T W_v of every pattern of them and component: a product of the
mask with the products of loadings, n_factors^2 / 2 multiply-adds per value and component, and an elimination. Rows of
which the same is hidden share a pattern; often one is all there is (a picture whose right half is wanted).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ...rows.source import blocks
from ..parameters import Array
from ..sampling import Draws, drawn_components
from .parameters import FactorParameters
from .statistics import FactorStatistics

BLOCK_BYTES = 2**21  # of the float64 rows of a block: they stay in the cache while the components pass
ACTIVE = 2.0**-56  # smaller shares of a component's largest responsibility change no digit of a sum


class FactorNumbers(NamedTuple):
    """Random numbers of a block: uniform (n_rows,), normal (n_rows, n_factors) and normal (n_rows, n_features)."""

    uniform: Array
    factors: Array
    noise: Array

    @classmethod
    def of(cls, draws: Draws, parameters: FactorParameters) -> Self:
        """Those of all rows that are drawn together."""
        uniform, (factors, noise) = draws.numbers(parameters.n_factors, parameters.means.shape[1])
        return cls(uniform, factors, noise)

    def of_rows(self, rows: slice) -> "FactorNumbers":
        """Those of some of the rows."""
        return FactorNumbers(self.uniform[rows], self.factors[rows], self.noise[rows])


Root = tuple[Array, Array]  # C^-1 of patterns, M = C C^T, (n_factors, n_factors, n_patterns), and log det M


@dataclass(frozen=True)
class Visible:
    """Which values of rows are visible: `mask` (n_rows, n_features), 1.0 or 0.0, and how many ways of it there are.

    `patterns` (n_patterns, n_features) are the different masks, and `of_row` (n_rows,) says whose is which; None if
    there is a single one, or if each row counts as its own. `known` has the roots of components for shared patterns.
    """

    mask: Array
    patterns: Array
    of_row: NDArray[np.intp] | None = None
    known: dict[int, Root] = field(default_factory=dict)

    @classmethod
    def of(cls, mask: Array, before: "Visible | None" = None) -> "Visible":
        """Find the patterns of a mask; if there is one, and the same as before, what is known of it is kept."""
        if (mask == mask[0]).all():
            same = before is not None and len(before.patterns) == 1 and (before.patterns[0] == mask[0]).all()
            return cls(mask, mask[:1], None, before.known if before is not None and same else {})
        bits = np.ascontiguousarray(np.packbits(mask.astype(bool), axis=1))
        _, first, of_row = np.unique(bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_inverse=True)
        if 2 * len(first) > len(mask):  # looking them up would cost more than it saves
            return cls(mask, mask)
        return cls(mask, mask[first], of_row)

    @property
    def is_shared(self) -> bool:
        """Whether rows share patterns."""
        return self.of_row is not None or len(self.patterns) == 1

    def part(self, rows: NDArray[Any]) -> "Visible":
        """Those of some of the rows, by index or truth value."""
        if not self.is_shared:
            return Visible(self.mask[rows], self.mask[rows])
        return replace(self, mask=self.mask[rows], of_row=None if self.of_row is None else self.of_row[rows])

    def to_rows(self, values: Array) -> Array:
        """Values (..., n_patterns) of the patterns as those of the rows, (..., n_rows) or (..., 1)."""
        return values if self.of_row is None else values[..., self.of_row]

    def root(self, parameters: FactorParameters, k: int) -> Root:
        """C^-1 of each pattern under component k, computed once for shared ones, and log det M."""
        found = self.known.get(k)
        if found is None:
            C, log_det = _cholesky(self.patterns, parameters.scaled_loadings[k])
            inverse = np.repeat(np.eye(len(C))[:, :, None], len(self.patterns), axis=2)
            _substitute_inplace(C, inverse)
            found = inverse, log_det
            if self.is_shared:
                self.known[k] = found
        return found


def distances(x: Array, visible: Visible, parameters: FactorParameters) -> tuple[Array, Array]:
    """Squared Mahalanobis distances of the visible part of each row, and weighted log-densities but for them.

    Both (n_rows, n_components). x: (n_rows, n_features), finite, with anything in the place of hidden values.
    """
    distance, constant = np.empty((2, len(x), len(parameters.weights)))
    inverse_sd, log_noise = 1.0 / np.sqrt(parameters.noise_variance), np.log(parameters.noise_variance)
    log_norm = visible.patterns.sum(axis=1) * np.log(2 * np.pi)
    for k, (mean, W) in enumerate(zip(parameters.means, parameters.scaled_loadings, strict=True)):
        white = (x - mean) * inverse_sd[k] * visible.mask
        projected = np.ascontiguousarray((white @ W).T)
        if visible.is_shared:
            inverse, log_det = visible.root(parameters, k)
            projected = _times(visible.to_rows(inverse), projected)
        else:
            C, log_det = _cholesky(visible.patterns, W)
            _substitute_inplace(C, projected)
        distance[:, k] = np.einsum("nd,nd->n", white, white) - (projected**2).sum(axis=0)
        np.maximum(distance[:, k], 0.0, out=distance[:, k])  # a rounding error may be below; NaN stays
        constant[:, k] = visible.to_rows(-0.5 * (log_det + visible.patterns @ log_noise[k] + log_norm))
    with np.errstate(divide="ignore"):
        return distance, constant + np.log(parameters.weights)


def visible_posterior(x: Array, visible: Visible, parameters: FactorParameters, k: int) -> tuple[Array, Array]:
    """Expected factors (n_rows, n_factors) of rows that belong to component k, and a root of their covariance.

    The root, C^-T, is (n_rows, n_factors, n_factors), or (1, ...) for all: covariance = root root^T.
    """
    W = parameters.scaled_loadings[k]
    white = (x - parameters.means[k]) / np.sqrt(parameters.noise_variance[k]) * visible.mask
    inverse = visible.to_rows(visible.root(parameters, k)[0])
    projected = _times(inverse, (white @ W).T)
    return _times(np.swapaxes(inverse, 0, 1), projected).T, np.ascontiguousarray(inverse.T)


def _times(matrices: Array, b: Array) -> Array:
    """Products of matrices (n, n, n_rows), or of one for all, (n, n, 1), with vectors b (n, n_rows)."""
    return matrices[:, :, 0] @ b if matrices.shape[2] == 1 else np.einsum("ijn,jn->in", matrices, b)


def _cholesky(patterns: Array, W: Array) -> tuple[Array, Array]:
    """C of M = I + W_v^T W_v = C C^T of each pattern, (n_factors, n_factors, n_patterns), and log det M.

    All matrices at once: LAPACK takes about a microsecond to begin with each small matrix, ten times what the
    arithmetic takes. What is above the diagonal of C means nothing.
    """
    n_factors = W.shape[1]
    lower = np.tril_indices(n_factors)
    M = np.empty((n_factors, n_factors, len(patterns)))
    M[lower] = (W[:, lower[0]] * W[:, lower[1]]).T @ patterns.T
    M[np.arange(n_factors), np.arange(n_factors)] += 1.0
    log_det = np.zeros(len(patterns))
    for j in range(n_factors):
        M[j, j] = np.sqrt(np.maximum(M[j, j], 1.0))  # it is no less, but for rounding: the identity and squares
        log_det += 2 * np.log(M[j, j])
        M[j + 1 :, j] /= M[j, j]
        for i in range(j + 1, n_factors):
            M[i, j + 1 : i + 1] -= M[i, j] * M[j + 1 : i + 1, j]
    return M, log_det


def _substitute_inplace(C: Array, b: Array) -> None:
    """Overwrite b (n_factors, ..., n_rows) by C^-1 b of each row; C of all rows, or one for all."""
    for j in range(len(C)):
        b[j] /= C[j, j]
        for i in range(j + 1, len(C)):
            b[i] -= C[i, j] * b[j]


def responsibilities(x: Array, visible: Visible, parameters: FactorParameters) -> tuple[Array, Array]:
    """Log-densities of the rows, (n_rows,), and responsibilities, (n_rows, n_components)."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance, constant = distances(x, visible, parameters)
    far = np.flatnonzero(~np.isfinite(distance).any(axis=1))
    log_prob = constant - 0.5 * np.where(np.isfinite(distance), distance, np.inf)
    nearest = np.zeros(len(x))
    if len(far):
        log_prob[far], nearest[far] = _far(x[far], visible.part(far), parameters)
    norm = logsumexp(log_prob, axis=1)
    return norm - 0.5 * nearest, np.exp(log_prob - norm[:, None])


def _far(x: Array, visible: Visible, parameters: FactorParameters) -> tuple[Array, Array]:
    """Log-densities but for the least squared distance, and that distance, of rows whose own overflow."""
    scale = 2.0 ** -np.ceil(np.log2(max(np.abs(x).max(), np.abs(parameters.means).max())))
    distance, constant = distances(x * scale, visible, replace(parameters, means=parameters.means * scale))
    nearest = distance.min(axis=1)
    with np.errstate(over="ignore"):
        unit = min(1.0 / scale, 1e300)  # finite, so that a difference of 0 stays 0
        return constant - 0.5 * (distance - nearest[:, None]) * unit * unit, nearest * unit * unit


def active_rows(resp: Array) -> NDArray[np.intp]:
    """The rows whose share in a component, resp (n_rows,), counts."""
    return np.flatnonzero(resp > ACTIVE * resp.max())


def blocks_of(rows: NDArray[Any]) -> Iterator[tuple[int, Array, Visible]]:
    """Yield (first row, values with 0 for NaN, what is visible) of small blocks, in float64."""
    visible = None
    for first, block in blocks([(0, rows)], max(16, BLOCK_BYTES // (8 * rows.shape[1]))):
        x = block.astype(np.float64)
        visible = Visible.of((~np.isnan(x)).astype(np.float64), visible)
        yield first, np.where(visible.mask > 0, x, 0.0), visible


def score_visible(
    rows: NDArray[Any],
    parameters: FactorParameters,
    log_prob_norm: NDArray[Any] | None = None,
    labels: NDArray[np.int64] | None = None,
    resp: NDArray[Any] | None = None,
) -> None:
    """Fill the given arrays, one entry per row, from the visible parts of rows in which NaN is a missing value."""
    for first, x, visible in blocks_of(rows):
        norm, block_resp = responsibilities(x, visible, parameters)
        last = first + len(x)
        if log_prob_norm is not None:
            log_prob_norm[first:last] = norm
        if labels is not None:
            labels[first:last] = block_resp.argmax(axis=1)
        if resp is not None:
            resp[first:last] = block_resp


def expected_rows(
    x: Array, visible: Visible, parameters: FactorParameters, numbers: FactorNumbers | None = None
) -> Array:
    """Expectation of mean + loadings z of each row given its visible values or, with `numbers`, a draw of k and z."""
    _, resp = responsibilities(x, visible, parameters)
    if numbers is not None:
        resp = _one_hot(resp, numbers)
    return _combined(x, visible, parameters, resp, numbers)


def impute_visible(
    x: Array,
    visible: Visible,
    parameters: FactorParameters,
    numbers: FactorNumbers | None = None,
    *,
    noise_variance: Array,
) -> Array:
    """Complete rows: hidden values are their expectation given the visible ones or, with `numbers`, a draw of k, z, e.

    noise_variance: of the hidden values, whatever `parameters` say of the visible ones.
    """
    _, resp = responsibilities(x, visible, parameters)
    if numbers is None:
        return np.where(visible.mask > 0, x, _combined(x, visible, parameters, resp, None))
    resp = _one_hot(resp, numbers)
    drawn = _combined(x, visible, parameters, resp, numbers)
    drawn += np.sqrt(noise_variance[resp.argmax(axis=1)]) * numbers.noise
    return np.where(visible.mask > 0, x, drawn)


def _one_hot(resp: Array, numbers: FactorNumbers) -> Array:
    """One component for each row, drawn by its responsibilities."""
    return np.asarray(np.eye(resp.shape[1])[drawn_components(resp, numbers.uniform)])


def _combined(
    x: Array, visible: Visible, parameters: FactorParameters, resp: Array, numbers: FactorNumbers | None
) -> Array:
    """Sum over components of resp (mean + loadings z), z expected or, with `numbers`, drawn."""
    rows = np.zeros_like(x)
    for k in range(len(parameters.weights)):
        of = active_rows(resp[:, k])
        if not len(of):
            continue
        factors, root = visible_posterior(x[of], visible.part(of), parameters, k)
        if numbers is not None:
            factors = factors + _times(root.T.swapaxes(0, 1), numbers.factors[of].T).T
        rows[of] += resp[of, k, None] * (parameters.means[k] + factors @ parameters.loadings[k].T)
    return rows


class VisibleSums:
    """Sums over rows that all have missing values, under one mixture, block by block."""

    def __init__(self, parameters: FactorParameters) -> None:
        (n_components, n_features), size = parameters.means.shape, parameters.n_factors + 1
        self.n_rows, self._n_far, self._log_likelihood = 0, 0, 0.0
        self._sums = FactorStatistics(
            0.0,
            np.zeros(n_components),
            np.zeros((n_components, n_features, size, size)),
            np.zeros((n_components, n_features, size)),
            np.zeros((n_components, n_features)),
            parameters,
        )

    def add(self, rows: NDArray[Any], sample_weight: Array | None) -> None:
        """Add rows, of these weights."""
        self.n_rows += len(rows)
        sums = self._sums
        for first, x, visible in blocks_of(rows):
            norm, resp = responsibilities(x, visible, sums.parameters)
            if sample_weight is not None:
                present = sample_weight[first : first + len(x)] > 0  # a row without weight may lie anywhere
                x, visible, norm, resp = x[present], visible.part(present), norm[present], resp[present]
                weight = sample_weight[first : first + len(present)][present]
                resp, norm = resp * weight[:, None], weight * norm
            self._n_far += int(np.sum(~np.isfinite(norm)))
            if self._n_far or not len(x):  # far rows end the fit with an error
                continue
            self._log_likelihood += float(norm.sum())
            sums.sum_resp[:] += resp.sum(axis=0)
            for k in range(len(sums.sum_resp)):
                of = active_rows(resp[:, k])
                if len(of):
                    _add(sums, k, x[of], visible.part(of), resp[of, k])

    def statistics(self) -> FactorStatistics:
        """The sums so far."""
        return replace(self._sums, log_likelihood=self._log_likelihood, n_far=self._n_far)


def _add(sums: FactorStatistics, k: int, x: Array, visible: Visible, resp: Array) -> None:
    """Add rows x, of these responsibilities for component k."""
    factors, root = visible_posterior(x, visible, sums.parameters, k)
    z = np.column_stack([factors, np.ones(len(x))])
    outer = z[:, :, None] * z[:, None, :]
    outer[:, :-1, :-1] += root @ np.swapaxes(root, 1, 2)
    diff = x - sums.parameters.means[k]
    shares = resp[:, None] * visible.mask
    weighted = diff * shares
    sums.latent[k] += (shares.T @ outer.reshape(len(x), -1)).reshape(sums.latent[k].shape)
    sums.cross[k] += weighted.T @ z
    sums.second[k] += (weighted * diff).sum(axis=0)
