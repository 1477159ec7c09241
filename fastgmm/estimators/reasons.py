"""Verdicts of mixtures on rows, and the columns that make these odd."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.outliers import conformal_pvalues, discoveries
from ..model.reasons import explained
from ..model.scoring import Density
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
    return judged(model, X, contamination, reference, rate)[1]


def judged(
    model: Any, X: Any, contamination: float | None, reference: Any, rate: float
) -> tuple[Array, NDArray[np.bool_], Array | None]:
    """Log-densities of rows, which are anomalies, and their p-values where there are reference rows."""
    scores = np.asarray(model.score_samples(X), np.float64)
    if contamination is not None:
        return scores, scores < np.percentile(scores, 100 * contamination), None
    normal = np.sort(-np.asarray(model.score_samples(reference), np.float64))
    pvalues = conformal_pvalues(-scores[None], [normal])
    return scores, discoveries(pvalues, rate), pvalues


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
    n_named, may_miss = min(int(top), source.n_features), model._may_miss
    with thread_limit(model._setting("n_jobs")), model._naming_nonfinite(source, may_miss):
        columns, said = zip(*source.map_parts(explained, density, may_miss, n_named), strict=True)
    surprise, values, expected, deviation, tail = np.concatenate(said).transpose(1, 0, 2)
    return Reasons(np.concatenate(columns), surprise, values, expected, deviation, tail, model._column_names())


def checked_density(model: Any) -> Density:
    """The density of a fitted mixture."""
    model._check_is_fitted()
    density: Density = model._density()
    return density
