"""Rows that are read block by block from somewhere else than an array in memory."""

import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SourceError, clipped
from .files import WatchedFile, check_files
from .prefetch import Prefetched
from .reservoir import Reservoir
from .source import NONE_SKIPPED, Source, read_dtype, rows_per_block, rows_per_part

Table = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Rows as a reader finds them.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_features)
    origin : str
        The file, or what else they come from.
    first_row : int
        Where they begin there.
    skipped : ndarray of int64
        Rows that were left out before or between these, by their places among all rows.
    owned : bool
        Whether nobody else will write into the values.
    """

    values: Table
    origin: str
    first_row: int = 0
    owned: bool = False
    skipped: NDArray[np.int64] = field(default_factory=lambda: NONE_SKIPPED)


class Buffers:
    """Memory for blocks of rows, used again once nobody else holds a view of it.

    The first use of new memory costs about as much as filling it. Whoever keeps a block keeps its memory.
    """

    def __init__(self, n_rows: int, n_features: int, dtype: np.dtype[Any]) -> None:
        self._shape, self._dtype = (n_rows, n_features), dtype
        self._all: list[Table] = []

    def take(self, n_rows: int) -> Table:
        """Return uninitialised rows."""
        for i in range(len(self._all)):
            if sys.getrefcount(self._all[i]) <= 2:  # the list's and the argument's
                return self._all[i][:n_rows]
        self._all.append(np.empty(self._shape, self._dtype))
        return self._all[-1][:n_rows]


class Reader(ABC):
    """What knows one kind of data.

    Attributes
    ----------
    n_features : int
    dtype : dtype
        Of the values.
    names : list of str or None
        Of the columns.
    n_rows : int or None
        None where only reading tells.
    origin : str
        What it reads, for messages.
    watched : tuple of WatchedFile
        The files it reads.
    """

    n_features: int
    dtype: np.dtype[Any]
    names: list[str] | None = None
    n_rows: int | None = None
    origin: str = ""
    watched: tuple[WatchedFile, ...] = ()

    @abstractmethod
    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        """Yield the rows in order, at best `n_rows` at a time.

        With `lenient`, infinity stands in cells and rows that cannot be read; else they are a SourceError.
        """

    def rows(self, index: NDArray[np.int64]) -> Table | None:
        """Return the rows of these increasing indices, or None if that needs reading from the beginning."""
        return None

    @property
    def random_access(self) -> bool:
        """Whether `rows` gives rows."""
        return False

    @property
    def reads_ahead(self) -> bool:
        """Whether the system reads ahead by itself, so that no thread has to, which computing ones would wait for."""
        return False

    def split(self, n_rows: int) -> "list[Reader]":
        """Cut into readers of at best `n_rows` rows each that other processes can use."""
        raise TypeError(
            f"{self.origin} cannot be read in parts by workers; give .npy or Parquet files, or a Dask array."
        )


class TableReader(Reader):
    """A reader of a table whose number of rows is known, or of a stretch of it."""

    n_rows: int
    _first = 0  # row of the table

    def split(self, n_rows: int) -> list[Reader]:
        parts: list[Reader] = []
        for first in range(self._first, self._first + self.n_rows, n_rows):
            part = copy.copy(self)
            part._first, part.n_rows = first, min(n_rows, self._first + self.n_rows - first)
            parts.append(part)
        return parts


class StreamSource(Source):
    """The rows of a reader in blocks of a fixed number of rows, read ahead by another thread.

    The blocks do not depend on how the data are stored, so that what is computed from them does not either.

    Parameters
    ----------
    reader : Reader
    on_bad : {'raise', 'skip', 'keep'}
        Whether rows with NaN, infinity or what is no number are left out, or keep their place: infinity stands where
        nothing could be read.
    batch_rows : int or None
        Rows of a block; by default about 8 MiB.

    Attributes
    ----------
    counts : (int, ndarray of int64) or None
        Number of rows that are read, and places of those left out, once they have been counted.
    """

    def __init__(self, reader: Reader, on_bad: str = "raise", batch_rows: int | None = None) -> None:
        self.reader, self.on_bad = reader, on_bad
        self.n_features, self.names, self.input_dtype = reader.n_features, reader.names, reader.dtype
        self.dtype = read_dtype(reader.dtype)
        self.watched = reader.watched
        self._batch_rows, self._skips, self.keeps_bad = batch_rows, on_bad == "skip", on_bad == "keep"
        self.random_access = reader.random_access and not self._skips
        self.counts: tuple[int, NDArray[np.int64]] | None = None
        self._sample: tuple[NDArray[np.int64], Table] | None = None  # kept while rows were counted
        if reader.n_rows is not None and not self._skips:
            self.counts = (reader.n_rows, NONE_SKIPPED)

    @property
    def n_samples(self) -> int:
        """Number of rows that are read; the first question may take a pass over the data."""
        return self._counted()[0]

    @property
    def known_n_samples(self) -> int | None:
        return None if self.counts is None else self.counts[0]

    def remember_counts(self, n_samples: int, skipped: NDArray[np.int64]) -> None:
        self.counts = (n_samples, skipped)

    @property
    def skipped(self) -> NDArray[np.int64]:
        return self._counted()[1]

    def chunks(self) -> Generator[tuple[int, Table]]:
        expected = self.n_samples
        first = 0
        ready = self._blocks() if self.reader.reads_ahead else Prefetched(self._blocks())
        with closing(ready) as blocks:
            for block in blocks:
                if first + len(block) <= expected:
                    yield first, block
                first += len(block)
        if first != expected:
            raise SourceError(
                f"{self.reader.origin or 'the source'} held {expected} rows at first and {first} rows when read again: "
                "it changed, or it can be read only once. Wait until it is complete; what can be read only once is for "
                "partial_fit."
            )

    def take(self, index: NDArray[np.int64]) -> Table:
        """Return the rows of these indices, if need be from a pass over the data up to the last of them."""
        wanted, places = np.unique(index, return_inverse=True)
        check_files(self.watched)
        rows = self.reader.rows(wanted) if self.random_access else self._sampled(wanted)
        out = self._gathered(wanted) if rows is None else np.ascontiguousarray(rows, self.dtype)
        check_files(self.watched)
        return out if len(wanted) == len(index) and np.array_equal(wanted, index) else out[places]

    def _sampled(self, wanted: NDArray[np.int64]) -> Table | None:
        """The rows of these increasing indices, if all of them were kept while rows were counted."""
        if self._sample is None:
            return None
        index, rows = self._sample
        places = np.minimum(np.searchsorted(index, wanted), len(index) - 1)
        return rows[places] if np.array_equal(index[places], wanted) else None

    def _gathered(self, wanted: NDArray[np.int64]) -> Table:
        """The rows of these increasing indices, from a pass."""
        out = np.empty((len(wanted), self.n_features), self.dtype)
        done = 0
        with closing(self.chunks()) as chunks:
            for first, block in chunks:
                stop = int(np.searchsorted(wanted, first + len(block)))
                out[done:stop] = block[wanted[done:stop] - first]
                done = stop
                if done == len(wanted):
                    break
        return out

    def place(self, row: int) -> str:
        """Say which row of which file this is."""
        first, row = 0, int(self.numbers(np.array([row]))[0])
        for part in self.reader.parts(self._block_rows(), self.on_bad != "raise"):
            if row < first + len(part.values):
                return f"row {part.first_row + row - first} of {part.origin}"
            first += len(part.values)
        return ""

    def split(self, n_rows: int | None) -> list[Source]:
        """Cut into sources of parts of the data."""
        size = n_rows or rows_per_part(self.reader.n_rows, self.n_features, self.dtype)
        parts = [StreamSource(reader, self.on_bad, self._batch_rows) for reader in self.reader.split(size)]
        return [part.read_as(self.dtype) for part in parts]

    def _counted(self) -> tuple[int, NDArray[np.int64]]:
        if self.counts is None:
            kept, skipped = 0, [NONE_SKIPPED]
            sample = Reservoir(self.n_features)
            for part in self._parts():
                kept += len(part.values)
                skipped.append(part.skipped)
                if len(part.values):
                    sample.add(part.values)
            self.counts = (kept, np.concatenate(skipped))
            self._sample = sample.kept() if kept else None
        return self.counts

    def _block_rows(self) -> int:
        return self._batch_rows or rows_per_block(self.n_features, self.dtype)

    def _parts(self) -> Iterator[Part]:
        """What the reader gives, checked, without bad rows if they are left out."""
        wanted, row = read_dtype(self.input_dtype), 0
        for part in self.reader.parts(self._block_rows(), self.on_bad != "raise"):
            check_part(part, self.n_features)
            if len(part.values) and read_dtype(part.values.dtype) != wanted:
                raise SourceError(
                    f"{part.origin} holds {part.values.dtype}, but what comes before it {self.input_dtype}; convert "
                    "one of them."
                )
            if not self._skips:
                yield part
                continue
            values = np.ascontiguousarray(part.values, wanted)
            good = np.isfinite(values).all(axis=1)
            bad = row + np.flatnonzero(~good)
            row += len(good)
            values = values[good] if len(bad) else values
            yield Part(values, part.origin, part.first_row, part.owned or len(bad) > 0, bad)

    def _blocks(self) -> Generator[Table]:
        """The rows in blocks of equal length, apart from the last; copied, since readers may use a buffer again."""
        size, filled = self._block_rows(), 0
        buffers = Buffers(size, self.n_features, self.dtype)
        block: Table | None = None
        for part in self._parts():
            values, start = part.values, 0
            while start < len(values):
                left = len(values) - start
                whole = values[start : start + size]
                if filled == 0 and left >= size and part.owned and _is_ready(whole, self.dtype):
                    start += size
                    yield whole
                    continue
                if block is None:
                    block = buffers.take(size)
                count = min(left, size - filled)
                block[filled : filled + count] = values[start : start + count]
                filled, start = filled + count, start + count
                if filled == size:
                    full, block, filled = [block], None, 0
                    yield full.pop()  # not held here any longer
        if block is not None:
            yield block[:filled]


def _is_ready(block: Table, dtype: np.dtype[Any]) -> bool:
    return bool(block.dtype == dtype and block.flags.c_contiguous and block.flags.aligned)


def check_part(part: Part, n_features: int) -> None:
    """Raise SourceError if a part is no table of numbers of this width."""
    values = part.values
    if values.ndim != 2 or values.shape[1] != n_features:
        raise SourceError(
            f"{part.origin} has shape {values.shape}, but a table of {n_features} columns is needed, which is what the "
            "others have or were said to have."
        )
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise SourceError(f"{part.origin} holds {values.dtype}, but float32 or float64 numbers are needed.")


def check_table(shape: Sequence[int], dtype: np.dtype[Any], origin: str) -> None:
    """Raise SourceError if this is no table of numbers."""
    if len(shape) != 2 or shape[1] == 0:
        raise SourceError(f"{origin} has shape {tuple(shape)}, but rows and columns are needed.")
    check_part(Part(np.empty((0, shape[1]), dtype), origin), int(shape[1]))


def chosen_columns(columns: Sequence[str | int] | None, names: list[str] | None, n: int, origin: str) -> list[int]:
    """Return the places of the columns that were chosen by name or place; all of them for None."""
    if columns is None:
        return list(range(n))
    if isinstance(columns, str) or len(columns) == 0:
        raise ValueError(f"columns must be a list of names or places, and not be empty. Got {columns!r}.")
    found = []
    for column in columns:
        if isinstance(column, str) and names is not None and names.count(column) == 1:
            found.append(names.index(column))
        elif isinstance(column, str) and column.isdigit() and int(column) < n and column not in (names or ()):
            found.append(int(column))  # a place; names win
        elif not isinstance(column, str) and 0 <= column < n:
            found.append(int(column))
        else:
            known = f"{n} columns without names" if names is None else f"columns {clipped(', '.join(names))}"
            raise SourceError(f"{origin} has no single column {clipped(str(column))!r}; it has {known}.")
    return found


class Chained(Reader):
    """Readers one after the other, which must be alike."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        first = readers[0]
        for reader in readers[1:]:
            pairs = (
                ("columns", first.n_features, reader.n_features),
                ("values of", read_dtype(first.dtype), read_dtype(reader.dtype)),
                ("columns named", first.names, reader.names),
            )
            for what, one, other in pairs:
                if one != other:
                    raise SourceError(
                        f"{first.origin} and {reader.origin} differ: the first has {what} {one}, the second {other}."
                    )
        self.readers = readers
        self.places = getattr(first, "places", range(first.n_features))
        self.watched = tuple(file for reader in readers for file in reader.watched)
        self.n_features, self.dtype, self.names = first.n_features, first.dtype, first.names
        self.origin = first.origin if len(readers) == 1 else f"{first.origin} and {len(readers) - 1} other files"
        counts = [reader.n_rows for reader in readers]
        known = [count for count in counts if count is not None]
        self.n_rows = sum(known) if len(known) == len(counts) else None
        self._starts = np.cumsum([0, *known])

    @property
    def random_access(self) -> bool:
        return all(reader.random_access for reader in self.readers)

    @property
    def reads_ahead(self) -> bool:
        return all(reader.reads_ahead for reader in self.readers)

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        for reader in self.readers:
            check_files(reader.watched)
            for part in reader.parts(n_rows, lenient):
                check_files(reader.watched, f", in or after row {part.first_row}")
                yield part

    def split(self, n_rows: int) -> list[Reader]:
        """Cut each reader for itself: no part has rows of two."""
        return [part for reader in self.readers for part in reader.split(n_rows)]

    def rows(self, index: NDArray[np.int64]) -> Table | None:
        bounds = np.searchsorted(index, self._starts)
        found = []
        for reader, start, first, last in zip(self.readers, self._starts, bounds[:-1], bounds[1:], strict=False):
            if last > first:
                rows = reader.rows(index[first:last] - start)
                if rows is None:
                    return None
                found.append(rows)
        return np.concatenate(found) if found else np.empty((0, self.n_features), self.dtype)
