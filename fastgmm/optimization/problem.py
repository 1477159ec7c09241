"""What a fit is about: its rows, what is known of them, and the M-step."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..model.expectation import Expectation, PartlyLabelled, StatisticsPass
from ..model.maximisation import Maximiser
from ..model.missing import MissingPass
from ..model.parameters import Array, MixtureParameters, UniformNoise
from ..representation.source import ArraySource, ColumnSummary


@dataclass(frozen=True)
class FitProblem:
    """The data of a fit.

    Attributes
    ----------
    source : ArraySource
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

    source: ArraySource
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

    def batch(self, index: NDArray[np.int64]) -> Expectation:
        """The pass over the rows of these indices."""
        weight = None if self.sample_weight is None else self.sample_weight[index]
        return self._expectation(
            ArraySource(self.source.take(index)), weight, None if self.labels is None else self.labels[index]
        )

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
        return StatisticsPass(self.source.chunks, self.source.dtype, self.columns.mean, self.sample_weight)

    def complete_source(self) -> ArraySource:
        """The rows with column means in the place of missing values: good enough to start from."""
        return FilledSource(self.source, self.columns.mean) if self.has_missing else self.source

    def _expectation(self, source: ArraySource, weight: Array | None, labels: NDArray[np.int64] | None) -> Expectation:
        if labels is None or not (labels >= 0).any():
            return self._unlabelled(source, weight)
        known = np.flatnonzero(labels >= 0)
        labelled = self._unlabelled(ArraySource(source.take(known)), None if weight is None else weight[known])
        rest: Expectation | None = None
        if len(known) < len(labels):
            unknown = np.where(labels < 0, 1.0 if weight is None else weight, 0.0)
            rest = self._unlabelled(source, unknown) if unknown.any() else None
        return PartlyLabelled(rest, labelled, labels[known], constant=not self.has_missing)

    def _unlabelled(self, source: ArraySource, weight: Array | None) -> Expectation:
        if self.has_missing:
            return MissingPass(source.chunks(), source.dtype, self.columns.mean, weight)
        return StatisticsPass(source.chunks, source.dtype, self.columns.mean, weight)


class FilledSource(ArraySource):
    """Rows whose missing values are read as the means of their columns."""

    def __init__(self, source: ArraySource, fill: Array) -> None:
        super().__init__(source.X, source.dtype)
        self._fill, self._direct = fill.astype(source.dtype), False

    def _converted(self, block: NDArray[np.generic]) -> NDArray[np.generic]:
        rows = super()._converted(block)
        return np.where(np.isnan(rows), self._fill, rows)
