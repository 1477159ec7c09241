"""Drawing rows from a mixture."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .covariance import STRUCTURES
from .factors.parameters import FactorParameters
from .parameters import Array

BLOCK_VALUES = 2**18  # numbers per random stream: one millisecond, against 0.1 ms to seed it
PAGE = 64  # rows that share a random stream: seeding takes as long as their numbers


def numbers_of_rows(seed: int | Sequence[int], rows: range, widths: Sequence[int]) -> tuple[Array, list[Array]]:
    """Numbers of these rows of a seed, the same whatever other rows are asked for with them.

    Uniform ones, (n_rows,), and a table of standard normal ones, (n_rows, width), for each of `widths`.
    """
    first = rows.start // PAGE
    n_pages = -(-rows.stop // PAGE) - first
    uniform, normal = np.empty((n_pages, PAGE)), [np.empty((n_pages, PAGE, width)) for width in widths]
    for p in range(n_pages):
        stream = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(first + p,))))
        stream.random(out=uniform[p])
        for table in normal:
            stream.standard_normal(out=table[p])
    wanted = slice(rows.start - first * PAGE, rows.stop - first * PAGE)
    return uniform.reshape(-1)[wanted], [table.reshape(-1, table.shape[2])[wanted] for table in normal]


@dataclass(frozen=True)
class Draws:
    """What rows are completed with at random: the seed, and their numbers among all rows."""

    seed: list[int]
    rows: range

    def numbers(self, *widths: int) -> tuple[Array, list[Array]]:
        """Uniform numbers and tables of standard normal ones; see `numbers_of_rows`."""
        return numbers_of_rows(self.seed, self.rows, widths)


def drawn_components(resp: Array, uniform: Array) -> NDArray[np.intp]:
    """A component of each row, (n_rows,), with the probabilities resp (n_rows, n_components)."""
    cumulative = resp.cumsum(axis=1)
    threshold = uniform * cumulative[:, -1]
    return np.minimum((cumulative <= threshold[:, None]).sum(axis=1), resp.shape[1] - 1)


def sample_rows(
    means: Array, covariances: Array, covariance_type: str, labels: NDArray[np.int64], seed: NDArray[np.uint32]
) -> Array:
    """Return one row of the component of each label: x = mean + L z, L L^T = covariance, z standard normal.

    Each block of rows has its own random stream, a child of `seed` (words of entropy), so that the result is the same
    bits for any number of threads. Memory beyond the result: the factors L, and half a kibibyte per feature and thread.

    Parameters
    ----------
    means : ndarray of shape (n_components, n_features), float64
    covariances : ndarray, shaped as `covariance_type` says, float64
    covariance_type : {'full', 'tied', 'diag', 'spherical'}
    labels : ndarray of shape (n_samples,), int64
        Fast where equal labels stand together.
    seed : ndarray of uint32

    Returns
    -------
    ndarray of shape (n_samples, n_features), float64

    Raises
    ------
    LinAlgError
        If a covariance is not positive definite.
    """
    from ..kernels.parallel import get_n_threads
    from ..kernels.sampling import LANES, draw_rows

    means = np.array(means, np.float64, order="C")
    scales, lower = STRUCTURES[covariance_type].sampling_factors(covariances, *means.shape)
    X = np.empty((len(labels), means.shape[1]))
    size = max(1, BLOCK_VALUES // means.shape[1])

    def draw_block(first: int) -> None:
        stream = np.random.SeedSequence(seed.tolist(), spawn_key=(first // size,))
        state = stream.generate_state(4 * LANES, np.uint64).reshape(4, LANES)
        draw_rows(state, labels[first : first + size], means, scales, lower, X[first : first + size])

    blocks = range(0, len(labels), size)
    n_threads = min(get_n_threads(), len(blocks))
    if n_threads <= 1:
        for first in blocks:
            draw_block(first)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(draw_block, blocks):
                pass
    return X


def sample_factor_rows(
    parameters: FactorParameters, labels: NDArray[np.int64], seeds: NDArray[np.uint32], noise: bool
) -> Array:
    """Return one row of the component of each label: mean + loadings z, plus noise if wanted; labels in runs.

    seeds: (2, words) of entropy, for factors and noise; the same bits for any number of threads.
    """
    n_components, n_factors = len(parameters.weights), parameters.n_factors
    z = sample_rows(np.zeros((1, n_factors)), np.ones(1), "spherical", np.zeros(len(labels), np.int64), seeds[0])
    if noise:
        X = sample_rows(parameters.means, parameters.noise_variance, "diag", labels, seeds[1])
    else:
        X = parameters.means[labels]
    ends = np.searchsorted(labels, np.arange(n_components), side="right")
    for k, last in enumerate(ends):
        first = ends[k - 1] if k else 0
        X[first:last] += z[first:last] @ parameters.loadings[k].T
    return X


def component_counts(weights: Array, n_samples: int, random_state: np.random.RandomState) -> NDArray[np.int64]:
    """Multinomial numbers of rows per component."""
    weights = np.asarray(weights, np.float64)
    return random_state.multinomial(n_samples, weights / weights.sum()).astype(np.int64)
