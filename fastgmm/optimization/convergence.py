"""When to stop: the change of the per-sample log-likelihood, judged above rounding noise."""

from dataclasses import dataclass, field

# A step may fall by rounding this much (relative) without counting as a fall (reliability of one EM step, tested).
NOISE = 1e-12


@dataclass
class ConvergenceMonitor:
    """Follows the lower bound and says why to stop.

    Parameters
    ----------
    tol : float
        A change in [0, tol) nats per sample is convergence; strict, so tol=0 never converges.
    lower_bound : float
        The bound before the first update; -inf for a fresh start.
    """

    tol: float
    lower_bound: float = float("-inf")
    change: float = float("inf")
    lower_bounds: list[float] = field(default_factory=list)
    largest_fall: float = 0.0

    def update(self, lower_bound: float) -> str | None:
        """Record a bound; return "converged", "decreased" (a fall smaller than tol) or None to go on.

        A fall of tol or more is recorded and the fit goes on: under a ridge the first steps may fall on the way up.
        """
        self.change = lower_bound - self.lower_bound
        self.lower_bound = lower_bound
        self.lower_bounds.append(lower_bound)
        fell = self.change < -NOISE * max(1.0, abs(lower_bound))
        if fell:
            self.largest_fall = max(self.largest_fall, -self.change)
        if abs(self.change) < self.tol:
            return "decreased" if fell else "converged"
        return None
