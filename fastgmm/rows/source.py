"""Rows as the kernels read them: C-contiguous float32 or float64 blocks, without a copy of the whole where possible."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from .files import WatchedFile

Array = NDArray[np.float64]
T = TypeVar("T")
NONE_SKIPPED = np.empty(0, np.int64)
Rows = Iterable[tuple[int, NDArray[Any]]]

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


def blocks(chunks: Rows, size: int) -> Rows:
    """Cut (first row, rows) pairs into such of at most `size` rows: views, none across the end of another."""
    for start, chunk in chunks:
        for first in range(0, len(chunk), size):
            yield start + first, chunk[first : first + size]


def sums_to_finite(block: NDArray[Any]) -> bool:
    """Whether the sum of all values is finite, and so are they; finite ones may overflow it. Half as long as isnan."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.sum(block)))


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
    is_local : bool
        Whether this process reads the rows; otherwise workers do.
    keeps_bad : bool
        Whether rows that could not be read are among them, with infinity in their place, for what scores rows.
    watched : tuple of WatchedFile
        The files that are read: those of a pass stay the same, and results must not replace them.
    """

    n_features: int
    dtype: np.dtype[Any]
    input_dtype: np.dtype[Any]
    names: list[str] | None = None
    random_access: bool = True
    first_row: int = 0
    is_local: bool = True
    watched: tuple[WatchedFile, ...] = ()
    keeps_bad: bool = False

    @property
    def skipped(self) -> NDArray[np.int64]:
        """The places of rows that are left out, among all."""
        return NONE_SKIPPED

    @property
    def n_skipped(self) -> int:
        """Number of bad rows that are left out."""
        return len(self.skipped)

    def numbers(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of these rows among all, those that are left out included."""
        skipped = self.skipped
        return index + np.searchsorted(skipped - np.arange(len(skipped)), index, side="right")

    @property
    def files(self) -> tuple[Path, ...]:
        """Where the files are that are read."""
        return tuple(file.path for file in self.watched)

    @property
    @abstractmethod
    def n_samples(self) -> int:
        """Number of rows."""

    @property
    def known_n_samples(self) -> int | None:
        """`n_samples`, or None where only reading would tell."""
        return self.n_samples

    def remember_counts(  # noqa: B027 - most sources know them
        self, n_samples: int, skipped: NDArray[np.int64]
    ) -> None:
        """Learn from another process what reading the rows told it."""

    @abstractmethod
    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (index of the first row, C-contiguous block), in order."""

    @abstractmethod
    def take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of these indices."""

    def read_as(self, dtype: Any) -> Self:
        """Return the same rows in this precision, float32 or float64."""
        other = copy.copy(self)
        other.dtype = np.dtype(dtype)
        return other

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

    def map_blocks(self, task: Callable[..., T], *arguments: Any, n_rows: int) -> Iterator[T]:
        """`map_parts`, but of at most `n_rows` rows at a time where this process reads them: for large results."""
        if not self.is_local:
            yield from self.map_parts(task, *arguments)
            return
        for _, block in blocks(self.chunks(), n_rows):
            yield task(ArraySource(block, names=self.names), *arguments)

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
        return self._n_samples

    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        if self._direct:
            yield 0, self.X
            return
        size = rows_per_block(self.n_features, self.dtype)
        for first in range(0, self.n_samples, size):
            yield first, self._converted(self.X[first : first + size])

    def take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        return self._converted(self.X[index])

    def read_as(self, dtype: Any) -> "ArraySource":
        return self if dtype == self.dtype else ArraySource(self.X, dtype, self.names)

    def split(self, n_rows: int | None) -> list[Source]:
        """Cut into slices, which are sent along with every task."""
        size = n_rows or rows_per_part(self.n_samples, self.n_features, self.dtype)
        return [ArraySource(self.X[i : i + size], self.dtype, self.names) for i in range(0, self.n_samples, size)]

    def _converted(self, block: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(block, dtype=self.dtype)
