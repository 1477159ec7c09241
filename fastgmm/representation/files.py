"""Which files are meant, and reading of `.npy` files."""

import copy
import glob
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SourceError
from .streams import Buffers, Part, Reader, check_table, chosen_columns

KINDS = {
    ".npy": "npy",
    ".csv": "csv",
    ".tsv": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ELSEWHERE = {
    ".zarr": "open the array and pass it: zarr.open_array(path, mode='r')",
    ".h5": "open the data set and pass it: h5py.File(path)['name']",
    ".hdf5": "open the data set and pass it: h5py.File(path)['name']",
    ".npz": "load the array and pass it: numpy.load(path)['name']",
}


def kind_of(path: Path) -> str | None:
    """Return what kind of file a name stands for, or None."""
    name = path.name.lower()
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
    if path.is_dir() and path.suffix.lower() not in ELSEWHERE:
        found = sorted(file for file in path.iterdir() if kind_of(file) is not None and not file.name.startswith("."))
        if not found:
            raise FileNotFoundError(f"{path} is a folder without files whose names end in {', '.join(KINDS)}.")
        return found
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if not Path(name).is_dir())
        if not found:
            raise FileNotFoundError(f"No file matches {str(path)!r}.")
        return found
    raise FileNotFoundError(f"There is no file {str(path)!r}.")


class NpyReader(Reader):
    """A `.npy` file, read rather than mapped: what has been read does not stay in the memory of the process."""

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
        self._shape, self._first = (int(shape[0]), int(shape[1])), 0
        self._columns = None if columns is None else chosen_columns(columns, None, self._shape[1], self.origin)
        self.n_features = self._shape[1] if self._columns is None else len(self._columns)
        self.n_rows = self._shape[0]

    @property
    def random_access(self) -> bool:
        """Whether `rows` gives rows."""
        return True

    def parts(self, n_rows: int, skips: bool) -> Iterator[Part]:
        """Yield blocks of rows, read into memory of their own."""
        assert self.n_rows is not None
        last = self._first + self.n_rows
        buffers = Buffers(min(n_rows, self.n_rows), self._shape[1], self.dtype)
        with open(self._path, "rb", buffering=0) as file:
            for first in range(self._first, last, n_rows):
                count = min(n_rows, last - first)
                yield Part(self._chosen(self._block(file, first, buffers.take(count))), self.origin, first, owned=True)

    def rows(self, index: NDArray[np.int64]) -> NDArray[Any] | None:
        """Return the rows of these indices."""
        if not self._shape[0]:
            return np.empty((0, self.n_features), self.dtype)
        return self._chosen(np.asarray(self._mapped()[index + self._first]))

    def split(self, n_rows: int) -> list[Reader]:
        """Cut into stretches of rows."""
        assert self.n_rows is not None
        parts: list[Reader] = []
        for first in range(self._first, self._first + self.n_rows, n_rows):
            part = copy.copy(self)
            part._first, part.n_rows = first, min(n_rows, self._first + self.n_rows - first)
            parts.append(part)
        return parts

    def _mapped(self) -> NDArray[Any]:
        order: Literal["C", "F"] = "F" if self._fortran else "C"
        mapped: NDArray[Any] = np.memmap(
            self._path, dtype=self.dtype, mode="r", offset=self._offset, shape=self._shape, order=order
        )
        return mapped

    def _block(self, file: Any, first: int, block: NDArray[Any]) -> NDArray[Any]:
        """Fill a block with the rows from `first` on."""
        if self._fortran:
            block[:] = self._mapped()[first : first + len(block)]
            return block
        view = block.reshape(-1).view(np.uint8)
        file.seek(self._offset + first * self._shape[1] * self.dtype.itemsize)
        done = 0
        while done < len(view):
            read = file.readinto(view[done:])
            if not read:
                raise SourceError(f"{self.origin} was cut off while it was read, in or after row {first}.")
            done += read
        return block

    def _chosen(self, block: NDArray[Any]) -> NDArray[Any]:
        return block if self._columns is None else np.ascontiguousarray(block[:, self._columns])
