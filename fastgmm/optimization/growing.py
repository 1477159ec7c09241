"""EM on growing samples of the rows, before the first pass over all of them.

Most iterations of a fit move the components to about where they belong, and a sample shows where that is. A sample
determines parameters the less closely the smaller it is, so samples grow until a last one leaves little to be done
(Meek, Thiesson and Heckerman, 2002, The learning-curve sampling method applied to model-based clustering, JMLR 2).

No sample is given up, whatever component it has few rows of (short_runs.py: lean). 320,000 patches of photographs in 15
components, K = 64, full, take 15 passes over all rows (`python -m benchmarks real --sets patches-k64`).
"""

from ..model.parameters import MixtureParameters
from ..rows.reservoir import reservoir_size
from ..rows.source import Source
from .drawn_rows import DrawnRows, sample_index
from .problem import MixtureProblem
from .short_runs import run_briefly

GROWTH = 2  # each sample against the one before
SHARE = 3  # of the rows, the largest sample is at most one in so many
MOST_STEPS = 60
PASSES = 20  # over as many rows as there are, at most, on all samples together
TOL = 1e-3  # nats per row
BEGIN_GAIN = 1e-2  # nats per row, below which steps on samples are accelerated


def sample_sizes(source: Source, first: int) -> list[int]:
    """Sizes of the growing samples, of which `first` is what a start looks at; of few rows there is that one alone."""
    largest = min(source.n_samples // SHARE, reservoir_size(source.n_features) // 2)
    sizes = [first]
    while sizes[-1] * GROWTH <= largest:
        sizes.append(sizes[-1] * GROWTH)
    return sizes


def grow(problem: MixtureProblem, parameters: MixtureParameters, drawn: DrawnRows) -> MixtureParameters:
    """EM steps on growing samples, of which `drawn` is the first; they cost no more than PASSES iterations."""
    n_samples = problem.source.n_samples
    if drawn.size == n_samples:
        return parameters
    left = PASSES * n_samples
    first, *larger = sample_sizes(problem.source, drawn.size)
    if larger:
        index = sample_index(problem, larger[-1], drawn.rng)
        largest = DrawnRows(index, problem.source.take(index), drawn.rng)
    for size in (first, *larger):
        sample = drawn if size == first else largest.thinned(size)
        run = run_briefly(problem, parameters, sample, min(left // size, MOST_STEPS), TOL, BEGIN_GAIN)
        parameters, left = run.parameters, left - run.n_steps * size
    return parameters
