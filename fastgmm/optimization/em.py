"""Expectation-maximisation (Dempster, Laird and Rubin, 1977): statistics of all rows, new parameters, repeat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..exceptions import SingularCovarianceError
from ..model.covariance import EPS, ILL_DEFINED, PIVOT_ROUNDINGS, STRUCTURES, SingularComponent
from ..model.density import StatisticsPass
from ..model.parameters import Array, MixtureParameters
from ..model.statistics import SufficientStatistics
from .convergence import ConvergenceMonitor

# A variance below (16 roundings of the column's own standard deviation)^2 is what equal rows leave behind.
VARIANCE_ROUNDINGS = 16


@dataclass(frozen=True)
class EMResult:
    """Where a run of EM ended. `lower_bounds` are means per sample in nats, each before its M-step."""

    parameters: MixtureParameters
    lower_bounds: list[float]
    stop_reason: str
    largest_fall: float

    @property
    def converged(self) -> bool:
        """Whether the last change was in [0, tol)."""
        return self.stop_reason == "converged"


def m_step(
    statistics: SufficientStatistics, covariance_type: str, reg_covar: float, column_variance: Array
) -> MixtureParameters:
    """Return the parameters of maximum likelihood given the statistics, plus `reg_covar` on every variance.

    Raises SingularCovarianceError (with `component`, `weight`, `column`) where a covariance is singular to working
    precision; `column_variance` is the scale against which precision is measured.
    """
    structure = STRUCTURES[covariance_type]
    n_features = statistics.means.shape[1]
    weights = statistics.sum_resp / statistics.sum_resp.sum()
    counts = np.where(statistics.sum_resp > 0, statistics.sum_resp, 1.0)
    offsets = statistics.sum_diff / counts[:, None]
    covariances = structure.estimate_covariances(statistics, counts, offsets, reg_covar)
    try:
        floor = (VARIANCE_ROUNDINGS * EPS) ** 2 * column_variance
        structure.check_variances(covariances, floor)
        factors = structure.cholesky(covariances, rtol=PIVOT_ROUNDINGS * n_features * EPS)
    except SingularComponent as singular:
        raise singular_covariance(singular, weights) from None
    return MixtureParameters(weights, statistics.means + offsets, factors, covariance_type, covariances)


def singular_covariance(singular: SingularComponent, weights: Array) -> SingularCovarianceError:
    """Describe a singular component; the estimator adds the column's name."""
    pooled = singular.component < 0
    where = "The shared covariance" if pooled else f"Component {singular.component}"
    weight = "" if pooled else f" (weight {weights[singular.component]:.3g})"
    error = SingularCovarianceError(
        f"{ILL_DEFINED} {where}{weight} has no variance left along column {singular.column}."
    )
    error.component, error.column = singular.component, singular.column
    return error


def check_range(statistics: SufficientStatistics) -> None:
    """Raise ValueError if rows were too far from every component for their distances."""
    if statistics.n_far:
        raise ValueError(
            f"{statistics.n_far} rows are so far from every component that their squared distances leave the "
            "floating-point range. Rescale the data or remove these rows."
        )


class EMIteration:
    """Plain EM: an iteration is one pass over the rows and an M-step.

    Parameters
    ----------
    estimate_statistics : StatisticsPass
    parameters : MixtureParameters
        The start; later what the last M-step gave.
    reg_covar : float
    column_variance : ndarray of shape (n_features,)
        The scale against which a variance counts as singular.
    """

    def __init__(
        self,
        estimate_statistics: StatisticsPass,
        parameters: MixtureParameters,
        reg_covar: float,
        column_variance: Array,
    ) -> None:
        self.estimate_statistics, self.parameters = estimate_statistics, parameters
        self.reg_covar, self.column_variance = reg_covar, column_variance

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one iteration, tell the monitor, and return a reason to stop or None."""
        lower_bound, self.parameters = self.em_pass(self.parameters)
        return monitor.update(lower_bound)

    def em_pass(self, parameters: MixtureParameters) -> tuple[float, MixtureParameters]:
        """Return the mean log-likelihood per row of `parameters`, in nats, and the parameters of their M-step."""
        statistics = self.estimate_statistics(parameters)
        check_range(statistics)
        updated = m_step(statistics, parameters.covariance_type, self.reg_covar, self.column_variance)
        return statistics.log_likelihood / float(statistics.sum_resp.sum()), updated


def run_em(
    iteration: EMIteration,
    *,
    max_iter: int,
    monitor: ConvergenceMonitor,
    after_iteration: Callable[[int, ConvergenceMonitor], bool],
) -> EMResult:
    """Repeat `iteration` until it, `after_iteration` (returning True) or `max_iter` says stop."""
    stop_reason = "max_iter"
    for n_iter in range(1, max_iter + 1):
        reason = iteration.advance(monitor)
        stopped = after_iteration(n_iter, monitor)
        if reason is not None or stopped:
            stop_reason = reason or "callback"
            break
    return EMResult(iteration.parameters, monitor.lower_bounds, stop_reason, monitor.largest_fall)
