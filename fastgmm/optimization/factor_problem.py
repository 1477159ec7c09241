"""A fit of a mixture of factor analysers: its data, and where it begins."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..model.expectation import PartwisePass
from ..model.factors.maximisation import FactorMaximiser
from ..model.factors.missing import GapsPass, find_gaps
from ..model.factors.parameters import FactorParameters
from ..model.factors.statistics import FactorPass
from ..model.parameters import Array
from ..rows.source import Source
from ..rows.summary import ColumnSummary
from ..rows.wrappers import FilledSource
from .clustering import BlockedSample, Nearest, kmeans_plusplus, lloyd
from .growing import stratified_index, stratified_rows

CLUSTER_ROWS = 300  # of each cluster that its principal components are found from
LLOYD_STEPS = 10  # EM moves the means anyway
START_BYTES = 2**28  # of the sample, as the clustering holds it


@dataclass(frozen=True)
class FactorProblem:
    """The data of a fit; the counterpart of `FitProblem`.

    Attributes
    ----------
    source : Source
    columns : ColumnSummary
        Of the rows of positive weight, without missing values.
    sample_weight : ndarray of shape (n_samples,) or None
    n_components, n_factors : int
    maximise : FactorMaximiser
    has_missing : bool
        Whether NaN stands for missing values.
    """

    source: Source
    columns: ColumnSummary
    sample_weight: Array | None
    n_components: int
    n_factors: int
    maximise: FactorMaximiser
    has_missing: bool = False

    @property
    def total_weight(self) -> float:
        """Sum of the rows' weights."""
        return float(self.source.n_samples if self.sample_weight is None else self.sample_weight.sum())

    def expectation(self) -> PartwisePass:
        """The pass over all rows that EM repeats."""
        per_row = [self.sample_weight]
        if self.has_missing:
            per_row.append(np.concatenate(list(self.source.map_parts(find_gaps))))
        return PartwisePass(self.source, partial(_part_pass, self.columns.mean), per_row)

    def begun(self, parameters: FactorParameters) -> FactorParameters:
        """Starting parameters among those that the M-step chooses from, so that the first step cannot fall."""
        noise = parameters.noise_variance
        if self.maximise.shared:
            noise = (parameters.weights / parameters.weights.sum() @ noise)[None]
        if self.maximise.isotropic:
            noise = noise.mean(axis=1, keepdims=True)
        noise = np.broadcast_to(np.maximum(noise, self.maximise.floor), parameters.means.shape)
        return replace(parameters, noise_variance=noise)

    def start(self, init: str | NDArray[np.int64], rng: np.random.Generator) -> FactorParameters:
        """Principal components of clusters: of k-means, of random groups, or of given labels.

        k-means sees at most max(10,000, 300 n_components) rows and max(256, n_features / 8) of the varying features,
        both drawn at random, in the units of the data: features are thought of as pixels of one scale.
        """
        index = self._sample_index(rng)
        complete = FilledSource(self.source, self.columns.mean) if self.has_missing else self.source
        rows = complete.take(index).astype(np.float64)
        weight = None if self.sample_weight is None else self.sample_weight[index]
        if not isinstance(init, str):
            labels = init[index]
        elif init == "kmeans":
            labels = self._cluster(rows, weight, rng)
        else:
            labels = rng.integers(self.n_components, size=len(rows))
        return self.begun(self._from_labels(rows, weight, labels, rng))

    def _sample_index(self, rng: np.random.Generator) -> NDArray[np.int64]:
        n_rows = self.source.n_samples
        size = max(10_000, 300 * self.n_components)
        size = max(2 * self.n_components, min(size, START_BYTES // (8 * self.source.n_features)))
        if self.sample_weight is None:
            return stratified_rows(self.source, min(n_rows, size), rng)
        candidates = np.flatnonzero(self.sample_weight > 0)
        return candidates[stratified_index(len(candidates), min(len(candidates), size), rng)]

    def _cluster(self, rows: Array, weight: Array | None, rng: np.random.Generator) -> NDArray[np.int64]:
        if self.n_components == 1:
            return np.zeros(len(rows), np.int64)
        features = np.flatnonzero(self.columns.variance > 0)
        size = max(256, rows.shape[1] // 8)
        if len(features) > size:
            features = np.sort(rng.choice(features, size, replace=False))
        sample = BlockedSample.from_rows(rows[:, features], weight)
        centers = kmeans_plusplus(sample, self.n_components, rng)
        return Nearest.of(sample, lloyd(sample, centers, LLOYD_STEPS)).labels[: len(rows)]

    def _from_labels(
        self, rows: Array, weight: Array | None, labels: NDArray[np.int64], rng: np.random.Generator
    ) -> FactorParameters:
        n_features = rows.shape[1]
        typical = self.columns.variance.mean()
        shape = (self.n_components, n_features)
        weights, means, noise = np.empty(shape[0]), np.empty(shape), np.empty(shape)
        loadings = np.empty((*shape, self.n_factors))
        for k in range(self.n_components):
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
            loadings[k] = 1e-3 * np.sqrt(typical) * rng.standard_normal((n_features, self.n_factors))
            directions, variances = _principal(white, self.n_factors)
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


def _part_pass(
    shift: Array, part: Source, sample_weight: Array | None, gaps: NDArray[np.bool_] | None = None
) -> FactorPass | GapsPass:
    if gaps is None or not gaps.any():
        return FactorPass(part.chunks, part.dtype, shift, sample_weight)
    return GapsPass(part.chunks, gaps, part.dtype, shift, sample_weight)
