"""When to stop: the change of the per-sample log-likelihood, judged above rounding noise."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..model.resumable import Resumable

# A step may fall by rounding this much (relative) without counting as a fall (tests/test_numerics.py). Near a maximum
# float32 scores move the bound of 272 rows by up to 1e-7 of itself.
NOISE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 5e-7}

SMALL_FALL = 1e-2  # of tol


@dataclass
class ConvergenceMonitor(Resumable):
    """Follows the lower bound and says why to stop.

    Parameters
    ----------
    tol : float
        A change in (-tol / 100, tol) nats per sample is convergence; strict, so tol=0 never converges. A fall that
        small is the rounding of ill-conditioned covariances (1e-5 was seen on real tables of 72 to 203 rows, where
        NOISE knows of 1e-12 only) or a ridge's, and no reason to go on.
    lower_bound : float
        The bound before the first update; -inf for a fresh start.
    dtype : float32 or float64
        Of the rows: what counts as rounding noise.
    """

    changing = ("lower_bound", "change", "lower_bounds", "largest_fall")

    tol: float
    lower_bound: float = float("-inf")
    dtype: Any = np.float64
    change: float = float("inf")
    lower_bounds: list[float] = field(default_factory=list)
    largest_fall: float = 0.0

    def update(self, lower_bound: float) -> str | None:
        """Record a bound; return "converged", "decreased" (a fall smaller than tol, but not far) or None to go on.

        A fall of tol or more is recorded and the fit goes on: under a ridge the first steps may fall on the way up.
        """
        self.change = lower_bound - self.lower_bound
        fell = self.falls(lower_bound)
        if fell:
            self.largest_fall = max(self.largest_fall, -self.change)
        self.lower_bound = lower_bound
        self.lower_bounds.append(lower_bound)
        if abs(self.change) < self.tol:
            return "decreased" if fell and -self.change >= SMALL_FALL * self.tol else "converged"
        return None

    def record(self, lower_bound: float) -> None:
        """Note a bound that may fall and says nothing about convergence, such as that of random batches."""
        self.change = lower_bound - self.lower_bound
        self.lower_bound = lower_bound
        self.lower_bounds.append(lower_bound)

    def forget(self) -> None:
        """Let the next update count as the first: the objective, or what it is an objective of, has changed."""
        self.lower_bound = float("-inf")

    def hold(self) -> None:
        """Record an iteration whose parameters were rejected: the bound stays where it is."""
        self.change = 0.0
        self.lower_bounds.append(self.lower_bound)

    def falls(self, lower_bound: float) -> bool:
        """Whether `lower_bound` lies below the last one by more than rounding."""
        return exceeds(self.lower_bound, lower_bound, self.dtype)


def exceeds(one: float, other: float, dtype: Any) -> bool:
    """Whether a bound of rows of this dtype is above another by more than rounding."""
    if np.isinf(other):
        return one > other
    return one - other > NOISE[np.dtype(dtype)] * max(1.0, abs(other))
