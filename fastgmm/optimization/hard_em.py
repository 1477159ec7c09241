"""Hard EM and annealed EM: EM with other responsibilities."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..model.covariance import STRUCTURES
from ..model.log_density import compute_log_const
from ..model.parameters import MixtureParameters
from ..model.statistics import SufficientStatistics
from ..validation import Constraint, is_real
from .convergence import ConvergenceMonitor
from .em import EMIteration, check_range
from .options import COUNT, FLAG, option


@dataclass(frozen=True)
class HardOptions:
    """How hard EM goes about it.

    polish: go on with plain EM afterwards.
    """

    polish: bool = option(False, FLAG)


class HardIteration(EMIteration):
    """Classification EM (Celeux and Govaert, 1992): every row belongs to its most probable component alone.

    The objective is the mean log-density of rows and components together, which never falls; it ends after finitely
    many iterations. With `polish`, plain EM goes on from there.
    """

    changing = ("parameters", "_is_over")

    def __init__(self, *of_em: Any, options: HardOptions) -> None:
        super().__init__(*of_em)
        self._polish, self._is_over = options.polish, False

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one iteration; where classification EM has converged, go over to plain EM or stop."""
        reason = super().advance(monitor)
        if reason is not None and self._polish and not self._is_over:
            self._is_over = True
            monitor.forget()
            return None
        return reason

    def e_step(self, parameters: MixtureParameters) -> SufficientStatistics:
        """Return the statistics of all rows under `parameters`, each in one component until EM polishes."""
        return self.expectation(parameters, hard=not self._is_over)


@dataclass(frozen=True)
class AnnealedOptions:
    """How annealed EM goes about it.

    beta_start: the first power of the densities, in (0, 1]; beta_growth: the factor by which it grows every `n_steps`
    iterations, until it is 1.
    """

    beta_start: float = option(0.7, Constraint("a number above 0 and at most 1", lambda v: is_real(v) and 0 < v <= 1))
    beta_growth: float = option(1.05, Constraint("a number above 1", lambda v: is_real(v) and v > 1))
    n_steps: int = option(5, COUNT)


class AnnealedIteration(EMIteration):
    """Deterministic annealing EM (Ueda and Nakano, 1998): responsibilities in proportion to (weight density)^beta.

    beta grows from `beta_start` by the factor `beta_growth` every `n_steps` iterations until it is 1, which is plain
    EM: early on all components see all rows, so that the end depends less on the start. Begun below 0.5, components
    merge and most stay so. Below beta = 1 the recorded bound is the mean of log(sum_k (weight density)^beta) / beta,
    which falls towards the log-likelihood as beta grows.
    """

    changing = ("parameters", "_beta", "_step")

    def __init__(self, *of_em: Any, options: AnnealedOptions) -> None:
        super().__init__(*of_em)
        self._beta, self._growth, self._n_steps = options.beta_start, options.beta_growth, options.n_steps
        self._step = 0

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one iteration at the present temperature; only plain EM, at the end, converges."""
        if self._beta == 1.0:
            return super().advance(monitor)
        statistics = self.expectation(tempered(self.parameters, self._beta))
        check_range(statistics)
        log_prior = self.maximise.log_prior(self.parameters)
        objective = (statistics.log_likelihood / self._beta + log_prior) / statistics.total_weight
        self.parameters = self.maximise(statistics)
        monitor.record(objective)
        self._step += 1
        if self._step % self._n_steps == 0:
            self._beta = min(1.0, self._beta * self._growth)
            monitor.forget()
        return None


def tempered(parameters: MixtureParameters, beta: float) -> MixtureParameters:
    """The mixture whose weighted log-densities are `beta` times those of `parameters`."""
    structure = STRUCTURES[parameters.covariance_type]
    n_components, n_features = parameters.means.shape
    factors = parameters.precisions_cholesky * np.sqrt(beta)
    log_det = structure.log_det_precision_chol(factors, n_components, n_features)
    with np.errstate(divide="ignore"):
        log_weights = beta * compute_log_const(parameters) - log_det + 0.5 * n_features * np.log(2 * np.pi)
    noise = parameters.noise
    if noise is not None:
        noise = replace(noise, beta=beta)
    return replace(parameters, precisions_cholesky=factors, log_weights=log_weights, covariances=None, noise=noise)
