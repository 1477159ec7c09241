"""Which files are meant, and reading of `.npy` files."""

import errno
import glob
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SourceError
from .streams import Part, TableReader, check_table, chosen_columns

MADV_POPULATE_READ = 22  # of Linux; Python has no name for it
TAKEN_BYTES = 2**25  # mapped at a time where single rows are taken

KINDS = {
    ".npy": "npy",
    ".csv": "csv",
    ".tsv": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".zarr": "zarr",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
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
        found = sorted(file for file in path.iterdir() if kind_of(file) is not None and not file.name.startswith("."))
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


class NpyReader(TableReader):
    """A `.npy` file, mapped window by window: what has been read does not stay in the memory of the process.

    A window costs a twentieth of the time that copying it takes, if the file is in the page cache.
    """

    def __init__(self, path: Path, columns: Sequence[str | int] | None = None) -> None:
        self.origin, self._path = str(path), path
        try:
            with open(path, "rb") as file:
                version = np.lib.format.read_magic(file)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, self._fortran, self.dtype = read_header(file)
                self._offset = file.tell()
                size = os.fstat(file.fileno()).st_size
        except ValueError as error:
            raise SourceError(f"{path} is no usable .npy file: {error}. Write it with numpy.save.") from None
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
    def maps(self) -> bool:
        is_float = self.dtype.kind == "f" and self.dtype.isnative and self.dtype.itemsize in (4, 8)
        return is_float and self._columns is None and not self._fortran and self._offset % self.dtype.itemsize == 0

    def parts(self, n_rows: int, skips: bool) -> Iterator[Part]:
        last = self._first + self.n_rows
        with open(self._path, "rb", buffering=0) as file:
            for first in range(self._first, last, n_rows):
                block = self._window(file, first, min(n_rows, last - first))
                yield Part(self._chosen(block), self.origin, first, owned=True)

    def rows(self, index: NDArray[np.int64]) -> NDArray[Any] | None:
        index = index + self._first
        if self._fortran:
            return self._chosen(np.asarray(self._mapped()[index]))
        found = np.empty((len(index), self._shape[1]), self.dtype)
        size = max(1, TAKEN_BYTES // (self._shape[1] * self.dtype.itemsize))
        with open(self._path, "rb", buffering=0) as file:
            while len(index):  # window by window: all pages that hold a row may be most of the file
                first = int(index[0])
                count = int(np.searchsorted(index, first + size))
                _, rows = self._map(file, first, int(index[count - 1]) - first + 1)
                found[-len(index) :][:count] = rows[index[:count] - first]
                index = index[count:]
        return self._chosen(found)

    def _mapped(self) -> NDArray[Any]:
        order: Literal["C", "F"] = "F" if self._fortran else "C"
        mapped: NDArray[Any] = np.memmap(
            self._path, dtype=self.dtype, mode="r", offset=self._offset, shape=self._shape, order=order
        )
        return mapped

    def _window(self, file: Any, first: int, count: int) -> NDArray[Any]:
        """These rows, which the system has read when this returns."""
        if self._fortran:
            return np.ascontiguousarray(self._mapped()[first : first + count])
        window, rows = self._map(file, first, count)
        _read_into_memory(window, self.origin, first)
        return rows

    def _map(self, file: Any, first: int, count: int) -> tuple[mmap.mmap, NDArray[Any]]:
        start = self._offset + first * self._shape[1] * self.dtype.itemsize
        before = start % mmap.ALLOCATIONGRANULARITY
        length = before + count * self._shape[1] * self.dtype.itemsize
        try:
            window = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start - before)
        except ValueError:  # longer than the file
            raise SourceError(f"{self.origin} was cut off while it was read, in or after row {first}.") from None
        flat = np.frombuffer(window, self.dtype, count * self._shape[1], before)
        return window, flat.reshape(count, self._shape[1])

    def _chosen(self, block: NDArray[Any]) -> NDArray[Any]:
        return block if self._columns is None else np.ascontiguousarray(block[:, self._columns])


def _read_into_memory(window: mmap.mmap, origin: str, first: int) -> None:
    """Read the pages of a window now, in this thread, so that the threads that compute need not wait for them."""
    try:
        window.madvise(MADV_POPULATE_READ)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise SourceError(f"{origin} cannot be read in or after row {first}: {error}") from error
        np.frombuffer(window, np.uint8)[:: mmap.PAGESIZE].max()  # other systems, Linux before 5.14
