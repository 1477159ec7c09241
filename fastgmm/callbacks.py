"""What a fit tells a callback after each iteration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class IterationInfo:
    """The state of a fit after an iteration.

    Attributes
    ----------
    init : int
        Number of the start, from 0.
    n_iter, max_iter : int
        n_iter is 0 before the first iteration.
    lower_bound : float
        Mean log-likelihood per row in nats, before this iteration's M-step; -inf before the first iteration.
    change : float
        Its change; infinite at the first iteration, 0 where an accelerated pass was rejected.
    n_samples : int
    n_init : int
        Starts in all.
    tol : float
        The change at which a start has converged.
    elapsed : float
        Seconds since the fit began; what was done before a checkpoint is not counted.
    rows_per_second : float
        Of this iteration; 0 before the first one.
    max_seconds : float or None
    stop_reason : str or None
        At the end: why the last start stopped; None if an exception ended the fit.
    """

    init: int
    n_iter: int
    max_iter: int
    lower_bound: float
    change: float
    n_samples: int
    n_init: int = 1
    tol: float = 0.0
    elapsed: float = 0.0
    rows_per_second: float = 0.0
    max_seconds: float | None = None
    stop_reason: str | None = None


# A function of the iteration, or an object with some of the methods of METHODS.
Callback = Callable[[IterationInfo], bool | None] | Any
METHODS = ("begin", "iteration", "end")


def is_callback(value: Any) -> bool:
    """Whether a fit can tell it something."""
    return callable(value) or any(callable(getattr(value, name, None)) for name in METHODS)
