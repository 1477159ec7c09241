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
        coordinates = LocalCoordinates(self._history[-1][0])
        points = coordinates.of([point for point, _ in self._history])
        steps = coordinates.of([updated for _, updated in self._history]) - points
        direction = quasi_newton_step(points, steps)
        if direction is None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is rejected
            return coordinates.parameters(points[-1] + shortened(direction))


def shortened(direction: Array) -> Array:
    """The direction, no longer than RADIUS."""
    return direction * RADIUS / max(RADIUS, float(np.linalg.norm(direction)))


def quasi_newton_step(points: Array, steps: Array) -> Array | None:
    """L-BFGS step from the last of `points`, where EM would do the last of `steps`; both (n_points, n_coordinates).

    The two-loop recursion (Nocedal and Wright, 2006, algorithm 7.4) with EM's step as the gradient of the
    log-likelihood. None without a pair of positive curvature or with numbers that are not finite.
    """
    moves, falls = np.diff(points, axis=0), -np.diff(steps, axis=0)
    curvature = np.einsum("ij,ij->i", moves, falls)
    scale = np.linalg.norm(moves, axis=1) * np.linalg.norm(falls, axis=1)
    usable = np.flatnonzero(curvature > CURVATURE * scale)
    if len(usable) == 0:
        return None
    step, coefficients = steps[-1].copy(), np.zeros(len(moves))
    for i in usable[::-1]:
        coefficients[i] = moves[i] @ step / curvature[i]
        step -= coefficients[i] * falls[i]
    last = usable[-1]
    step *= curvature[last] / (falls[last] @ falls[last])
    for i in usable:
        step += (coefficients[i] - falls[i] @ step / curvature[i]) * moves[i]
    return step if np.isfinite(step).all() else None


class LocalCoordinates:
    """Unconstrained coordinates of mixtures about `origin`, in which the complete data's Fisher information is one.

    Per component of weight w, mean mu and factor U (U U^T = precision) of the origin: sqrt(w) times the change of
    log-weight, sqrt(w) U^T times the change of mean, and sqrt(w) times T = U^-1 U', with sqrt(2) times logarithms on
    the diagonal (w is 1 for a factor all components share). Scaling a column changes none of them.
    """

    def __init__(self, origin: MixtureParameters) -> None:
        structure = STRUCTURES[origin.covariance_type]
        n_components, n_features = origin.means.shape
        self._origin, self._is_matrix = origin, structure.is_matrix
        if structure.is_matrix:
            self._factors = origin.precisions_cholesky
            self._inverse, repeats = np.linalg.inv(self._factors), 1.0
        else:
            self._factors = origin.precisions_cholesky.reshape(n_components, -1)
            self._inverse, repeats = 1 / self._factors, n_features / self._factors.shape[1]
        # A component without rows has no information: its coordinates are 0, so that no step moves or revives it.
        alive = origin.weights > EPS
        self._root = np.where(alive, np.sqrt(origin.weights), 0.0)
        shared = np.ones(1) if structure.pools_components else self._root
        # A spherical variance counts once per feature.
        self._factor_root = np.sqrt(repeats) * shared.reshape(-1, *(1,) * (self._factors.ndim - 1))

    def of(self, mixtures: list[MixtureParameters]) -> Array:
        """Coordinates of mixtures, shape (n_mixtures, n_coordinates)."""
        weights = np.stack([mixture.weights for mixture in mixtures])
        moves = np.stack([mixture.means for mixture in mixtures]) - self._origin.means
        factors = np.stack([mixture.precisions_cholesky for mixture in mixtures])
        if self._is_matrix:
            moves = (moves[..., None, :] @ self._factors)[..., 0, :]
            relative = self._inverse @ factors
            diagonal = np.einsum("...dd->...d", relative)
            diagonal[...] = np.sqrt(2) * np.log(diagonal)
        else:
            moves = moves * self._factors
            relative = np.sqrt(2) * np.log(self._inverse * factors.reshape(len(mixtures), *self._factors.shape))
        tiny = np.finfo(np.float64).tiny  # for log(0) of a component without rows
        changes = np.log(np.maximum(weights, tiny)) - np.log(np.maximum(self._origin.weights, tiny))
        parts = (changes * self._root, moves * self._root[:, None], relative * self._factor_root)
        return np.concatenate([part.reshape(len(mixtures), -1) for part in parts], axis=1)

    def parameters(self, coordinates: Array) -> MixtureParameters:
        """Return the mixture at these coordinates, shape (n_coordinates,); valid unless an exponential overflows."""
        n_components, n_features = self._origin.means.shape
        changes, moves, relative = np.split(coordinates, [n_components, n_components * (1 + n_features)])
        changes = _divide(changes, self._root)
        moves = _divide(moves.reshape(n_components, n_features), self._root[:, None])
        relative = _divide(relative.reshape(self._factors.shape), self._factor_root)
        if self._is_matrix:
            moves = (moves[:, None, :] @ self._inverse)[:, 0, :]
            diagonal = np.einsum("...dd->...d", relative)
            diagonal[...] = np.exp(diagonal / np.sqrt(2))
            factors = self._factors @ relative
        else:
            moves = moves / self._factors
            factors = self._factors * np.exp(relative / np.sqrt(2))
        weights = self._origin.weights * np.exp(changes - changes.max())
        return MixtureParameters(
            weights / weights.sum(),
            self._origin.means + moves,
            factors.reshape(self._origin.precisions_cholesky.shape),
            self._origin.covariance_type,
        )


def _divide(values: Array, root: Array) -> Array:
    """`values` / `root`, and 0 where the root is 0."""
    return np.divide(values, root, out=np.zeros_like(values), where=root > 0)
