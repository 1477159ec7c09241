"""Several starts, each run to its end; the one of largest likelihood wins."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .checkpoint import CheckpointKeeper
from .convergence import ConvergenceMonitor, exceeds
from .em import EMIteration, EMResult, MStep, run_em
from .problem import Problem

Start = Callable[[], Any]


class FitObserver(Protocol):
    """Who is told about a fit while it runs."""

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
    with nullcontext() if keeper is None else keeper.writing_at_the_end():
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
                if resumed is not None and init == resumed.init:
                    resumed.restore(parts)
                watch = _Watch(init, best, parts, observer, keeper)
                result = run_em(
                    iteration,
                    max_iter=options.max_iter,
                    monitor=monitor,
                    after_iteration=watch,
                    n_done=n_done,
                    reason=reason,
                )
                observer.end(result)
                result = replace(result, halted=watch.halted)
            halted = result.halted
            if best is None or exceeds(_bound_of(result), _bound_of(best), problem.source.dtype):
                best = result
            if halted is not None:
                best = replace(best, halted=halted)
                break
    assert best is not None
    return best


class _Watch:
    """What happens after each iteration of a start; remembers why the observer stopped the fit."""

    def __init__(
        self,
        init: int,
        best: EMResult | None,
        parts: dict[str, Any],
        observer: FitObserver,
        keeper: CheckpointKeeper | None,
    ) -> None:
        self._init, self._best, self._parts = init, best, parts
        self._observer, self._keeper = observer, keeper
        self.halted: str | None = None

    def __call__(self, n_iter: int, monitor: ConvergenceMonitor, reason: str | None) -> str | None:
        if self._keeper is not None:
            self._keeper.note(self._init, n_iter, reason, self._best, self._parts)
        self.halted = self._observer.iteration(self._init, n_iter, monitor)
        return self.halted


def _bound_of(result: EMResult) -> float:
    return result.lower_bounds[-1] if result.lower_bounds else float("-inf")
