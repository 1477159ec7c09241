"""Gradient ascent of the log-likelihood (or log-posterior) in unconstrained parameters, on mini-batches.

Weights are a softmax of logits; precisions are U U^T with the logarithms of U's diagonal and U's entries above it. The
gradient is a function of the E-step's sufficient statistics (Salakhutdinov, Roweis and Ghahramani, 2003): per row,
logit_k: N_k - w_k; mean_k: P_k sum_diff_k; U_k: N_k U_k^-T - sum_outer_k U_k. Steps are taken in units of the columns'
standard deviations, so that learning rates do not depend on the scale of the data.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..model.maximisation import Maximiser
from ..model.parameters import TINY, Array, MixtureParameters, UniformNoise
from ..model.resumable import Resumable
from ..model.statistics import SufficientStatistics
from .convergence import ConvergenceMonitor
from .options import ABOVE_0, AT_LEAST_0, BELOW_1, COUNT_OR_NONE, one_of, option
from .problem import MixtureProblem
from .stepwise import BatchIteration

# Standard deviations stay above this share of their column's: likelihoods of collapsing components have no maximum.
LEAST_DEVIATION = 1e-4

# learning rate after t of n passes, as a share of the first; t may be a fraction.
SCHEDULES: dict[str, Callable[[float, float, float], float]] = {
    "constant": lambda t, n, decay: 1.0,
    "t-decay": lambda t, n, decay: float(np.prod(1.0 / (1.0 + decay * np.arange(int(t) + 1)))),
    "1/t": lambda t, n, decay: 1.0 / (1.0 + decay * t),
    "exponential": lambda t, n, decay: float(np.exp(-decay * t)),
    "cosine": lambda t, n, decay: 0.5 * (1.0 + np.cos(np.pi * min(1.0, t / n))),
}


@dataclass(frozen=True)
class Coordinates:
    """A point, or a gradient, in unconstrained parameters; an array that is not free is empty.

    logits (n_components, one more with noise); means, in standard deviations; log_diagonal and upper of U in the same
    units, the latter (..., n_features, n_features) with zeros on and below the diagonal, or empty.
    """

    logits: Array
    means: Array
    log_diagonal: Array
    upper: Array

    def map(self, function: Callable[..., Array], *others: "Coordinates") -> "Coordinates":
        """Apply a function to corresponding arrays."""
        names = [field.name for field in fields(self)]
        return Coordinates(*(function(*(getattr(point, name) for point in (self, *others))) for name in names))


class Chart:
    """Takes mixtures to coordinates and back, and statistics to gradients.

    Parameters
    ----------
    maximise : Maximiser
        Whose prior and fixed parameters the objective has.
    centre, unit : ndarray of shape (n_features,)
        Mean and standard deviation of the columns.
    total_weight : float
        Of all rows: the objective is (log-likelihood + log-prior) / total_weight.
    """

    def __init__(self, maximise: Maximiser, centre: Array, unit: Array, total_weight: float) -> None:
        self.maximise, self.centre, self.unit, self.total_weight = maximise, centre, unit, total_weight

    def point(self, parameters: MixtureParameters) -> Coordinates:
        """Coordinates of a mixture."""
        factors, noise = parameters.precisions_cholesky, parameters.noise
        weights = parameters.weights if noise is None else np.append(parameters.weights, noise.weight)
        if not self.maximise.structure.is_matrix:
            scaled = factors * (self.unit if factors.ndim > 1 else self.unit.mean())
            log_diagonal, upper = np.log(scaled), np.zeros(0)
        else:
            scaled = self.unit[:, None] * factors
            log_diagonal = np.log(np.einsum("...dd->...d", scaled))
            upper = np.triu(scaled, 1)
        logits = np.log(np.maximum(weights, TINY))
        return Coordinates(logits, (parameters.means - self.centre) / self.unit, log_diagonal, upper)

    def mixture(self, point: Coordinates) -> MixtureParameters:
        """The mixture at these coordinates."""
        structure = self.maximise.structure
        log_diagonal = np.minimum(point.log_diagonal, -np.log(LEAST_DEVIATION))
        if structure.is_matrix:
            factors = point.upper.copy()
            diagonal = np.einsum("...dd->...d", factors)
            diagonal[...] = np.exp(log_diagonal)
            factors /= self.unit[:, None]
        else:
            factors = np.exp(log_diagonal) / (self.unit if log_diagonal.ndim > 1 else self.unit.mean())
        weights = np.exp(point.logits - point.logits.max())
        weights /= weights.sum()
        noise, bounds = None, self.maximise.noise_bounds
        if bounds is not None:
            noise, weights = UniformNoise(float(weights[-1]), bounds), weights[:-1]
        means = self.centre + self.unit * point.means
        mixture = MixtureParameters(weights, means, factors, self.maximise.covariance_type, noise=noise)
        return self.maximise.hold(replace(mixture, covariances=structure.covariances(factors)))

    def gradient(self, parameters: MixtureParameters, statistics: SufficientStatistics) -> Coordinates:
        """Gradient of the objective at a mixture, from the statistics of rows under it (scaled up to all rows)."""
        maximise, structure = self.maximise, self.maximise.structure
        n_components, n_features = parameters.means.shape
        statistics = statistics.about(parameters.means, structure).scaled(self.total_weight / statistics.total_weight)
        sum_diff, sum_outer = statistics.sum_diff, statistics.sum_outer
        exponent = np.asarray(structure.denominator(statistics.sum_resp, n_features))
        if maximise.prior is not None:
            _, diff, outer = maximise.prior.pseudo_rows(parameters.means)
            sum_diff, sum_outer = sum_diff + diff, sum_outer + outer
            exponent = exponent + maximise.prior.exponent(n_components)
        factors, upper = parameters.precisions_cholesky, np.zeros(0)
        if structure.is_matrix:
            product = sum_outer @ factors
            diagonal = np.einsum("...dd->...d", factors)
            log_diagonal = np.reshape(exponent, (-1, 1)) - diagonal * np.einsum("...dd->...d", product)
            log_diagonal = log_diagonal.reshape(diagonal.shape)
            upper = -np.triu(product, 1) / self.unit[:, None]
            means = (structure.precisions(factors) @ sum_diff[:, :, None])[:, :, 0]
        else:
            log_diagonal = exponent.reshape(factors.shape[0], *[1] * (factors.ndim - 1)) - factors**2 * sum_outer
            means = structure.precisions(factors).reshape(n_components, -1) * sum_diff
        gradient = Coordinates(self._logits(parameters, statistics), means * self.unit, log_diagonal, upper)
        return without_fixed(gradient, maximise).map(lambda array: array / self.total_weight)

    def _logits(self, parameters: MixtureParameters, statistics: SufficientStatistics) -> Array:
        prior, noise = self.maximise.prior, parameters.noise
        counts, weights = statistics.sum_resp, parameters.weights
        if prior is not None:
            counts = counts + (prior.weight_concentration - 1.0)
        if noise is not None:
            counts, weights = np.append(counts, statistics.noise_resp), np.append(weights, noise.weight)
        fixed = self.maximise.fixed
        if fixed.equal_weights:  # only the logit of the noise moves
            slopes = np.zeros_like(counts)
            if noise is not None:
                slopes[-1] = statistics.noise_resp - counts.sum() * noise.weight
            return slopes
        free = np.ones(len(counts), bool)
        if fixed.weights is not None:
            free[: len(fixed.weights)] = np.isnan(fixed.weights)
        share = weights / max(weights[free].sum(), TINY)
        return np.where(free, counts - counts[free].sum() * share, 0.0)


def without_fixed(gradient: Coordinates, maximise: Maximiser) -> Coordinates:
    """The gradient without the parts of fixed means and covariances."""
    fixed = maximise.fixed
    if fixed.means is not None:
        gradient = replace(gradient, means=np.where(fixed.held_means[:, None], 0.0, gradient.means))
    if fixed.covariances is not None:
        if maximise.structure.is_matrix:
            held = ~np.isnan(fixed.covariances[..., 0, 0])
            upper = np.where(held[..., None, None], 0.0, gradient.upper)
            log_diagonal = np.where(held[..., None], 0.0, gradient.log_diagonal)
            return replace(gradient, upper=upper, log_diagonal=log_diagonal)
        gradient = replace(gradient, log_diagonal=np.where(np.isnan(fixed.covariances), gradient.log_diagonal, 0.0))
    return gradient


class Momentum(Resumable):
    """Stochastic gradient ascent with momentum (Polyak, 1964)."""

    changing = ("_velocity",)

    def __init__(self, options: "GradientOptions") -> None:
        self._momentum = options.momentum
        self._velocity: Coordinates | None = None

    def step(self, gradient: Coordinates) -> Coordinates:
        """Direction of the next step, for a learning rate of 1."""
        if self._velocity is not None:
            gradient = gradient.map(lambda g, v: g + self._momentum * v, self._velocity)
        self._velocity = gradient
        return gradient


class Adam(Resumable):
    """Adam (Kingma and Ba, 2015, algorithm 1), with its constants."""

    changing = ("_first", "_second", "_n_steps")

    def __init__(self, options: "GradientOptions") -> None:
        self._first: Coordinates | None = None
        self._second: Coordinates | None = None
        self._n_steps = 0

    def step(self, gradient: Coordinates) -> Coordinates:
        """Direction of the next step, for a learning rate of 1."""
        if self._first is None or self._second is None:
            self._first = self._second = gradient.map(np.zeros_like)
        self._n_steps += 1
        self._first = self._first.map(lambda m, g: 0.9 * m + 0.1 * g, gradient)
        self._second = self._second.map(lambda v, g: 0.999 * v + 0.001 * g**2, gradient)
        first, second = 1 - 0.9**self._n_steps, 1 - 0.999**self._n_steps
        return self._first.map(lambda m, v: m / first / (np.sqrt(v / second) + 1e-8), self._second)


OPTIMIZERS: dict[str, type[Momentum | Adam]] = {"adam": Adam, "sgd": Momentum}


@dataclass(frozen=True)
class GradientOptions:
    """How gradient ascent goes about it.

    optimizer: 'adam' (Kingma and Ba, 2015) or 'sgd' with `momentum`; learning_rate: the first; schedule: how it decays
    over the passes t of max_iter = n: 'constant', 't-decay' (after pass t it is divided by 1 + decay t), '1/t'
    (1 / (1 + decay t)), 'exponential' (exp(-decay t)) or 'cosine' (half a cosine, to 0); relative_tol: stop where the
    objective of a pass changes by less than this share of itself; batch_size: rows per batch, None for the default of
    stepwise EM.
    """

    optimizer: str = option("adam", one_of(*OPTIMIZERS))
    learning_rate: float = option(0.02, ABOVE_0)
    schedule: str = option("cosine", one_of(*SCHEDULES))
    decay: float = option(0.1, AT_LEAST_0)
    momentum: float = option(0.9, BELOW_1)
    relative_tol: float = option(1e-6, AT_LEAST_0)
    batch_size: int | None = option(None, COUNT_OR_NONE)


class GradientIteration(BatchIteration):
    """Gradient ascent: an iteration is as many random batches as make up all rows, a step after each.

    The bound recorded for an iteration is the mean objective of its batches, each before its step. It may fall.
    """

    changing = ("parameters", "_point", "_optimizer", "_rng", "_n_iter")

    def __init__(
        self, *of_em: Any, problem: MixtureProblem, options: GradientOptions, rng: np.random.Generator, max_iter: int
    ) -> None:
        super().__init__(*of_em, problem=problem, options=options, rng=rng)
        unit = np.sqrt(np.where(problem.columns.variance > 0, problem.columns.variance, 1.0))
        self._chart = Chart(problem.maximise, problem.columns.mean, unit, problem.total_weight)
        self._point = self._chart.point(self.parameters)
        self._optimizer = OPTIMIZERS[options.optimizer](options)
        self._max_iter, self._n_iter = max_iter, 0

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one pass; converged if the objective changes by less than relative_tol of itself."""
        objective = self.batch_pass()
        self._n_iter += 1
        if not np.isfinite(objective):
            raise ValueError(
                "Gradient ascent left the range of finite likelihoods. Lower learning_rate, or use solver='em'."
            )
        monitor.record(objective)
        return "converged" if abs(monitor.change) < self._options.relative_tol * abs(objective) else None

    def learn(self, batch: SufficientStatistics, done: float) -> None:
        """Take a step."""
        options = self._options
        direction = self._optimizer.step(self._chart.gradient(self.parameters, batch))
        rate = SCHEDULES[options.schedule](self._n_iter + done, self._max_iter, options.decay) * options.learning_rate
        self._point = self._point.map(lambda x, d: x + rate * d, direction)
        self.parameters = self._chart.mixture(self._point)
