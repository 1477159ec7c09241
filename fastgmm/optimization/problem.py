"""What a fit is about: its rows, what is known of them, and the M-step."""

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.expectation import Expectation, KnownRows, PartlyLabelled, PartwisePass, StatisticsPass
from ..model.maximisation import Maximiser
from ..model.missing import MissingPass
from ..model.parameters import Array, MixtureParameters, UniformNoise
from ..rows.source import ArraySource, Source
from ..rows.summary import ColumnSummary
from ..rows.wrappers import FilledSource, filled
from .compiled import CompiledEM, is_small
from .labelled import label_means


@dataclass(frozen=True)
class Problem:
    """The data of a fit, and its M-step.

    Attributes
    ----------
    source : Source
    columns : ColumnSummary
        Of the rows of positive weight, without missing values, and of these labels.
    sample_weight : ndarray of shape (n_samples,) or None
    n_components : int
    maximise : callable(statistics)
        The M-step.
    has_missing : bool
        Whether NaN stands for missing values.
    labels : ndarray of shape (n_samples,), int64, or None
        The component of each row, -1 where it is not known; None if no row is labelled.
    parameters_kind : type
        What the parameters are values of.
    weight_unit : float
        What `sample_weight` has been divided by (`validation.py: weight_unit`).
    """

    source: Source
    columns: ColumnSummary
    sample_weight: Array | None
    n_components: int
    maximise: Any
    has_missing: bool = False
    labels: NDArray[np.int64] | None = field(default=None, kw_only=True)
    parameters_kind: type = field(default=MixtureParameters, kw_only=True)
    weight_unit: float = field(default=1.0, kw_only=True)

    @cached_property
    def total_weight(self) -> float:
        """Sum of the weights of the rows, but for those without any value whose component is not known either."""
        total = self.source.n_samples if self.sample_weight is None else self.sample_weight.sum()
        return float(total) - self.columns.silent

    def expectation(self) -> Any:
        """The pass over all rows that EM repeats."""
        raise NotImplementedError

    def begun(self, parameters: Any) -> Any:
        """Starting parameters as the M-step could have chosen them."""
        raise NotImplementedError

    def complete_source(self) -> Source:
        """The rows with column means in the place of missing values: good enough to start from."""
        return FilledSource(self.source, self.columns.mean) if self.has_missing else self.source

    def completed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of the source with column means in the place of missing values."""
        return filled(rows, self.columns.mean) if self.has_missing else rows


@dataclass(frozen=True)
class MixtureProblem(Problem):
    """The fit of a mixture whose covariances are arrays.

    Attributes
    ----------
    maximise : Maximiser
    noise_start : float
        Weight of the uniform noise to begin with, where there is one.
    """

    maximise: Maximiser
    noise_start: float = 0.0

    @cached_property
    def label_means(self) -> tuple[Array, Array]:
        """Weight and mean of the rows with each label, read once for all starts."""
        source, per_row = self.complete_source(), (self.sample_weight, self.labels)
        return label_means(source, self.columns.mean, self.n_components, per_row)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is known but complete rows and their weights: then several starts may be compared."""
        maximise = self.maximise
        known = self.labels is not None or maximise.noise_bounds is not None or maximise.fixed.holds_any
        return not known and not self.has_missing

    @cached_property
    def compiled(self) -> CompiledEM | None:
        """What starts and iterates a small problem of which nothing but its rows is known; None of others."""
        n_samples, n_features = self.source.n_samples, self.source.n_features
        plain = n_samples > 0 and self.is_plain and self.maximise.is_plain
        work = n_samples * self.maximise.structure.flops_per_row(self.n_components, n_features)
        if not plain or not is_small(n_samples, self.n_components, work):
            return None
        return CompiledEM(self.source, self.sample_weight, self.columns.mean, self.n_components, self.maximise)

    @property
    def covariance_type(self) -> str:
        """Of the mixture."""
        return self.maximise.covariance_type

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

    def _expectation(self, source: Source, weight: Array | None, labels: NDArray[np.int64] | None) -> Expectation:
        make = partial(_pass_over_gaps if self.has_missing else _pass_over_complete, shift=self.columns.mean)
        if labels is None or not (labels >= 0).any():
            return make(source, weight)
        known, rest = labels >= 0, None
        if not known.all():
            unknown = np.where(known, 0.0, 1.0 if weight is None else weight)
            rest = make(source, unknown) if unknown.any() else None
        return PartlyLabelled(rest, KnownRows(source, make, weight, labels), constant=not self.has_missing)


FitProblem = MixtureProblem  # as pickles of version 0.1.0 name it


def _pass_over_complete(source: Source, sample_weight: Array | None, shift: Array) -> Expectation:
    return StatisticsPass(source, shift, sample_weight)


def _pass_over_gaps(source: Source, sample_weight: Array | None, shift: Array) -> Expectation:
    if isinstance(source, ArraySource):
        return MissingPass(source, sample_weight, shift)
    return PartwisePass(source, partial(MissingPass, shift=shift), sample_weight)
