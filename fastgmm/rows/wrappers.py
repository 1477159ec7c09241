"""Sources made of another source: rows as a transform gives them, and rows without the column of their weights."""

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from ..exceptions import GuessWarning
from .dialect import TextOptions
from .open import Columns, open_source
from .source import Array, Source, blocks, rows_per_block

T = TypeVar("T")


class WrappedSource(Source):
    """Rows made of the rows of another source, one of each.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self._source, self.random_access, self.first_row = source, source.random_access, source.first_row
        self.is_local, self.watched, self.keeps_bad = source.is_local, source.watched, source.keeps_bad

    @property
    def n_samples(self) -> int:
        return self._source.n_samples

    @property
    def known_n_samples(self) -> int | None:
        return self._source.known_n_samples

    @property
    def skipped(self) -> NDArray[np.int64]:
        return self._source.skipped

    def remember_counts(self, n_samples: int, skipped: NDArray[np.int64]) -> None:
        self._source.remember_counts(n_samples, skipped)

    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (index of the first row, block); a block is a few megabytes, also of an array in memory."""
        size = rows_per_block(self._source.n_features, self._source.dtype)
        for first, block in blocks(self._source.chunks(), size):
            yield first, self._made_of(block)

    def take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        return self._made_of(self._source.take(index))

    def place(self, row: int) -> str:
        return self._source.place(row)

    def map_parts(self, task: Callable[..., T], *arguments: Any, per_row: Sequence[Any] = ()) -> Iterator[T]:
        """Yield what the task makes of the parts of the source, wrapped like this one."""
        return self._source.map_parts(_on_wrapped, self._bare(), task, arguments, per_row=per_row)

    def split(self, n_rows: int | None) -> list[Source]:
        """Cut the source and wrap each part like this one."""
        return [self._bare()._around(part) for part in self._source.split(n_rows)]

    def _bare(self) -> Self:
        """Return this wrapper around nothing, which workers are sent."""
        bare = copy.copy(self)
        bare.watched = ()  # the parts know theirs; those of all would go along with every task
        del bare._source
        return bare

    def _around(self, source: Source) -> Self:
        wrapper = copy.copy(self)
        wrapper._source, wrapper.first_row, wrapper.is_local = source, source.first_row, source.is_local
        wrapper.watched = source.watched
        return wrapper

    @abstractmethod
    def _made_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Make a block of rows of one of the source."""


def _on_wrapped(
    part: Source, wrapper: WrappedSource, task: Callable[..., T], arguments: tuple[Any, ...], *values: Any
) -> T:
    return task(wrapper._around(part), *arguments, *values)


class FilledSource(WrappedSource):
    """The rows of a source whose missing values are read as these numbers, one for each column."""

    def __init__(self, source: Source, fill: Array) -> None:
        super().__init__(source)
        self._fill = fill
        self.n_features, self.dtype, self.input_dtype = source.n_features, source.dtype, source.input_dtype
        self.names = source.names

    def read_as(self, dtype: Any) -> "FilledSource":
        return FilledSource(self._source.read_as(dtype), self._fill)

    def _made_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        return filled(rows, self._fill)


def filled(rows: NDArray[Any], fill: Array) -> NDArray[Any]:
    """Rows with the entries of `fill` in the place of NaN."""
    return np.where(np.isnan(rows), fill.astype(rows.dtype), rows)


class ChosenColumns(WrappedSource):
    """Columns of a source, in an order of their own.

    Parameters
    ----------
    source : Source
    columns : ndarray of int
    """

    def __init__(self, source: Source, columns: NDArray[np.int64]) -> None:
        super().__init__(source)
        self._columns, self.n_features = columns, len(columns)
        self.dtype, self.input_dtype = source.dtype, source.input_dtype
        self.names = None if source.names is None else [source.names[column] for column in columns]

    def read_as(self, dtype: Any) -> "ChosenColumns":
        """Return the same rows in this precision."""
        return ChosenColumns(self._source.read_as(dtype), self._columns)

    def _made_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(rows[:, self._columns])


class LeadingColumns(WrappedSource):
    """The rows of a source without its last column, which is read with them and left out.

    Parameters
    ----------
    source : Source
    dtype : float32 or float64
        Of the blocks: the columns that are left may be float32 where all of them together are not.
    input_dtype : dtype
        Of the values of these columns before they are converted.
    """

    def __init__(self, source: Source, dtype: Any, input_dtype: Any) -> None:
        super().__init__(source)
        self.n_features, self.dtype, self.input_dtype = source.n_features - 1, np.dtype(dtype), np.dtype(input_dtype)
        self.names = None if source.names is None else source.names[:-1]

    def _made_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(rows[:, :-1], dtype=self.dtype)


def open_weighted(
    data: Any, weights: str | int, *, columns: Columns = None, on_bad: str = "raise", **text: Unpack[TextOptions]
) -> tuple[Source, Array]:
    """Return rows and their weights from the same files, `weights` being the name or place of the weights' column.

    One source reads both, so that a row which is left out loses its weight with it; the weights are read at once.

    Parameters
    ----------
    data, columns, on_bad, text : as in `open_source`
        Without `columns`, all others are features. With 'skip', rows whose weight is no number are left out too.
    weights : str or int

    Returns
    -------
    source : Source
    sample_weight : ndarray of shape (n_samples,), float64

    Raises
    ------
    SourceError
        As `open_source`, also where there is no such column.
    ValueError
        For a column that is asked for as a feature too, and weights that are negative or not finite, naming the row.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuessWarning)  # the last of these sources gives it
        everything, alone = (open_source(data, columns=c, **text) for c in (None, [weights]))
    names = everything.names
    if isinstance(weights, str) and weights.isdigit() and weights not in (names or ()):
        weights = int(weights)
    if columns is None:
        places = getattr(getattr(everything, "reader", None), "places", range(everything.n_features))
        known: Sequence[str | int] = places if names is None else names
        columns = [column for column in known if column != (weights if alone.names is None else alone.names[0])]
        if not columns:
            raise ValueError(f"there is no column beside {weights!r}, which holds the weights: nothing is left to fit.")
    features = open_source(data, columns=columns, **text)
    chosen = columns if features.names is None else features.names
    if (weights if alone.names is None else alone.names[0]) in chosen:
        raise ValueError(f"column {weights!r} holds the weights and cannot be a feature too; leave it out of columns.")
    both = open_source(data, columns=[*columns, weights], on_bad=on_bad, **text)
    return LeadingColumns(both, features.dtype, features.input_dtype), _last_column(both, weights)


def _last_column(source: Source, name: str | int) -> Array:
    """The last column, checked to be weights."""
    values = np.empty(source.n_samples)
    for first, chunk in source.chunks():
        values[first : first + len(chunk)] = chunk[:, -1]
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        place = source.place(row)
        raise ValueError(
            f"column {name!r} must hold weights, finite and not negative; it holds {values[row]:g} in row {row}"
            f"{place and f', which is {place}'}. Correct it, or leave the row out."
        )
    return values
