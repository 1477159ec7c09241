"""What a fit must know of its columns beforehand, from one pass over the rows; and where a bad value stands."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .source import Array, Source, blocks

SHIFT_ROWS = 1000  # among whose values each column's shift is sought
LOOKED_AT = 4096  # rows that are searched for a bad value at a time


@dataclass(frozen=True)
class ColumnSummary:
    """What a fit must know of its columns beforehand, from one pass over the rows of positive weight.

    Attributes
    ----------
    minimum, maximum, mean, variance : ndarrays of shape (n_features,), float64
        Of the values that are not NaN; of a column without any, the minimum is infinite. With an infinity, they mean
        nothing.
    has_missing, has_infinity : bool
        Whether a value (of any weight) is NaN, or infinite.
    present : ndarray of shape (n_features,), float64
        Weight of the rows whose value is not NaN.
    silent : float
        Weight of the rows without any value whose component is not known: they say nothing.
    """

    minimum: Array
    maximum: Array
    mean: Array
    variance: Array
    has_missing: bool = False
    has_infinity: bool = False
    present: Array = field(default_factory=lambda: np.empty(0))
    silent: float = 0.0

    @property
    def finite(self) -> bool:
        """Whether every value is finite."""
        return not (self.has_missing or self.has_infinity)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Columns whose values are all equal."""
        return self.minimum == self.maximum


def summarise_columns(
    source: Source, sample_weight: Array | None = None, labels: NDArray[np.int64] | None = None
) -> ColumnSummary:
    """Summarise the columns in one pass, in which NaN is a missing value; memory independent of n_samples.

    labels: the component of each row, -1 where it is not known; None where none is.
    """
    shift = _shift(source, sample_weight)
    merged = np.concatenate(list(source.map_parts(_column_sums, shift, per_row=(sample_weight, labels))))
    present = merged[:, 5].sum(axis=0)
    total = np.where(present > 0, present, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        offset = merged[:, 2].sum(axis=0) / total
        variance = np.maximum(merged[:, 3].sum(axis=0) / total - offset**2, 0.0)
    return ColumnSummary(
        merged[:, 0].min(axis=0),
        merged[:, 1].max(axis=0),
        shift + offset,
        variance,
        bool((merged[:, 6] > 0).any()),
        not np.isfinite(merged[:, 4]).all(),
        present,
        float(merged[:, 7, 0].sum()),
    )


def _shift(source: Source, sample_weight: Array | None) -> Array:
    """A value of each column, of a row of positive weight; 0 where there is none."""
    present = np.arange(min(SHIFT_ROWS, source.n_samples))
    if sample_weight is not None:
        present = np.flatnonzero(sample_weight > 0)[:SHIFT_ROWS]
    if len(present) == 0:
        return np.zeros(source.n_features)
    found = _first_finite(source.take(present[:1]))
    if np.isnan(found).any():
        found = _first_finite(source.take(present))
    if np.isnan(found).any():  # it may be that the others are time stamps, whose squares keep no digits about 0
        found = _first_finite(np.array(list(source.map_parts(_some_values, per_row=(sample_weight,)))))
    return np.where(np.isnan(found), 0.0, found)


def _first_finite(rows: NDArray[Any]) -> Array:
    """The first finite value of each column, NaN where there is none."""
    rows = rows.astype(np.float64)
    known = np.isfinite(rows)
    values = np.take_along_axis(rows, known.argmax(axis=0)[None], axis=0)[0]
    return np.where(known.any(axis=0), values, np.nan)


def _some_values(part: Source, sample_weight: Array | None) -> Array:
    """`_first_finite` of the rows of positive weight of a part, which is read as far as that takes."""
    found = np.full(part.n_features, np.nan)
    for first, block in blocks(part.chunks(), LOOKED_AT):
        rows = block if sample_weight is None else block[sample_weight[first : first + len(block)] > 0]
        if len(rows):
            found = np.where(np.isnan(found), _first_finite(rows), found)
        if not np.isnan(found).any():
            break
    return found


def _column_sums(source: Source, shift: Array, sample_weight: Array | None, labels: NDArray[np.int64] | None) -> Array:
    """What kernels/columns.py finds in each stretch of the rows, (n_stretches, 8, n_features)."""
    from ..kernels import parallel
    from ..kernels.columns import summarise_columns_slot

    size = parallel.rows_per_call(100.0 * source.n_features)
    per_row = [
        np.empty(0, dtype) if values is None else values
        for values, dtype in ((sample_weight, np.float64), (labels, np.int64))
    ]
    summaries = [np.empty((0, 8, source.n_features))]
    for begin, rows in blocks(source.chunks(), size):
        block = rows.view()
        block.flags.writeable = False
        n_slots = max(1, min(32, len(block) // 1024))
        summary = np.empty((n_slots, 8, source.n_features))
        of_block = [values[begin : begin + len(block)] for values in per_row]
        for values in of_block:
            values.flags.writeable = False
        parallel.run_slots(summarise_columns_slot, n_slots, 0, block, *of_block, shift, summary)
        summaries.append(summary)
    return np.concatenate(summaries)


def first_nonfinite(source: Source, missing: bool = True) -> tuple[int, int, float] | None:
    """Return row, column and value of the first infinity or, with `missing`, NaN; None if there is none.

    Each part of the rows is searched where it lies.
    """
    before = 0
    for n_rows, place in source.map_parts(_first_nonfinite, missing):
        if place is not None:
            row, column, value = place
            return before + row, column, value
        before += n_rows
    return None


def _first_nonfinite(part: Source, missing: bool) -> tuple[int, tuple[int, int, float] | None]:
    """Number of rows, and the first bad value among them."""
    n_rows = 0
    for first, block in blocks(part.chunks(), LOOKED_AT):
        bad = ~np.isfinite(block) if missing else np.isinf(block)
        if bad.any():
            row, column = np.unravel_index(int(np.argmax(bad)), bad.shape)
            return n_rows, (first + int(row), int(column), float(block[row, column]))
        n_rows = first + len(block)
    return n_rows, None
