"""Several starts, each run to its end; the one of largest likelihood wins."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from ..storage.container import fail
from .checkpoint import CheckpointKeeper
from .convergence import ConvergenceMonitor, exceeds
from .em import EMIteration, EMResult, MStep, run_em
from .problem import Problem

Start = Callable[[], Any]


class FitObserver(Protocol):
    """Who is told about a fit while it runs."""

    @property
    def watches(self) -> bool:
        """Whether anything comes of telling it about iterations."""

    def begin(self, init: int) -> None:
        """A start is sought."""

    def started(self, n_done: int) -> None:
        """It is found, or read from a checkpoint after so many iterations; iterations begin."""

    def iteration(self, init: int, n_iter: int, monitor: ConvergenceMonitor) -> str | None:
        """An iteration is complete; a reason stops the fit."""

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
    keeper: CheckpointKeeper | None = None,
) -> EMResult:
    """Run EM from each start and return the result of largest final bound; the first wins ties, rounding apart.

    `previous_bound` is the bound that the first iteration's change is measured from (a warm start's). An observer that
    stops one start stops the fit. A `keeper` writes checkpoints, the last one however the fit ends, and says where a
    resumed fit goes on.
    """
    expectation = problem.expectation()
    maximise = options.maximise or problem.maximise
    resumed = None if keeper is None else keeper.resumed
    best: EMResult | None = None if resumed is None else resumed.best

    def after_iteration(
        init: int, parts: dict[str, Any], n_iter: int, monitor: ConvergenceMonitor, reason: str | None
    ) -> str | None:
        if keeper is not None:
            keeper.note(init, n_iter, reason, best, parts)
        return observer.iteration(init, n_iter, monitor)

    if resumed is not None and resumed.init >= len(starts):
        fail(resumed.path, f"is of start {resumed.init + 1}, and there are {len(starts)}")
    try:
        for init in range(0 if resumed is None else resumed.init, len(starts)):
            observer.begin(init)
            monitor = ConvergenceMonitor(options.tol, previous_bound, problem.source.dtype)
            if resumed is not None and init == resumed.init:
                parameters, n_done, reason = resumed.parameters, resumed.n_iter, resumed.reason
            else:
                parameters, n_done, reason = starts[init](), 0, None
            observer.started(n_done)
            if options.max_iter == 0:
                result = EMResult(parameters, [], "max_iter", 0.0)
            else:
                iteration = options.iterate(expectation, parameters, maximise)
                parts = {"iteration": iteration, "monitor": monitor, "expectation": expectation, "maximise": maximise}
                first = None
                if resumed is not None and init == resumed.init:
                    resumed.restore(parts)
                    first = resumed.going_on
                watched = keeper is not None or observer.watches
                told = partial(after_iteration, init, parts) if watched else None
                going: dict[str, Any] = {"after_iteration": told, "n_done": n_done, "reason": reason, "first": first}
                result = run_em(iteration, options.max_iter, monitor, **going)
                observer.end(result)
            if best is None or exceeds(_bound_of(result), _bound_of(best), problem.source.dtype):
                best = result
            if result.halted is not None:
                best = replace(best, halted=result.halted)
                break
    finally:
        if keeper is not None:
            keeper.write()
    assert best is not None
    return best


def _bound_of(result: EMResult) -> float:
    return result.lower_bounds[-1] if result.lower_bounds else float("-inf")
