"""Stepwise EM: parameters after every mini-batch, from statistics that forget (Cappe and Moulines, 2009).

After batch t the running statistics, per unit of weight, are (1 - rho_t) times what they were plus rho_t times those of
the batch, with rho_t = (t + t0)^-kappa. The running statistics of a start are those its mixture expects of a row.
"""

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.covariance import STRUCTURES, covariances_of
from ..model.parameters import MixtureParameters
from ..model.statistics import SufficientStatistics
from ..validation import Constraint, is_real
from .convergence import ConvergenceMonitor
from .drawn_rows import stratified_index
from .em import EMIteration, MStep, check_range
from .options import AT_LEAST_0, BELOW_1, COUNT, COUNT_OR_NONE, FLAG, option
from .problem import MixtureProblem

AHEAD_BYTES = 2**27  # of rows read for later batches, where reading begins at the first row every time


def rows_per_batch(batch_size: int | None, n_components: int, n_rows: int = 0) -> int:
    """`batch_size`, or by default 50 rows per component, at least 512, and at most 500 batches in a pass over n_rows.

    What Python does per batch takes up to a millisecond.
    """
    return max(512, 50 * n_components, n_rows // 500) if batch_size is None else batch_size


@dataclass(frozen=True)
class Batches:
    """Random batches of the rows of a problem, of equal size; each has a row from each of as many equal stretches."""

    problem: MixtureProblem
    size: int
    eligible: NDArray[np.int64] | None
    n_rows: int
    _ahead: deque[tuple[NDArray[np.int64], NDArray[Any] | None]] = field(default_factory=deque)

    @classmethod
    def of(cls, problem: MixtureProblem, batch_size: int | None) -> "Batches":
        """Batches of `batch_size` rows (None: the default) of positive weight."""
        weight = problem.sample_weight
        eligible = None if weight is None else np.flatnonzero(weight > 0)
        n_rows = problem.source.n_samples if eligible is None else len(eligible)
        size = rows_per_batch(batch_size, problem.n_components, n_rows)
        return cls(problem, min(n_rows, size), eligible, n_rows)

    @property
    def per_pass(self) -> int:
        """How many batches make up all rows."""
        return max(1, round(self.n_rows / self.size))

    def statistics(self, rng: np.random.Generator, parameters: MixtureParameters) -> SufficientStatistics:
        """Return the statistics of a random batch."""
        if not self._ahead:
            self._read_ahead(rng)
        index, rows = self._ahead.popleft()
        batch = self.problem.batch(index, rows)(parameters)
        check_range(batch)
        return batch

    def _read_ahead(self, rng: np.random.Generator) -> None:
        """Draw the next batch; of a source that is read in order as many batches as memory allows, in one pass."""
        source = self.problem.source
        if source.random_access:
            self._ahead.append((self._draw(rng), None))
            return
        count = AHEAD_BYTES // (2 * self.size * source.n_features * source.dtype.itemsize)
        batches = [self._draw(rng) for _ in range(max(1, min(count, self.per_pass)))]
        union = np.unique(np.concatenate(batches))
        rows = source.take(union)
        self._ahead.extend((index, rows[np.searchsorted(union, index)]) for index in batches)

    def _draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        index = stratified_index(self.n_rows, self.size, rng)
        return index if self.eligible is None else self.eligible[index]


@dataclass(frozen=True)
class StepwiseOptions:
    """How stepwise EM goes about it.

    batch_size: rows per batch, None for the default of `rows_per_batch`; kappa, t0: of the step size (t + t0)^-kappa,
    1/2 < kappa <= 1; forgetting: the step size never falls below it, for streams that drift; passes: over the rows,
    each as many random batches as make up all rows; polish: go on with plain EM afterwards.
    """

    batch_size: int | None = option(None, COUNT_OR_NONE)
    kappa: float = option(0.6, Constraint("a number above 0.5 and at most 1", lambda v: is_real(v) and 0.5 < v <= 1))
    t0: float = option(2.0, AT_LEAST_0)
    forgetting: float = option(0.0, BELOW_1)
    passes: int = option(5, COUNT)
    polish: bool = option(True, FLAG)


@dataclass(frozen=True)
class RunningStatistics:
    """What stepwise EM knows after some batches.

    Attributes
    ----------
    statistics : SufficientStatistics
        Per unit of weight.
    n_batches : int
    total_weight : float
        Of all rows seen.
    """

    statistics: SufficientStatistics
    n_batches: int = 0
    total_weight: float = 0.0

    @classmethod
    def expected(cls, parameters: MixtureParameters) -> "RunningStatistics":
        """What a mixture expects of a row drawn from it."""
        structure = STRUCTURES[parameters.covariance_type]
        weights, means = parameters.weights, parameters.means
        outer = structure.denominator(weights, means.shape[1]) * covariances_of(parameters)
        noise = 0.0 if parameters.noise is None else parameters.noise.weight
        return cls(SufficientStatistics(0.0, weights, np.zeros_like(means), outer, means, noise_resp=noise))

    def after(
        self, batch: SufficientStatistics, parameters: MixtureParameters, options: StepwiseOptions
    ) -> "RunningStatistics":
        """Blend the statistics of a batch in, which were made under `parameters`."""
        if batch.total_weight == 0:  # every row misses all its values
            return self
        structure = STRUCTURES[parameters.covariance_type]
        n_batches = self.n_batches + 1
        step = max((n_batches + options.t0) ** -options.kappa, options.forgetting)
        old = self.statistics.about(parameters.means, structure)
        new = batch.about(parameters.means, structure)
        blended = old.scaled(1.0 - step) + new.scaled(step / batch.total_weight)
        return RunningStatistics(blended, n_batches, self.total_weight + batch.total_weight)

    def maximised(self, maximise: MStep, total_weight: float) -> MixtureParameters:
        """The M-step, as if rows of this weight had been seen (a prior counts as much as they do)."""
        return maximise(self.statistics.scaled(total_weight))


class BatchIteration(EMIteration):
    """Iterations that are a pass of random batches each, as many as make up all rows, and learn from every one."""

    def __init__(self, *of_em: Any, problem: MixtureProblem, options: Any, rng: np.random.Generator) -> None:
        super().__init__(*of_em)
        self._batches, self._options, self._rng = Batches.of(problem, options.batch_size), options, rng
        self._total_weight = problem.total_weight

    def batch_pass(self) -> float:
        """Do one pass; return the mean objective per row of its batches, each before it changed the parameters."""
        total = seen = 0.0
        for i in range(self._batches.per_pass):
            batch = self._batches.statistics(self._rng, self.parameters)
            log_prior = self.maximise.log_prior(self.parameters) / self._total_weight
            total += batch.log_likelihood + log_prior * batch.total_weight
            seen += batch.total_weight
            self.learn(batch, i / self._batches.per_pass)
        return total / seen if seen else float("nan")

    @abstractmethod
    def learn(self, batch: SufficientStatistics, done: float) -> None:
        """Change the parameters by the statistics of a batch, after this share of the pass."""


class StepwiseIteration(BatchIteration):
    """Passes of stepwise EM over random batches, then (`polish`) plain EM.

    The bound recorded for a pass is the mean objective of its batches, each before it changed the parameters.
    """

    changing = ("parameters", "_running", "_passes", "_rng")

    def __init__(self, *of_em: Any, **of_batches: Any) -> None:
        super().__init__(*of_em, **of_batches)
        self._running = RunningStatistics.expected(self.parameters)
        self._passes = 0

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one pass."""
        if self._passes == self._options.passes:
            return super().advance(monitor)
        monitor.record(self.batch_pass())
        self._passes += 1
        if self._passes < self._options.passes:
            return None
        monitor.forget()
        return None if self._options.polish else "passes"

    def learn(self, batch: SufficientStatistics, done: float) -> None:
        """Blend the batch into the running statistics, and maximise."""
        self._running = self._running.after(batch, self.parameters, self._options)
        self.parameters = self._running.maximised(self.maximise, self._total_weight)
