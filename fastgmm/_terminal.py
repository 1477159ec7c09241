"""Progress of fits on stderr: a bar on a terminal, plain lines elsewhere, JSON lines for programs."""

import contextlib
import json
import math
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from .exceptions import say

if TYPE_CHECKING:
    from .callbacks import IterationInfo

KINDS = ("auto", "plain", "json", "none")
_LINE_SECONDS = 5.0  # between plain lines


def progress(kind: str = "auto", *, every: float | None = None, stream: TextIO | None = None) -> "Progress":
    """Return a callback that shows how a fit gets on: `GaussianMixture(callback=fastgmm.progress())`.

    Parameters
    ----------
    kind : {'auto', 'plain', 'json', 'none'}, default='auto'
        'plain': a line now and then, with iteration, log-likelihood per row, rows per second, change, and the time left
        if the change goes on shrinking as it does. 'json': an object per iteration, one a line. 'auto': on a terminal
        a bar that vanishes at the end (with the package rich), else as 'plain'.
    every : float or None, default=None
        Least seconds between plain lines; None is 5.
    stream : text file or None, default=None
        None is stderr.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}. Got {kind!r}.")
    out = sys.stderr if stream is None else stream
    if kind == "none" or out is None:  # a program without a console has no stderr
        return Progress()
    if kind == "json":
        return JsonLines(out)
    bar = _make_bar(out) if kind == "auto" and _is_terminal(out) else None
    return Lines(out, _LINE_SECONDS if every is None else every) if bar is None else Bar(bar)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError, AttributeError):  # closed, or something that is only written to
        return False


class Progress:
    """Shows nothing. An object with the methods that a fit calls, and callable like a function of the iteration."""

    def begin(self, info: "IterationInfo") -> None:
        """A fit begins."""

    def iteration(self, info: "IterationInfo") -> None:
        """An iteration is complete."""

    def end(self, info: "IterationInfo") -> None:
        """The fit has ended."""
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""

    def __deepcopy__(self, memo: Any) -> "Progress":
        """Itself, so that an estimator that shows its progress can be cloned: a terminal cannot."""
        return self

    def __call__(self, info: "IterationInfo") -> None:
        """The same as `iteration`, for callbacks that pass it on."""
        self.iteration(info)


class JsonLines(Progress):
    """An object per iteration; numbers that JSON does not know (the first change) are null."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def iteration(self, info: "IterationInfo") -> None:
        values = asdict(info)
        del values["stop_reason"]
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        say(json.dumps(finite), self._stream)


class Lines(Progress):
    """A line, but not more often than every so many seconds."""

    def __init__(self, stream: TextIO, seconds: float) -> None:
        self._stream, self._seconds = stream, seconds
        self._last = time.perf_counter()
        self._left = _TimeLeft()

    def iteration(self, info: "IterationInfo") -> None:
        left = self._left.after(info)
        if time.perf_counter() - self._last >= self._seconds:
            self._last = time.perf_counter()
            text = _describe(info) + (f"  change {info.change:.2e}" if math.isfinite(info.change) else "")
            say(text if left is None else f"{text}  {_duration(left)} left", self._stream)


class Bar(Progress):
    """A bar of rich."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task: Any = None
        self._left = _TimeLeft()

    def begin(self, info: "IterationInfo") -> None:
        self._left = _TimeLeft()
        with contextlib.suppress(OSError, ValueError):
            self._bar.start()
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task("finding a start", total=None, left="")

    def iteration(self, info: "IterationInfo") -> None:
        if self._task is None:
            self.begin(info)
        left = self._left.after(info)
        shown = {"description": _describe_shortly(info), "left": "" if left is None else f"{_duration(left)} left"}
        with contextlib.suppress(OSError, ValueError):
            if self._task is not None:
                self._bar.update(self._task, completed=info.n_iter, total=info.max_iter, **shown)

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a message that cannot be written costs no result
            self._bar.stop()


def _make_bar(stream: TextIO) -> Any:
    """Return a rich progress bar, or None without rich."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    what, left = TextColumn("{task.description}"), TextColumn("{task.fields[left]}")
    console = Console(file=stream)
    return Progress(BarColumn(bar_width=8), what, TimeElapsedColumn(), left, console=console, transient=True)


def _describe(info: "IterationInfo") -> str:
    start = f"start {info.init + 1}, " if info.init else ""
    return (
        f"{start}iteration {info.n_iter}/{info.max_iter}  {info.lower_bound:.6f} nats/row  "
        f"{info.rows_per_second / 1e6:.2f}M rows/s"
    )


def _describe_shortly(info: "IterationInfo") -> str:
    """For a bar, elapsed and remaining time beside it in 80 columns."""
    what = f"start {info.init + 1}," if info.init else "iteration"
    return (
        f"{what} {info.n_iter}/{info.max_iter}  {info.lower_bound:.4f}  {info.rows_per_second / 1e6:.1f}M rows/s  "
        f"{info.change:+.0e}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


class _TimeLeft:
    """When the present start will have converged, if its change goes on shrinking by the factor it did.

    That is how EM converges in the end. At the latest it is over at max_iter, or at max_seconds.
    """

    def __init__(self) -> None:
        self._init = -1
        self._changes: list[float] = []

    def after(self, info: "IterationInfo") -> float | None:
        """Seconds, or None as long as there is nothing to go by."""
        if info.init != self._init:
            self._init, self._changes = info.init, []
        self._changes = [*self._changes[-5:], info.change]
        if info.rows_per_second <= 0 or len(self._changes) < 3:
            return None
        n_left = float(info.max_iter - info.n_iter)
        first, last = self._changes[0], self._changes[-1]
        if 0 < last < first < math.inf and info.tol > 0:
            factor = math.log(last / first) / (len(self._changes) - 1)
            n_left = min(n_left, max(0.0, math.log(info.tol / last) / factor))
        seconds = n_left * info.n_samples / info.rows_per_second
        return seconds if info.max_seconds is None else max(0.0, min(seconds, info.max_seconds - info.elapsed))
