"""Variational inference of a Bayesian mixture: EM with a posterior in the place of the parameters."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..model.covariance import EPS, STRUCTURES, SingularComponent
from ..model.log_density import complete_log_likelihood
from ..model.maximisation import singular_covariance
from ..model.parameters import Array, MixtureParameters
from ..model.statistics import SufficientStatistics
from ..model.variational_prior import (
    COUNT_FLOOR,
    MixturePosterior,
    MixturePrior,
    compute_lower_bound,
    estimate_posterior,
    posterior_at,
)
from .acceleration import AcceleratedIteration, quasi_newton_point
from .convergence import ConvergenceMonitor
from .em import EMIteration, check_range

ALIVE = 1e-3  # rows
TRIAL_PASSES = 3  # without a component
QUIET_SHARE = 1e-3  # of tol; with 1 a sixth of fits ended on a plateau, with 1e-2 one in fifteen
ROUNDINGS = 64  # of the bound, below which nothing is a gain
# Every so many passes all components take part, so that one that was left out may come back.
FULL_PASS_EVERY = 10


class VariationalIteration(EMIteration):
    """Coordinate ascent of the evidence's lower bound: an iteration is one pass over the rows and an M-step.

    Components that had fewer rows in all than rounding adds to every one (COUNT_FLOOR) sit out up to FULL_PASS_EVERY
    passes: their posterior is the prior's, and the others' do not notice (tests/test_bayesian_mixture.py).
    """

    changing: ClassVar[tuple[str, ...]] = ("parameters", "_alive", "_passes")
    blurs = False  # whether the E-step knows of the ridge; scikit-learn's does not, and its bound may fall

    def __init__(self, *of_em: Any, prior: MixturePrior, ridge: float) -> None:
        super().__init__(*of_em)
        self._prior, self._ridge = prior, ridge
        self._alive = np.ones(len(self.parameters.weights), bool)
        self._passes = 0
        self._total_weight = 1.0

    def em_pass(self, parameters: MixtureParameters, without: int | None = None) -> tuple[float, MixtureParameters]:
        """Return the lower bound per row after the M-step, in nats, and the posterior of that M-step.

        A component that is left out gets no row.
        """
        alive = self._alive if self._passes % FULL_PASS_EVERY else np.ones_like(self._alive)
        if without is not None:
            alive = np.arange(len(alive)) != without
        self._passes += 1
        taking_part = _subset(parameters, alive, self._ridge if self.blurs else 0.0)
        statistics = self.expectation(taking_part)
        check_range(statistics)
        # -sum r log r, with log r = log_const - |U^T (x - mean)|^2 / 2 - log_prob_norm
        entropy = statistics.log_likelihood - complete_log_likelihood(taking_part, statistics)
        statistics = _spread(statistics, parameters, alive)
        posterior = posterior_of(self._prior, statistics, parameters.covariance_type, self._ridge)
        self._alive = statistics.sum_resp >= COUNT_FLOOR
        self._total_weight = float(statistics.sum_resp.sum())
        return compute_lower_bound(self._prior, posterior, entropy) / self._total_weight, posterior

    def rows_of(self, posterior: MixtureParameters) -> Array:
        """How many rows each component of a posterior has."""
        assert isinstance(posterior, MixturePosterior)
        return posterior.mean_precision - self._prior.mean_precision

    def forget(self) -> None:
        """Go on from the parameters as from a start."""


class AcceleratedVariational(VariationalIteration, AcceleratedIteration):
    """Variational inference with safeguarded L-BFGS steps, guarded by the bound after each M-step, which never falls.

    A pass replaces the responsibilities by those of the bound's gradient in the sums they give, so that its step is the
    bound's natural gradient, as EM's is the likelihood's. A posterior is given by its components' rows, means and
    factors; their local coordinates are those of a mixture with weights in proportion to the rows. Components with
    fewer rows than ALIVE at a remembered point have none, and stay as the last M-step left them.

    On a plateau, where a component empties slowly, hundreds of passes gain a few thousandths of a nat before several
    are gained at once. Converged therefore means two accepted passes in a row, one of them plain, that gained less than
    QUIET_SHARE of `tol`, and a quasi-Newton model that expects no more (its predicted gain, half of step times
    direction). `python -m benchmarks.variational` measures where fits end, and after how many passes.
    """

    changing: ClassVar[tuple[str, ...]] = (*AcceleratedIteration.changing, "_alive", "_passes", "_expected_gain")
    begin_gain = 1e-4  # with 1e-3 more fits end in a lower maximum, with 3e-5 fewer after half as many passes again
    blurs = True  # so that the bound is what is ascended, and guards it
    _expected_gain = np.inf  # in nats, if the quasi-Newton step were taken

    def forget(self) -> None:
        """Go on from the parameters as from a start: nothing is known of the curvature there."""
        self._history, self._proposal, self._quiet_passes = [], None, 0

    def _is_quiet(self, reason: str | None, monitor: ConvergenceMonitor) -> bool:
        rounding = ROUNDINGS * EPS * abs(monitor.lower_bound)
        limit = max(QUIET_SHARE * monitor.tol, rounding)
        return abs(monitor.change) < limit and self._expected_gain / self._total_weight < limit

    def _propose(self) -> MixtureParameters | None:
        self._expected_gain = np.inf
        if len(self._history) < 2:
            return None
        n_rows = np.array([[self.rows_of(posterior) for posterior in pair] for pair in self._history])
        alive = n_rows.min(axis=(0, 1)) > ALIVE
        if not alive.any():
            return None
        mixture, expected = quasi_newton_point(self._history, n_rows * alive, alive)
        # Where nothing is known of the curvature, as much as the updates' own step is worth.
        self._expected_gain = 0.5 * self._total_weight * expected
        if mixture is None:
            return None
        last, rows = self._history[-1][1], n_rows[-1, 1]
        means = np.where(alive[:, None], mixture.means, last.means)
        kept = np.ones(1, bool) if STRUCTURES[last.covariance_type].pools_components else alive
        kept = kept.reshape(-1, *(1,) * (last.precisions_cholesky.ndim - 1))
        factors = np.where(kept, mixture.precisions_cholesky, last.precisions_cholesky)
        rows = np.where(alive, mixture.weights * rows[alive].sum(), rows)
        return posterior_at(self._prior, rows, means, factors, last.covariance_type)


class Pruning(EMIteration):
    """Variational inference that, where it has converged, tries to do without one component after the other.

    A trial is a pass whose rows cannot choose the component and up to two plain ones; a bound that is then higher by
    more than tol is gone on from. Components with more than a row are tried, the smallest first, each once until a
    trial has succeeded: the end is never lower than without pruning, and there is one.
    """

    changing = ("parameters", "_inner", "_trial", "_tried")

    def __init__(self, *of_em: Any, inner: Callable[..., VariationalIteration]) -> None:
        self._inner = inner(*of_em)
        self.expectation, self.maximise = self._inner.expectation, self._inner.maximise
        self._trial: tuple[int, int, MixtureParameters] | None = None  # component, passes done, where they led
        self._tried: list[int] = []

    @property
    def parameters(self) -> Any:
        """Those of the inner iteration."""
        return self._inner.parameters

    @parameters.setter
    def parameters(self, parameters: Any) -> None:
        self._inner.parameters = parameters

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one pass, of the inner iteration or of a trial."""
        if self._trial is not None:
            return self._try(monitor, *self._trial)
        reason = self._inner.advance(monitor)
        return self._next_trial() if reason == "converged" else reason

    def _next_trial(self) -> str | None:
        rows = self._inner.rows_of(self.parameters)
        order = [int(k) for k in np.argsort(rows, kind="stable") if rows[k] > 1 and k not in self._tried]
        if not order or np.sum(rows > 1) < 2:
            return "converged"
        self._trial = order[0], 0, self.parameters
        self._tried.append(order[0])
        return None

    def _try(self, monitor: ConvergenceMonitor, k: int, n_done: int, posterior: MixtureParameters) -> str | None:
        try:
            bound, updated = self._inner.em_pass(posterior, without=None if n_done else k)
        except ValueError:  # singular
            bound, updated, n_done = -np.inf, posterior, TRIAL_PASSES
        if bound > monitor.lower_bound + monitor.tol:
            monitor.update(bound)
            self.parameters, self._trial, self._tried = updated, None, []
            self._inner.forget()
            return None
        monitor.hold()
        if n_done + 1 < TRIAL_PASSES:
            self._trial = k, n_done + 1, updated
            return None
        self._trial = None
        return self._next_trial()


def posterior_of(
    prior: MixturePrior, statistics: SufficientStatistics, covariance_type: str, ridge: float
) -> MixturePosterior:
    """`estimate_posterior`, with SingularCovarianceError for a singular component."""
    try:
        return estimate_posterior(prior, statistics, covariance_type, ridge)
    except SingularComponent as singular:
        raise singular_covariance(singular, statistics.sum_resp / statistics.sum_resp.sum()) from None


def _subset(parameters: MixtureParameters, alive: np.ndarray, ridge: float) -> MixtureParameters:
    """The components that take part, as plain parameters.

    The ridge is a variance by which the rows are known to be blurred: E[(x - mean)^T precision (x - mean)] has the
    trace of ridge times precision besides. Left out of the E-step, as in scikit-learn, it is in the M-step alone, and
    what that ascends is not the bound, which may then fall (tests/test_bayesian_mixture.py).
    """
    structure = STRUCTURES[parameters.covariance_type]
    factors = parameters.precisions_cholesky if structure.pools_components else parameters.precisions_cholesky[alive]
    assert parameters.log_weights is not None
    blur = 0.5 * ridge * structure.trace(structure.precisions(factors), parameters.means.shape[1])
    return MixtureParameters(
        parameters.weights[alive],
        parameters.means[alive],
        factors,
        parameters.covariance_type,
        log_weights=parameters.log_weights[alive] - blur,
    )


def _spread(statistics: SufficientStatistics, parameters: MixtureParameters, alive: np.ndarray) -> SufficientStatistics:
    """Statistics of all components: zero for those that sat out."""
    if alive.all():
        return statistics

    def spread(values: Array) -> Array:
        out = np.zeros((len(alive), *values.shape[1:]))
        out[alive] = values
        return out

    pooled = STRUCTURES[parameters.covariance_type].pools_components
    means = parameters.means.copy()
    means[alive] = statistics.means
    return replace(
        statistics,
        sum_resp=spread(statistics.sum_resp),
        sum_diff=spread(statistics.sum_diff),
        sum_outer=statistics.sum_outer if pooled else spread(statistics.sum_outer),
        means=means,
    )
