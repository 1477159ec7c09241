"""What a fit tells while it runs: an object per iteration for callbacks, scikit-learn's lines for `verbose`."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..callbacks import METHODS, Callback, IterationInfo
from ..exceptions import say
from ..optimization.convergence import ConvergenceMonitor
from ..optimization.em import EMResult


class VerboseReport:
    """Prints what scikit-learn's mixtures print at `verbose` 1 and 2."""

    def __init__(self, verbose: int, interval: int) -> None:
        self._verbose, self._interval = int(verbose), interval
        self._start = self._previous = time.perf_counter()

    @property
    def speaks(self) -> bool:
        """Whether it prints anything."""
        return self._verbose > 0

    def begin(self, init: int) -> None:
        """Announce a start."""
        if self._verbose:
            say(f"Initialization {init}", sys.stdout)
        self._start = self._previous = time.perf_counter()

    def iteration(self, n_iter: int, change: float) -> None:
        """Report every interval-th iteration."""
        if not self._verbose or n_iter % self._interval:
            return
        if self._verbose == 1:
            say(f"  Iteration {n_iter}", sys.stdout)
            return
        now = time.perf_counter()
        say(f"  Iteration {n_iter}\t time lapse {now - self._previous:.5f}s\t ll change {change:.5f}", sys.stdout)
        self._previous = now

    def end(self, converged: bool, lower_bound: float) -> None:
        """Report how a start ended."""
        if not self._verbose:
            return
        outcome = "converged." if converged else "did not converge."
        if self._verbose == 1:
            say(f"Initialization {outcome}", sys.stdout)
        else:
            lapse = time.perf_counter() - self._start
            say(f"Initialization {outcome} time lapse {lapse:.5f}s\t lower bound {lower_bound:.5f}.", sys.stdout)


class FitReporter:
    """Passes what happens during a fit on to `verbose` output and the user's callback; watches the time.

    A callback with one of the methods `begin`, `iteration` and `end` is told by these; any other is called after each
    iteration. `info` holds what does not change during the fit; `begin` is when it began.
    """

    def __init__(self, report: VerboseReport, callback: Callback | None, info: IterationInfo, begin: float) -> None:
        self._report, self._info = report, info
        methods = {name: getattr(callback, name, None) for name in METHODS}
        if not any(map(callable, methods.values())):
            methods["iteration"] = callback
        self._methods = methods
        self._is_heard = any(map(callable, methods.values()))
        self._begin = self._previous = begin
        self._stop_reason: str | None = None

    @contextmanager
    def whole_fit(self) -> Iterator[None]:
        """Tell the callback that the fit begins and that it has ended, however it did."""
        self._tell("begin", replace(self._info, elapsed=self._elapsed()))
        try:
            yield
        except BaseException:
            self._stop_reason = None
            raise
        finally:
            self._tell("end", replace(self._info, elapsed=self._elapsed(), stop_reason=self._stop_reason))

    @property
    def watches(self) -> bool:
        """Whether somebody wants to know of every iteration."""
        return self._is_heard or self._info.max_seconds is not None or self._report.speaks

    def begin(self, init: int) -> None:
        """Announce a start."""
        self._report.begin(init)

    def started(self, n_done: int) -> None:
        """Take the time: iterations begin."""
        self._previous = time.perf_counter()

    def iteration(self, init: int, n_iter: int, monitor: ConvergenceMonitor) -> str | None:
        """Report an iteration; "callback" or "max_seconds" to stop."""
        self._report.iteration(n_iter, monitor.change)
        limit = self._info.max_seconds
        if not self._is_heard and limit is None:
            return None
        now = time.perf_counter()
        self._info = replace(
            self._info,
            init=init,
            n_iter=n_iter,
            lower_bound=float(monitor.lower_bounds[-1]),
            change=float(monitor.change),
            elapsed=self._elapsed(),
            rows_per_second=self._info.n_samples / max(now - self._previous, 1e-9),
        )
        if self._tell("iteration", self._info) is True:
            return "callback"
        self._previous = time.perf_counter()
        return "max_seconds" if limit is not None and self._elapsed() > limit else None

    def end(self, result: EMResult) -> None:
        """Report how a start ended."""
        self._stop_reason = result.stop_reason
        self._report.end(result.converged, result.lower_bounds[-1])

    def _elapsed(self) -> float:
        return time.perf_counter() - self._begin

    def _tell(self, method: str, info: IterationInfo) -> Any:
        function = self._methods[method]
        return function(info) if callable(function) else None
