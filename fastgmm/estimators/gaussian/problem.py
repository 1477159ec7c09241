"""From the settings of a `GaussianMixture` to the problem that is fitted and the solver that fits it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from ... import validation as check
from ...model.map_prior import ConjugatePrior
from ...model.maximisation import Maximiser
from ...model.parameters import Array
from ...optimization.acceleration import ITERATIONS
from ...optimization.em import EMIteration
from ...optimization.gradient import OPTIMIZERS, SCHEDULES, GradientIteration, GradientOptions
from ...optimization.hard_em import AnnealedIteration, HardIteration
from ...optimization.problem import FitProblem
from ...optimization.stepwise import StepwiseIteration, StepwiseOptions
from ...rows.source import Source
from ...rows.summary import ColumnSummary
from ..fit_warnings import warn_about_columns, warn_about_labels
from .combinations import check_combinations
from .knowledge import resolve_fixed, resolve_labels, resolve_noise

RELATIVE_RIDGE = 1e-6  # of reg_covar="auto", as a share of each column's variance

SOLVER_OPTIONS: dict[str, tuple[str, ...]] = {
    "em": (),
    "hard": ("polish",),
    "annealed": ("beta_start", "beta_growth", "n_steps"),
    "stepwise": tuple(StepwiseOptions.__dataclass_fields__),
    "gradient": tuple(GradientOptions.__dataclass_fields__),
}
OPTION_CHECKS: dict[str, tuple[Any, str]] = {
    "batch_size": (lambda v: v is None or (check.is_int(v) and v >= 1), "a positive int or None"),
    "kappa": (lambda v: check.is_real(v) and 0.5 < v <= 1, "a number above 0.5 and at most 1"),
    "t0": (lambda v: check.is_real(v) and v >= 0, "a number of at least 0"),
    "forgetting": (lambda v: check.is_real(v) and 0 <= v < 1, "a number of at least 0 and below 1"),
    "passes": (lambda v: check.is_int(v) and v >= 1, "a positive int"),
    "polish": (lambda v: isinstance(v, bool), "True or False"),
    "beta_start": (lambda v: check.is_real(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "beta_growth": (lambda v: check.is_real(v) and v > 1, "a number above 1"),
    "n_steps": (lambda v: check.is_int(v) and v >= 1, "a positive int"),
    "optimizer": (lambda v: v in OPTIMIZERS, f"one of {', '.join(map(repr, OPTIMIZERS))}"),
    "learning_rate": (lambda v: check.is_real(v) and v > 0, "a number above 0"),
    "schedule": (lambda v: v in SCHEDULES, f"one of {', '.join(map(repr, SCHEDULES))}"),
    "decay": (lambda v: check.is_real(v) and v >= 0, "a number of at least 0"),
    "momentum": (lambda v: check.is_real(v) and 0 <= v < 1, "a number of at least 0 and below 1"),
    "relative_tol": (lambda v: check.is_real(v) and v >= 0, "a number of at least 0"),
}


def check_options(solver: str, options: Mapping[str, Any] | None, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return `solver_options`, checked; ValueError for one the solver does not know or a value out of range."""
    given = dict(options or {})
    for name, value in given.items():
        if name not in allowed:
            known = f"takes {', '.join(allowed)}" if allowed else "takes none"
            raise ValueError(f"solver_options: solver={solver!r} {known}; got {name!r}.")
        accepts, words = OPTION_CHECKS[name]
        if not accepts(value):
            raise ValueError(f"solver_options[{name!r}] must be {words}. Got {value!r}.")
    return given


class Settings(Protocol):
    """What a `GaussianMixture` is set to, and the checks that it brings."""

    n_components: int
    covariance_type: str
    reg_covar: Any
    max_iter: int
    acceleration: str | None
    solver: str
    solver_options: Mapping[str, Any] | None
    prior: ConjugatePrior | str | None
    missing: str
    semi_supervised: bool
    fixed: Mapping[str, Any] | None
    noise: Any
    covariance_floor: float
    on_singular: str

    def _column_names(self) -> Any: ...

    def _summary(self, source: Source, weight: Array | None, may_miss: bool) -> tuple[ColumnSummary, bool]: ...


def is_prior(value: Any) -> bool:
    """Whether it is a conjugate prior."""
    return isinstance(value, ConjugatePrior)


def objective_name(model: Settings) -> str:
    """What the bound of the fit is called in messages."""
    if model.solver == "hard":
        return "classification likelihood"
    return "log-likelihood" if model.prior is None else "log-posterior"


def solver_iteration(model: Settings, problem: FitProblem, rng: np.random.RandomState) -> Callable[..., EMIteration]:
    """What a fit repeats."""
    options = check_options(model.solver, model.solver_options, SOLVER_OPTIONS[model.solver])
    if model.solver == "em":
        return ITERATIONS[model.acceleration]
    if model.solver == "hard":
        return partial(HardIteration, **options)
    if model.solver == "annealed":
        return partial(AnnealedIteration, **options)
    batches = np.random.default_rng(rng.randint(0, 2**31 - 1, size=4))
    if model.solver == "stepwise":
        return partial(StepwiseIteration, problem=problem, options=StepwiseOptions(**options), rng=batches)
    return partial(
        GradientIteration,
        problem=problem,
        options=GradientOptions(**options),
        max_iter=max(1, model.max_iter),
        rng=batches,
    )


def make_problem(model: Settings, source: Source, y: Any, weight: Array | None) -> FitProblem:
    """Check rows, settings and how they go together."""
    columns, has_missing = model._summary(source, weight, model.missing == "em")
    relative = model.reg_covar == "auto"
    ridge = RELATIVE_RIDGE if relative else float(model.reg_covar)
    if model.prior is None:
        warn_about_columns(columns, ridge, model._column_names(), relative, stacklevel=6)
    n_components, n_features = int(model.n_components), source.n_features
    bounds, noise_start = resolve_noise(model.noise, columns, n_features)
    fixed = resolve_fixed(model.fixed, model.covariance_type, (n_components, n_features), bounds is not None)
    labels = None
    if model.semi_supervised and y is not None:
        labels = resolve_labels(y, source.n_samples, n_components)
    else:
        warn_about_labels(y)
    check_combinations(
        {
            "acceleration": model.acceleration is not None,
            f"solver={model.solver!r}": True,
            f"on_singular={model.on_singular!r}": True,
            "noise": bounds is not None,
            "covariance_floor": model.covariance_floor > 0,
            "missing values": has_missing,
            "fixed weights": fixed.weights is not None,
            "fixed means": fixed.means is not None,
            "fixed covariances": fixed.covariances is not None,
        }
    )
    maximise = Maximiser(
        model.covariance_type,
        ridge * np.where(columns.variance > 0, columns.variance, 1.0) if relative else ridge,
        columns.variance,
        floor=float(model.covariance_floor),
        fixed=fixed,
        noise_bounds=bounds,
        regularises=model.on_singular == "regularize",
    )
    problem = FitProblem(source, columns, weight, n_components, maximise, labels, has_missing, noise_start)
    if model.prior is None:
        return problem
    given = ConjugatePrior() if isinstance(model.prior, str) else model.prior
    complete = replace(problem, source=problem.complete_source())
    prior = given.resolved(
        model.covariance_type,
        n_components,
        columns.mean,
        columns.variance,
        lambda: complete.data_pass().data_scatter() / problem.total_weight,
    )
    return replace(problem, maximise=replace(maximise, prior=prior))
