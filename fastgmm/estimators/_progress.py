"""What a fit tells while it runs: an object per iteration for callbacks, scikit-learn's lines for `verbose`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..optimization.convergence import ConvergenceMonitor
from ..optimization.em import EMResult


@dataclass(frozen=True)
class IterationInfo:
    """The state of a fit after an iteration.

    Attributes
    ----------
    init : int
        Number of the start, from 0.
    n_iter, max_iter : int
    lower_bound : float
        Mean log-likelihood per row in nats, before this iteration's M-step.
    change : float
        Its change; infinite at the first iteration, 0 where an accelerated pass was rejected.
    n_samples : int
    """

    init: int
    n_iter: int
    max_iter: int
    lower_bound: float
    change: float
    n_samples: int


class VerboseReport:
    """Prints what scikit-learn's mixtures print at `verbose` 1 and 2."""

    def __init__(self, verbose: int, interval: int) -> None:
        self._verbose, self._interval = int(verbose), interval
        self._start = self._previous = time.perf_counter()

    def begin(self, init: int) -> None:
        """Announce a start."""
        if self._verbose:
            print(f"Initialization {init}")
        self._start = self._previous = time.perf_counter()

    def iteration(self, n_iter: int, change: float) -> None:
        """Report every interval-th iteration."""
        if not self._verbose or n_iter % self._interval:
            return
        if self._verbose == 1:
            print(f"  Iteration {n_iter}")
            return
        now = time.perf_counter()
        print(f"  Iteration {n_iter}\t time lapse {now - self._previous:.5f}s\t ll change {change:.5f}")
        self._previous = now

    def end(self, converged: bool, lower_bound: float) -> None:
        """Report how a start ended."""
        if not self._verbose:
            return
        outcome = "converged." if converged else "did not converge."
        if self._verbose == 1:
            print(f"Initialization {outcome}")
        else:
            lapse = time.perf_counter() - self._start
            print(f"Initialization {outcome} time lapse {lapse:.5f}s\t lower bound {lower_bound:.5f}.")


Callback = Callable[[IterationInfo], bool | None]


class FitReporter:
    """Passes what happens during a fit on to `verbose` output and the user's callback."""

    def __init__(self, report: VerboseReport, callback: Callback | None, max_iter: int, n_samples: int) -> None:
        self._report, self._callback, self._max_iter, self._n_samples = report, callback, max_iter, n_samples

    def begin(self, init: int) -> None:
        """Announce a start."""
        self._report.begin(init)

    def iteration(self, init: int, n_iter: int, monitor: ConvergenceMonitor) -> bool:
        """Report an iteration; True if the callback wants to stop."""
        self._report.iteration(n_iter, monitor.change)
        if self._callback is None:
            return False
        bound = monitor.lower_bounds[-1]
        info = IterationInfo(init, n_iter, self._max_iter, bound, monitor.change, self._n_samples)
        return self._callback(info) is True

    def end(self, result: EMResult) -> None:
        """Report how a start ended."""
        self._report.end(result.converged, result.lower_bounds[-1])
