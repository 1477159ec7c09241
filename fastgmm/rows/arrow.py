"""Readers by way of Apache Arrow: Parquet files, tables and streams. Also csv.py and parquet_output.py know pyarrow."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import GuessWarning, SourceError, clipped, warn
from .files import WatchedFile
from .streams import Part, Reader, chosen_columns


def import_pyarrow(what: str) -> Any:
    """Import pyarrow; ImportError that says how to install it."""
    try:
        import pyarrow
    except ImportError:
        raise ImportError(f"{what} needs pyarrow. Install it with: pip install 'fastgmm[sources]'") from None
    return pyarrow


class SchemaReader(Reader):
    """A reader of what has an Arrow schema.

    Attributes
    ----------
    chosen : bool
        Whether somebody chose the columns of a table, if nobody names any; else those without numbers are left out.
    """

    chosen = True

    def _set_columns(self, schema: Any, columns: Sequence[str | int] | None) -> None:
        """Choose columns; SourceError for one that holds no numbers."""
        pyarrow = import_pyarrow("Arrow data")
        types = pyarrow.types
        try:
            names, kinds = list(schema.names), list(schema.types)  # the schema makes these lists anew every time
            index = (schema.pandas_metadata or {}).get("index_columns", [])  # to pandas these are no columns
        except (ValueError, AttributeError) as error:  # UnicodeDecodeError and JSONDecodeError among the former
            raise SourceError(f"{self.origin} has a damaged schema: {error}") from error
        places = chosen_columns(columns, names, len(names), self.origin)
        if columns is None:
            places = [place for place in places if names[place] not in index]
        if len({names[place] for place in places}) < len(places):
            twice = next(name for name in names if names.count(name) > 1)
            raise SourceError(f"{self.origin} has several columns named {twice!r}.")
        tests = types.is_floating, types.is_integer, types.is_boolean, types.is_decimal
        without = [place for place in places if not any(test(kinds[place]) for test in tests)]
        if without and columns is None and not self.chosen and len(without) < len(places):
            left = clipped(", ".join(repr(names[place]) for place in without))
            what = "columns without numbers are left out"
            warn(f"{self.origin}: {what}: {left}. columns=[...] chooses others.", GuessWarning)
            places = [place for place in places if place not in without]
        elif without:
            which = ", ".join(f"column {names[place]!r} holds {kinds[place]}" for place in without)
            raise SourceError(
                f"{self.origin}: {clipped(which)}, which is no number. Choose columns with "
                "fastgmm.open_source(data, columns=[...])."
            )
        if not places:
            raise SourceError(f"{self.origin} has no columns.")
        self.places, self.names = places, [names[place] for place in places]
        self.n_features = len(places)
        all_single = all(kinds[place] == pyarrow.float32() for place in places)
        self.dtype = np.dtype(np.float32 if all_single else np.float64)
        self._type = pyarrow.float32() if all_single else pyarrow.float64()

    def _values(self, columns: Sequence[Any]) -> NDArray[Any]:
        """Arrow columns as rows; what is null becomes NaN."""
        out = np.empty((len(columns[0]), len(columns)), self.dtype)
        for j, column in enumerate(columns):
            if column.type != self._type:
                column = column.cast(self._type, safe=False)
            out[:, j] = column.to_numpy(zero_copy_only=False)
        return out


def _stretches(sizes: Sequence[int], n_rows: int) -> Iterator[tuple[int, int]]:
    """Where to cut a list of numbers of rows: stretches of at most `n_rows` together, or of one entry."""
    start = 0
    while start < len(sizes):
        stop, total = start + 1, sizes[start]
        while stop < len(sizes) and total + sizes[stop] <= n_rows:
            total += sizes[stop]
            stop += 1
        yield start, stop
        start = stop


class ParquetReader(SchemaReader):
    """A Parquet file, one piece of a row group at a time."""

    chosen = False

    def __init__(self, path: Path, columns: Sequence[str | int] | None = None) -> None:
        import_pyarrow("Reading Parquet files")
        self.origin, self._path = str(path), path
        with self._opened() as file:
            self._set_columns(file.schema_arrow, columns)
            self._rows_of_groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        self._groups = range(len(self._rows_of_groups))
        self.n_rows = sum(self._rows_of_groups)

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        import pyarrow

        with self._opened() as file:
            first = sum(self._rows_of_groups[: self._groups.start])
            for group in self._groups:
                batches = file.iter_batches(n_rows, row_groups=[group], columns=self.names, use_threads=False)
                try:
                    for batch in batches:
                        values = self._values([batch.column(name) for name in self.names or ()])
                        yield Part(values, self.origin, first, owned=True)
                        first += len(values)
                except (pyarrow.ArrowException, OSError, ValueError) as error:
                    if isinstance(error, SourceError):
                        raise
                    raise SourceError(
                        f"{self.origin} is damaged in row group {group}, in or after row {first}: {error}"
                    ) from error

    def split(self, n_rows: int) -> list[Reader]:
        """Cut between row groups."""
        parts: list[Reader] = []
        sizes = self._rows_of_groups[self._groups.start : self._groups.stop]
        for start, stop in _stretches(sizes, n_rows):
            part = copy.copy(self)
            part._groups, part.n_rows = self._groups[start:stop], sum(sizes[start:stop])
            parts.append(part)
        return parts

    def _opened(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(str(self._path), memory_map=False, pre_buffer=False)
        except (pyarrow.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError by names, too
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise SourceError(f"{self._path} is cut off, or no Parquet file: {error}") from error


def parquet_column(path: Path, name: str) -> list[Any]:
    """A column of a Parquet file as Python's values; SourceError where there is no such one."""
    import_pyarrow("Reading Parquet files")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(str(path), memory_map=False, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if names.count(name) != 1:
                raise SourceError(f"{path} has {names.count(name)} columns called {name!r}, of {', '.join(names)}.")
            column = file.read([name]).column(0)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | SourceError):
            raise
        raise SourceError(f"{path} is damaged: {error}") from error
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return list(column.to_pylist())


class ArrowReader(SchemaReader):
    """An Arrow table, or any object that gives a new Arrow stream whenever it is asked for one."""

    def __init__(self, data: Any, columns: Sequence[str | int] | None = None) -> None:
        import_pyarrow("Reading Arrow streams")
        self._data = data
        self.origin = f"{type(data).__module__.split('.')[0]} {type(data).__name__}"
        self._set_columns(self._stream().schema, columns)
        self.n_rows = data.num_rows if self._is_table else None

    @property
    def _is_table(self) -> bool:
        import pyarrow

        return isinstance(self._data, pyarrow.Table)

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        first = 0
        for batch in self._stream():
            for start in range(0, batch.num_rows, n_rows):
                piece = batch.slice(start, n_rows)
                yield Part(self._values([piece.column(i) for i in self.places]), self.origin, first, owned=True)
                first += piece.num_rows

    def _stream(self) -> Any:
        import pyarrow

        if self._is_table:
            return self._data.to_reader()
        return pyarrow.RecordBatchReader.from_stream(self._data)


class DatasetReader(SchemaReader):
    """What pyarrow.dataset knows to read: Parquet files at an address (`s3://...`) or in folders like `year=2024`.

    What the names of folders say is a column, as `year`, where it is a number.
    """

    chosen = False

    def __init__(self, data: Any, columns: Sequence[str | int] | None = None) -> None:
        pyarrow = import_pyarrow("Reading Parquet files")
        from pyarrow import dataset

        self.origin = "pyarrow Dataset" if isinstance(data, dataset.Dataset) else str(data)
        try:
            self._data = data
            if not isinstance(data, dataset.Dataset):
                self._data = dataset.dataset(str(data), format="parquet", partitioning="hive")
            self.n_rows = self._data.count_rows()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            if isinstance(error, PermissionError):
                raise
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(f"There is no file {self.origin!r}.") from None
            raise SourceError(
                f"{self.origin} cannot be read as Parquet files: {error}. What pyarrow.dataset.dataset(...) makes of "
                "it, with a schema, partitioning or file system of yours, can be given instead."
            ) from error
        self._first = 0
        self._set_columns(self._data.schema, columns)
        for file in self._data.get_fragments() if isinstance(self._data, dataset.FileSystemDataset) else ():
            inner = {*file.physical_schema.names, *dataset.get_partition_keys(file.partition_expression)}
            lacking = [name for name in self.names or () if name not in inner]
            if lacking:  # pyarrow would read nulls, which are missing values to a model
                raise SourceError(f"{file.path} has no column {lacking[0]!r}, which others of {self.origin} have.")
        local = [Path(name) for name in getattr(self._data, "files", ()) if Path(name).is_file()]
        self.watched = tuple(WatchedFile(path) for path in local)
        for file in self.watched:
            file.check()

    def split(self, n_rows: int) -> list[Reader]:
        """Cut between row groups."""
        from pyarrow import dataset

        if not isinstance(self._data, dataset.FileSystemDataset):
            return super().split(n_rows)
        groups = [group for file in self._data.get_fragments() for group in file.split_by_row_group()]
        sizes = [group.count_rows() for group in groups]
        parts: list[Reader] = []
        first = self._first
        for start, stop in _stretches(sizes, n_rows):
            part = copy.copy(self)
            part._first, part.n_rows = first, sum(sizes[start:stop])
            part._data = dataset.FileSystemDataset(
                groups[start:stop], self._data.schema, self._data.format, self._data.filesystem
            )
            parts.append(part)
            first += part.n_rows
        return parts

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        import pyarrow

        first, ahead = (
            self._first,
            {"batch_readahead": 1, "fragment_readahead": 1, "use_threads": False},
        )  # else memory grows
        try:
            for batch in self._data.scanner(columns=self.names, batch_size=n_rows, **ahead).to_reader():
                yield Part(self._values(batch.columns), self.origin, first, owned=True)
                first += batch.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            raise SourceError(f"{self.origin} cannot be read, in or after row {first}: {error}") from error
