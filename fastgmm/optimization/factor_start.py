"""Where the fit of a mixture of factor analysers begins."""

import numpy as np
from numpy.typing import NDArray

from ..model.factors.parameters import FactorParameters
from ..model.parameters import Array
from .clustering import BlockedSample, Nearest, kmeans_plusplus, lloyd
from .drawn_rows import sample_index
from .factor_problem import FactorProblem

CLUSTER_ROWS = 300  # of each cluster that its principal components are found from
LLOYD_STEPS = 10  # EM moves the means anyway
START_BYTES = 2**28  # of the sample, as the clustering holds it


def factor_start(problem: FactorProblem, init: str | NDArray[np.int64], rng: np.random.Generator) -> FactorParameters:
    """Principal components of clusters: of k-means, of random groups, or of given labels.

    k-means sees at most max(10,000, 300 n_components) rows and max(256, n_features / 8) of the varying features,
    both drawn at random, in the units of the data: features are thought of as pixels of one scale.
    """
    size = max(10_000, 300 * problem.n_components)
    size = max(2 * problem.n_components, min(size, START_BYTES // (8 * problem.source.n_features)))
    index = sample_index(problem, size, rng)
    rows = problem.complete_source().take(index).astype(np.float64)
    weight = None if problem.sample_weight is None else problem.sample_weight[index]
    if not isinstance(init, str):
        labels = init[index]
    elif init == "kmeans":
        labels = _cluster(problem, rows, weight, rng)
    else:
        labels = rng.integers(problem.n_components, size=len(rows))
    return problem.begun(_from_labels(problem, rows, weight, labels, rng))


def _cluster(problem: FactorProblem, rows: Array, weight: Array | None, rng: np.random.Generator) -> NDArray[np.int64]:
    if problem.n_components == 1:
        return np.zeros(len(rows), np.int64)
    features = np.flatnonzero(problem.columns.variance > 0)
    size = max(256, rows.shape[1] // 8)
    if len(features) > size:
        features = np.sort(rng.choice(features, size, replace=False))
    sample = BlockedSample.from_rows(rows[:, features], weight)
    centers = kmeans_plusplus(sample, problem.n_components, rng)
    return Nearest.of(sample, lloyd(sample, centers, LLOYD_STEPS)).labels[: len(rows)]


def _from_labels(
    problem: FactorProblem, rows: Array, weight: Array | None, labels: NDArray[np.int64], rng: np.random.Generator
) -> FactorParameters:
    n_features = rows.shape[1]
    typical = problem.columns.variance.mean()
    shape = (problem.n_components, n_features)
    weights, means, noise = np.empty(shape[0]), np.empty(shape), np.empty(shape)
    loadings = np.empty((*shape, problem.n_factors))
    for k in range(problem.n_components):
        members = np.flatnonzero(labels == k)
        mass = len(members) if weight is None else weight[members].sum()
        weights[k] = max(mass, 1e-3 if weight is None else 1e-3 * weight.mean())
        if len(members) > CLUSTER_ROWS:
            members = rng.choice(members, CLUSTER_ROWS, replace=False)
        if not len(members):
            members = rng.integers(len(rows), size=1)
        share = np.ones(len(members)) if weight is None else weight[members]
        share = share / share.sum()
        means[k] = share @ rows[members]
        white = (rows[members] - means[k]) * np.sqrt(share)[:, None]
        # Loadings of zero would stay zero for ever.
        loadings[k] = 1e-3 * np.sqrt(typical) * rng.standard_normal((n_features, problem.n_factors))
        directions, variances = _principal(white, problem.n_factors)
        loadings[k, :, : len(variances)] += directions * np.sqrt(variances)
        noise[k] = np.maximum((white**2).sum(axis=0) - (directions**2 @ variances), 0.0)
    # As wide as what the rows' features have in common: at a sharp start rows could not leave their cluster.
    return FactorParameters(weights / weights.sum(), means, loadings, noise + 1e-2 * typical)


def _principal(white: Array, count: int) -> tuple[Array, Array]:
    """Directions (n_features, at most `count`) and variances of largest variance, of centred rows."""
    gram = white @ white.T if len(white) <= white.shape[1] else white.T @ white
    values, vectors = np.linalg.eigh(gram)
    kept = [i for i in range(len(values) - 1, max(len(values) - 1 - count, -1), -1) if values[i] > 1e-12 * values[-1]]
    values, vectors = values[kept], vectors[:, kept]
    if len(white) <= white.shape[1]:
        vectors = white.T @ vectors / np.sqrt(values)
    return vectors, values
