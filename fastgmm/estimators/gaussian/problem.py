"""From the settings of a `GaussianMixture`, `model`, to the problem that is fitted and the solver that fits it."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import validation as check
from ...model.covariance import STRUCTURES
from ...model.map_prior import ConjugatePrior
from ...model.maximisation import Maximiser
from ...model.parameters import Array
from ...optimization.problem import MixtureProblem
from ...optimization.solvers import SOLVERS, Iterate
from ...rows.source import Source
from ..fit_warnings import warn_about_columns, warn_about_labels
from .combinations import check_combinations
from .knowledge import resolve_fixed, resolve_labels, resolve_noise

RELATIVE_RIDGE = 1e-6  # of reg_covar="auto", as a share of each column's variance


def is_prior(value: Any) -> bool:
    """Whether it is a conjugate prior."""
    return isinstance(value, ConjugatePrior)


def solver_iteration(model: Any, problem: MixtureProblem, rng: np.random.RandomState) -> Iterate:
    """What a fit repeats."""
    setting, acceleration = model._setting, model._setting("acceleration")
    solver = SOLVERS[setting("solver")]
    options = solver.read_options(setting("solver_options"))
    if acceleration is not None:
        return solver.accelerations[acceleration]
    return solver.make(problem, options, rng, model.max_iter)


def make_problem(model: Any, source: Source, y: Any, weight: Array | None) -> MixtureProblem:
    """Check rows, settings and how they go together."""
    setting, prior, on_singular = model._setting, model._setting("prior"), model._setting("on_singular")
    labels = _labels(model, source, y)
    columns = model._summary(source, weight, labels)
    relative = model.reg_covar == "auto"
    ridge = RELATIVE_RIDGE if relative else float(model.reg_covar)
    if prior is None:
        warn_about_columns(columns, ridge, model._column_names(), relative)
    n_components, n_features = int(model.n_components), source.n_features
    bounds, noise_start = resolve_noise(setting("noise"), columns, n_features)
    fixed = resolve_fixed(setting("fixed"), model.covariance_type, (n_components, n_features), bounds is not None)
    check_combinations(
        {
            "acceleration": setting("acceleration") is not None,
            SOLVERS[setting("solver")].setting: True,
            f"on_singular={on_singular!r}": True,
            "noise": bounds is not None,
            "covariance_floor": setting("covariance_floor") > 0,
            "missing values": columns.has_missing,
            "fixed weights": fixed.weights is not None,
            "fixed means": fixed.means is not None,
            "fixed covariances": fixed.covariances is not None,
        }
    )
    maximise = Maximiser(
        model.covariance_type,
        ridge * np.where(columns.variance > 0, columns.variance, 1.0) if relative else ridge,
        columns.variance,
        floor=float(setting("covariance_floor")),
        fixed=fixed,
        noise_bounds=bounds,
        regularises=on_singular == "regularize",
    )
    problem = MixtureProblem(
        source, columns, weight, n_components, maximise, columns.has_missing, noise_start, labels=labels
    )
    if prior is None:
        return problem
    given = ConjugatePrior() if isinstance(prior, str) else prior
    resolved = given.resolved(
        model.covariance_type, n_components, columns.mean, columns.variance, lambda: _row_covariance(problem)
    )
    return replace(problem, maximise=replace(maximise, prior=resolved))


def _labels(model: Any, source: Source, y: Any) -> NDArray[np.int64] | None:
    """The component of each row, -1 where it is not known; None where none is."""
    if model._setting("semi_supervised") and y is not None:
        return resolve_labels(y, source.n_samples, int(model.n_components))
    warn_about_labels(y)
    return None


def _row_covariance(problem: MixtureProblem) -> Array:
    """Covariance of all rows: correlations of rows filled with column means, variances of the values that are there."""
    complete = replace(problem, source=problem.complete_source())
    covariance = complete.data_pass().data_scatter() / problem.total_weight
    if not problem.has_missing:
        return covariance
    shrunk = np.diagonal(covariance)
    unit = np.sqrt(problem.columns.variance / np.where(shrunk > 0, shrunk, 1.0))
    return unit[:, None] * covariance * unit


def user_start(model: Any, n_features: int) -> dict[str, Array]:
    """The user's starting values by name, checked; like scikit-learn, the checked arrays replace what was passed."""
    structure, given = STRUCTURES[model.covariance_type], {}
    if model.weights_init is not None:
        model.weights_init = check.check_weights(model.weights_init, model.n_components)
        given["weights"] = model.weights_init.astype(np.float64)
    if model.means_init is not None:
        model.means_init = check.check_means(model.means_init, model.n_components, n_features)
        given["means"] = model.means_init.astype(np.float64)
    if model.precisions_init is not None:
        shape = structure.shape(model.n_components, n_features)
        model.precisions_init = check.check_precisions(model.precisions_init, structure, shape)
        given["precisions_cholesky"] = structure.cholesky_of_precisions(model.precisions_init.astype(np.float64))
    return given
