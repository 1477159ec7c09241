"""Long fits on the command line: signals, exit codes, and what their options mean."""

import contextlib
import json
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import typer

from ..exceptions import say

NOT_CONVERGED = 3
ProgressKind = StrEnum("ProgressKind", ["auto", "plain", "json", "none"])


def parse_every(text: str) -> float | int:
    """Return seconds as a float (`60s`) or iterations as an int (`10`)."""
    try:
        value: float | int = float(text.removesuffix("s")) if text.endswith("s") else int(text)
    except ValueError:
        value = -1
    if not (0 <= value < float("inf")) or (isinstance(value, int) and value == 0):
        raise typer.BadParameter(
            f"{text!r} is neither seconds, as in 60s, nor a number of iterations, as in 10",
            param_hint="--checkpoint-every",
        )
    return value


@contextlib.contextmanager
def exiting_on_signals() -> Iterator[None]:
    """Leave with 143 at SIGTERM and 130 at SIGINT, by exceptions: a fit writes its last checkpoint on the way."""
    before: Any = None
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def warnings_as(kind: ProgressKind) -> Iterator[None]:
    """With JSON lines on stderr, warnings are such lines too."""
    before = warnings.showwarning
    if kind is ProgressKind.json:
        warnings.showwarning = _show_json
    try:
        yield
    finally:
        warnings.showwarning = before


def _show_json(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
    say(json.dumps({"warning": str(message)}), sys.stderr)
