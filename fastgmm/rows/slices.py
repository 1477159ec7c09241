"""Readers of what is an array or a frame without being in memory: Zarr, HDF5, Dask, and objects with `chunks()`.

They are known by what they can do, so that nothing here imports their libraries.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SourceError
from .files import unseen
from .source import read_dtype
from .streams import Part, Reader, TableReader, check_table, chosen_columns

LARGEST_READ = 64 * 2**20  # bytes; of a chunk of the data that is read whole


class SliceReader(TableReader):
    """Anything of two dimensions that gives rows as `data[first:last]`: Zarr arrays, h5py datasets, NumPy arrays."""

    def __init__(self, data: Any, columns: Sequence[str | int] | None = None) -> None:
        shape, dtype = tuple(data.shape), np.dtype(data.dtype)
        name = getattr(data, "name", None) or getattr(data, "path", None)
        kind = f"{type(data).__module__.split('.')[0]} {type(data).__name__}"
        self.origin = f"{kind} {name!r}" if isinstance(name, str) else kind
        check_table(shape, dtype, self.origin)
        self._data = data
        self._columns = chosen_columns(columns, None, shape[1], self.origin)
        self._all = columns is None
        self.n_features, self.dtype, self.n_rows = len(self._columns), dtype, int(shape[0])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        folder = _zarr_folder(self._data)
        if folder is not None and not any((folder / name).exists() for name in ("zarr.json", ".zarray")):
            raise SourceError(unseen(folder))  # Zarr would read chunks that are not there as its fill value

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        """Yield whole chunks of the data, as they are stored, where these are not too large."""
        chunk = self._stored_rows()
        is_small = chunk * self._data.shape[1] * self.dtype.itemsize <= LARGEST_READ
        step = chunk * max(1, n_rows // chunk) if is_small else n_rows
        stop = self._first + self.n_rows
        for first in range(self._first, stop, step):
            last = min(first + step, stop)
            try:
                values = np.asarray(self._data[first:last])
            except Exception as error:
                raise SourceError(f"{self.origin}: rows {first} to {last - 1} cannot be read: {error}") from error
            yield Part(values if self._all else values[:, self._columns], self.origin, first)

    def split(self, n_rows: int) -> list[Reader]:
        """Cut into stretches of rows, between stored chunks where there are any."""
        chunk = self._stored_rows()
        return super().split(chunk * max(1, n_rows // chunk))

    def _stored_rows(self) -> int:
        """Rows of a chunk of the data as they are stored; 1 where there are no chunks."""
        stored = getattr(self._data, "chunks", None)
        if isinstance(stored, tuple) and isinstance(stored[0], int) and stored[0] > 0:
            return stored[0]
        return 1


class DaskReader(Reader):
    """A Dask array or frame, one row of blocks or one partition at a time."""

    def __init__(self, data: Any, columns: Sequence[str | int] | None = None) -> None:
        self.origin = f"dask {type(data).__name__}"
        self._is_frame = hasattr(data, "partitions") and hasattr(data, "dtypes")
        names: list[str] | None = None
        if self._is_frame:
            labels = list(data.columns)
            names = labels if all(isinstance(label, str) for label in labels) else None
            width = len(labels)
        else:
            if len(data.shape) != 2:
                raise SourceError(f"{self.origin} has shape {data.shape}, but rows and columns are needed.")
            width = int(data.shape[1])
        chosen = chosen_columns(columns, names, width, self.origin)
        if columns is not None:
            data = data[[data.columns[i] for i in chosen]] if self._is_frame else data[:, chosen]
        self.names = None if names is None else [names[i] for i in chosen]
        self.dtype = np.result_type(*_numeric(data, self.origin)) if self._is_frame else np.dtype(data.dtype)
        check_table((0, len(chosen)), self.dtype, self.origin)
        self.n_features, self._data = len(chosen), data
        if not self._is_frame:
            n_rows = data.shape[0]
            self.n_rows = None if n_rows != n_rows else int(n_rows)  # NaN where Dask does not know

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        """Yield block after block, each computed when it is its turn."""
        count = self._data.npartitions if self._is_frame else self._data.numblocks[0]
        for number in range(count):
            block = (self._data.partitions if self._is_frame else self._data.blocks)[number].compute()
            yield Part(block_values(block, self.dtype), f"partition {number} of {self.origin}", 0)

    def blocks(self) -> tuple[list[Any], list[int] | None]:
        """Every block or partition as a Delayed, and how many rows each has if that is known."""
        if self._is_frame:
            return list(self._data.to_delayed()), None
        whole = self._data.rechunk({1: -1})
        counts = list(whole.chunks[0])
        return list(whole.to_delayed()[:, 0]), None if any(count != count for count in counts) else counts


def _zarr_folder(data: Any) -> Path | None:
    """The folder of a Zarr array whose store is one."""
    store = getattr(data, "store", None)
    root = getattr(store, "root", None)  # of Zarr 3; before, a folder's store has a path, and so have others
    if type(store).__name__.endswith("DirectoryStore"):
        root = Path(store.path)  # type: ignore[union-attr]
    return root / data.path if isinstance(root, Path) else None


def block_values(block: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values of a computed block of a Dask array, or partition of a frame, whose values have this dtype."""
    if hasattr(block, "to_numpy"):
        block = block.to_numpy(dtype=read_dtype(dtype), na_value=np.nan)
    return np.asarray(block)


def _numeric(frame: Any, origin: str) -> list[np.dtype[Any]]:
    """NumPy's dtypes of the columns of a frame; nullable ones read as float64."""
    found = []
    for name, dtype in frame.dtypes.items():
        numpy_dtype = dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", np.dtype(object))
        if numpy_dtype.kind not in "fiub":
            raise SourceError(
                f"{origin}: column {name!r} holds {dtype}, which is no number. Choose columns with "
                "fastgmm.open_source(data, columns=[...])."
            )
        found.append(numpy_dtype)
    return found


class ChunksReader(Reader):
    """Any object whose method `chunks()` gives two-dimensional arrays, anew at every call."""

    def __init__(self, data: Any, columns: Sequence[str | int] | None = None) -> None:
        self.origin = f"{type(data).__name__}.chunks()"
        one = data.chunks()
        if hasattr(one, "__next__") and one is data.chunks():
            raise TypeError(
                f"{self.origin} returns the same iterator at every call, so that its rows can be read only once. It "
                "must begin anew; partial_fit takes iterators."
            )
        first: NDArray[Any] | None = None
        for chunk in one:
            first = np.asarray(chunk)
            if len(first):
                break
        if first is None:
            raise SourceError(f"{self.origin} gives no chunk.")
        origin = f"chunk 0 of {self.origin}"
        check_table(first.shape, first.dtype, origin)
        self._data, self._width = data, first.shape[1]
        self._columns = chosen_columns(columns, None, self._width, origin)
        self._all = columns is None
        self.n_features, self.dtype = len(self._columns), first.dtype

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        for number, chunk in enumerate(self._data.chunks()):
            values = np.asarray(chunk)
            if not self._all and values.ndim == 2 and values.shape[1] == self._width:
                values = values[:, self._columns]
            yield Part(values, f"chunk {number} of {self.origin}", 0)
