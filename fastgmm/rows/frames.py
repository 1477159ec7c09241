"""Arrays and frames in memory as numbers: what is missing is NaN, whatever holds it; what is no number is named.

Frames of pandas and polars are known by their libraries' names and what they can do; nothing here imports them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERS = "fiub"  # kinds of NumPy's dtypes
MOST_NAMED = 10


def to_numbers(X: Any, name: str = "X") -> NDArray[Any]:
    """Return an array of floats, integers or truth values; the data themselves where they are one already.

    Missing entries (None, NaN, pandas.NA, nulls, what a mask hides) are NaN. float32 stays float32 if all columns are,
    or may be missing beside it.

    Raises
    ------
    TypeError
        For numpy.matrix, and for objects that float() does not know.
    ValueError
        For columns without numbers, all of them by name: text, dates, categories that are no numbers; and for arrays
        of such, in the words of float(), with a note of the place.
    """
    if isinstance(X, np.matrix):
        raise TypeError("np.matrix is not supported. Please convert to a numpy array with np.asarray.")
    if isinstance(X, np.ma.MaskedArray):
        return _filled(X, name)
    library = type(X).__module__.split(".")[0]
    if library in ("pandas", "polars"):
        columns = _columns(X, library)
        if columns is not None:
            return _of_columns(columns, len(X))
        if hasattr(X, "dtype"):  # a column alone
            return _of_pandas(X)
    array = np.asarray(X)
    if array.dtype.names is not None and array.ndim == 1:
        return _of_columns([(field, array[field]) for field in array.dtype.names], len(array))
    if array.dtype.kind in NUMBERS + "c":
        return array
    if array.dtype.kind == "O":
        return _of_objects(array, name)
    if array.dtype.kind in "US":
        return array.astype(np.float64)  # as scikit-learn's mixtures, which refuse what are no numbers
    raise ValueError(f"{name} holds {array.dtype}, which is no number. Convert it to floats, or leave it out.")


def has_equal_names(X: Any) -> bool:
    """Whether columns of a frame have the same name, by which they cannot be told apart."""
    names = list(getattr(X, "columns", ()))
    return len({str(name) for name in names}) < len(names)


def column_names(X: Any) -> NDArray[Any] | None:
    """What the columns of a frame are called, if all by texts; None otherwise, and of arrays."""
    names = list(getattr(X, "columns", ()))
    return np.array(names, object) if names and all(isinstance(name, str) for name in names) else None


def without_column(X: Any, name: str) -> tuple[Any, NDArray[Any]]:
    """A frame without one of its columns, and this column.

    Raises TypeError for what has no named columns, and ValueError for a column that is not there.
    """
    library = type(X).__module__.split(".")[0]
    names = list(X.column_names if library == "pyarrow" else getattr(X, "columns", ()))
    if library not in ("pandas", "polars", "pyarrow") or not names:
        raise TypeError(
            f"A column can be named in frames of pandas and polars and tables of Arrow alone, not in a "
            f"{type(X).__name__}: pass the values of {name!r} themselves."
        )
    if names.count(name) != 1:
        raise ValueError(f"The columns are called {names}: {names.count(name)} of them {name!r}.")
    if library == "pandas":
        return X.drop(columns=[name]), np.asarray(X[name])
    if library == "polars":
        return X.drop(name), X[name].to_numpy()
    return X.drop_columns([name]), X.column(name).to_numpy()


def _filled(X: "np.ma.MaskedArray[Any, Any]", name: str) -> NDArray[Any]:
    """A masked array with NaN where it is masked."""
    data, mask = to_numbers(np.asarray(X.data), name), np.ma.getmaskarray(X)
    if not mask.any():
        return data
    return np.where(mask, np.array(np.nan, data.dtype if data.dtype.kind == "f" else np.float64), data)


def _columns(X: Any, library: str) -> list[tuple[Any, Any]] | None:
    """The columns of a frame by name, or None where NumPy can take it as it is; a column alone is one."""
    if library == "polars":
        if not hasattr(X, "get_columns"):
            return None
        columns = [(column.name, column) for column in X.get_columns()]
        plain = all(column.dtype.is_numeric() and not column.null_count() for _, column in columns)
        return None if plain and columns else columns
    if not hasattr(X, "dtypes") or not hasattr(X, "columns"):
        return None
    if all(isinstance(kind, np.dtype) and kind.kind in NUMBERS for kind in X.dtypes):
        return None
    return [(label, X.iloc[:, place]) for place, label in enumerate(X.columns)]


def _of_columns(columns: list[tuple[Any, Any]], n_rows: int) -> NDArray[Any]:
    """Columns as a matrix; ValueError that names all that hold no numbers."""
    found: list[NDArray[Any]] = []
    bad: list[str] = []
    for label, column in columns:
        try:
            found.append(_of_pandas(column))
        except (ValueError, TypeError) as error:
            kind = getattr(column, "dtype", type(column).__name__)
            bad.append(f"{label!r} ({kind}{_first(error)})")
    if bad:
        more = f" and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        what = "Column {} holds" if len(bad) == 1 else "Columns {} hold"
        raise ValueError(
            f"{what.format(', '.join(bad[:MOST_NAMED]) + more)} no numbers. Leave such columns out (in pandas "
            "X.select_dtypes('number')), or turn them into numbers."
        )
    single = all(values.dtype == np.float32 for values in found)
    out = np.empty((n_rows, len(found)), np.float32 if single and found else np.float64)
    for place, values in enumerate(found):
        out[:, place] = values
    return out


def _first(error: Exception) -> str:
    """What a conversion says of the first value that is no number."""
    return f", as {error.args[1]!r:.60} in row {error.args[2]}" if len(error.args) == 3 else ""


def _of_pandas(column: Any) -> NDArray[Any]:
    """One column of a frame, of pandas, polars or NumPy, as numbers with NaN for what is missing."""
    kind: Any = getattr(column, "dtype", None)
    if hasattr(column, "null_count") and hasattr(kind, "is_numeric"):  # polars
        if not (kind.is_numeric() or str(kind) in ("Boolean", "Object", "Null")):
            raise ValueError("no numbers")
        values = column.to_numpy()
        return values if values.dtype.kind in NUMBERS else _of_objects(np.array(column.to_list(), object), "")
    if hasattr(column, "cat"):  # categories that are numbers are numbers
        return _of_pandas(column.astype(column.cat.categories.dtype if not column.isna().any() else object))
    if hasattr(column, "to_numpy") and not isinstance(kind, np.dtype):
        numpy_kind = getattr(kind, "numpy_dtype", np.dtype(object))
        if numpy_kind.kind not in NUMBERS and "decimal" not in str(kind):
            raise ValueError("no numbers")
        single = numpy_kind == np.float32
        return np.asarray(column.to_numpy(dtype=np.float32 if single else np.float64, na_value=np.nan))
    array = np.asarray(column)
    if array.dtype.kind == "O":
        return _of_objects(array, "")
    if array.dtype.kind not in NUMBERS:
        raise ValueError("no numbers")
    return array


def _of_objects(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Objects that are numbers or missing, of any shape, as float64; ValueError for the first that is neither."""
    try:
        if not any(hasattr(value, "year") or _is_duration(value) for value in array.flat):
            return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    out = np.empty(array.shape)
    for index, value in np.ndenumerate(array):
        if _is_missing(value):
            out[index] = np.nan
            continue
        try:
            if hasattr(value, "year") or _is_duration(value):
                raise TypeError(f"float() argument must be a string or a real number, not {type(value).__name__!r}")
            out[index] = float(value)
        except (TypeError, ValueError) as error:
            if not name:
                raise ValueError("no numbers", value, index[0]) from None
            where = f"row {index[0]}" + (f", column {index[1]}" if len(index) > 1 else "")
            error.add_note(f"It is in {where} of {name}. Leave such columns or rows out, or turn them into numbers.")
            raise
    return out


def _is_duration(value: Any) -> bool:
    return hasattr(value, "total_seconds") or isinstance(value, np.timedelta64 | np.datetime64)


def _is_missing(value: Any) -> bool:
    """Whether it is None, pandas.NA or NaT, or NaN."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, np.timedelta64 | np.datetime64) and bool(np.isnat(value))
