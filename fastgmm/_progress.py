"""Progress of a fit on stderr: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .estimators._progress import IterationInfo

_LINE_SECONDS = 5.0  # between plain lines


@contextlib.contextmanager
def fit_progress(every_iteration: bool = False) -> Iterator[Callable[["IterationInfo"], None]]:
    """Yield a callback for `GaussianMixture(callback=...)` that shows the iterations.

    With `every_iteration` each one gets a line; otherwise a terminal gets a bar that vanishes at the end, and
    anything else (a log file, a terminal without rich) a line every five seconds.
    """
    bar = None if every_iteration or not sys.stderr.isatty() else _make_bar()
    if bar is None:
        yield _line_printer(0.0 if every_iteration else _LINE_SECONDS)
        return
    describe = _describer()
    with bar:
        task = bar.add_task("finding a start", total=None)
        yield lambda info: bar.update(task, completed=info.n_iter, total=info.max_iter, description=describe(info))


def _make_bar() -> Any:
    """Return a rich progress bar on stderr, or None without rich."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    columns = (BarColumn(bar_width=20), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _line_printer(seconds: float) -> Callable[["IterationInfo"], None]:
    last = time.perf_counter()
    describe = _describer()

    def show(info: "IterationInfo") -> None:
        nonlocal last
        text = describe(info)
        if time.perf_counter() - last >= seconds:
            last = time.perf_counter()
            print(f"{text}  change {info.change:.2e}", file=sys.stderr, flush=True)

    return show


def _describer() -> Callable[["IterationInfo"], str]:
    """Return a function that describes an iteration, with the time since the one before as its rate."""
    last = time.perf_counter()

    def describe(info: "IterationInfo") -> str:
        nonlocal last
        now = time.perf_counter()
        rate, last = info.n_samples / (now - last), now
        # Short enough for a bar of 20 columns and the time beside it, in 80 columns.
        start = f"start {info.init + 1}, " if info.init else ""
        return (
            f"{start}iteration {info.n_iter}/{info.max_iter}  {info.lower_bound:.6f} nats/row  {rate / 1e6:.2f}M rows/s"
        )

    return describe
