"""What the state of a fit may be that a checkpoint says it was in: checked before anything is computed from it.

A file whose checksum is right was written by somebody, not necessarily by a fit. Values of the classes in CHECKS are
looked at here, wherever they stand in the state; arrays and numbers beside them must be like those of the fit that goes
on (`model/resumable.py: restore`). Compiled code then meets nothing that a fit could not have made.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from ..model.covariance import STRUCTURES
from ..model.factors.parameters import FactorParameters
from ..model.parameters import MixtureParameters, UniformNoise
from ..model.statistics import SufficientStatistics
from ..model.variational_prior import MixturePosterior
from .em import EMResult
from .gradient import Coordinates
from .stepwise import RunningStatistics

WEIGHT_TOLERANCE = 1e-6  # of sums of weights, which fits keep to rounding
PENDING = "_proposal"  # a point that was not looked at yet: what overflows there is rejected
INDICES = ("restarts", "_tried", "_trial")  # whose integers number components
MOST_DEPTH = 50  # of values in values; fits need ten


@dataclass(frozen=True)
class Expected:
    """What the fit that goes on has: the class of its parameters, sizes, and how far from 0 a mean may be."""

    kind: type
    n_components: int
    n_features: int
    covariance_type: str | None = None
    n_factors: int | None = None
    reach: float = np.inf


def check_state(value: Any, expected: Expected, name: str = "state", finite: bool = True, depth: int = 0) -> None:
    """Raise ValueError, naming the entry, for what no such fit can have written."""
    if depth > MOST_DEPTH:
        raise ValueError(f"{name} is nested deeper than any state")
    inner: list[tuple[str, Any]] = []
    if is_dataclass(value) and not isinstance(value, type):
        CHECKS[type(value)](value, expected, name, finite)
        inner = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list | tuple):
        inner = [(name, entry) for entry in value]
    elif type(value) is int and name in INDICES and not 0 <= value < max(expected.n_components, 3):
        raise ValueError(f"{name} numbers a component {value}")
    for own, entry in inner:
        check_state(entry, expected, str(own), finite and own != PENDING, depth + 1)


def _numbers(name: str, value: Any, shape: tuple[int, ...], finite: bool, low: float = -np.inf) -> None:
    """Raise ValueError unless it is an array of float64 of this shape, finite and at least `low`."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.shape != shape:
        found = f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{name} must be an array of float64 of shape {shape}, got {found}")
    if finite and not (np.isfinite(value).all() and (value >= low).all()):
        raise ValueError(f"{name} holds a number that is not finite, or below {low:g}")


def _number(name: str, value: Any, low: float = -np.inf, finite: bool = True) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise ValueError(f"{name} must be a number, got {type(value).__name__}")
    if value != value or (finite and not np.isfinite(value)) or value < low:
        raise ValueError(f"{name} is {value!r:.100}")


def _check_means(means: Any, expected: Expected, finite: bool) -> None:
    _numbers("means", means, (expected.n_components, expected.n_features), finite)
    if finite and np.abs(means).max() > expected.reach:
        raise ValueError(f"means are as far as {np.abs(means).max():g}, where no row is")


def _check_mixture(value: Any, expected: Expected, name: str, finite: bool) -> None:
    k, d = expected.n_components, expected.n_features
    if value.covariance_type != expected.covariance_type or not issubclass(type(value), expected.kind):
        raise ValueError(f"{name} is a {type(value).__name__} of type {value.covariance_type!s:.20}")
    structure = STRUCTURES[value.covariance_type]
    shape = structure.shape(k, d)
    _numbers("weights", value.weights, (k,), finite, 0.0)
    _check_means(value.means, expected, finite)
    _numbers("precisions_cholesky", value.precisions_cholesky, shape, finite)
    if value.covariances is not None:
        _numbers("covariances", value.covariances, shape, finite)
    if value.log_weights is not None:
        _numbers("log_weights", value.log_weights, (k,), False)
        if finite and not (value.log_weights < np.inf).all():
            raise ValueError("log_weights must be below infinity")
    if value.noise is not None and not isinstance(value.noise, UniformNoise):
        raise ValueError("noise is no uniform component")
    if not finite:
        return
    diagonal = value.precisions_cholesky
    diagonal = np.einsum("...dd->...d", diagonal) if structure.is_matrix else diagonal
    if not (diagonal > 0).all():
        raise ValueError("precisions_cholesky must have a positive diagonal")
    total = value.weights.sum() + (0.0 if value.noise is None else value.noise.weight)
    if abs(total - 1) > WEIGHT_TOLERANCE:
        raise ValueError(f"weights sum to {total:g}")


def _check_posterior(value: Any, expected: Expected, name: str, finite: bool) -> None:
    _check_mixture(value, expected, name, finite)
    k = expected.n_components
    pools = STRUCTURES[value.covariance_type].pools_components
    sticks = np.ndim(value.weight_concentration) == 2
    _numbers("weight_concentration", value.weight_concentration, (2, k) if sticks else (k,), finite, 0.0)
    _numbers("mean_precision", value.mean_precision, (k,), finite, 0.0)
    _numbers("degrees_of_freedom", np.asarray(value.degrees_of_freedom), () if pools else (k,), finite, 0.0)


def _check_factors(value: Any, expected: Expected, name: str, finite: bool) -> None:
    k, d, q = expected.n_components, expected.n_features, expected.n_factors
    if expected.kind is not FactorParameters or q is None:
        raise ValueError(f"{name} is a mixture of factor analysers")
    _numbers("weights", value.weights, (k,), finite, 0.0)
    _check_means(value.means, expected, finite)
    _numbers("loadings", value.loadings, (k, d, q), finite)
    _numbers("noise_variance", value.noise_variance, (k, d), finite, 0.0)
    if not (value.noise_variance > 0).all() or abs(value.weights.sum() - 1) > WEIGHT_TOLERANCE:
        raise ValueError("noise_variance must be positive and weights sum to 1")


def _check_noise(value: Any, expected: Expected, name: str, finite: bool) -> None:
    _number("weight", value.weight, 0.0)
    _number("beta", value.beta, 0.0)
    _numbers("bounds", value.bounds, (2, expected.n_features), True)
    if not (value.bounds[1] > value.bounds[0]).all():
        raise ValueError("bounds of the noise are no box")


def _check_statistics(value: Any, expected: Expected, name: str, finite: bool) -> None:
    k, d = expected.n_components, expected.n_features
    _number("log_likelihood", value.log_likelihood)
    _number("n_far", value.n_far, 0)
    _number("noise_resp", value.noise_resp, 0.0)
    _numbers("sum_resp", value.sum_resp, (k,), True, 0.0)
    _numbers("sum_diff", value.sum_diff, (k, d), True)
    _check_means(value.means, expected, True)
    if expected.covariance_type is None:
        raise ValueError(f"{name} has statistics of covariances")
    _numbers("sum_outer", value.sum_outer, STRUCTURES[expected.covariance_type].shape(k, d), True)


def _check_running(value: Any, expected: Expected, name: str, finite: bool) -> None:
    _number("n_batches", value.n_batches, 0)
    _number("total_weight", value.total_weight, 0.0)
    if not isinstance(value.statistics, SufficientStatistics):
        raise ValueError("running statistics are none")


def _check_coordinates(value: Any, expected: Expected, name: str, finite: bool) -> None:
    k, d = expected.n_components, expected.n_features
    shapes = {
        "logits": ((k,), (k + 1,)),
        "means": ((k, d),),
        "log_diagonal": ((k, d), (d,), (k,), (k, 1), (1, d)),
        "upper": ((k, d, d), (d, d), (1, d, d)),
    }
    for field, allowed in shapes.items():
        array = getattr(value, field)
        if not isinstance(array, np.ndarray) or (array.size and array.shape not in allowed):
            raise ValueError(f"{field} of a point has shape {np.shape(array)}")
        _numbers(field, array, array.shape, True)


def _check_result(value: Any, expected: Expected, name: str, finite: bool) -> None:
    if not isinstance(value.parameters, expected.kind):
        raise ValueError("a result is of another kind of mixture")
    if not isinstance(value.lower_bounds, list) or not all(type(bound) is float for bound in value.lower_bounds):
        raise ValueError("lower_bounds of a result must be floats")
    for text in (value.stop_reason, value.halted):
        if text is not None and not (isinstance(text, str) and text.isidentifier() and len(text) < 100):
            raise ValueError("a result ended for no reason")
    _number("largest_fall", value.largest_fall, 0.0)


# A class that the state of a solver holds is in this table, or its checkpoints cannot be read.
CHECKS: dict[type, Callable[[Any, Expected, str, bool], None]] = {
    MixtureParameters: _check_mixture,
    MixturePosterior: _check_posterior,
    FactorParameters: _check_factors,
    UniformNoise: _check_noise,
    SufficientStatistics: _check_statistics,
    RunningStatistics: _check_running,
    Coordinates: _check_coordinates,
    EMResult: _check_result,
}
