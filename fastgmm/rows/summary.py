"""What a fit must know of its columns beforehand, from one pass over the rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .source import Array, Source


@dataclass(frozen=True)
class ColumnSummary:
    """What a fit must know of its columns beforehand, from one pass over the rows of positive weight.

    Attributes
    ----------
    minimum, maximum, mean, variance : ndarrays of shape (n_features,), float64
    finite : bool
        Whether every value (of any weight) is finite; if not, the other attributes mean nothing.
    """

    minimum: Array
    maximum: Array
    mean: Array
    variance: Array
    finite: bool

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Columns whose values are all equal."""
        return self.minimum == self.maximum


def summarise_columns(source: Source, sample_weight: Array | None = None) -> ColumnSummary:
    """Summarise the columns in one pass; memory independent of n_samples."""
    shift = source.take(np.zeros(1, np.int64))[0].astype(np.float64)
    shift = np.where(np.isfinite(shift), shift, 0.0)
    merged = np.concatenate(list(source.map_parts(_column_sums, shift, per_row=(sample_weight,))))
    total = float(source.n_samples if sample_weight is None else sample_weight.sum())
    with np.errstate(over="ignore", invalid="ignore"):
        offset = merged[:, 2].sum(axis=0) / total
        variance = np.maximum(merged[:, 3].sum(axis=0) / total - offset**2, 0.0)
    return ColumnSummary(
        merged[:, 0].min(axis=0),
        merged[:, 1].max(axis=0),
        shift + offset,
        variance,
        bool(np.isfinite(merged[:, 4]).all()),
    )


def _column_sums(source: Source, shift: Array, sample_weight: Array | None) -> Array:
    """What kernels/columns.py finds in each stretch of the rows, (n_stretches, 5, n_features)."""
    from ..kernels import parallel
    from ..kernels.columns import summarise_columns_slot

    size = parallel.rows_per_call(100.0 * source.n_features)
    summaries = [np.empty((0, 5, source.n_features))]
    for start, chunk in source.chunks():
        for first in range(0, len(chunk), size):
            block = chunk[first : first + size].view()
            block.flags.writeable = False
            n_slots = max(1, min(32, len(block) // 1024))
            summary = np.empty((n_slots, 5, source.n_features))
            begin = start + first
            weight = (np.empty(0) if sample_weight is None else sample_weight[begin : begin + len(block)]).view()
            weight.flags.writeable = False
            parallel.run_slots(summarise_columns_slot, n_slots, 0, block, weight, shift, summary)
            summaries.append(summary)
    return np.concatenate(summaries)


def summarise_observed(source: Source, sample_weight: Array | None = None) -> ColumnSummary:
    """`summarise_columns` of rows in which NaN stands for a missing value; `finite` says that there is no infinity.

    A column without any value has a minimum of infinity.
    """
    some = source.take(np.arange(min(1000, source.n_samples))).astype(np.float64)
    shift = np.nan_to_num(np.nansum(some, axis=0) / np.maximum(np.sum(~np.isnan(some), axis=0), 1))
    parts = np.array(list(source.map_parts(_observed_sums, shift, per_row=(sample_weight,))))
    with np.errstate(over="ignore", invalid="ignore"):  # of infinite values, which the caller refuses
        weights, sums, squares = parts[:, 2:5].sum(axis=0)
        total = np.where(weights > 0, weights, 1.0)
        variance = np.maximum(squares / total - (sums / total) ** 2, 0.0)
    low, high, finite = parts[:, 0].min(axis=0), parts[:, 1].max(axis=0), bool(parts[:, 5].all())
    return ColumnSummary(low, high, shift + sums / total, variance, finite)


def _observed_sums(source: Source, shift: Array, sample_weight: Array | None) -> Array:
    """Of each column's values: minimum, maximum, weight, sums of x - shift and its square, whether none is infinite."""
    low, high = np.full(len(shift), np.inf), np.full(len(shift), -np.inf)
    weights, sums, squares = np.zeros(len(shift)), np.zeros(len(shift)), np.zeros(len(shift))
    finite = np.ones(len(shift))
    for start, chunk in source.chunks():
        for first in range(0, len(chunk), 65536):
            block = chunk[first : first + 65536].astype(np.float64)
            finite[np.isinf(block).any(axis=0)] = 0.0
            weight = np.ones(len(block)) if sample_weight is None else sample_weight[start + first :][: len(block)]
            present = ~np.isnan(block) & (weight > 0)[:, None]
            low = np.minimum(low, np.min(block, axis=0, where=present, initial=np.inf))
            high = np.maximum(high, np.max(block, axis=0, where=present, initial=-np.inf))
            diff = np.where(present, block - shift, 0.0)
            with np.errstate(over="ignore", invalid="ignore"):  # of infinite values, which the caller refuses
                weights += weight @ present
                sums += weight @ diff
                squares += weight @ diff**2
    return np.array([low, high, weights, sums, squares, finite])


def first_nonfinite(source: Source) -> tuple[int, int, float] | None:
    """Return row, column and value of the first NaN or infinity, or None."""
    for start, chunk in source.chunks():
        for first in range(0, len(chunk), 4096):
            block = chunk[first : first + 4096]
            bad = ~np.isfinite(block)
            if bad.any():
                row, column = np.unravel_index(int(np.argmax(bad)), bad.shape)
                return start + first + int(row), int(column), float(block[row, column])
    return None
