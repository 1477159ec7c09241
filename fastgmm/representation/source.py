"""Rows as the kernels read them: C-contiguous float32 or float64 blocks, without a copy of the whole where possible."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
T = TypeVar("T")

CONVERTED_BYTES = 8 * 2**20
PARTS, PART_BYTES = 32, 64 * 2**20  # of rows that are spread over workers


def read_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the precision in which values of this dtype are read: float32 for float32, else float64."""
    return np.dtype(np.float32 if np.dtype(dtype).newbyteorder("=") == np.float32 else np.float64)


def rows_per_block(n_features: int, dtype: np.dtype[Any]) -> int:
    """Rows of a block that is converted or read: a function of their size only, about 8 MiB."""
    return max(1024, CONVERTED_BYTES // (n_features * dtype.itemsize) // 1024 * 1024)


def rows_per_part(n_samples: int | None, n_features: int, dtype: np.dtype[Any]) -> int:
    """Rows that a worker is given at a time, where nobody says how many: 1/32 of all, at most 64 MiB.

    A function of the rows alone, so that results do not depend on the number of workers.
    """
    largest = max(1024, PART_BYTES // (n_features * dtype.itemsize))
    return largest if n_samples is None else min(largest, max(1024, -(-n_samples // PARTS)))


class Source(ABC):
    """Rows that can be read again and again, block by block.

    Attributes
    ----------
    n_features : int
    dtype : float32 or float64
        Of the blocks.
    input_dtype : dtype
        Of the values before they are converted.
    names : list of str or None
        Of the columns.
    random_access : bool
        Whether `take` costs about as much as the rows it returns; otherwise it reads from the beginning.
    first_row : int
        Number of the first row for messages, where the rows are a part of others.
    """

    n_features: int
    dtype: np.dtype[Any]
    input_dtype: np.dtype[Any]
    names: list[str] | None = None
    random_access: bool = True
    first_row: int = 0

    @property
    @abstractmethod
    def n_samples(self) -> int:
        """Number of rows."""

    @property
    def known_n_samples(self) -> int | None:
        """`n_samples`, or None where only reading would tell."""
        return self.n_samples

    def remember_counts(self, n_samples: int, n_skipped: int) -> None:  # noqa: B027 - most sources know them
        """Learn from another process what reading the rows told it."""

    @abstractmethod
    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (index of the first row, C-contiguous block), in order."""

    @abstractmethod
    def take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of these indices."""

    @abstractmethod
    def read_as(self, dtype: Any) -> Self:
        """Return the same rows in this precision, float32 or float64."""

    def place(self, row: int) -> str:
        """Say where a row comes from, for messages: the file and its place there; empty if there is nothing to say."""
        return ""

    def map_parts(self, task: Callable[..., T], *arguments: Any, per_row: Sequence[Any] = ()) -> Iterator[T]:
        """Yield task(part, *arguments, *values) for each part of the rows, in their order.

        A part is a source of its own, and `values` are its entries of the `per_row` arrays of n_samples entries (None
        stays None). There is one part, unless the rows are spread over workers (distributed.py): then tasks are
        functions of a module, and what they get and return is pickled.
        """
        yield task(self, *arguments, *per_row)

    def split(self, n_rows: int | None) -> "list[Source]":
        """Cut into sources of at most about `n_rows` rows that other processes can read; None: `rows_per_part`."""
        raise TypeError(f"The rows of a {type(self).__name__} cannot be spread over workers.")


class ArraySource(Source):
    """A two-dimensional array read in blocks.

    C-contiguous float32 and float64 arrays (read-only memory maps included) are handed out as they are; anything else
    is converted block by block, to float64 unless it is float32.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    dtype : float32 or float64, default: float32 for float32 data, else float64
    names : sequence of str or None
        Of the columns.
    """

    def __init__(self, X: NDArray[Any], dtype: Any = None, names: Sequence[str] | None = None) -> None:
        self.X = X
        self._n_samples, self.n_features = X.shape
        self.input_dtype = X.dtype
        self.dtype = read_dtype(X.dtype) if dtype is None else np.dtype(dtype)
        self.names = None if names is None else list(names)
        self._direct = X.flags.c_contiguous and X.flags.aligned and X.dtype == self.dtype

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self._n_samples

    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (index of the first row, block)."""
        if self._direct:
            yield 0, self.X
            return
        size = rows_per_block(self.n_features, self.dtype)
        for first in range(0, self.n_samples, size):
            yield first, self._converted(self.X[first : first + size])

    def take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of these indices."""
        return self._converted(self.X[index])

    def read_as(self, dtype: Any) -> "ArraySource":
        """Return the same rows in this precision."""
        return self if dtype == self.dtype else ArraySource(self.X, dtype, self.names)

    def split(self, n_rows: int | None) -> list[Source]:
        """Cut into slices, which are sent along with every task."""
        size = n_rows or rows_per_part(self.n_samples, self.n_features, self.dtype)
        return [ArraySource(self.X[i : i + size], self.dtype, self.names) for i in range(0, self.n_samples, size)]

    def _converted(self, block: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(block, dtype=self.dtype)


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
