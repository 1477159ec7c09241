"""What all functions of the algebra do with their arguments: mixtures to components, and checks."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..estimators.base import MixtureEstimator
from ..estimators.gaussian_mixture import GaussianMixture
from ..exceptions import InvalidParameterError, SingularCovarianceError
from ..model.algebra.components import Components, SingularError
from ..model.algebra.constrained import Draw, RefusedError, plain
from ..validation import check_random_state, is_int, is_real

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number that was estimated, and the standard error of the estimate: 0 if exact, NaN if it is not known."""

    value: float
    standard_error: float


def components_of(mixture: Any, name: str = "mixture", noise: bool = False) -> Components:
    """The components of a fitted mixture that have a weight; `noise` says whether uniform noise may be there."""
    if not isinstance(mixture, MixtureEstimator):
        raise TypeError(
            f"{name} must be a fitted mixture of fastgmm, got {type(mixture).__name__}. For parameters of your own use "
            "GaussianMixture.from_parameters(weights, means, covariances)."
        )
    mixture._check_is_fitted()
    found = mixture._density().gaussians()
    outliers = found.noise if found.noise is not None and found.noise.weight > 0 else None
    if outliers is not None and not noise:
        raise ValueError(
            f"{name} has a uniform noise component, of which this has no closed form. Leave it out: "
            "GaussianMixture.from_parameters(m.weights_ / m.weights_.sum(), m.means_, m.covariances_, "
            "m.covariance_type)."
        )
    total = found.weights.sum() + (0.0 if outliers is None else outliers.weight)
    keep = found.weights > 0
    weights = np.asarray(found.weights[keep] / total, np.float64)
    if outliers is not None:
        outliers = replace(outliers, weight=float(outliers.weight / total), beta=1.0)
    covariances = np.asarray(found.covariances[keep], np.float64)
    components = Components(weights, np.asarray(found.means[keep], np.float64), covariances, outliers)
    try:
        _ = components.lower
    except SingularError as error:
        component = int(np.flatnonzero(keep)[error.component])
        raise SingularCovarianceError(
            f"The covariance of component {component} of {name} is singular to working precision along column "
            f"{error.column}. Fit with a larger reg_covar, or scale the columns.",
            component=component,
            column=error.column,
        ) from None
    return components


def pair_of(a: Any, b: Any, names: tuple[str, str] = ("a", "b"), noise: bool = False) -> tuple[Components, Components]:
    """The components of two mixtures of as many features."""
    first, second = components_of(a, names[0], noise), components_of(b, names[1], noise)
    if first.n_features != second.n_features:
        raise ValueError(
            f"{names[0]} has {first.n_features} features, but {names[1]} has {second.n_features}; both must have the "
            "same columns."
        )
    return first, second


def mixture_of(components: Components) -> GaussianMixture:
    """Components as an estimator."""
    weights = components.weights / components.weights.sum()
    return GaussianMixture.from_parameters(weights, components.means, components.covariances)


def rows_of(X: ArrayLike, components: Components) -> Array:
    """Rows as a float64 matrix of the mixture's width, finite."""
    array = np.asarray(X, np.float64)
    if array.ndim != 2 or array.shape[1] != components.n_features:
        raise ValueError(
            f"X must have the shape (n_samples, {components.n_features}), as the mixture has {components.n_features} "
            f"features, but got {array.shape}."
        )
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"X is not finite at row {row}, column {column}. Drop or impute such rows first.")
    return np.ascontiguousarray(array)


def vector_of(value: ArrayLike, n_features: int, name: str, gaps: bool = False, infinite: bool = False) -> Array:
    """A number for each column; one for all of them is repeated."""
    array = np.asarray(value, np.float64)
    if array.ndim == 0:
        array = np.full(n_features, float(array))
    if array.shape != (n_features,):
        raise ValueError(f"{name} must be a number or have the shape ({n_features},), but got {array.shape}.")
    bad = (np.isnan(array) & (not gaps)) | (np.isinf(array) & (not infinite))
    if bad.any():
        column = int(np.argmax(bad))
        raise ValueError(f"{name} must be finite, but got {array[column]} in column {column}.")
    return array


def direction_of(direction: Any, components: Components) -> Array:
    """The vector of a direction: None for the only column, an int for a column, or itself."""
    d = components.n_features
    if direction is None:
        if d != 1:
            raise ValueError(
                f"direction must be given, as the mixture has {d} features: the number of a column, or a vector of "
                f"shape ({d},)."
            )
        return np.ones(1)
    if is_int(direction):
        if not -d <= direction < d:
            raise ValueError(f"direction {direction} is no column of a mixture of {d} features.")
        return np.asarray(np.eye(d)[int(direction)], np.float64)
    array = np.asarray(direction, np.float64)
    if array.shape != (d,) or not np.isfinite(array).all() or not array.any():
        raise ValueError(f"direction must be a finite vector of shape ({d},) other than 0, got {direction!r}.")
    if components.noise is not None and np.count_nonzero(array) > 1:
        raise ValueError(
            "direction must be a column, as the mixture has a uniform noise component, which is uniform along columns "
            "only."
        )
    return array


def check_share(value: Any, name: str, closed: bool = False) -> Array:
    """Probabilities in (0, 1), or in [0, 1]."""
    array = np.asarray(value, np.float64)
    inside = (array >= 0) & (array <= 1) if closed else (array > 0) & (array < 1)
    if not inside.all():
        interval = "[0, 1]" if closed else "(0, 1)"
        raise ValueError(f"{name} must lie in {interval}, got {array[~inside].flat[0]}.")
    return array


def check_positive(value: Any, name: str) -> float:
    """A finite positive number."""
    if not is_real(value) or not 0 < value < np.inf:
        raise InvalidParameterError(f"{name} must be a finite number above 0. Got {value!r}.")
    return float(value)


def check_count(value: Any, name: str, least: int = 1) -> int:
    """An int of at least so much."""
    if not is_int(value) or value < least:
        raise InvalidParameterError(f"{name} must be an int of at least {least}. Got {value!r}.")
    return int(value)


def seed_of(random_state: Any) -> list[int]:
    """Words of entropy."""
    return check_random_state(random_state).randint(0, 2**32, size=4, dtype=np.uint32).tolist()


def drawer(components: Components, random_state: Any) -> Any:
    """Function that draws the mixture's rows first .. last - 1."""
    seed, draw = seed_of(random_state), plain(components)
    return lambda first, last: draw.rows(seed, first, last - first)[0]


def drawn(draw: Draw, n_samples: Any, random_state: Any, first: Any, remedy: str) -> tuple[Array, NDArray[np.int64]]:
    """Rows of a draw, with the error that tells what to do where none is found."""
    n_samples, first = check_count(n_samples, "n_samples"), check_count(first, "first", 0)
    try:
        return draw.rows(seed_of(random_state), first, n_samples)
    except RefusedError:
        raise ValueError(f"The mixture has hardly a row there: 10,000 attempts at one row failed. {remedy}") from None
