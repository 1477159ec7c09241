"""Files that rows are written to block by block, whole or not at all: `.npy` and Parquet."""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .atomic import StrPath, check_target, replace_atomically
from .columns import Columns, Write

SUFFIXES = (".npy", ".parquet")


def check_output(path: StrPath, overwrite: bool, inputs: Iterable[StrPath] = ()) -> Path:
    """Refuse what cannot be written or must not be replaced, before any work is done.

    Raises
    ------
    ValueError
        The name does not end in `.npy` or `.parquet`.
    OSError
        FileExistsError without `overwrite` and for one of the `inputs`, by whatever name; IsADirectoryError for a
        folder, OSError for a device or pipe, FileNotFoundError where there is no folder for the file.
    ImportError
        Parquet without pyarrow.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"The name of {target} must end in {' or '.join(SUFFIXES)}, which says how it is written.")
    check_target(target, inputs)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; give overwrite=True to replace it.")
    if kind == ".parquet":
        from .arrow import import_pyarrow

        import_pyarrow("Writing Parquet files")
    return target


@contextlib.contextmanager
def open_output(
    path: StrPath,
    n_rows: int,
    columns: Sequence[Columns],
    *,
    overwrite: bool,
    metadata: Mapping[str, str] | None = None,
) -> Iterator[Write]:
    """Yield the function that writes the next rows; the file takes its place when all are written.

    Until then, and after any error, an older file stays as it was. One block is held at a time.

    Parameters
    ----------
    path : path-like
        Ending in `.npy` (one array, so that there must be one `Columns`) or `.parquet`.
    n_rows : int
        How many rows there will be.
    columns : sequence of Columns
        What each row has; the function takes an array of shape (n, *shape) for each.
    overwrite : bool
        Whether an existing file is replaced.
    metadata : mapping of str to str, optional
        What a Parquet file says of itself.

    Raises
    ------
    ValueError, OSError, ImportError
        As `check_output`; a file that could not hold the columns; and whatever goes wrong while writing, with the name
        of the file.
    """
    target = check_output(path, overwrite)
    is_npy = target.suffix.lower() == ".npy"
    if is_npy and len(columns) > 1:
        raise ValueError(f"{target} holds one array, which has no place for other columns; write a .parquet file.")
    # Plain writes, not a memory map: a full disk is then an error instead of a crash.
    with replace_atomically(target) as temporary, io.BufferedWriter(_OutputFile(temporary, target)) as file:
        if is_npy:
            yield _begun_npy(file, n_rows, columns[0])
        else:
            from .parquet_output import open_parquet

            with open_parquet(file, target, n_rows, columns, metadata or {}) as write:
                yield write


class _OutputFile(io.FileIO):
    """A temporary file whose errors name the file that it will become."""

    def __init__(self, temporary: Path, target: Path) -> None:
        super().__init__(temporary, "w")
        self._target = os.fspath(target)

    def write(self, data: Any, /) -> int:
        """Write some of the bytes."""
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._target) from None


def _begun_npy(file: BinaryIO, n_rows: int, columns: Columns) -> Write:
    """Write the head of an array; return what writes its rows."""
    dtype = columns.dtype.newbyteorder("<")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_rows, *columns.shape)}
    np.lib.format.write_array_header_1_0(file, header)

    def write(block: NDArray[Any]) -> None:
        file.write(np.ascontiguousarray(block, dtype=dtype).data)

    return write
