"""Accelerated EM: quasi-Newton steps built from EM's own, one pass over the rows each.

An EM step is a gradient step in the metric of the complete data's Fisher information (Xu and Jordan, 1996), and slow
where components overlap because the observed information is much smaller than that. L-BFGS (Liu and Nocedal, 1989)
learns the ratio of the two from the last few steps, with EM's step in the place of the gradient: the quasi-Newton
acceleration of Jamshidian and Jennrich (1997) in limited memory. Looking at a new point is an EM pass, so that a
point that turns out worse costs that pass and nothing else.

Chosen by passes until the likelihood is that of long plain EM, in the same coordinates and with the same safeguard:
SQUAREM (Varadhan and Roland, 2008) and Anderson acceleration with restarts (Henderson and Varadhan, 2019) needed two to
three times as many in total where components overlap. EM's map is nearly symmetric in this metric, and only L-BFGS
uses that. `python -m benchmarks.acceleration` measures what it saves.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..model.covariance import EPS, STRUCTURES
from ..model.expectation import Expectation
from ..model.parameters import Array, MixtureParameters
from .convergence import ConvergenceMonitor
from .em import EMIteration, MStep

# EM's first steps gain much and decide which local maximum is reached: acceleration begins when EM gains less than
# this, in nats per row. Begun earlier, more problems end in a lower maximum than plain EM's. With tol at least this
# large, plain EM would have stopped already, so that the end is never lower (test_acceleration.py).
BEGIN_GAIN = 1e-3
# Steps remembered; 5 and 20 need as many passes.
MEMORY = 10
# Longest quasi-Newton step, in the square root of nats: half its square is about the divergence per row between the
# complete-data mixtures before and after. Without a limit more points are rejected; 0.15 and 0.3 do as well.
RADIUS = 0.2
# Passes in a row that gain less than tol before the fit has converged: one of them is EM's own.
QUIET_PASSES = 2
# Pairs of points whose cosine between move and change of step is below this are rounding noise.
CURVATURE = 1e-10


class AcceleratedIteration(EMIteration):
    """EM with safeguarded L-BFGS steps; an iteration is one pass over the rows.

    A quasi-Newton point of lower likelihood than the last accepted one, or a singular one, is rejected, and the next
    pass is plain EM's from the last accepted point: the likelihood is never below what EM's step from any accepted
    point gives, and never falls unless EM's own step does. It may with a large `reg_covar`; the likelihood is then no
    guide, and plain EM goes on alone from there.
    Converged means that two accepted passes in a row gained less than `tol`, one of them an EM pass: plain EM would
    stop there as well.
    """

    changing: ClassVar[tuple[str, ...]] = (
        *("parameters", "_proposal", "_history", "_begun", "_given_up", "_quiet_passes"),
    )

    begin_gain = BEGIN_GAIN

    def __init__(self, expectation: Expectation, parameters: MixtureParameters, maximise: MStep) -> None:
        super().__init__(expectation, parameters, maximise)
        self._proposal: MixtureParameters | None = None  # a quasi-Newton point; None: EM's own step is next
        self._history: list[tuple[MixtureParameters, MixtureParameters]] = []  # accepted points and their EM steps
        self._begun = self._given_up = False
        self._quiet_passes = 0

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Look at the next point, accept or reject it, and propose another."""
        extrapolated = self._proposal is not None
        point = self.parameters if self._proposal is None else self._proposal
        self._proposal = None
        try:
            with np.errstate(all="ignore" if extrapolated else None):
                lower_bound, updated = self.em_pass(point)
        except ValueError:  # singular, or rows out of range
            if not extrapolated:
                raise
            lower_bound = float("-inf")
        if extrapolated and not lower_bound >= monitor.lower_bound:  # NaN included
            monitor.hold()
            self._history = self._history[-1:]
            return None
        self._given_up = self._given_up or (self._begun and monitor.falls(lower_bound))
        reason = monitor.update(lower_bound)
        self._begun = not self._given_up and (self._begun or 0 <= monitor.change < self.begin_gain)
        self._history = [*self._history[-MEMORY if self._begun else -1 :], (point, updated)]
        self.parameters = updated
        if not self._begun:
            return reason
        proposal = self._propose()
        self._quiet_passes = self._quiet_passes + 1 if self._is_quiet(reason, monitor) else 0
        if self._quiet_passes == QUIET_PASSES:
            return "converged"
        if not (extrapolated and self._quiet_passes):
            self._proposal = proposal
        return None

    def _is_quiet(self, reason: str | None, monitor: ConvergenceMonitor) -> bool:
        """Whether the last accepted pass gained as little as a converged fit does."""
        return reason == "converged"

    def _propose(self) -> MixtureParameters | None:
        """The L-BFGS point of the history; None where that says nothing about curvature."""
        if len(self._history) < 2:
            return None
        # A component without rows has no information: no step moves or revives it.
        alive = self._history[-1][0].weights > EPS
        weights = np.array([[mixture.weights for mixture in pair] for pair in self._history])
        return quasi_newton_point(self._history, weights, alive)[0]


def quasi_newton_point(
    history: list[tuple[MixtureParameters, MixtureParameters]], weights: Array, alive: NDArray[np.bool_]
) -> tuple[MixtureParameters | None, float]:
    """The point after an L-BFGS step no longer than RADIUS, and twice the gain per row that it expects.

    `history` has points and where EM's step led from each; their `weights`, (n_points, 2, n_components), need not sum
    to 1. Components that are not `alive` stay where the last point has them. There is no point without a pair of
    positive curvature, or where numbers are not finite; what is expected is then the squared length of EM's own step.
    """
    from ..kernels import quasi_newton

    last = history[-1][0]
    structure = STRUCTURES[last.covariance_type]
    means = np.array([[mixture.means for mixture in pair] for pair in history])
    factors = np.array([[mixture.precisions_cholesky for mixture in pair] for pair in history])
    n_rows = factors.shape[-2] if structure.is_matrix else 1
    n_factors = 1 if structure.pools_components else len(last.means)
    factors = factors.reshape(*means.shape[:2], n_factors, n_rows, -1)
    found, weights, means, factors, expected = quasi_newton.propose(
        weights, means, factors, alive, structure.is_matrix, structure.pools_components, CURVATURE, RADIUS
    )
    if not found:
        return None, expected
    factors = factors.reshape(last.precisions_cholesky.shape)
    return MixtureParameters(weights, means, factors, last.covariance_type), expected
