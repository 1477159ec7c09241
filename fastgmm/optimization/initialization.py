"""Starting values: from k-means, from rows, at random, or from what the user knows.

Starts that look at rows look at a sample of at most `sample_size(n_components)` of them, so that a start costs less
than a few EM passes. Distances are between columns that are standardised, but for one of the starts of 'auto'.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from ..model.bridge import Resp
from ..model.covariance import STRUCTURES
from ..model.expectation import StatisticsPass
from ..model.parameters import Array, MixtureParameters
from ..model.statistics import SufficientStatistics
from ..rows.source import ArraySource, Source, blocks
from ..validation import generator_from
from .clustering import BlockedSample, Nearest, kmeans, kmeans_plusplus
from .compiled import n_exchanges, sample_size
from .drawn_rows import DrawnRows, sample_index, stratified_index
from .em import MStep
from .growing import grow
from .labelled import label_means, label_scatter
from .problem import MixtureProblem
from .short_runs import best_of

METHODS = ("auto", "kmeans", "k-means++", "random", "random_from_data")
AUTO_STARTS = ("kmeans in units", "random rows", "kmeans")  # in this order
RESP_VALUES = 2**21  # responsibilities at a time: 16 MiB


def clustering_size(n_components: int) -> int:
    """Rows that seeding and Lloyd's iterations look at: 50 per component, at least 10,000.

    Their work grows as rows times components: with 500 rows for each of 1024 components a start
    took as long as 17 EM iterations over 1,000,000 x 8 rows, with 50 as long as 1.5 (spherical, one thread). The other
    rows of the sample are assigned once, for the first M-step.
    """
    return max(10_000, 50 * n_components)


def initial_parameters(
    problem: MixtureProblem,
    init_params: str | ArrayLike | Callable[..., Any],
    given: dict[str, Any],
    random_state: np.random.RandomState,
    m_step: MStep,
    alone: bool = False,
) -> MixtureParameters:
    """Return starting parameters: an M-step from the start's responsibilities, overwritten by what the user gave.

    `given` are the user's weights, means and precisions_cholesky, or some of them; with all three no start is sought.
    Where there are many rows, steps of EM on samples of them follow, unless the start is wanted alone.
    """
    if "precisions_cholesky" in given:
        covariances = STRUCTURES[problem.covariance_type].covariances(given["precisions_cholesky"])
        given = given | {"covariances": covariances}
    if given.keys() >= {"weights", "means", "precisions_cholesky"}:
        return problem.begun(MixtureParameters(**given, covariance_type=problem.covariance_type))
    searches = isinstance(init_params, str) and init_params == "auto" and problem.is_plain and not given
    drawn: DrawnRows | None
    # One draw of fixed size, so that start i of several is always the same.
    rng = generator_from(random_state) if searches else None
    if rng is not None and problem.compiled is not None:
        found = problem.compiled.begin(AUTO_STARTS, _scales(problem), int(rng.integers(2**63)))
        if found is not None:
            return found
    if rng is not None and problem.n_components > 1:
        drawn = looked_at = _drawn_rows(problem, sample_size(problem.n_components), rng)
        parameters = best_of(problem, _auto_starts(problem, looked_at), looked_at, m_step)
    else:
        statistics, drawn = initial_statistics(problem, init_params, random_state, rng)
        parameters = m_step(statistics)
    parameters = problem.begun(replace(parameters, **given, noise=None))  # an M-step has given the noise no weight
    if drawn is None or given or alone:
        return parameters
    return grow(problem, parameters, drawn)


def _auto_starts(problem: MixtureProblem, drawn: DrawnRows) -> list[Callable[[], SufficientStatistics]]:
    """The starts that short runs choose from, each with random numbers of its own.

    No metric is best: on real tables (`python -m benchmarks real`) k-means on columns in their own units seldom ends
    lower than scikit-learn or higher, on standardised columns often either; random rows win on what is one cloud with
    long tails.
    """
    streams = drawn.rng.spawn(len(AUTO_STARTS))
    named = zip(AUTO_STARTS, streams, strict=True)
    return [partial(_clustered, problem, replace(drawn, rng=rng), name) for name, rng in named]


def _scales(problem: MixtureProblem) -> Array:
    """What columns are divided by, (2, n_features): one unit for all of them, and each its own deviation."""
    own = np.sqrt(problem.columns.variance)
    own[problem.columns.constant | (own == 0)] = 1.0
    return np.stack([np.full(len(own), max(np.sqrt(problem.columns.variance.mean()), np.finfo(float).tiny)), own])


def _drawn_rows(problem: MixtureProblem, size: int, rng: np.random.Generator) -> DrawnRows:
    """Rows to start from."""
    index = sample_index(problem, size, rng)
    return DrawnRows(index, problem.source.take(index), rng)


def initial_statistics(
    problem: MixtureProblem,
    init_params: str | ArrayLike | Callable[..., Any],
    random_state: np.random.RandomState,
    rng: np.random.Generator | None = None,
) -> tuple[SufficientStatistics, DrawnRows | None]:
    """Resolve the start into labels or responsibilities of some rows; their statistics, scaled up to all rows.

    For a start by k-means also the rows that it looked at.
    """
    n_samples, n_components = problem.source.n_samples, problem.n_components
    given: NDArray[Any] | None = None
    if callable(init_params):
        if not isinstance(problem.source, ArraySource):
            raise ValueError(
                "init_params cannot be a function of rows that are read from a source block by block; give a method, "
                "labels, responsibilities or means."
            )
        given = np.asarray(init_params(problem.source.X, n_components, random_state))
    elif not isinstance(init_params, str):
        given = np.asarray(init_params)
    if given is not None:
        shapes = [(n_samples,), (n_samples, n_components), (n_components, problem.source.n_features)]
        if given.shape not in shapes:
            raise ValueError(
                f"init_params must give labels of shape {shapes[0]}, responsibilities of shape {shapes[1]} or means of "
                f"shape {shapes[2]}; got shape {given.shape}."
            )
        if given.shape in shapes[:2]:
            given = _check_given(given, n_components)
            if given.ndim == 1:
                return _from_labels(problem, problem.complete_source(), problem.sample_weight, given), None
            return _from_resp(problem, problem.complete_source(), problem.sample_weight, given), None
    method = init_params if isinstance(init_params, str) else ""
    size = clustering_size(n_components) if method == "random" else sample_size(n_components)
    drawn = _drawn_rows(problem, size, generator_from(random_state) if rng is None else rng)
    if method == "random":
        rows = ArraySource(problem.completed(drawn.rows))
        weight = None if problem.sample_weight is None else problem.sample_weight[drawn.index]
        statistics = _from_resp(problem, rows, weight, RandomResp(n_components, int(drawn.rng.integers(2**63))))
        return _scaled_up(problem, statistics, drawn), None
    method = "kmeans" if method == "auto" else method
    statistics = _clustered(problem, drawn, method if given is None else given)
    return statistics, drawn if method == "kmeans" else None


def _clustered(problem: MixtureProblem, drawn: DrawnRows, init_params: Any) -> SufficientStatistics:
    """Statistics of clusters of the drawn rows; `init_params` is a method or an array of means."""
    rows = problem.completed(drawn.rows)
    weight = None if problem.sample_weight is None else problem.sample_weight[drawn.index]
    if problem.n_components == 1 and problem.maximise.noise_bounds is None:  # nothing to find
        return _scaled_up(problem, _from_labels(problem, ArraySource(rows), weight, np.zeros(len(rows), int)), drawn)
    nearest = _partition(problem, rows, weight, init_params, drawn.rng)
    if problem.maximise.noise_bounds is not None:  # the farthest rows may be noise
        distance = nearest.distance[: len(rows)]
        kept = distance <= np.quantile(distance, 1.0 - problem.noise_start)
        weight = np.where(kept, 1.0 if weight is None else weight, 0.0)
    statistics = _from_labels(problem, ArraySource(rows), weight, nearest.labels[: len(rows)])
    return _scaled_up(problem, statistics, drawn)


def _scaled_up(problem: MixtureProblem, statistics: SufficientStatistics, drawn: DrawnRows) -> SufficientStatistics:
    """Statistics of drawn rows as if they were of all."""
    if drawn.size == problem.source.n_samples and problem.maximise.noise_bounds is None:
        return statistics
    return statistics.scaled(problem.total_weight / float(statistics.sum_resp.sum()))


def _partition(
    problem: MixtureProblem, rows: NDArray[Any], weight: Array | None, init_params: Any, rng: np.random.Generator
) -> Nearest:
    """Return the cluster of each row; `init_params` is a method or an array of means."""
    n_components = problem.n_components
    unit, scale = _scales(problem)
    if isinstance(init_params, str) and init_params == "kmeans in units":
        scale, init_params = unit, "kmeans"
    rows = (rows - problem.columns.mean) / scale
    sample = BlockedSample.from_rows(rows, weight)
    if not isinstance(init_params, str):
        centers = np.zeros((n_components, sample.blocks.shape[1]))
        centers[:, : rows.shape[1]] = (init_params - problem.columns.mean) / scale
    elif init_params == "random_from_data":
        centers = sample.rows(rng.choice(len(rows), n_components, replace=False))
    elif init_params == "random rows":
        centers = sample.rows(_different_rows(rows, weight, n_components, rng))
    else:
        part = sample
        if len(rows) > clustering_size(n_components):
            index = stratified_index(len(rows), clustering_size(n_components), rng)
            part = BlockedSample.from_rows(rows[index], None if weight is None else weight[index])
        if init_params == "kmeans":
            centers = kmeans(part, n_components, n_exchanges(n_components), rng)
        else:
            centers = kmeans_plusplus(part, n_components, rng)
    known = (known_means(problem) - problem.columns.mean) / scale
    if not np.isnan(known).all():
        centers[:, : rows.shape[1]] = guided(centers[:, : rows.shape[1]], known)
    return Nearest.of(sample, centers)


def _different_rows(
    rows: NDArray[Any], weight: Array | None, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of rows drawn by weight, no two of them equal while there are enough: equal centres share a cluster."""
    share = None if weight is None else weight / weight.sum()
    n_drawable = len(rows) if share is None else int(np.count_nonzero(share))
    index = rng.choice(len(rows), min(4 * count, n_drawable), replace=False, p=share)
    first = np.unique(rows[index], axis=0, return_index=True)[1]
    order = np.r_[np.sort(first), np.setdiff1d(np.arange(len(index)), first)]
    return index[order[:count]]


def known_means(problem: MixtureProblem) -> Array:
    """Fixed means, else the means of labelled rows, else NaN; (n_components, n_features)."""
    means = np.full((problem.n_components, problem.source.n_features), np.nan)
    if problem.labels is not None:
        sum_resp, known = problem.label_means
        present = sum_resp > 0
        means[present] = known[present]
    fixed = problem.maximise.fixed
    if fixed.means is not None:
        means = np.where(fixed.held_means[:, None], fixed.means, means)
    return means


def guided(centers: Array, known: Array) -> Array:
    """Centres in an order in which known components have a near one, moved to where these are known to lie.

    centers, known: (n_components, n_features); known is NaN for components of which nothing is known.
    """
    is_known = np.asarray(~np.isnan(known).any(axis=1))
    distance = ((centers[:, None, :] - known[is_known][None]) ** 2).sum(axis=2)
    taken, places = linear_sum_assignment(distance)
    result = np.empty_like(centers)
    result[np.flatnonzero(is_known)[places]] = known[is_known][places]
    result[~is_known] = np.delete(centers, taken, axis=0)
    return result


def _check_given(given: NDArray[Any], n_components: int) -> NDArray[Any]:
    """Return labels or responsibilities, checked; responsibilities of 0 and 1 alone become labels."""
    if given.ndim == 1:
        if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= n_components:
            raise ValueError(
                f"Labels in init_params must be integers from 0 to {n_components - 1}; got {given.dtype} values from "
                f"{given.min()} to {given.max()}."
            )
        return given
    resp = np.asarray(given, dtype=np.float64)
    if not np.isfinite(resp).all() or resp.min() < 0 or not np.allclose(resp.sum(axis=1), 1, atol=1e-6):
        raise ValueError(
            "Responsibilities in init_params must be finite and non-negative, and every row must sum to 1."
        )
    return resp.argmax(axis=1) if np.isin(resp, (0, 1)).all() else resp


def _from_labels(
    problem: MixtureProblem, source: Source, sample_weight: Array | None, labels: NDArray[np.int64]
) -> SufficientStatistics:
    """Statistics of labels (n_rows,), in float64 about the means they imply: work independent of n_components."""
    per_row = (sample_weight, labels)
    sum_resp, means = label_means(source, problem.columns.mean, problem.n_components, per_row)
    scatters = source.map_parts(label_scatter, means, problem.covariance_type, per_row=per_row)
    return SufficientStatistics(0.0, sum_resp, np.zeros_like(means), np.sum(list(scatters), axis=0), means)


def _from_resp(
    problem: MixtureProblem, source: Source, sample_weight: Array | None, resp: Resp
) -> SufficientStatistics:
    """Statistics of given responsibilities about their means."""
    n_components, n_features = problem.n_components, source.n_features
    structure, shift = STRUCTURES[problem.covariance_type], problem.columns.mean
    sums = np.sum(list(source.map_parts(_resp_sums, shift, n_components, per_row=(sample_weight, resp))), axis=0)
    means = shift + sums[:, :-1] / np.where(sums[:, -1:] > 0, sums[:, -1:], 1.0)
    centred = MixtureParameters(
        np.full(n_components, 1 / n_components),
        means,
        structure.cholesky(structure.identity(n_components, n_features)),
        problem.covariance_type,
    )
    return StatisticsPass(source, shift, sample_weight)(centred, resp)


def _resp_sums(part: Source, shift: Array, n_components: int, sample_weight: Array | None, resp: Resp) -> Array:
    """Sums of resp (x - shift) of each component, and of resp in the last column."""
    sums = np.zeros((n_components, len(shift) + 1))
    for first, block in blocks(part.chunks(), max(64, RESP_VALUES // n_components)):
        last = first + len(block)
        share = resp[first:last]
        if sample_weight is not None:
            share = share * sample_weight[first:last, None]
        sums[:, :-1] += share.T @ (block - shift)
        sums[:, -1] += share.sum(axis=0)
    return sums


class RandomResp:
    """Uniform random responsibilities, normalised row by row: any rows at any time, without storing them.

    PCG64 makes one float64 of each 64 bits, so that row i begins i * n_components steps after the seed.
    """

    def __init__(self, n_components: int, seed: int) -> None:
        self._n_components, self._seed = n_components, seed

    def __getitem__(self, rows: slice) -> Array:
        stream = np.random.PCG64(self._seed)
        stream.advance(rows.start * self._n_components)
        resp = np.random.Generator(stream).random((rows.stop - rows.start, self._n_components))
        return resp / resp.sum(axis=1, keepdims=True)
