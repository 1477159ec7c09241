"""Draws of a mixture under constraints.

All return rows and their components as `sample` does, but independent of each other and in no order. Row i of an int
`random_state` is the same whatever `n_samples` and `first` it is drawn with, for any number of threads.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.algebra import constrained, shells
from ..model.algebra.maps import times_normal
from ._arguments import check_positive, check_share, components_of, direction_of, drawn, vector_of
from .probability import box_of, hdr_level

Rows = tuple[NDArray[np.float64], NDArray[np.int64]]


def sample_slab(
    mixture: Any,
    direction: Any,
    low: float = -np.inf,
    high: float = np.inf,
    n_samples: int = 1,
    random_state: Any = None,
    *,
    first: int = 0,
) -> Rows:
    """Draw rows with low <= a . row <= high: exactly and without rejection, however improbable the slab.

    Parameters
    ----------
    mixture : fitted mixture
    direction : int or array-like of shape (n_features,)
        A column, or the vector a.
    low, high : float
        One infinite bound leaves a half-space; equal ones a plane, on which rows follow the conditional distribution.
    n_samples : int, default=1
    random_state : int, RandomState or None
    first : int, default=0
        Number of the first row.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float64
        The bounds hold up to rounding; along a column exactly.
    y : ndarray of shape (n_samples,), int64

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    >>> X, _ = algebra.sample_slab(m, 0, low=30.0, n_samples=5, random_state=0)
    >>> X.shape, bool((X[:, 0] >= 30).all())
    ((5, 2), True)
    """
    components = components_of(mixture)
    vector = direction_of(direction, components)
    if not low <= high or low == np.inf or high == -np.inf:
        raise ValueError(f"low must not be above high, got {low} and {high}.")
    if constrained.slab_is_empty(components, vector, float(low), float(high)):
        raise ValueError(f"No component has any probability between low = {low} and high = {high}. Widen the slab.")
    return drawn(constrained.in_slab(components, vector, float(low), float(high)), n_samples, random_state, first, "")


def sample_box(
    mixture: Any, low: ArrayLike, high: ArrayLike, n_samples: int = 1, random_state: Any = None, *, first: int = 0
) -> Rows:
    """Draw rows of which every column lies between its bounds, exactly.

    Without correlations each column is drawn truncated; otherwise by minimax tilting (Botev, 2017), which rejects
    little also where the box is improbable.

    Parameters
    ----------
    mixture : fitted mixture
    low, high : array-like of shape (n_features,), or float
        May be infinite.
    n_samples, random_state, first
        As of `sample_slab`, and so are the results.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    >>> X, _ = algebra.sample_box(m, [2.0, -1.0], [3.0, 1.0], n_samples=100, random_state=0)
    >>> bool(((X >= [2, -1]) & (X <= [3, 1])).all())
    True
    """
    components = components_of(mixture)
    draw = constrained.in_box(components, *box_of(low, high, components.n_features))
    return drawn(draw, n_samples, random_state, first, "Widen the box.")


def sample_ellipsoid(
    mixture: Any, coverage: Any, n_samples: int = 1, random_state: Any = None, *, first: int = 0
) -> Rows:
    """Draw rows within the ellipsoids of their components that hold this probability, exactly and without rejection.

    Parameters
    ----------
    mixture : fitted mixture
    coverage : float or (float, float)
        0.5: typical rows, of the inner half of each component. (0.95, 1): what lies outside of 95 %, unusual rows.
    n_samples, random_state, first
        As of `sample_slab`, and so are the results.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    >>> X, _ = algebra.sample_ellipsoid(m, 0.95, n_samples=1000, random_state=0)
    >>> bool(abs(X).max() <= 1.96)
    True
    """
    components = components_of(mixture)
    ends = check_share(coverage, "coverage", closed=True)
    inner, outer = (0.0, float(ends)) if ends.ndim == 0 else (float(ends[0]), float(ends[-1]))
    if ends.size > 2 or not inner < outer:
        raise ValueError(f"coverage must be a number above 0, or two of which the first is smaller. Got {coverage!r}.")
    return drawn(constrained.in_ellipsoids(components, inner, outer), n_samples, random_state, first, "")


def sample_hdr(mixture: Any, coverage: float, n_samples: int = 1, random_state: Any = None, *, first: int = 0) -> Rows:
    """Draw rows within the highest-density region of this probability: none of the unusual ones. See `hdr_level`.

    By rejection, of which a share `coverage` is accepted; uniform noise is allowed.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
    >>> X, _ = algebra.sample_hdr(m, 0.9, n_samples=100, random_state=0)
    >>> bool(algebra.in_hdr(m, X, 0.9).all())
    True
    """
    components = components_of(mixture, noise=True)
    level = hdr_level(mixture, float(coverage))
    draw = constrained.plain(components, lambda rows: components.log_density(rows) >= level)
    return drawn(draw, n_samples, random_state, first, "Raise coverage.")


def sample_near(
    mixture: Any, target: ArrayLike, scale: ArrayLike, n_samples: int = 1, random_state: Any = None, *, first: int = 0
) -> Rows:
    """Draw rows similar to a target: of the mixture times a normal density about the target, exactly.

    Parameters
    ----------
    mixture : fitted mixture
    target : array-like of shape (n_features,)
        NaN: this column does not count, and follows from the others.
    scale : array-like of shape (n_features,), or float
        Standard deviation about the target: small for rows much like it, large for rows like the mixture's.
    n_samples, random_state, first
        As of `sample_slab`, and so are the results.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    >>> X, _ = algebra.sample_near(m, [3.0, float("nan")], 0.01, n_samples=1000, random_state=0)
    >>> X.mean(axis=0).round(1).tolist()
    [3.0, 2.7]
    """
    components = components_of(mixture)
    centre, spread = _target(target, scale, components.n_features)
    draw = constrained.plain(times_normal(components, centre, spread)[0])
    return drawn(draw, n_samples, random_state, first, "")


def sample_within(
    mixture: Any,
    target: ArrayLike,
    radius: float,
    n_samples: int = 1,
    random_state: Any = None,
    *,
    scale: ArrayLike = 1.0,
    first: int = 0,
) -> Rows:
    """Draw rows at most at this distance from a target, exactly.

    Distance is |(row - target) / scale|. Proposals come from the mixture times a normal density about the target whose
    width makes them fewest, so that small balls are no rarer than large ones.

    Parameters
    ----------
    mixture : fitted mixture
    target : array-like of shape (n_features,)
        NaN: this column does not count.
    radius : float
    scale : array-like of shape (n_features,), or float, default=1
        Unit of each column, which makes an ellipsoid of the ball.
    n_samples, random_state, first
        As of `sample_slab`, and so are the results.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    >>> X, _ = algebra.sample_within(m, [1.0, 0.0], 0.1, n_samples=100, random_state=0)
    >>> bool((((X - [1, 0]) ** 2).sum(axis=1) <= 0.01).all())
    True
    """
    return sample_at_distance(mixture, target, 0.0, radius, n_samples, random_state, scale=scale, first=first)


def sample_at_distance(
    mixture: Any,
    target: ArrayLike,
    low: float,
    high: float,
    n_samples: int = 1,
    random_state: Any = None,
    *,
    scale: ArrayLike = 1.0,
    first: int = 0,
) -> Rows:
    """Draw rows whose distance from a target lies between two numbers, exactly; see `sample_within`.

    Equal numbers are a sphere, on which rows have the distribution of ever thinner shells. Thin shells are filled from
    uniform places on them, of which those where the mixture is dense are accepted.

    Raises ValueError where 10,000 attempts at a row fail.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    >>> X, _ = algebra.sample_at_distance(m, [0.0, 0.0], 2.0, 2.1, n_samples=100, random_state=0)
    >>> bool((abs((X**2).sum(axis=1) ** 0.5 - 2.05) <= 0.05).all())
    True
    """
    components = components_of(mixture)
    centre, unit = _target(target, scale, components.n_features)
    high = check_positive(high, "radius" if low == 0 else "high")
    if not 0 <= low <= high:
        raise ValueError(f"low must be at least 0 and not above high, got {low} and {high}.")
    if low == high and np.isnan(centre).any():
        raise ValueError("low must be below high where target leaves columns open. Give a range of distances.")
    draw = shells.in_shell(components, centre, unit, float(low), high)
    return drawn(draw, n_samples, random_state, first, "Widen the range of distances, or move the target.")


def _target(target: ArrayLike, scale: ArrayLike, n_features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A target and the scales of its columns."""
    centre = vector_of(target, n_features, "target", gaps=True)
    if np.isnan(centre).all():
        raise ValueError("target must have a value in at least one column.")
    unit = vector_of(scale, n_features, "scale")
    if not (unit > 0).all():
        raise ValueError(f"scale must be above 0 in every column, got {unit.min()}.")
    return centre, unit
