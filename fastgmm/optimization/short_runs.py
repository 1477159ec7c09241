"""Short runs of EM on drawn rows: to choose among starts, and to bring one near its end at little cost.

Several starts, a few steps of EM each, and the one of largest likelihood goes on: em-EM of Biernacki, Celeux and
Govaert (2003), Choosing starting values for the EM algorithm, CSDA 41.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..exceptions import SingularCovarianceError
from ..model.parameters import MixtureParameters
from ..model.statistics import SufficientStatistics
from .acceleration import AcceleratedIteration
from .convergence import ConvergenceMonitor, exceeds
from .drawn_rows import DrawnRows
from .em import MStep, check_range, run_em
from .problem import MixtureProblem

# Few steps choose wrongly: after three the start that ends highest is often behind. A run ends early where a step gains
# less than GAIN, in nats per row.
STEPS, STEPS_ON_SAMPLE = 20, 10
GAIN = 1e-2
LEAST_ROWS = 0.5  # what the weight of a component says on a sample that has no rows of it


class ShortRun(NamedTuple):
    """What EM made of drawn rows: parameters, passes over them, and the last objective in nats per row.

    The objective is that of the parameters before the last M-step; -inf where the run came to nothing.
    """

    parameters: MixtureParameters
    n_steps: int
    objective: float


class DrawnRowsIteration(AcceleratedIteration):
    """EM on drawn rows. On fewer than all, each component leans on its covariance before (`lean`)."""

    def __init__(self, problem: MixtureProblem, parameters: MixtureParameters, drawn: DrawnRows, begin_gain: float):
        super().__init__(problem.batch(drawn.index, drawn.rows), parameters, problem.maximise)
        self.begin_gain, self._problem, self._n_rows = begin_gain, problem, drawn.size

    def em_pass(self, parameters: MixtureParameters) -> tuple[float, MixtureParameters]:
        """Return the objective of `parameters`, as if the drawn rows were as many as all, and those of their M-step."""
        problem, statistics = self._problem, self.e_step(parameters)
        check_range(statistics)
        statistics = statistics.scaled(problem.total_weight / statistics.total_weight)
        objective = (statistics.log_likelihood + self.maximise.log_prior(parameters)) / problem.total_weight
        if self._n_rows == problem.source.n_samples:
            return objective, self.maximise(statistics)
        return objective, lean(problem, statistics, parameters, self._n_rows)


def run_briefly(
    problem: MixtureProblem,
    parameters: MixtureParameters,
    drawn: DrawnRows,
    most_steps: int,
    gain: float,
    begin_gain: float = 0.0,
    rival: float = -np.inf,
) -> ShortRun:
    """EM on drawn rows until a step gains less than `gain`, accelerated once it gains less than `begin_gain`.

    It is given up where steps that gain as much as the last one would not lead to the objective of a rival. A run that
    meets rows out of range or a singular covariance ends with an objective of -inf.
    """
    iteration, monitor = (
        DrawnRowsIteration(problem, parameters, drawn, begin_gain),
        ConvergenceMonitor(gain, dtype=problem.source.dtype),
    )

    def given_up(n_done: int, monitor: ConvergenceMonitor, reason: str | None) -> str | None:
        is_hopeless = monitor.lower_bound + (most_steps + 1 - n_done) * abs(monitor.change) < rival
        return "hopeless" if is_hopeless else None

    try:
        run_em(iteration, most_steps, monitor, after_iteration=given_up)
    except ValueError:
        return ShortRun(parameters, len(monitor.lower_bounds) + 1, -np.inf)
    return ShortRun(iteration.parameters, len(monitor.lower_bounds), monitor.lower_bound)


def lean(
    problem: MixtureProblem, statistics: SufficientStatistics, before: MixtureParameters, n_rows: int
) -> MixtureParameters:
    """The M-step of a sample of `n_rows`: each component leans on its covariance before, as on n_features + 2 rows.

    Real mixtures always have a component of which a sample holds few rows, on which it would collapse. Leaning it does
    not, and it moves no fixed point, where covariances are those before. A component without rows in the sample keeps
    its place for the pass over all of them.
    """
    maximise, structure = problem.maximise, problem.maximise.structure
    row, covariances = statistics.total_weight / n_rows, before.covariances
    if covariances is None:
        covariances = structure.covariances(before.precisions_cholesky)
    parameters = maximise(statistics.leaning_on(covariances, row * (statistics.means.shape[1] + 2), structure))
    weights, noise = maximise.weights(replace(statistics, sum_resp=np.maximum(statistics.sum_resp, LEAST_ROWS * row)))
    return replace(parameters, weights=weights, noise=noise)


def best_of(
    problem: MixtureProblem, starts: Sequence[Callable[[], SufficientStatistics]], drawn: DrawnRows, m_step: MStep
) -> MixtureParameters:
    """The start of largest objective after a short run on the drawn rows, from where that ended; the first of equals.

    A start with a singular covariance loses in silence; where all do, the first M-step of the first is the result, so
    that `m_step` says or mends what is the matter.
    """
    most_steps = STEPS if drawn.size == problem.source.n_samples else STEPS_ON_SAMPLE
    best: ShortRun | None = None
    statistics = [start() for start in starts]
    for each in statistics:
        try:
            parameters = problem.begun(problem.maximise(each))
        except SingularCovarianceError:
            continue
        highest = -np.inf if best is None else best.objective
        run = run_briefly(problem, parameters, drawn, most_steps, GAIN, rival=highest)
        if exceeds(run.objective, highest, problem.source.dtype):
            best = run
    return m_step(statistics[0]) if best is None else best.parameters
