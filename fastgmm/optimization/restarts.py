"""Several starts, each run to its end; the one of largest likelihood wins."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..representation.source import Source
from .convergence import ConvergenceMonitor
from .em import EMIteration, EMResult, MStep, run_em

Start = Callable[[], Any]


class Problem(Protocol):
    """What is fitted: a `FitProblem` or a `FactorProblem`."""

    @property
    def source(self) -> Source:
        """The rows."""

    @property
    def maximise(self) -> Any:
        """The M-step."""

    def expectation(self) -> Any:
        """The pass over all rows that EM repeats."""


class FitObserver(Protocol):
    """Who is told about a fit while it runs."""

    def begin(self, init: int) -> None:
        """A start begins."""

    def iteration(self, init: int, n_iter: int, monitor: ConvergenceMonitor) -> bool:
        """An iteration is complete; True stops the fit."""

    def end(self, result: EMResult) -> None:
        """A start has ended."""


@dataclass(frozen=True)
class EMOptions:
    """How long EM runs, and how: iterate(expectation, parameters, maximise)."""

    tol: float
    max_iter: int
    iterate: Callable[..., EMIteration] = EMIteration
    maximise: MStep | None = None  # None: the problem's own


def fit_best(
    problem: Problem,
    starts: list[Start],
    options: EMOptions,
    observer: FitObserver,
    previous_bound: float = float("-inf"),
) -> EMResult:
    """Run EM from each start and return the result of largest final bound; the first wins ties.

    `previous_bound` is the bound that the first iteration's change is measured from (a warm start's). A callback that
    stops one start stops the fit.
    """
    expectation = problem.expectation()
    best: EMResult | None = None
    for init, start in enumerate(starts):
        observer.begin(init)
        parameters = start()
        monitor = ConvergenceMonitor(options.tol, previous_bound, problem.source.dtype)
        if options.max_iter == 0:
            result = EMResult(parameters, [], "max_iter", 0.0)
        else:
            result = run_em(
                options.iterate(expectation, parameters, options.maximise or problem.maximise),
                max_iter=options.max_iter,
                monitor=monitor,
                after_iteration=_bound(observer, init),
            )
            observer.end(result)
        if best is None or _bound_of(result) > _bound_of(best):
            best = result
        if result.stop_reason == "callback":
            break
    assert best is not None
    return best


def _bound(observer: FitObserver, init: int) -> Callable[[int, ConvergenceMonitor], bool]:
    return lambda n_iter, monitor: observer.iteration(init, n_iter, monitor)


def _bound_of(result: EMResult) -> float:
    return result.lower_bounds[-1] if result.lower_bounds else float("-inf")
