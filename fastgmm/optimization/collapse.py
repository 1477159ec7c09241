"""Components that collapse or empty during a fit are put elsewhere."""

from dataclasses import replace

import numpy as np

from ..exceptions import SingularCovarianceError
from ..model.covariance import EPS
from ..model.parameters import MixtureParameters
from ..model.resumable import Resumable
from ..model.statistics import SufficientStatistics
from .drawn_rows import sample_index
from .problem import MixtureProblem

CANDIDATES = 2000  # rows that a new place is chosen from
MOST_RESTARTS = 10  # per component


class Reseeding(Resumable):
    """An M-step that re-seeds components without rows or variance.

    The new place is any row, at random: far ones, which k-means++ would prefer, are often what made the component
    collapse. It begins there with an equal share of the weight and the columns' variances divided by
    n_components^(2 / n_features).

    Attributes
    ----------
    restarts : list of int
        The components re-seeded, in order.
    """

    changing = ("restarts", "_rng")

    def __init__(self, problem: MixtureProblem, rng: np.random.Generator) -> None:
        self._problem, self._rng = problem, rng
        self.restarts: list[int] = []
        index = sample_index(problem, CANDIDATES, rng)
        self._rows = problem.complete_source().take(index).astype(np.float64)

    def begin(self) -> None:
        """Forget the restarts of an earlier start."""
        self.restarts = []

    def log_prior(self, parameters: MixtureParameters) -> float:
        """Logarithm of the prior's density in nats."""
        return self._problem.maximise.log_prior(parameters)

    def __call__(self, statistics: SufficientStatistics) -> MixtureParameters:
        """Return the parameters of largest objective given the statistics, after re-seeding what needs it."""
        while True:
            low = np.flatnonzero(statistics.sum_resp <= EPS * statistics.total_weight)
            try:
                if len(low) == 0:
                    return self._problem.maximise(statistics)
                component = int(low[0])
            except SingularCovarianceError as error:
                if error.component < 0:
                    raise
                component = error.component
                if self.restarts.count(component) >= MOST_RESTARTS:
                    message = f"{error} It was re-seeded {MOST_RESTARTS} times; use fewer components."
                    raise SingularCovarianceError(message, component=component, column=error.column) from None
            if self.restarts.count(component) >= MOST_RESTARTS:
                return self._problem.maximise(statistics)
            statistics = self._reseeded(statistics, component)
            self.restarts.append(component)

    def _reseeded(self, statistics: SufficientStatistics, component: int) -> SufficientStatistics:
        maximise, (n_components, n_features) = self._problem.maximise, statistics.means.shape
        structure = maximise.structure
        variance = np.where(maximise.column_variance > 0, maximise.column_variance, 1.0)
        place = self._rng.integers(len(self._rows))
        means, sum_resp = statistics.means.copy(), statistics.sum_resp.copy()
        sum_diff, sum_outer = statistics.sum_diff.copy(), statistics.sum_outer.copy()
        means[component], sum_diff[component] = self._rows[place], 0.0
        sum_resp[component] = statistics.total_weight / n_components
        if not structure.pools_components:
            start = structure.sample_covariance(variance, lambda: np.diag(variance))
            count = structure.denominator(sum_resp[component : component + 1], n_features)[0]
            sum_outer[component] = count * start / n_components ** (2 / n_features)
        return replace(statistics, means=means, sum_resp=sum_resp, sum_diff=sum_diff, sum_outer=sum_outer)
