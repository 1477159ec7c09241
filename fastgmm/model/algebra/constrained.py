"""Draws of a mixture under constraints, every row by its number: any portion of a set holds the rows of the whole.

A draw has a proposal, which turns numbers of rows into rows, and may refuse them: a refused row takes the numbers of
its next attempt. Rows that are refused elsewhere change nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr

from ..parameters import Array
from ..sampling import PAGE, numbers_of_rows
from .components import Components
from .tilting import tilted
from .truncated import log_mass, log_uniform, truncated_normal

MAX_ATTEMPTS = 10_000
BLOCK_ROWS = 1024 * PAGE
Index = NDArray[np.int64]
# (uniform (n,), tables of normal numbers) -> rows (n, d), components (n,), accepted (n,)
Propose = Callable[[Array, list[Array]], tuple[Array, Index, NDArray[np.bool_]]]


class RefusedError(Exception):
    """Internal: no attempt at a row was accepted."""


@dataclass(frozen=True, eq=False)
class Draw:
    """What is drawn: columns, widths of the tables of normal numbers that a row takes, and the proposal."""

    n_features: int
    widths: tuple[int, ...]
    propose: Propose

    def rows(self, seed: Sequence[int], first: int, n_samples: int) -> tuple[Array, Index]:
        """Rows number first, first + 1, ... of the seed, and their components, -1 for noise."""
        X, labels = np.empty((n_samples, self.n_features)), np.empty(n_samples, np.int64)
        for start in range(0, n_samples, BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, n_samples))
            self._fill(list(seed), first + start, X[rows], labels[rows])
        return X, labels

    def _fill(self, seed: list[int], first: int, X: Array, labels: Index) -> None:
        pending = np.arange(len(X))
        for attempt in range(MAX_ATTEMPTS):
            uniform, tables = self._numbers([*seed, attempt], first, pending)
            rows, components, accepted = self.propose(uniform, tables)
            X[pending[accepted]], labels[pending[accepted]] = rows[accepted], components[accepted]
            pending = pending[~accepted]
            if len(pending) == 0:
                return
        raise RefusedError

    def _numbers(self, seed: list[int], first: int, pending: Index) -> tuple[Array, list[Array]]:
        """Numbers of these rows, from the pages that they are on."""
        numbers = first + pending
        pages = np.unique(numbers // PAGE)
        runs = np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1)
        found = [numbers_of_rows(seed, range(int(r[0]) * PAGE, (int(r[-1]) + 1) * PAGE), self.widths) for r in runs]
        place = np.searchsorted(pages, numbers // PAGE) * PAGE + numbers % PAGE
        uniform = np.concatenate([own for own, _ in found])[place]
        return uniform, [np.concatenate([own[i] for _, own in found])[place] for i in range(len(self.widths))]


def chosen(log_weights: Array, uniform: Array) -> Index:
    """A component of each row."""
    cumulative = np.exp(log_weights - log_weights.max()).cumsum()
    return np.minimum(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"), len(cumulative) - 1)


def placed(mixture: Components, labels: Index, z: Array) -> Array:
    """Rows mean + L z: no matrix product, whose last bits depend on how many rows it is asked for."""
    from ...kernels import parallel
    from ...kernels.sampling import combine_factors

    out = np.empty(z.shape)
    n_slots = max(1, min(8, len(z) // PAGE))
    arrays = (
        np.ascontiguousarray(mixture.means),
        np.ascontiguousarray(mixture.lower.mT),
        np.zeros(mixture.means.shape),
    )
    residual, bounds = np.empty((0, z.shape[1])), np.array([-np.inf, np.inf])
    parallel.run_slots(
        combine_factors,
        *(n_slots, 0),
        *(labels, np.ascontiguousarray(z), residual, *arrays, bounds, out, n_slots),
    )
    return out


def everything(rows: Array) -> NDArray[np.bool_]:
    """Accept all rows."""
    return np.ones(len(rows), bool)


def plain(mixture: Components, keep: Callable[[Array], NDArray[np.bool_]] = everything) -> Draw:
    """Rows of the mixture, noise included; of these the ones that `keep` accepts."""
    noise = mixture.noise
    logs = mixture.log_weights
    if noise is not None:
        logs = np.append(logs, np.log(noise.weight) if noise.weight > 0 else -np.inf)

    def propose(uniform: Array, tables: list[Array]) -> tuple[Array, Index, NDArray[np.bool_]]:
        labels = chosen(logs, uniform)
        outlier = labels == len(mixture.weights)
        rows = placed(mixture, np.where(outlier, 0, labels), tables[0])
        if noise is not None:
            low, high = noise.bounds
            rows[outlier] = low + (high - low) * ndtr(tables[0][outlier])
        return rows, np.where(outlier, -1, labels), keep(rows)

    return Draw(mixture.n_features, (mixture.n_features,), propose)


def in_slab(mixture: Components, direction: Array, low: float, high: float) -> Draw:
    """Rows with low <= direction . x <= high, without rejection; equal bounds are a plane.

    Along the direction, in the coordinates in which a component is standard normal, the coordinate is replaced by a
    truncated one; the others are independent of it.
    """
    factors = np.einsum("d,kde->ke", direction, mixture.lower)
    scale = np.linalg.norm(factors, axis=1)
    axis, centre = factors / scale[:, None], mixture.means @ direction
    a, b = (low - centre) / scale, (high - centre) / scale
    if low == high:
        mass = -0.5 * a**2 - np.log(scale)
    else:
        mass = log_mass(a, b)
    logs = mixture.log_weights + mass
    column = np.flatnonzero(direction)
    d = mixture.n_features

    def propose(uniform: Array, tables: list[Array]) -> tuple[Array, Index, NDArray[np.bool_]]:
        z, (log_u, log_rest) = tables[0], log_uniform(tables[1][:, 0])
        labels = chosen(logs, uniform)
        own = axis[labels]
        t = truncated_normal(log_u, log_rest, a[labels], b[labels])
        rows = placed(mixture, labels, z + own * (t - (own * z).sum(axis=1))[:, None])
        if len(column) == 1:  # rounding may leave the slab; along a column it is put right
            ends = np.sort(np.array([low, high]) / direction[column[0]])
            rows[:, column[0]] = np.clip(rows[:, column[0]], *ends)
        return rows, labels, everything(rows)

    return Draw(d, (d, 1), propose)


def slab_is_empty(mixture: Components, direction: Array, low: float, high: float) -> bool:
    """Whether no component has a probability there that a number can hold."""
    scale = np.linalg.norm(np.einsum("d,kde->ke", direction, mixture.lower), axis=1)
    centre = mixture.means @ direction
    return low < high and bool(np.isneginf(log_mass((low - centre) / scale, (high - centre) / scale)).all())


def in_box(mixture: Components, low: Array, high: Array) -> Draw:
    """Rows in a box: without correlations each column by itself, otherwise by minimax tilting."""
    d = mixture.n_features
    scale = np.sqrt(mixture.covariances.diagonal(0, 1, 2))
    if mixture.is_diagonal:
        a, b = (low - mixture.means) / scale, (high - mixture.means) / scale
        logs = mixture.log_weights + log_mass(a, b).sum(axis=1)

        def propose(uniform: Array, tables: list[Array]) -> tuple[Array, Index, NDArray[np.bool_]]:
            labels = chosen(logs, uniform)
            z = truncated_normal(*log_uniform(tables[0]), a[labels], b[labels])
            rows = np.clip(mixture.means[labels] + scale[labels] * z, low, high)
            return rows, labels, everything(rows)

        return Draw(d, (d,), propose)
    parts = [tilted(mean, cov, low, high) for mean, cov in zip(mixture.means, mixture.covariances, strict=True)]
    # Of proposals in these proportions a share exp(psi - psi*) is accepted, which leaves the true proportions.
    logs = mixture.log_weights + np.array([part.bound for part in parts])

    def propose_tilted(uniform: Array, tables: list[Array]) -> tuple[Array, Index, NDArray[np.bool_]]:
        labels = chosen(logs, uniform)
        rows, accepted = np.empty((len(labels), d)), np.empty(len(labels), bool)
        log_u, log_rest = log_uniform(tables[0])
        threshold = log_uniform(tables[1][:, 0])[0]
        for k in np.unique(labels):
            own = labels == k
            z, psi = parts[k].draw(log_u[own], log_rest[own])
            rows[own] = np.clip(parts[k].rows(z), low, high)
            accepted[own] = threshold[own] <= psi - parts[k].bound
        return rows, labels, accepted

    return Draw(d, (d, 1), propose_tilted)


def in_ellipsoids(mixture: Components, inner: float, outer: float) -> Draw:
    """Rows within the ellipsoids of their components of probability `outer`, without those of probability `inner`."""
    d = mixture.n_features

    def propose(uniform: Array, tables: list[Array]) -> tuple[Array, Index, NDArray[np.bool_]]:
        labels = chosen(mixture.log_weights, uniform)
        z = tables[0]
        radius = np.sqrt(2 * gammaincinv(0.5 * d, inner + (outer - inner) * ndtr(tables[1][:, 0])))
        rows = placed(mixture, labels, z * (radius / np.sqrt((z**2).sum(axis=1)))[:, None])
        return rows, labels, everything(rows)

    return Draw(d, (d, 1), propose)
