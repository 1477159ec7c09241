"""New rows from a mixture of factor analysers, each of which depends on the seed and its own number only."""

import numpy as np
from numpy.typing import NDArray

from ..parameters import Array
from ..sampling import PAGE, numbers_of_rows
from .parameters import FactorParameters

BLOCK = 16 * PAGE


def draw_rows(
    parameters: FactorParameters, seed: int, first: int, out: Array, temperature: float, noise: bool
) -> NDArray[np.int64]:
    """Fill out (n_rows, n_features) with rows number first, first + 1, ... of the seed; return their components.

    Covariances are multiplied by `temperature`. Without `noise` a row is mean + loadings z. Values are clipped to
    [0, 1].
    """
    from ...kernels import parallel
    from ...kernels.sampling import combine_factors

    cumulative = np.cumsum(parameters.weights)
    loadings = np.ascontiguousarray(np.swapaxes(parameters.loadings, 1, 2)) * np.sqrt(temperature)
    means, spread = np.ascontiguousarray(parameters.means), np.sqrt(temperature * parameters.noise_variance)
    components = np.empty(len(out), np.int64)
    last = first + len(out)
    for start in range(first // PAGE * PAGE, last, BLOCK):
        rows = range(max(start, first), min(start + BLOCK, last))
        widths = (parameters.n_factors, out.shape[1])
        uniform, (factors, *residuals) = numbers_of_rows(seed, rows, widths if noise else widths[:1])
        residual = residuals[0] if noise else np.empty((0, out.shape[1]))
        k = np.minimum(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"), len(cumulative) - 1)
        block = out[rows.start - first : rows.stop - first]
        n_slots = max(1, min(8, len(rows) // PAGE))
        # No matrix product: its last bits depend on how many rows it is asked for.
        parallel.run_slots(
            combine_factors,
            *(n_slots, 0),
            *(k, factors, residual, means, loadings, spread, np.array([0.0, 1.0]), block, n_slots),
        )
        components[rows.start - first : rows.stop - first] = k
    return components
