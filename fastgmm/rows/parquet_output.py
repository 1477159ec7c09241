"""Parquet files written in row groups of equal length, whatever the blocks that come."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .columns import Columns, Write

GROUP_ROWS = 2**17
GROUP_VALUES = 2**22  # wide tables have shorter groups: this many values, 32 MiB of float64, are in memory
LEAST_GROUP_ROWS = 2**10  # below, a group is more description than values


@contextlib.contextmanager
def open_parquet(
    file: BinaryIO, target: Path, n_rows: int, columns: Sequence[Columns], metadata: Mapping[str, str]
) -> Iterator[Write]:
    """Yield the function that writes the next rows; the file is complete at the end of the `with` block."""
    import pyarrow
    import pyarrow.parquet

    fields = [(name, each.dtype) for each in columns for name in each.names]
    names = [name for name, _ in fields]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Two columns of {target} would be named {twice!r}; rename one, or write a .npy file.")
    schema = pyarrow.schema(
        [pyarrow.field(name, pyarrow.from_numpy_dtype(dtype)) for name, dtype in fields], metadata=dict(metadata)
    )
    # A dictionary of values that hardly repeat costs time and memory, and is thrown away.
    repeating = [name for name, dtype in fields if dtype.kind != "f"]
    writer = pyarrow.parquet.ParquetWriter(file, schema, use_dictionary=repeating)
    groups = _RowGroups(writer, schema, n_rows, columns)
    try:
        yield groups.write
        groups.flush()
        writer.close()
    except BaseException:
        writer.is_open = False  # its finaliser would try to complete the file
        raise


class _RowGroups:
    """Gathers rows, column by column, and writes them when a group is full."""

    def __init__(self, writer: Any, schema: Any, n_rows: int, columns: Sequence[Columns]) -> None:
        self._writer, self._schema = writer, schema
        rows = GROUP_VALUES // sum(each.count for each in columns)
        self._size = min(GROUP_ROWS, max(LEAST_GROUP_ROWS, rows), n_rows)
        self._buffers: list[NDArray[Any]] = [np.empty((each.count, self._size), each.dtype) for each in columns]
        self._filled = 0

    def write(self, *blocks: NDArray[Any]) -> None:
        """Append rows: an array of shape (n, ...) for each `Columns`."""
        done, n_rows = 0, len(blocks[0])
        while done < n_rows:
            count = min(n_rows - done, self._size - self._filled)
            for buffer, block in zip(self._buffers, blocks, strict=True):
                rows = block[done : done + count].reshape(count, -1)
                buffer[:, self._filled : self._filled + count] = rows.T
            done, self._filled = done + count, self._filled + count
            if self._filled == self._size:
                self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if not self._filled:
            return
        import pyarrow

        arrays = [pyarrow.array(column[: self._filled]) for buffer in self._buffers for column in buffer]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema), row_group_size=self._filled)
        self._filled = 0
