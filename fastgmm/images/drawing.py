"""New rows from a mixture of factor analysers, each of which depends on the seed and its own number only."""

import numpy as np
from numpy.typing import NDArray

from ..model.factor_parameters import FactorParameters
from ..model.parameters import Array

PAGE = 64  # rows that share a random stream: seeding takes as long as their numbers
BLOCK = 16 * PAGE


def draw_rows(
    parameters: FactorParameters, seed: int, first: int, out: Array, temperature: float, noise: bool
) -> NDArray[np.int64]:
    """Fill out (n_rows, n_features) with rows number first, first + 1, ... of the seed; return their components.

    Covariances are multiplied by `temperature`. Without `noise` a row is mean + loadings z.
    """
    cumulative = np.cumsum(parameters.weights)
    scale = np.sqrt(temperature)
    components = np.empty(len(out), np.int64)
    last = first + len(out)
    for start in range(first // PAGE * PAGE, last, BLOCK):
        rows = range(max(start, first), min(start + BLOCK, last))
        uniform, factors, residual = _numbers(parameters, seed, start, rows, noise)
        k = np.minimum(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"), len(cumulative) - 1)
        block = out[rows.start - first : rows.stop - first]
        block[:] = parameters.means[k]
        for component in np.unique(k):
            of = np.flatnonzero(k == component)
            block[of] += scale * (factors[of] @ parameters.loadings[component].T)
            if residual is not None:
                block[of] += scale * np.sqrt(parameters.noise_variance[component]) * residual[of]
        components[rows.start - first : rows.stop - first] = k
    return components


def _numbers(
    parameters: FactorParameters, seed: int, start: int, rows: range, noise: bool
) -> tuple[Array, Array, Array | None]:
    """Uniform numbers, factors, and noise if wanted, of these rows; `start` is the first row of a page."""
    pages = []
    for page in range(start // PAGE, -(-rows.stop // PAGE)):
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(page,))))
        uniform, factors = rng.random(PAGE), rng.standard_normal((PAGE, parameters.n_factors))
        pages.append((uniform, factors, rng.standard_normal((PAGE, parameters.means.shape[1])) if noise else None))
    wanted = slice(rows.start - start, rows.stop - start)
    uniform, factors = (np.concatenate([page[i] for page in pages])[wanted] for i in (0, 1))
    residual = np.concatenate([page[2] for page in pages if page[2] is not None])[wanted] if noise else None
    return uniform, factors, residual
