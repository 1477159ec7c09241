"""The solvers of `GaussianMixture`: one entry each, which says all that depends on the solver.

A new one is a file with its iteration and its options, and an entry here: validation, messages, checkpoints, plots, the
README's table of combinations and the tests that walk it follow. No other module compares `solver` with a name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np

from ..validation import generator_from
from .acceleration import AcceleratedIteration
from .compiled_iteration import CompiledIteration
from .em import EMIteration
from .gradient import GradientIteration, GradientOptions
from .hard_em import AnnealedIteration, AnnealedOptions, HardIteration, HardOptions
from .problem import MixtureProblem
from .stepwise import StepwiseIteration, StepwiseOptions

Iterate = Callable[..., EMIteration]  # iterate(expectation, parameters, maximise), which `EMOptions` takes
Make = Callable[[MixtureProblem, Any, np.random.RandomState, int], Iterate]


@dataclass(frozen=True)
class NoOptions:
    """Of plain EM, accelerated or not."""


@dataclass(frozen=True)
class Solver:
    """A way to fit a Gaussian mixture.

    Attributes
    ----------
    name : str
        The value of the parameter `solver`.
    options : type
        Frozen dataclass of what `solver_options` may hold; each field is an `optimization.options.option`.
    make : callable
        make(problem, options, rng, max_iter): what a fit repeats. `rng` is drawn from only by solvers that need random
        numbers of their own.
    accelerations : mapping of str to callable
        What a fit repeats with each value of `acceleration`. Where there are none, solver and acceleration do not go
        together.
    conflicts : mapping of str to str
        Settings and properties of the data, by their names in `make_problem`, that it cannot do, and the reason and
        remedy in a sentence.
    objective : str or None
        What its bound is called in messages; None for the log-likelihood, with a prior the log-posterior.
    follows_max_iter : bool
        Whether its steps depend on `max_iter`, so that an interrupted fit cannot go on with another.
    """

    name: str
    options: type[Any]
    make: Make
    accelerations: Mapping[str, Iterate] = field(default_factory=dict)
    conflicts: Mapping[str, str] = field(default_factory=dict)
    objective: str | None = None
    follows_max_iter: bool = False

    @property
    def setting(self) -> str:
        """What choosing it is called in messages."""
        return f"solver={self.name!r}"

    def objective_name(self, has_prior: bool) -> str:
        """What the bound of a fit is called in messages."""
        return self.objective or ("log-posterior" if has_prior else "log-likelihood")

    def read_options(self, given: Mapping[str, Any] | None) -> Any:
        """Return `solver_options` as `options`; ValueError for one that is not known or a value out of range."""
        if not given:
            return self.options()
        known = {entry.name: entry.metadata["constraint"] for entry in fields(self.options)}
        for name, value in given.items():
            if name not in known:
                takes = f"takes {', '.join(known)}" if known else "takes none"
                raise ValueError(f"solver_options: {self.setting} {takes}; got {name!r}.")
            if not known[name].accepts(value):
                raise ValueError(f"solver_options[{name!r}] must be {known[name].words}. Got {value!r}.")
        return self.options(**given)


def _with_options(iteration: Iterate) -> Make:
    return lambda problem, options, rng, max_iter: partial(iteration, options=options)


def _em(problem: MixtureProblem, options: NoOptions, rng: np.random.RandomState, max_iter: int) -> Iterate:
    return partial(CompiledIteration, problem=problem)


def _stepwise(problem: MixtureProblem, options: StepwiseOptions, rng: np.random.RandomState, max_iter: int) -> Iterate:
    return partial(StepwiseIteration, problem=problem, options=options, rng=generator_from(rng))


def _gradient(problem: MixtureProblem, options: GradientOptions, rng: np.random.RandomState, max_iter: int) -> Iterate:
    return partial(
        GradientIteration, problem=problem, options=options, max_iter=max(1, max_iter), rng=generator_from(rng)
    )


SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        Solver("em", NoOptions, _em, accelerations={"lbfgs": AcceleratedIteration}),
        Solver("hard", HardOptions, _with_options(HardIteration), objective="classification likelihood"),
        Solver(
            "annealed",
            AnnealedOptions,
            _with_options(AnnealedIteration),
            conflicts={"missing values": "tempered densities of rows with gaps do not factor; set solver='em'."},
        ),
        Solver(
            "stepwise",
            StepwiseOptions,
            _stepwise,
            conflicts={"on_singular='restart'": "its statistics would forget the new place; use 'regularize'."},
        ),
        Solver(
            "gradient",
            GradientOptions,
            _gradient,
            conflicts={
                "on_singular='restart'": "gradient ascent has no M-step to mend; use solver='em'.",
                "on_singular='regularize'": "gradient ascent has no M-step to mend; use solver='em'.",
                "covariance_floor": "its parameters are unconstrained; pass a prior instead.",
            },
            follows_max_iter=True,
        ),
    )
}
ACCELERATIONS = tuple(name for solver in SOLVERS.values() for name in solver.accelerations)
STREAMING = SOLVERS["stepwise"]  # what `partial_fit` learns by
