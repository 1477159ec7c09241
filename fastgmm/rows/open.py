"""From what people have to a source of rows."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np

from ..exceptions import InvalidParameterError
from .dialect import TextOptions, check_text_options
from .files import WatchedFile
from .frames import to_numbers
from .npy import NpyReader, find_paths, kind_of, split_name
from .slices import ChunksReader, DaskReader, SliceReader
from .source import ArraySource, Source
from .streams import Chained, Reader, StreamSource, chosen_columns

ON_BAD = ("raise", "skip", "keep")
Columns = Sequence[str | int] | None


def open_source(
    data: Any,
    *,
    columns: Columns = None,
    on_bad: str = "raise",
    batch_rows: int | None = None,
    **text: Unpack[TextOptions],
) -> Source:
    """Return the rows of files or other data as a source, which every estimator accepts in the place of an array.

    Paths, and everything else below, can be given to the estimators as they are; this is for the options.

    Parameters
    ----------
    data : path, list of paths, folder, pattern, or object
        Files: `.npy`; CSV (`.csv`, `.tsv`, `.txt`, `.dat`, `.data`, gzipped too), cells separated by commas,
        semicolons, tabs, bars or blanks; Parquet (`.parquet`, `.pq`), also at addresses ('s3://...') and in folders
        like `year=2024`, a column then; Zarr (`.zarr`) and HDF5 (`.h5`, `.hdf5`), where need be as 'file.h5::name'.
        Those of a folder or pattern ('data/*.npy') are read in the order of their names. Objects: what gives Arrow
        streams, Zarr, HDF5 and Dask arrays and frames; what yields arrays anew at every call of `chunks()`.
    columns : list of str or int, optional
        The columns to read, by name or place, in this order; a name of digits that no column has is a place. None: all
        that hold numbers, with a GuessWarning that names what CSV and Parquet files have besides.
    on_bad : {'raise', 'skip', 'keep'}, default='raise'
        With 'skip', rows with NaN, an infinity, a cell that is no number or another number of cells are left out;
        `n_skipped` says how many, `skipped` which, `numbers(index)` where the others stand among all. With 'keep', for
        predict, predict_proba, score_samples and batch.py, they keep their place: their label is -2, log-density and
        probabilities are NaN, unless NaN means a missing value to the model. With 'raise', cells that are no numbers
        and rows of another width raise SourceError, and NaN and infinities the ValueError of the estimator, unless they
        mean missing values to it; messages name file, row and column. Damaged files raise in any case.
    batch_rows : int, optional
        Rows of a block, of which five are in memory at a time; about 8 MiB by default. Results are the same bits for
        the same number, whatever the data are stored as.
    header : bool, optional
        Whether the first line has names. This and what follows is for CSV files alone, and guessed from their first
        lines; a GuessWarning says what is not clear.
    delimiter, decimal, thousands : str, optional
        What parts cells, ' ' standing for any number of blanks and tabs; '.' or ','; what parts thousands, '' for none.
    null : list of str, optional
        Cells that mean a missing value, beside '', NA, N/A, NaN, null, None, ?, -, . and #N/A.
    comment, encoding : str, optional
        What begins lines that are left out, '' for nothing; Python's name of the encoding.

    Returns
    -------
    Source
        With `n_samples`, `n_features`, `names`, `chunks()` and `take(index)`. Rows that were left out do not count:
        weights, labels and results belong to the rows that are left. CSV files, streams and `chunks()` are read once
        more to count their rows.

    Raises
    ------
    SourceError
        Naming the file, for damaged files and for files that differ in width, column names or precision.
    TypeError
        For iterators and generators, which can be read only once; `partial_fit` takes those.

    Examples
    --------
    >>> source = fastgmm.open_source("measurements/*.parquet", columns=["x", "y"], on_bad="skip")  # doctest: +SKIP
    >>> fastgmm.GaussianMixture(8).fit(source)  # doctest: +SKIP
    """
    check_text_options(text)
    text = cast(TextOptions, {name: value for name, value in text.items() if value is not None})
    if on_bad not in ON_BAD:
        raise InvalidParameterError(f"on_bad must be 'raise', 'skip' or 'keep'. Got {on_bad!r}.")
    if batch_rows is not None and not is_count(batch_rows):
        raise InvalidParameterError(f"batch_rows must be a positive int or None. Got {batch_rows!r}.")
    if isinstance(data, Source):
        if (columns, on_bad, batch_rows, text) != (None, "raise", None, {}):
            raise ValueError("Options are for data that are opened; this is a source already.")
        return data
    reader = _reader(data, columns, text)
    if reader is not None:
        return StreamSource(reader, on_bad, batch_rows)
    _refuse_text_options(text, type(data).__name__)
    names = column_names(data)
    array = to_numbers(data, "data")
    if array.ndim != 2:
        raise ValueError(f"data must be two-dimensional, or what open_source knows to read. Got {type(data).__name__}.")
    if columns is not None:
        chosen = chosen_columns(columns, names, array.shape[1], type(data).__name__)
        array, names = array[:, chosen], None if names is None else [names[i] for i in chosen]
    if (on_bad, batch_rows) == ("raise", None):
        return ArraySource(array, names=names)
    reader = SliceReader(array)
    reader.names = names
    return StreamSource(reader, on_bad, batch_rows)


def recognised(data: Any) -> Source | None:
    """Return a source for what is one or is read as one, None for arrays, frames in memory and everything else."""
    if isinstance(data, Source):
        return data
    reader = _reader(data, None)
    return None if reader is None else StreamSource(reader)


def is_one_shot(data: Any) -> bool:
    """Whether it is an iterator: its items can be had only once."""
    return hasattr(data, "__next__") or (_library(data) == "pyarrow" and hasattr(data, "read_next_batch"))


def _refuse_text_options(text: TextOptions, kind: str) -> None:
    if text:
        raise ValueError(f"{', '.join(text)} is for CSV files, and these are {kind}.")


def _reader(data: Any, columns: Columns, text: TextOptions | None = None) -> Reader | None:
    """Return the reader for the kind of data, None for what is in memory."""
    if isinstance(data, np.ndarray):
        return None
    if is_address(data) or _is_partitioned(data):
        _refuse_text_options(text or {}, "Parquet files")
        from .arrow import DatasetReader

        return DatasetReader(data, columns)
    if _is_path(data) or (isinstance(data, list | tuple) and len(data) > 0 and all(map(_is_path, data))):
        return _file_reader(data, columns, text or {})
    if is_one_shot(data):
        raise TypeError(
            f"{type(data).__name__} is an iterator, whose rows can be read only once, but every iteration of a fit "
            "reads all rows anew. Give an object whose chunks() begins anew at every call, a file, or an array; or "
            "learn from the iterator as it comes, with partial_fit."
        )
    library = _library(data)
    if library == "dask":
        return DaskReader(data, columns)
    if library in ("zarr", "h5py") and hasattr(data, "shape"):
        return SliceReader(data, columns)
    if callable(getattr(data, "chunks", None)):
        return ChunksReader(data, columns)
    if library == "pyarrow" and hasattr(data, "scanner"):
        from .arrow import DatasetReader

        return DatasetReader(data, columns)
    is_stream = hasattr(data, "__arrow_c_stream__") and not hasattr(data, "__array__")
    if is_stream or (library == "pyarrow" and hasattr(data, "to_reader")):
        from .arrow import ArrowReader

        return ArrowReader(data, columns)
    return None


def _file_reader(data: Any, columns: Columns, text: TextOptions) -> Reader:
    make: Callable[[Path, Columns], Reader]
    paths = find_paths(data)
    kind = kind_of(paths[0])
    if kind != "csv":
        _refuse_text_options(text, f"files of the kind {kind}")
    if kind == "npy":
        make = NpyReader
    elif kind in ("zarr", "hdf5"):
        from .stores import StoreReader

        make = StoreReader
    elif kind == "csv":
        from .csv import CsvReader

        make = partial(CsvReader, options=text)
    else:
        from .arrow import ParquetReader

        make = ParquetReader
    return Chained([_watched(make(path, columns), path) for path in paths])


def _watched(reader: Reader, path: Path) -> Reader:
    """The reader, which knows its file from now on."""
    file = split_name(path)[0]
    if not reader.watched and file.is_file():  # a Zarr store is a folder
        reader.watched = (WatchedFile(file),)
        reader.watched[0].check()
    return reader


def is_address(data: Any) -> bool:
    """Whether it is the address of files elsewhere."""
    return isinstance(data, str) and re.match(r"[a-z][a-z0-9+]+://", data) is not None


def _is_partitioned(data: Any) -> bool:
    """Whether it is a folder whose files lie in folders with names like year=2024."""
    if not _is_path(data) or not Path(data).is_dir() or kind_of(Path(data)) is not None:
        return False
    return any("=" in inner.name and inner.is_dir() for inner in Path(data).iterdir())


def _is_path(data: Any) -> bool:
    return isinstance(data, str | os.PathLike)


def _library(data: Any) -> str:
    """The first library among the classes of an object that is one of those known here."""
    roots = (kind.__module__.split(".")[0] for kind in type(data).__mro__)
    return next((root for root in roots if root in ("dask", "zarr", "h5py", "pyarrow")), "")


def column_names(data: Any) -> list[str] | None:
    """The names of the columns of a frame or record batch, if they are strings."""
    columns = data.schema.names if _library(data) == "pyarrow" else getattr(data, "columns", None)
    if columns is None or not all(isinstance(name, str) for name in columns):
        return None
    return list(columns)


def is_count(value: Any) -> bool:
    """Whether it is a positive whole number."""
    return not isinstance(value, bool | np.bool_) and isinstance(value, Integral) and int(value) >= 1
