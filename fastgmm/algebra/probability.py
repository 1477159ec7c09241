"""Probabilities, quantiles, regions and modes of a mixture."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.algebra import regions, shape
from ..model.algebra.one_dimension import along
from ._arguments import Estimate, check_count, check_share, components_of, direction_of, drawer, rows_of, vector_of


def cdf(mixture: Any, x: ArrayLike, direction: Any = None, *, upper: bool = False) -> Any:
    """Return P(a . row <= x) for rows of the mixture, in one dimension or along a direction a.

    Parameters
    ----------
    mixture : fitted mixture
        Also with uniform noise, along columns.
    x : array-like
        Of any shape; infinities are allowed.
    direction : None, int or array-like of shape (n_features,)
        None: the only column. An int: this column. A vector a, which need not have length 1: x is in units of a . row.
    upper : bool, default=False
        Return P(a . row > x) instead, whose digits 1 - cdf would lose.

    Returns
    -------
    float, or ndarray of the shape of x

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.5, 0.5], [[-1.0], [1.0]], [[[1.0]], [[1.0]]])
    >>> round(algebra.cdf(m, 0.0), 12)
    0.5
    """
    components = components_of(mixture, noise=True)
    line = along(components, direction_of(direction, components))
    values = np.asarray(x, np.float64)
    if np.isnan(values).any():
        raise ValueError("x must not be NaN.")
    flat = values.ravel()
    return _shaped(line.mirrored().cdf(-flat) if upper else line.cdf(flat), values)


def quantile(mixture: Any, p: ArrayLike, direction: Any = None, *, upper: bool = False) -> Any:
    """Return the x with P(a . row <= x) = p, in one dimension or along a direction a; see `cdf`.

    Parameters
    ----------
    mixture : fitted mixture
    p : array-like
        In [0, 1], of any shape; 1e-300 is as good as 0.5. 0 and 1 give infinities.
    direction : None, int or array-like of shape (n_features,)
    upper : bool, default=False
        Return the x with P(a . row > x) = p instead.

    Returns
    -------
    float, or ndarray of the shape of p

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[3.0]], [[[4.0]]])
    >>> round(algebra.quantile(m, 0.975), 6)
    6.919928
    """
    components = components_of(mixture, noise=True)
    line = along(components, direction_of(direction, components))
    values = check_share(p, "p", closed=True)
    return _shaped(line.quantile(values.ravel(), upper), values)


def _shaped(flat: Any, like: Any) -> Any:
    return float(flat[0]) if like.ndim == 0 else flat.reshape(like.shape)


def box_probability(mixture: Any, low: ArrayLike, high: ArrayLike) -> Estimate:
    """Return the probability that every column of a row lies between its bounds.

    Exact for a mixture without correlations, uniform noise included; otherwise from quasi-random numbers under minimax
    tilting (Botev, 2017), with a small relative error also where the probability is tiny.

    Parameters
    ----------
    mixture : fitted mixture
    low, high : array-like of shape (n_features,), or float
        May be infinite.

    Returns
    -------
    Estimate
        (value, standard_error); the same at every call.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
    >>> round(algebra.box_probability(m, 0.0, np.inf).value, 6)
    0.333333
    """
    components = components_of(mixture, noise=True)
    log_value, error = regions.log_box_probability(components, *box_of(low, high, components.n_features))
    value = min(math.exp(log_value), 1.0)
    return Estimate(value, value * error)


def box_of(low: ArrayLike, high: ArrayLike, n_features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two corners, checked."""
    start = vector_of(low, n_features, "low", infinite=True)
    stop = vector_of(high, n_features, "high", infinite=True)
    if not (start < stop).all():
        column = int(np.argmin(start < stop))
        raise ValueError(
            f"low must be below high in every column, but got {start[column]} and {stop[column]} in column {column}."
        )
    return start, stop


def hdr_level(mixture: Any, coverage: ArrayLike, n_samples: int = 100_000, random_state: Any = 0) -> Any:
    """Return the log-density, in nats, above which the mixture has this probability: the level of its HDR.

    The highest-density region is the smallest set of that probability. Exact for one Gaussian; in one dimension from
    `n_samples` evenly spaced quantiles; otherwise from draws (Hyndman, 1996), by which the coverage is right to about
    sqrt(coverage (1 - coverage) / n_samples).

    Parameters
    ----------
    mixture : fitted mixture
    coverage : array-like, in (0, 1)
        0.95 for the region that holds 95 % of the rows.
    n_samples : int, default=100000
    random_state : int, RandomState or None, default=0
        A fixed one by default: a level is a property of the mixture.

    Returns
    -------
    float, or ndarray of the shape of coverage

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    >>> round(algebra.hdr_level(m, 0.95), 4)
    -2.8397
    """
    components = components_of(mixture, noise=True)
    values = check_share(coverage, "coverage")
    n_samples = check_count(n_samples, "n_samples", 2)
    levels = regions.hdr_level(components, values.ravel(), drawer(components, random_state), n_samples)
    return _shaped(levels, values)


def in_hdr(
    mixture: Any, X: ArrayLike, coverage: float, n_samples: int = 100_000, random_state: Any = 0
) -> NDArray[np.bool_]:
    """Return whether each row lies in the HDR of this probability, shape (n_samples,); see `hdr_level`.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    >>> algebra.in_hdr(m, [[1.9], [2.0]], 0.95).tolist()
    [True, False]
    """
    components = components_of(mixture, noise=True)
    level = hdr_level(mixture, float(coverage), n_samples, random_state)
    return np.asarray(components.log_density(rows_of(X, components)) >= level)


def gradient(mixture: Any, X: ArrayLike, *, log: bool = True) -> NDArray[np.float64]:
    """Return the gradient in x of the log-density (the score), or with log=False of the density, at each row.

    Parameters
    ----------
    mixture : fitted mixture
    X : array-like of shape (n_samples, n_features)
    log : bool, default=True

    Returns
    -------
    ndarray of shape (n_samples, n_features), float64

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0]], [[[2.0]]])
    >>> algebra.gradient(m, [[3.0]]).round(12).tolist()
    [[-1.5]]
    """
    components = components_of(mixture, noise=True)
    rows = rows_of(X, components)
    found = shape.log_gradient(components, rows)
    return found if log else found * np.exp(components.log_density(rows))[:, None]


def hessian(mixture: Any, X: ArrayLike, *, log: bool = True) -> NDArray[np.float64]:
    """Return the matrix of second derivatives in x of the log-density, or with log=False of the density, at each row.

    Parameters
    ----------
    mixture : fitted mixture
    X : array-like of shape (n_samples, n_features)
    log : bool, default=True

    Returns
    -------
    ndarray of shape (n_samples, n_features, n_features), float64

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0]], [[[2.0]]])
    >>> algebra.hessian(m, [[3.0]]).round(12).tolist()
    [[[-0.5]]]
    """
    components = components_of(mixture, noise=True)
    rows = rows_of(X, components)
    found = shape.log_hessian(components, rows, of_log=log)
    return found if log else found * np.exp(components.log_density(rows))[:, None, None]


def modes(mixture: Any) -> NDArray[np.float64]:
    """Return the local maxima of the density, shape (n_modes, n_features), the highest first.

    From all means and from between near components the fixed-point iteration of Carreira-Perpinan (2000) climbs, and
    Newton's method ends it. In one dimension equal variances have at most as many modes as components; in more
    dimensions there may be more, and none can promise to find them all.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.6, 0.4], [[0.0], [6.0]], [[[1.0]], [[1.0]]])
    >>> algebra.modes(m).round(3).ravel().tolist()
    [0.0, 6.0]
    """
    return shape.modes(components_of(mixture))
