"""Starting values: from k-means, from rows, at random, or from what the user knows.

Starts that look at rows look at a sample of at most `sample_size(n_components)` of them, standardised column by
column, so that a badly scaled column does not decide the clusters and the start costs less than a few EM passes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.covariance import STRUCTURES, padded
from ..model.density import StatisticsPass
from ..model.parameters import Array, MixtureParameters
from ..representation.source import ArraySource, ColumnSummary
from .em import m_step

METHODS = ("kmeans", "k-means++", "random", "random_from_data")
KMEANS_MAX_ITER = 100
KMEANS_TOL = 1e-4  # on the mean squared move of a centre, in standard deviations squared


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
    scale = np.sqrt(problem.columns.variance)
    scale[problem.columns.constant | (scale == 0)] = 1.0
    xt = np.zeros((padded(rows.shape[1]), len(rows)))
    xt[: rows.shape[1]] = ((rows - problem.columns.mean) / scale).T
    sample_weight = np.ones(len(rows)) if weight is None else weight
    if given is not None:
        centers = np.zeros((n_components, len(xt)))
        centers[:, : rows.shape[1]] = (given - problem.columns.mean) / scale
    elif init_params == "random_from_data":
        centers = np.ascontiguousarray(xt[:, rng.choice(len(rows), n_components, replace=False)].T)
    else:
        centers = kmeans_plusplus(xt, sample_weight, n_components, rng)
    labels = kmeans(xt, sample_weight, centers, KMEANS_MAX_ITER if given is None and init_params == "kmeans" else 0)
    return _from_rows(problem, sample, weight, labels)


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


def kmeans_plusplus(xt: Array, sample_weight: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Greedy k-means++ seeding (Arthur and Vassilvitskii, 2007): the best of 2 + ln k candidates at every step.

    xt: (n_features padded, n_samples). Returns (n_clusters, n_features padded).
    """
    from ..kernels.kmeans import compute_closest_candidates

    n_samples = xt.shape[1]
    n_candidates = 2 + int(np.log(n_clusters))
    centers = np.empty((n_clusters, len(xt)))
    centers[0] = xt[:, rng.choice(n_samples, p=sample_weight / sample_weight.sum())]
    closest = np.full(n_samples, np.inf)
    distances, potentials = np.empty((n_candidates, n_samples)), np.empty(n_candidates)
    compute_closest_candidates(xt, sample_weight, centers[:1], closest, distances, potentials)
    closest, potential = distances[0].copy(), potentials[0]
    for k in range(1, n_clusters):
        cumulative = np.cumsum(sample_weight * closest)
        drawn = np.searchsorted(cumulative, rng.random(n_candidates) * potential)
        candidates = np.ascontiguousarray(xt[:, np.minimum(drawn, n_samples - 1)].T)
        compute_closest_candidates(xt, sample_weight, candidates, closest, distances, potentials)
        best = int(np.argmin(potentials))
        centers[k], closest, potential = candidates[best], distances[best].copy(), potentials[best]
    return centers


def kmeans(xt: Array, sample_weight: Array, centers: Array, max_iter: int) -> NDArray[np.int64]:
    """Lloyd's iterations from `centers`; returns the labels of the nearest centres, shape (n_samples,).

    A cluster that empties moves to the row farthest from its centre. max_iter=0 only assigns.
    """
    from ..kernels.kmeans import accumulate_clusters, assign_labels

    labels, distance = np.empty(xt.shape[1], np.int64), np.empty(xt.shape[1])
    centers = np.ascontiguousarray(centers)
    assign_labels(xt, centers, labels, distance)
    for _ in range(max_iter):
        sums, counts = np.zeros_like(centers), np.zeros(len(centers))
        accumulate_clusters(xt, sample_weight, labels, sums, counts)
        empty = np.flatnonzero(counts == 0)
        moved = sums / np.where(counts > 0, counts, 1.0)[:, None]
        if len(empty):
            farthest = np.argsort(-distance, kind="stable")[: len(empty)]
            moved[empty] = xt[:, farthest].T
        step = ((moved - centers) ** 2).sum() / len(centers)
        centers = moved
        assign_labels(xt, centers, labels, distance)
        if step <= KMEANS_TOL:
            break
    return labels
