"""Rows that workers hold or read, part by part, while what is computed from each part is all that comes back."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .files import check_files
from .source import NONE_SKIPPED, Source

T = TypeVar("T")
Table = NDArray[Any]


class Runner(Protocol):
    """What has workers compute; the parts are whatever it can hand to them."""

    def __call__(
        self, parts: Sequence[Any], dtype: np.dtype[Any], common: bytes, own: Iterator[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """Yield `compute_part` of each part, what all are sent and its own values, in their order."""


class DistributedSource(Source):
    """Rows in parts that workers hold or read.

    Parameters
    ----------
    parts : sequence
        Sources, or what the runner gives a worker as an array or a source.
    run : Runner
    like : Source
        Of the same columns.
    counts : sequence of int or None
        Rows of each part; the workers are asked where they are not known.
    """

    is_local = False
    _skipped = NONE_SKIPPED

    def __init__(self, parts: Sequence[Any], run: Runner, like: Source, counts: Sequence[int] | None = None) -> None:
        self.parts, self._run = parts, run
        self.n_features, self.names = like.n_features, like.names
        self.dtype, self.input_dtype, self.watched = like.dtype, like.input_dtype, like.watched
        self.keeps_bad = like.keeps_bad
        if counts is None:
            found = list(self._computed(_count, (), ((),) * len(parts)))
            counts = [n_rows for n_rows, _ in found]
            starts = np.cumsum([0, *(n_rows + len(skipped) for n_rows, skipped in found)])
            self._skipped = np.concatenate(
                [NONE_SKIPPED, *(start + skipped for start, (_, skipped) in zip(starts, found, strict=False))]
            )
            for part, known in zip(parts, found, strict=True):
                if isinstance(part, Source):
                    part.remember_counts(*known)
        self.parts = [part for part, count in zip(parts, counts, strict=True) if count]
        self._numbers = [number for number, count in enumerate(counts) if count]  # the caller's
        self._starts = np.concatenate([[0], np.cumsum([count for count in counts if count], dtype=np.int64)])

    @property
    def n_samples(self) -> int:
        return int(self._starts[-1])

    @property
    def skipped(self) -> NDArray[np.int64]:
        return self._skipped

    def map_parts(self, task: Callable[..., T], *arguments: Any, per_row: Sequence[Any] = ()) -> Iterator[T]:
        """Yield task(part, *arguments, *values) of every part, computed by the workers, in order."""
        cuts = zip(self._starts[:-1], self._starts[1:], strict=True)
        own = (tuple(None if array is None else array[first:last] for array in per_row) for first, last in cuts)
        return self._watched(self._computed(task, arguments, own), len(self.parts))

    def chunks(self) -> Iterator[tuple[int, Table]]:
        """Yield (index of the first row, rows of a part), brought here: for what is not worth a task."""
        one_by_one = (rows for part in self.parts for rows in self._computed(_rows, (), ((),), [part]))
        for first, rows in zip(self._starts[:-1], self._watched(one_by_one, len(self.parts)), strict=True):
            yield int(first), rows

    def take(self, index: NDArray[np.int64]) -> Table:
        """Return the rows of these indices, from the parts that have some of them."""
        wanted, places = np.unique(index, return_inverse=True)
        bounds = np.searchsorted(wanted, self._starts)
        numbers = np.flatnonzero(np.diff(bounds))
        own = ((wanted[bounds[i] : bounds[i + 1]] - self._starts[i],) for i in numbers)
        found = list(self._watched(self._computed(_take, (), own, [self.parts[int(i)] for i in numbers]), len(numbers)))
        return np.concatenate(found)[places] if found else np.empty((0, self.n_features), self.dtype)

    def place(self, row: int) -> str:
        """Say which part, or which row of which file, this is."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        part, own = self.parts[number], row - int(self._starts[number])
        return (part.place(own) if isinstance(part, Source) else "") or f"row {own} of part {self._numbers[number]}"

    def _computed(
        self,
        task: Callable[..., T],
        arguments: tuple[Any, ...],
        own: Iterable[tuple[Any, ...]],
        parts: Sequence[Any] | None = None,
    ) -> Iterator[T]:
        # One pickle for all rather than objects, into which a cluster's scheduler would look.
        common = pickle.dumps((task, arguments), pickle.HIGHEST_PROTOCOL)
        return self._run(self.parts if parts is None else parts, self.dtype, common, iter(own))

    def _watched(self, results: Iterator[T], count: int) -> Iterator[T]:
        """Yield results, the last once the files are known to be what they were; each file is looked at twice.

        A worker that reads a file for the first time cannot know what it was before.
        """
        check_files(self.watched)
        for number, result in enumerate(results, 1):
            if number == count:
                check_files(self.watched)
            yield result


def compute_part(part: Source, dtype: np.dtype[Any], common: bytes, own: tuple[Any, ...]) -> Any:
    """Do a task with a part: what a worker does."""
    check_files(part.watched)  # before whatever opens them, whose error would not say that workers must see them
    task, arguments = pickle.loads(common)
    return task(part.read_as(dtype), *arguments, *own)


def _count(part: Source) -> tuple[int, NDArray[np.int64]]:
    return part.n_samples, part.skipped


def _rows(part: Source) -> Table:
    return np.concatenate([block.copy() for _, block in part.chunks()] or [np.empty((0, part.n_features), part.dtype)])


def _take(part: Source, index: NDArray[np.int64]) -> Table:
    return part.take(index)
