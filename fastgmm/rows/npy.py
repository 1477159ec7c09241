"""Which files are meant, and reading of `.npy` files."""

import glob
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SourceError, clipped
from .files import WatchedFile, check_regular
from .streams import Buffers, Part, TableReader, check_table, chosen_columns

TAKEN_BYTES = 2**25  # read at a time where single rows are taken
AHEAD, CACHED_SPEED = 3, 1e9  # windows wanted next; bytes per second from the page cache, at least
SPARSE = 64  # of as many rows one is wanted, from where on rows are read one by one

KINDS = {
    ".npy": "npy",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".zarr": "zarr",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
ANY_TEXT = (".txt", ".dat", ".data")
ELSEWHERE = {".npz": "load the array and pass it: numpy.load(path)['name']"}


def split_name(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Return the file, and the name of the array in it if one is asked for: `file::name`."""
    file, mark, name = os.fspath(path).partition("::")
    return Path(file), name if mark else None


def kind_of(path: Path) -> str | None:
    """Return what kind of file a name stands for, or None."""
    name = split_name(path)[0].name.lower()
    return next((kind for suffix, kind in KINDS.items() if name.endswith(suffix)), None)


def find_paths(data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the files that a path, a folder, a pattern or a list of these means; those of a folder in their order.

    Raises FileNotFoundError if there are none, and SourceError for files of unknown or of several kinds.
    """
    if isinstance(data, str | os.PathLike):
        paths = _expanded(data)
    else:
        paths = [path for one in data for path in _expanded(one)]
    for path in paths:
        check_regular(split_name(path)[0])
        if kind_of(path) is None:
            remedy = ELSEWHERE.get(path.suffix.lower(), f"the kinds that are read have the suffixes {', '.join(KINDS)}")
            raise SourceError(f"{path} is of no known kind; {remedy}.")
    kinds = {kind_of(path): path for path in reversed(paths)}
    if len(kinds) > 1:
        one, other = sorted(kinds.values())[:2]
        raise SourceError(f"{one} and {other} are of different kinds; give files of one kind.")
    return paths


def _expanded(data: str | os.PathLike[str]) -> list[Path]:
    path = Path(data)
    file, name = split_name(path)
    if name is not None and kind_of(path) not in ("zarr", "hdf5"):
        raise SourceError(f"{path}: only Zarr stores and HDF5 files hold arrays with names.")
    if path.is_dir() and kind_of(path) is None:
        found = sorted(file for file in path.iterdir() if _is_of_rows(file))
        if not found:
            raise FileNotFoundError(f"{path} is a folder without files whose names end in {', '.join(KINDS)}.")
        return found
    if file.exists():
        return [path]
    if glob.has_magic(str(file)):
        matched = map(Path, glob.glob(str(file), recursive=True))
        found = sorted(match for match in matched if kind_of(match) == "zarr" or not match.is_dir())
        if not found:
            raise FileNotFoundError(f"No file matches {str(path)!r}.")
        return found if name is None else [Path(f"{match}::{name}") for match in found]
    raise FileNotFoundError(f"There is no file {str(path)!r}.")


def _is_of_rows(file: Path) -> bool:
    """Whether a file of a folder holds rows, by its name; text that may be anything is read where it is named."""
    is_any_text = file.name.lower().endswith(ANY_TEXT)
    return kind_of(file) is not None and not file.name.startswith(".") and not is_any_text


class NpyReader(TableReader):
    """A `.npy` file, read window by window into memory that is used again.

    Not mapped: where another process cuts a mapped file off, the system kills whoever looks at it. Copying from the
    page cache takes about 0.2 s per GiB, a third of a pass with 8 full components of 16 features, a tenth with 32. In a
    thread of its own, on a core that computes, it took twice the time. Where the cache has not the rows, the system is
    told which are wanted next.
    """

    def __init__(self, path: Path, columns: Sequence[str | int] | None = None) -> None:
        self.origin, self._path, self._watched = str(path), path, WatchedFile(path)
        self.watched = (self._watched,)
        self._watched.check()
        with open(path, "rb") as file:
            shape, self._fortran, self.dtype = _read_header(file, path)
            self._offset = file.tell()
            size = os.fstat(file.fileno()).st_size
        if min(shape, default=0) < 0:
            raise SourceError(f"{path} is no usable .npy file: its shape is {shape}. Write it with numpy.save.")
        check_table(shape, self.dtype, self.origin)
        needed = self._offset + math.prod(shape) * self.dtype.itemsize
        if size < needed:
            raise SourceError(
                f"{path} is cut off: its header promises {shape[0]} rows of {shape[1]} columns in {needed} bytes, but "
                f"it has {size} bytes. Copy or write it again."
            )
        self._shape = (int(shape[0]), int(shape[1]))
        self._columns = None if columns is None else chosen_columns(columns, None, self._shape[1], self.origin)
        self.n_features = self._shape[1] if self._columns is None else len(self._columns)
        self.n_rows = self._shape[0]

    @property
    def random_access(self) -> bool:
        return True

    @property
    def reads_ahead(self) -> bool:
        return True

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        last, buffers = self._first + self.n_rows, Buffers(n_rows, self._shape[1], self.dtype)
        with self._opened() as file:
            for first in range(self._first, last, n_rows):
                block = buffers.take(min(n_rows, last - first))
                begun = time.perf_counter()
                self._read(file, first, block)
                if time.perf_counter() - begun > block.nbytes / CACHED_SPEED and not self._fortran:
                    self._want(file, first + len(block), AHEAD * block.nbytes)
                yield Part(block if self._columns is None else block[:, self._columns], self.origin, first, owned=True)

    def rows(self, index: NDArray[np.int64]) -> NDArray[Any] | None:
        index = index + self._first
        found = np.empty((len(index), self._shape[1]), self.dtype)
        size = max(1, TAKEN_BYTES // (self._shape[1] * self.dtype.itemsize))
        window = np.empty((0, self._shape[1]), self.dtype)
        with self._opened() as file:
            while len(index):  # stretch by stretch: all between the first and the last may be most of the file
                first = int(index[0])
                count = int(np.searchsorted(index, first + size))
                length = int(index[count - 1]) - first + 1
                window = window if len(window) >= length else np.empty((length, self._shape[1]), self.dtype)
                if length <= SPARSE * count:
                    self._read(file, first, window[:length])
                    found[-len(index) :][:count] = window[index[:count] - first]
                else:
                    for place in range(count):
                        row = len(found) - len(index) + place
                        self._read(file, int(index[place]), found[row : row + 1])
                index = index[count:]
        return found if self._columns is None else np.ascontiguousarray(found[:, self._columns])

    def _opened(self) -> Any:
        """The file, if it is still the one that was looked at."""
        self._watched.check()
        return open(self._path, "rb", buffering=0)

    def _read(self, file: Any, first: int, out: NDArray[Any]) -> None:
        """Overwrite `out` by the rows from `first` on, which are as they were at first."""
        n_columns, itemsize = self._shape[1], self.dtype.itemsize
        if not self._fortran:
            self._read_bytes(file, self._offset + first * n_columns * itemsize, out, first)
        else:
            column = np.empty(len(out), self.dtype)
            for j in range(n_columns):
                self._read_bytes(file, self._offset + (j * self._shape[0] + first) * itemsize, column, first)
                out[:, j] = column

    def _want(self, file: Any, first: int, n_bytes: int) -> None:
        """Tell the system to read these bytes, from row `first` on, while others compute."""
        if hasattr(os, "posix_fadvise"):
            start = self._offset + first * self._shape[1] * self.dtype.itemsize
            os.posix_fadvise(file.fileno(), start, n_bytes, os.POSIX_FADV_WILLNEED)

    def _read_bytes(self, file: Any, offset: int, out: NDArray[Any], first: int) -> None:
        view = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # NumPy says it is none
        while len(view):
            try:
                file.seek(offset)
                count = file.readinto(view)
            except OSError as error:
                raise SourceError(f"{self.origin} cannot be read in or after row {first}: {error}") from error
            if not count:
                raise SourceError(
                    f"{self.origin} was cut off while it was read, in or after row {first}. Copy or write it again."
                )
            offset, view = offset + count, view[count:]


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype; SourceError for everything that is no header of an array."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # NumPy's parser raises many types: TokenError, RecursionError, MemoryError ...
        cause = clipped(str(error)) or type(error).__name__
        raise SourceError(f"{path} is no usable .npy file: {cause}. Write it with numpy.save.") from None
