"""EM on growing samples of the rows, before the first pass over all of them.

Most iterations of a fit move the components to about where they belong, and a sample shows where that is. A sample
determines parameters the less closely the smaller it is, so samples grow until a last one leaves little to be done
(Meek, Thiesson and Heckerman, 2002, The learning-curve sampling method applied to model-based clustering, JMLR 2).

Measured at 1,000,000 x 16 rows of 32 overlapping components, full, 8 seeds: 4 to 14 passes over all rows instead of 15
to 34, half the time (2.8 s, 5.7 s), and a log-likelihood 0.006 nats per row higher on average.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SingularCovarianceError
from ..model.parameters import MixtureParameters
from ..representation.reservoir import level_of, reservoir_size, rows_of_nodes
from ..representation.source import Source
from .problem import FitProblem

GROWTH = 4  # each sample against the one before
SHARE = 8  # of the rows, the largest sample is at most one in so many
MOST_STEPS = 40
PASSES = 2  # over as many rows as there are, at most, on all samples together
TOL = 3e-4  # nats per row; with 1e-3 some fits ended 0.04 nats lower, with 1e-4 none higher
ROWS_PER_FEATURE = 4  # the covariance of fewer rows than this for each feature is far from that of all rows


@dataclass(frozen=True)
class DrawnRows:
    """Rows drawn from a source: their indices, increasing, their values, and what draws among them."""

    index: NDArray[np.int64]
    rows: NDArray[Any]
    rng: np.random.Generator

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.index)

    def thinned(self, size: int) -> "DrawnRows":
        """Return `size` of them, or all if they are no more."""
        if size >= self.size:
            return self
        part = spread(self.size, size, self.rng)
        return DrawnRows(self.index[part], self.rows[part], self.rng)


def spread(count: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One index at random from each of `size` equal stretches of range(count), increasing."""
    if size == count:
        return np.arange(count)
    bounds = np.arange(size + 1) * count // size
    return rng.integers(bounds[:-1], bounds[1:])


def spread_rows(source: Source, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `size` rows, spread over all of them, that a source has at hand if it was read to count its rows.

    They are drawn from what a reservoir keeps; where that is too few, from all rows.
    """
    count, largest = source.n_samples, reservoir_size(source.n_features)
    level = level_of(count, largest)
    n_nodes = count >> level  # without the last one, where it has fewer rows than the others
    if level == 0 or size > n_nodes:
        return spread(count, size, rng)
    return rows_of_nodes(spread(n_nodes, size, rng), level)


def sample_index(problem: FitProblem, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the rows a start looks at, increasing, all of positive weight.

    One row at random from each of `size` equal stretches of the data: every row is as likely as any other, data
    sorted by cluster are represented evenly, and without weights neither time nor memory depend on n_samples.
    """
    if problem.sample_weight is None:
        return spread_rows(problem.source, min(problem.source.n_samples, size), rng)
    eligible = np.flatnonzero(problem.sample_weight > 0)
    return eligible[spread(len(eligible), min(len(eligible), size), rng)]


def sample_sizes(source: Source, first: int) -> list[int]:
    """Sizes of the growing samples, of which `first` is what a start looks at; of few rows there is that one alone."""
    largest = min(source.n_samples // SHARE, reservoir_size(source.n_features) // 2)
    sizes = [first]
    while sizes[-1] * GROWTH <= largest:
        sizes.append(sizes[-1] * GROWTH)
    return sizes


def grow(problem: FitProblem, parameters: MixtureParameters, drawn: DrawnRows) -> MixtureParameters:
    """EM steps on growing samples, of which `drawn` is the first; they cost no more than PASSES iterations.

    Nothing is done where what is known of some rows would be lost in a sample (labels, noise), and a sample is passed
    over that has too few rows of a component, whose covariance might collapse on them.
    """
    n_samples = problem.source.n_samples
    if n_samples < SHARE * drawn.size or problem.labels is not None or problem.maximise.noise_bounds is not None:
        return parameters
    first, *larger = sample_sizes(problem.source, drawn.size)
    parameters, n_steps = _fit_sample(problem, parameters, drawn, PASSES * n_samples // first)
    left = PASSES * n_samples - n_steps * first
    if larger:
        index = sample_index(problem, larger[-1], drawn.rng)
        drawn = DrawnRows(index, problem.source.take(index), drawn.rng)
    for size in larger:
        parameters, n_steps = _fit_sample(problem, parameters, drawn.thinned(size), left // size)
        left -= n_steps * size
    return parameters


def _fit_sample(
    problem: FitProblem, parameters: MixtureParameters, sample: DrawnRows, most_steps: int
) -> tuple[MixtureParameters, int]:
    """EM on a sample until a step gains less than TOL; returns the parameters, and the passes over the sample."""
    expectation, start, bound = problem.batch(sample.index, sample.rows), parameters, -np.inf
    for step in range(min(most_steps, MOST_STEPS)):
        statistics = expectation(parameters)
        total = statistics.total_weight
        least = ROWS_PER_FEATURE * problem.source.n_features * total / sample.size
        if statistics.n_far or statistics.sum_resp.min() < least:
            return start, step + 1
        gain, bound = statistics.log_likelihood / total - bound, statistics.log_likelihood / total
        try:
            parameters = problem.maximise(statistics.scaled(problem.total_weight / total))
        except SingularCovarianceError:
            return start, step + 1
        if gain < TOL:
            return parameters, step + 1
    return parameters, min(most_steps, MOST_STEPS)
