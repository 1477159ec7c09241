"""Starting values: from k-means, from rows, at random, or from what the user knows.

Starts that look at rows look at a sample of at most `sample_size(n_components)` of them, standardised column by
column, so that a badly scaled column does not decide the clusters and the start costs less than a few EM passes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.covariance import STRUCTURES
from ..model.density import StatisticsPass
from ..model.parameters import Array, MixtureParameters
from ..representation.source import ArraySource, ColumnSummary
from .clustering import BlockedSample, kmeans, kmeans_plusplus
from .em import m_step

METHODS = ("kmeans", "k-means++", "random", "random_from_data")


def sample_size(n_components: int) -> int:
    """Rows that a start looks at: 500 per component, at least 25,000."""
    return max(25_000, 500 * n_components)


@dataclass(frozen=True)
class UserStart:
    """What the user fixes of the start; None is estimated."""

    weights: Array | None = None
    means: Array | None = None
    precisions_cholesky: Array | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to estimate."""
        return self.weights is not None and self.means is not None and self.precisions_cholesky is not None


@dataclass(frozen=True)
class StartProblem:
    """The data a start is made for."""

    source: ArraySource
    columns: ColumnSummary
    sample_weight: Array | None
    n_components: int
    covariance_type: str
    reg_covar: float


def initial_parameters(
    problem: StartProblem,
    init_params: str | ArrayLike | Callable[..., Any],
    user: UserStart,
    random_state: np.random.RandomState,
) -> MixtureParameters:
    """Return starting parameters: an M-step from the start's responsibilities, overwritten by what the user fixed."""
    structure = STRUCTURES[problem.covariance_type]
    if user.complete:
        assert user.weights is not None
        assert user.means is not None
        assert user.precisions_cholesky is not None
        covariances = structure.covariances(user.precisions_cholesky)
        return MixtureParameters(
            user.weights, user.means, user.precisions_cholesky, problem.covariance_type, covariances
        )
    parameters = _estimated(problem, init_params, random_state)
    factors, covariances_ = parameters.precisions_cholesky, parameters.covariances
    if user.precisions_cholesky is not None:
        factors, covariances_ = user.precisions_cholesky, structure.covariances(user.precisions_cholesky)
    return MixtureParameters(
        parameters.weights if user.weights is None else user.weights,
        parameters.means if user.means is None else user.means,
        factors,
        problem.covariance_type,
        covariances_,
    )


def _estimated(
    problem: StartProblem,
    init_params: str | ArrayLike | Callable[..., Any],
    random_state: np.random.RandomState,
) -> MixtureParameters:
    """Resolve the start into labels or responsibilities of some rows and estimate from these rows."""
    n_samples, n_components = problem.source.n_samples, problem.n_components
    given: NDArray[Any] | None = None
    if callable(init_params):
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
            return _from_rows(problem, problem.source, problem.sample_weight, _check_given(given, n_components))
    # One fixed-size draw per start: run i of several starts is the same whatever the starts before it did.
    rng = np.random.default_rng(random_state.randint(0, 2**31 - 1, size=4))
    index = _sample_index(problem, rng)
    rows = problem.source.take(index)
    weight = None if problem.sample_weight is None else problem.sample_weight[index]
    sample = ArraySource(rows)
    if given is None and init_params == "random":
        resp = rng.random((len(rows), n_components))
        return _from_rows(problem, sample, weight, resp / resp.sum(axis=1, keepdims=True))
    labels = _partition(problem, rows, weight, init_params if given is None else given, rng)
    return _from_rows(problem, sample, weight, labels)


def _partition(
    problem: StartProblem, rows: NDArray[Any], weight: Array | None, init_params: Any, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the cluster of each row, on standardised columns; `init_params` is a method or an array of means."""
    scale = np.sqrt(problem.columns.variance)
    scale[problem.columns.constant | (scale == 0)] = 1.0
    sample = BlockedSample.from_rows((rows - problem.columns.mean) / scale, weight)
    if not isinstance(init_params, str):
        centers = np.zeros((problem.n_components, sample.blocks.shape[1]))
        centers[:, : rows.shape[1]] = (init_params - problem.columns.mean) / scale
        return kmeans(sample, centers, max_iter=0)
    if init_params == "random_from_data":
        return kmeans(sample, sample.rows(rng.choice(len(rows), problem.n_components, replace=False)), max_iter=0)
    centers = kmeans_plusplus(sample, problem.n_components, rng)
    return kmeans(sample, centers) if init_params == "kmeans" else kmeans(sample, centers, max_iter=0)


def _check_given(given: NDArray[Any], n_components: int) -> NDArray[Any]:
    """Return labels or responsibilities, checked."""
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
    return resp


def _sample_index(problem: StartProblem, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the rows a start looks at, increasing, all of positive weight."""
    limit = sample_size(problem.n_components)
    if problem.sample_weight is None:
        if problem.source.n_samples <= limit:
            return np.arange(problem.source.n_samples)
        drawn = np.unique(rng.integers(0, problem.source.n_samples, 2 * limit))
        return np.sort(rng.choice(drawn, min(limit, len(drawn)), replace=False))
    eligible = np.flatnonzero(problem.sample_weight > 0)
    if len(eligible) <= limit:
        return eligible
    return np.sort(rng.choice(eligible, limit, replace=False))


def _from_rows(
    problem: StartProblem, source: ArraySource, sample_weight: Array | None, given: NDArray[Any]
) -> MixtureParameters:
    """M-step from labels (n_rows,) or responsibilities (n_rows, n_components), centred on the means they imply."""
    n_components, n_features = problem.n_components, source.n_features
    structure = STRUCTURES[problem.covariance_type]

    def resp_of(first: int, last: int) -> NDArray[Any]:
        if given.ndim == 2:
            return given[first:last]
        resp = np.zeros((last - first, n_components))
        resp[np.arange(last - first), given[first:last]] = 1.0
        return resp

    shift = problem.columns.mean
    sum_resp, sum_x = np.zeros(n_components), np.zeros((n_components, n_features))
    for start, chunk in source.chunks():
        for first in range(0, len(chunk), 65536):
            block = chunk[first : first + 65536]
            resp = resp_of(start + first, start + first + len(block))
            if sample_weight is not None:
                resp = resp * sample_weight[start + first : start + first + len(block), None]
            sum_resp += resp.sum(axis=0)
            sum_x += resp.T @ (block - shift)
    means = shift + sum_x / np.where(sum_resp > 0, sum_resp, 1.0)[:, None]
    centred = MixtureParameters(
        np.full(n_components, 1 / n_components),
        means,
        structure.cholesky(structure.identity(n_components, n_features)),
        problem.covariance_type,
    )
    statistics = StatisticsPass(source.chunks, source.dtype, shift, sample_weight)(centred, resp_of)
    return m_step(statistics, problem.covariance_type, problem.reg_covar, problem.columns.variance)
