"""What a fit is about: its rows, what is known of them, and the M-step."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.expectation import Expectation, PartlyLabelled, PartwisePass, StatisticsPass
from ..model.maximisation import Maximiser
from ..model.missing import BlockwiseMissingPass, MissingPass
from ..model.parameters import Array, MixtureParameters, UniformNoise
from ..rows.source import ArraySource, Source
from ..rows.summary import ColumnSummary
from ..rows.wrappers import FilledSource, filled


@dataclass(frozen=True)
class FitProblem:
    """The data of a fit.

    Attributes
    ----------
    source : Source
    columns : ColumnSummary
        Of the rows of positive weight, without missing values.
    sample_weight : ndarray of shape (n_samples,) or None
    n_components : int
    maximise : Maximiser
    labels : ndarray of shape (n_samples,), int64, or None
        The component of each row, -1 where it is not known; None if no row is labelled.
    has_missing : bool
        Whether NaN stands for missing values.
    noise_start : float
        Weight of the uniform noise to begin with, where there is one.
    """

    source: Source
    columns: ColumnSummary
    sample_weight: Array | None
    n_components: int
    maximise: Maximiser
    labels: NDArray[np.int64] | None = None
    has_missing: bool = False
    noise_start: float = 0.0

    @property
    def covariance_type(self) -> str:
        """Of the mixture."""
        return self.maximise.covariance_type

    @property
    def total_weight(self) -> float:
        """Sum of the rows' weights."""
        return float(self.source.n_samples if self.sample_weight is None else self.sample_weight.sum())

    def expectation(self) -> Expectation:
        """The pass over all rows that EM repeats."""
        return self._expectation(self.source, self.sample_weight, self.labels)

    def batch(self, index: NDArray[np.int64], rows: NDArray[Any] | None = None) -> Expectation:
        """The pass over the rows of these indices, which are read unless they are given."""
        weight = None if self.sample_weight is None else self.sample_weight[index]
        labels = None if self.labels is None else self.labels[index]
        return self._expectation(ArraySource(self.source.take(index) if rows is None else rows), weight, labels)

    def begun(self, parameters: MixtureParameters) -> MixtureParameters:
        """Starting parameters with the fixed ones in their places, and with noise if there should be some."""
        bounds = self.maximise.noise_bounds
        if bounds is None and parameters.noise is not None:
            parameters = replace(parameters, weights=parameters.weights / parameters.weights.sum(), noise=None)
        if bounds is not None and (parameters.noise is None or not np.array_equal(parameters.noise.bounds, bounds)):
            weights = parameters.weights * ((1.0 - self.noise_start) / parameters.weights.sum())
            parameters = replace(parameters, weights=weights, noise=UniformNoise(self.noise_start, bounds))
        return self.maximise.hold(parameters)

    def data_pass(self) -> StatisticsPass:
        """The plain pass over all rows, complete and unlabelled."""
        return StatisticsPass(self.source, self.columns.mean, self.sample_weight)

    def complete_source(self) -> Source:
        """The rows with column means in the place of missing values: good enough to start from."""
        return FilledSource(self.source, self.columns.mean) if self.has_missing else self.source

    def completed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of the source with column means in the place of missing values."""
        return filled(rows, self.columns.mean) if self.has_missing else rows

    def _expectation(self, source: Source, weight: Array | None, labels: NDArray[np.int64] | None) -> Expectation:
        if labels is None or not (labels >= 0).any():
            return self._unlabelled(source, weight)
        known = np.flatnonzero(labels >= 0)
        labelled = self._unlabelled(ArraySource(source.take(known)), None if weight is None else weight[known])
        rest: Expectation | None = None
        if len(known) < len(labels):
            unknown = np.where(labels < 0, 1.0 if weight is None else weight, 0.0)
            rest = self._unlabelled(source, unknown) if unknown.any() else None
        return PartlyLabelled(rest, labelled, labels[known], constant=not self.has_missing)

    def _unlabelled(self, source: Source, weight: Array | None) -> Expectation:
        if self.has_missing:
            if isinstance(source, ArraySource):
                return MissingPass(source.chunks(), source.dtype, self.columns.mean, weight)
            return PartwisePass(source, partial(BlockwiseMissingPass, shift=self.columns.mean), (weight,))
        return StatisticsPass(source, self.columns.mean, weight)
