"""Distances between distributions: maximum mean discrepancy and the sliced Wasserstein distance."""

import numpy as np
import numpy.typing as npt

from ._pairs import distance_blocks, median_square
from ._result import Measured
from ._rows import FloatArray, Rows, check_rows, draw, float_blocks, matched

MEDIAN_ROWS = 1000  # rows whose pairs give the kernels' width
WIDEST, N_WIDTHS = 4, 5  # kernels of 4, 2, 1, 1/2 and 1/4 times the median squared distance


def maximum_mean_discrepancy(
    real: npt.ArrayLike, generated: npt.ArrayLike, held_out: npt.ArrayLike, *, random_state: int = 0
) -> Measured:
    """Return the squared maximum mean discrepancy (MMD^2) between real and generated rows, without bias.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), over pairs of different rows, with k the mean of the five kernels
    exp(-|x - y|^2 / (c s)), c = 1/4, 1/2, 1, 2, 4, and s the median squared distance between real rows (of 1,000 of
    them). It is 0 in the mean for equal distributions, so that estimates below 0 occur. All three sets are compared at
    the number of the smallest, of the others as many rows are drawn without replacement. Time grows as the square of
    the number of rows, memory does not.

    Parameters
    ----------
    real, generated, held_out : array-like of shape (n_rows, n_features), or images
        At least two rows each.
    random_state : int, default=0
        Seed of the draw.

    Returns
    -------
    Measured
        At most 2; smaller is better.

    Raises
    ------
    TypeError, ValueError
        A set is no such array of finite numbers, is of another width, has a single row, or more than half of the real
        rows are equal.

    References
    ----------
    A. Gretton et al. (2012), A kernel two-sample test, JMLR 13, equation 3 and section 8.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import maximum_mean_discrepancy
    >>> X = np.random.default_rng(0).standard_normal((900, 2))
    >>> print(maximum_mean_discrepancy(real=X[:300], generated=X[300:600] + 1, held_out=X[600:]))
    0.1769 (baseline 0.005041)
    """
    sets = matched(*check_rows(real=real, generated=generated, held_out=held_out), random_state=random_state)
    n = len(sets[0])
    if n < 2:
        raise ValueError(
            "maximum_mean_discrepancy needs at least 2 rows of each set, the smallest has 1; give more rows"
        )
    width = median_square(draw(sets[0], MEDIAN_ROWS, np.random.default_rng(random_state)))
    if width == 0:
        raise ValueError("half of the pairs of real rows are equal: kernels have no width; remove repeated rows")

    def discrepancy(other: Rows) -> float:
        within = _kernel_sum(other, other, width) - n
        return (among_real + within) / (n * (n - 1)) - 2 * _kernel_sum(sets[0], other, width) / n**2

    among_real = _kernel_sum(sets[0], sets[0], width) - n  # without a row's kernel with itself, which is 1
    return Measured(discrepancy(sets[1]), discrepancy(sets[2]))


def _kernel_sum(X: Rows, Y: Rows, width: float) -> float:
    """Sum the mean kernel over all pairs of rows."""
    total = 0.0
    for _, distance in distance_blocks(X, Y):
        distance *= -1 / (WIDEST * width)
        kernel = np.exp(distance, out=distance)
        total += float(kernel.sum())
        # The kernel of half the width is the square of this one: one exponential serves all widths.
        for _ in range(N_WIDTHS - 1):
            kernel *= kernel
            total += float(kernel.sum())
    return total / N_WIDTHS


def sliced_wasserstein(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    held_out: npt.ArrayLike,
    n_directions: int = 200,
    *,
    random_state: int = 0,
) -> Measured:
    """Return the mean Wasserstein-1 distance between real and generated rows along random directions.

    Along one direction it is the mean absolute difference of the sorted projections, at equal numbers of rows: all
    three sets are compared at the number of the smallest, of the others as many rows are drawn without replacement.
    Directions are uniform over the unit sphere and the same for both numbers returned.

    Parameters
    ----------
    real, generated, held_out : array-like of shape (n_rows, n_features), or images
    n_directions : int, default=200
        At least 1.
    random_state : int, default=0
        Seed of the draw and of the directions.

    Returns
    -------
    Measured
        In units of the rows; smaller is better. A shift of all rows by v gives about |v| sqrt(2 / (pi n_features)).

    Raises
    ------
    TypeError, ValueError
        A set is no such array of finite numbers or is of another width, or n_directions is below 1.

    References
    ----------
    N. Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures, J. Math. Imaging Vis. 51, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import sliced_wasserstein
    >>> X = np.random.default_rng(0).standard_normal((3000, 2))
    >>> print(sliced_wasserstein(real=X[:1000], generated=X[1000:2000] + [3, 4], held_out=X[2000:]))
    3.09 (baseline 0.05802)
    """
    sets = matched(*check_rows(real=real, generated=generated, held_out=held_out), random_state=random_state)
    if n_directions < 1:
        raise ValueError(f"n_directions must be at least 1, got {n_directions}")
    directions = np.random.default_rng(random_state).standard_normal((sets[0].shape[1], n_directions))
    directions /= np.linalg.norm(directions, axis=0)
    projected, *others = (_sorted_projections(rows, directions) for rows in sets)
    return Measured(*(float(np.abs(projected - other).mean()) for other in others))


def _sorted_projections(rows: Rows, directions: FloatArray) -> FloatArray:
    """Project rows onto the columns of `directions`; (n_directions, n_rows), each direction sorted."""
    projections = np.empty((directions.shape[1], len(rows)))
    for start, block in float_blocks(rows):
        projections[:, start : start + len(block)] = (block @ directions).T
    projections.sort(axis=1)
    return projections
