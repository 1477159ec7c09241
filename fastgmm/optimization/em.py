"""Expectation-maximisation (Dempster, Laird and Rubin, 1977): statistics of all rows, new parameters, repeat."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from ..model.expectation import Expectation
from ..model.parameters import MixtureParameters
from ..model.resumable import Resumable
from ..model.statistics import SufficientStatistics
from .convergence import ConvergenceMonitor

FIRST = 3  # iterations in which a state that a checkpoint made up shows


@dataclass(frozen=True)
class EMResult:
    """Where a run of EM ended. `lower_bounds` are means per sample in nats, each before its M-step."""

    parameters: Any  # MixtureParameters, or FactorParameters
    lower_bounds: list[float]
    stop_reason: str
    largest_fall: float
    restarts: tuple[int, ...] = ()
    halted: str | None = None  # what ended the fit, if not all starts ran to their end
    log_likelihood: float | None = None  # of the parameters, weighted, in nats, if that is known

    @property
    def converged(self) -> bool:
        """Whether the last change was in (-tol / 100, tol)."""
        return self.stop_reason == "converged"


def check_range(statistics: SufficientStatistics) -> None:
    """Raise ValueError if rows were too far from every component for their distances."""
    if statistics.n_far:
        raise ValueError(
            f"{statistics.n_far} rows are so far from every component that their squared distances leave the "
            "floating-point range. Rescale the data or remove these rows."
        )


class MStep(Protocol):
    """Statistics to parameters: a `Maximiser`, or a `Reseeding` around one, which mends collapsed components."""

    @property
    def restarts(self) -> Sequence[int]:
        """Components re-seeded since the start, in order."""

    def __call__(self, statistics: SufficientStatistics) -> MixtureParameters:
        """Return the parameters of largest objective given the statistics."""

    def log_prior(self, parameters: MixtureParameters) -> float:
        """Logarithm of the prior's density in nats."""


class EMIteration(Resumable):
    """Plain EM: an iteration is one pass over the rows and an M-step.

    Its parameters are the `of_em` of other iterations, which take more by name.

    Parameters
    ----------
    expectation : Expectation
        The pass over the rows.
    parameters : MixtureParameters
        The start; later what the last M-step gave.
    maximise : MStep
    """

    changing: ClassVar[tuple[str, ...]] = ("parameters",)

    def log_likelihood(self) -> float | None:
        """The weighted total log-likelihood of the parameters in nats, if it can be had for less than a pass."""
        return None

    def __init__(self, expectation: Expectation, parameters: MixtureParameters, maximise: MStep) -> None:
        self.expectation, self.parameters, self.maximise = expectation, parameters, maximise

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one iteration, tell the monitor, and return a reason to stop or None."""
        n_restarts = len(self.maximise.restarts)
        lower_bound, self.parameters = self.em_pass(self.parameters)
        reason = monitor.update(lower_bound)
        if len(self.maximise.restarts) > n_restarts:  # the objective may fall now, on its way to a better maximum
            monitor.forget()
            return None
        return reason

    def advance_far(self, monitor: ConvergenceMonitor, most: int) -> str | None:
        """Do at least one and at most `most` iterations, as `advance` would, and return a reason to stop or None."""
        return self.advance(monitor)

    def em_pass(self, parameters: MixtureParameters) -> tuple[float, MixtureParameters]:
        """Return the objective of `parameters` (the mean log-likelihood per row in nats, plus the log-prior's share)
        and the parameters of their M-step.
        """
        statistics = self.e_step(parameters)
        check_range(statistics)
        objective = statistics.log_likelihood + self.maximise.log_prior(parameters)
        return objective / statistics.total_weight, self.maximise(statistics)

    def e_step(self, parameters: MixtureParameters) -> SufficientStatistics:
        """Return the statistics of all rows under `parameters`."""
        return self.expectation(parameters)


def run_em(
    iteration: EMIteration,
    max_iter: int,
    monitor: ConvergenceMonitor,
    *,
    after_iteration: Callable[[int, ConvergenceMonitor, str | None], str | None] | None,
    n_done: int = 0,
    reason: str | None = None,
    first: Callable[[], AbstractContextManager[None]] | None = None,
) -> EMResult:
    """Repeat `iteration` until it, `after_iteration` (returning a reason) or `max_iter` says stop.

    Without `after_iteration` nobody watches, and iterations may come several at a time.
    A run that was interrupted goes on after `n_done` iterations, of which the last said `reason`; its next ones
    are done in a context that `first` makes.
    """
    n_iter, halted = n_done, None
    while after_iteration is None and not reason and len(monitor.lower_bounds) < max_iter:
        reason = iteration.advance_far(monitor, max_iter - len(monitor.lower_bounds))
    while after_iteration is not None and not (reason or halted) and n_iter < max_iter:
        n_iter += 1
        with first() if first is not None and n_iter <= n_done + FIRST else nullcontext():
            reason = iteration.advance(monitor)
        halted = after_iteration(n_iter, monitor, reason)
    return EMResult(
        iteration.parameters,
        monitor.lower_bounds,
        reason or halted or "max_iter",
        monitor.largest_fall,
        tuple(iteration.maximise.restarts),
        halted,
        iteration.log_likelihood(),
    )
