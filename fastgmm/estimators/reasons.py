"""Verdicts of mixtures on rows, and the columns that make these odd."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.far import NonFiniteRowsError
from ..model.outliers import conformal_pvalues, discoveries
from ..model.reasons import Surprises, strangest, surprised
from ..model.scoring import Density
from ..rows.source import Source
from ..threads import thread_limit

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def verdicts(
    model: Any, X: Any, *, contamination: float | None = None, reference: Any = None, rate: float = 0.1
) -> NDArray[np.bool_]:
    """See `MixtureEstimator.anomalies` in base.py."""
    if (contamination is None) == (reference is None):
        raise ValueError("anomalies needs either contamination, a share of the rows, or reference, normal rows.")
    for name, value in (("contamination", contamination), ("rate", rate)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value!r}.")
    scores = -np.asarray(model.score_samples(X), np.float64)
    if contamination is not None:
        return np.asarray(scores > np.percentile(scores, 100 * (1 - contamination)))
    normal = np.sort(-np.asarray(model.score_samples(reference), np.float64))
    return discoveries(conformal_pvalues(scores[None], [normal]), rate)


@dataclass(frozen=True)
class Reasons:
    """Why rows are odd: their most surprising values, the strangest first; all arrays of shape (n_samples, top).

    Attributes
    ----------
    columns : ndarray of int64
    surprise : ndarray
        -log p(value | the row's other values) in nats, in units of the column's standard deviation.
    values, expected, deviation : ndarrays
        What the row has, and what its other values let expect, plus or minus.
    tail : ndarray
        Probability of a value at least so far in its tail.
    names : ndarray of str or None
        Of all columns.
    """

    columns: Index
    surprise: Array
    values: Array
    expected: Array
    deviation: Array
    tail: Array
    names: NDArray[Any] | None = None

    def name(self, column: int) -> str:
        """What a column is called."""
        return f"column {column}" if self.names is None else str(self.names[column])

    def sentences(self, row: int) -> list[str]:
        """One for each reason of a row: expected 3.1 +- 0.4, got 9.7."""
        return [
            f"{self.name(int(column))}: expected {middle:.4g} +- {spread:.2g}, got {value:.4g} (p = {tail:.2g})"
            for column, middle, spread, value, tail in zip(
                self.columns[row],
                self.expected[row],
                self.deviation[row],
                self.values[row],
                self.tail[row],
                strict=True,
            )
        ]


def reasons_of(model: Any, X: Any, top: int) -> Reasons:
    """See `MixtureEstimator.reasons` in base.py."""
    if int(top) < 1:
        raise ValueError(f"top must be at least 1, got {top}.")
    density = checked_density(model)
    source = model._score_input(X)
    with thread_limit(model._setting("n_jobs")), model._naming_nonfinite(source, model._may_miss):
        _refuse_nonfinite(source, model._may_miss)
        found = Surprises.joined(list(source.map_parts(surprised, density)))
    columns = strangest(found, min(int(top), source.n_features))
    rows = source.take(np.arange(source.n_samples))

    def taken(values: Array) -> Array:
        return np.asarray(np.take_along_axis(values, columns, axis=1), np.float64)

    return Reasons(
        columns, taken(found.surprise), taken(rows), taken(found.expected), taken(found.deviation), taken(found.tail),
        model._column_names(),
    )  # fmt: skip


def _refuse_nonfinite(source: Source, may_miss: bool) -> None:
    if source.is_local:
        for _, block in source.chunks():
            bad = np.isinf(block).any() if may_miss else not np.isfinite(block).all()
            if bad:
                raise NonFiniteRowsError


def checked_density(model: Any) -> Density:
    """The density of a fitted mixture."""
    model._check_is_fitted()
    density: Density = model._density()
    return density
