"""A column of CSV and Parquet files as it stands, text or numbers: what says to which group each row belongs."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..exceptions import GuessWarning, SourceError
from .arrow import parquet_column
from .csv import CsvReader
from .dialect import TextOptions
from .npy import find_paths, kind_of
from .open import is_address, open_source
from .source import Source

KINDS = ("csv", "parquet")


def open_grouped(
    data: Any,
    by: str,
    *,
    columns: Sequence[str | int] | None = None,
    on_bad: str = "raise",
    **text: Unpack[TextOptions],
) -> tuple[Source, NDArray[Any]]:
    """Return rows and the group of each from the same files, `by` being the name of the groups' column.

    Parameters
    ----------
    data, columns, on_bad, text : as in `open_source`
        CSV and Parquet files. Without `columns`, all others that hold numbers are features. With 'skip', the groups are
        those of the rows that are left.
    by : str

    Returns
    -------
    source : Source
    groups : ndarray of shape (n_samples,)
        int64 where all are whole numbers, else float64 or texts.

    Raises
    ------
    SourceError
        As `open_source`, also for files of another kind and where there is no such column.
    ValueError
        For a group that is missing, naming file and row, and a column that is asked for as a feature too.
    """
    if is_address(data):
        raise SourceError(f"{data}: groups are read from CSV and Parquet files on this machine.")
    paths = find_paths(data)
    kind = kind_of(paths[0])
    if kind not in KINDS:
        raise SourceError(f"{paths[0]}: a column of groups is read from CSV and Parquet files alone.")
    if columns is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GuessWarning)  # the last of these sources gives it
            everything = open_source(data, **text)
        names = everything.names
        if names is None:
            raise SourceError(f"{paths[0]} has no names of columns, and so none is called {by!r}.")
        columns = [name for name in names if name != by]
        if not columns:
            raise ValueError(f"there is no column with numbers beside {by!r}: nothing is left to fit.")
    elif by in columns:
        raise ValueError(f"column {by!r} says the group and cannot be a feature too; leave it out of columns.")
    source = open_source(data, columns=columns, on_bad=on_bad, **text)
    pieces = [_csv_labels(path, by, text) if kind == "csv" else parquet_column(path, by) for path in paths]
    labels = as_labels([value for piece in pieces for value in piece])
    count = source.n_samples + source.n_skipped
    if len(labels) != count:
        raise SourceError(f"{paths[0]}: the column {by!r} has {len(labels)} cells, and there are {count} rows.")
    missing = labels == None if labels.dtype.kind == "O" else labels != labels  # noqa: E711 - of each
    kept = source.numbers(np.arange(source.n_samples)) if source.n_skipped else np.arange(count)
    missing = missing[kept]
    if missing.any():
        row = int(np.argmax(missing))
        place = source.place(row)
        raise ValueError(
            f"column {by!r} says no group in row {row}{place and f', which is {place}'}. Fill it in, or leave the row "
            "out."
        )
    labels = labels[kept]
    return source, labels.astype(str) if labels.dtype.kind == "O" else labels


def as_labels(values: list[Any]) -> NDArray[Any]:
    """Values as int64 where all are whole numbers (without leading zeros), float64 where all are numbers, else objects.

    Missing ones are None in objects, NaN among floats.
    """
    given = [value for value in values if value is not None]
    if given and all(type(value) is int or (type(value) is str and _is_whole(value)) for value in given):
        if len(given) == len(values):
            return np.array([int(value) for value in values], np.int64)
    elif given and all(type(value) in (int, float) for value in given):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array([value if value is None else str(value) for value in values], object)


def _is_whole(text: str) -> bool:
    """Whether a text is how a whole number is written: '007' and '1.0' are names."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0") and len(digits) < 16


def _csv_labels(path: Path, by: str, text: TextOptions) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuessWarning)
        reader = CsvReader(path, [by], text)
    return [None if cell is None else cell.strip() or None for cell in reader.texts()]
