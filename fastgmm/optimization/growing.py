"""EM on growing samples of the rows, before the first pass over all of them.

Most iterations of a fit move the components to about where they belong, and a sample shows where that is. A sample
determines parameters the less closely the smaller it is, so samples grow until a last one leaves little to be done
(Meek, Thiesson and Heckerman, 2002, The learning-curve sampling method applied to model-based clustering, JMLR 2).

Measured at 1,000,000 x 16 rows of 32 overlapping components, full, 8 seeds: 4 to 10 passes over all rows instead of 15
to 34, 3.2 s instead of 5.7 s, and a log-likelihood 0.02 nats per row higher on average (0.01 without other starts).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SingularCovarianceError
from ..model.covariance import STRUCTURES
from ..model.parameters import MixtureParameters
from ..rows.reservoir import level_of, reservoir_size, rows_of_nodes
from ..rows.source import Source
from .problem import MixtureProblem, Problem

GROWTH = 4  # each sample against the one before
SHARE = 8  # of the rows, the largest sample is at most one in so many
MOST_STEPS = 40
PASSES = 2  # over as many rows as there are, at most, on all samples together
TOL = 3e-4  # nats per row; with 1e-3 some fits ended 0.04 nats lower, with 1e-4 none higher
FEW_STEPS, MORE_STARTS = 8, 4
LONG_ITERATION = 1e10  # flops: about 0.1 s, as long as a start
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
        part = stratified_index(self.size, size, self.rng)
        return DrawnRows(self.index[part], self.rows[part], self.rng)


def stratified_index(count: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One index at random from each of `size` equal stretches of range(count), increasing."""
    if size == count:
        return np.arange(count)
    bounds = np.arange(size + 1) * count // size
    return rng.integers(bounds[:-1], bounds[1:])


def stratified_rows(source: Source, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `size` rows, spread over all of them, that a source has at hand if it was read to count its rows.

    They are drawn from what a reservoir keeps; where that is too few, from all rows.
    """
    count, largest = source.n_samples, reservoir_size(source.n_features)
    level = level_of(count, largest)
    n_nodes = count >> level  # without the last one, where it has fewer rows than the others
    if level == 0 or size > n_nodes:
        return stratified_index(count, size, rng)
    return rows_of_nodes(stratified_index(n_nodes, size, rng), level)


def sample_index(problem: Problem, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the rows a start looks at, increasing, all of positive weight.

    One row at random from each of `size` equal stretches of the data: every row is as likely as any other, data
    sorted by cluster are represented evenly, and without weights neither time nor memory depend on n_samples.
    """
    if problem.sample_weight is None:
        return stratified_rows(problem.source, min(problem.source.n_samples, size), rng)
    eligible = np.flatnonzero(problem.sample_weight > 0)
    return eligible[stratified_index(len(eligible), min(len(eligible), size), rng)]


def sample_sizes(source: Source, first: int) -> list[int]:
    """Sizes of the growing samples, of which `first` is what a start looks at; of few rows there is that one alone."""
    largest = min(source.n_samples // SHARE, reservoir_size(source.n_features) // 2)
    sizes = [first]
    while sizes[-1] * GROWTH <= largest:
        sizes.append(sizes[-1] * GROWTH)
    return sizes


def grow(
    problem: MixtureProblem, parameters: MixtureParameters, drawn: DrawnRows, again: Callable[[], MixtureParameters]
) -> MixtureParameters:
    """EM steps on growing samples, of which `drawn` is the first; they cost no more than PASSES iterations.

    Where the first of them takes many steps, so that components overlap and starts end in different maxima, and an
    iteration takes longer than a start, other starts (`again`) are tried on it, and the best goes on (Biernacki, Celeux
    and Govaert, 2003, call this em-EM).
    Nothing is done where what is known of some rows would be lost in a sample (labels, noise), and a sample is passed
    over that has too few rows of a component, whose covariance might collapse on them.
    """
    n_samples = problem.source.n_samples
    if n_samples < SHARE * drawn.size or problem.labels is not None or problem.maximise.noise_bounds is not None:
        return parameters
    first, *larger = sample_sizes(problem.source, drawn.size)
    best = _fit_sample(problem, parameters, drawn, PASSES * n_samples // first)
    left = PASSES * n_samples - best.n_steps * first
    row = STRUCTURES[problem.covariance_type].flops_per_row(problem.n_components, problem.source.n_features)
    if best.n_steps > FEW_STEPS and row * n_samples > LONG_ITERATION:
        for _ in range(MORE_STARTS):
            best = max(best, _fit_sample(problem, again(), drawn, MOST_STEPS), key=lambda fit: fit.bound)
    parameters = best.parameters
    if larger:
        index = sample_index(problem, larger[-1], drawn.rng)
        drawn = DrawnRows(index, problem.source.take(index), drawn.rng)
    for size in larger:
        fit = _fit_sample(problem, parameters, drawn.thinned(size), left // size)
        parameters, left = fit.parameters, left - fit.n_steps * size
    return parameters


class SampleFit(NamedTuple):
    """What EM made of a sample: parameters, passes over it, and the last mean log-likelihood in nats per row."""

    parameters: MixtureParameters
    n_steps: int
    bound: float


def _fit_sample(
    problem: MixtureProblem, parameters: MixtureParameters, sample: DrawnRows, most_steps: int
) -> SampleFit:
    """EM on a sample until a step gains less than TOL; the start itself, with a bound of -inf, where it is no good."""
    expectation, start, bound = problem.batch(sample.index, sample.rows), parameters, -np.inf
    for step in range(min(most_steps, MOST_STEPS)):
        statistics = expectation(parameters)
        total = statistics.total_weight
        least = ROWS_PER_FEATURE * problem.source.n_features * total / sample.size
        if statistics.n_far or statistics.sum_resp.min() < least:
            return SampleFit(start, step + 1, -np.inf)
        gain, bound = statistics.log_likelihood / total - bound, statistics.log_likelihood / total
        try:
            parameters = problem.maximise(statistics.scaled(problem.total_weight / total))
        except SingularCovarianceError:
            return SampleFit(start, step + 1, -np.inf)
        if gain < TOL:
            return SampleFit(parameters, step + 1, bound)
    return SampleFit(parameters, min(most_steps, MOST_STEPS), bound)
