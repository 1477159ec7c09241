"""Reader of CSV files, by pyarrow, with the place of what it cannot read."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import GuessWarning, SourceError, clipped, warn
from .arrow import import_pyarrow
from .dialect import EMPTY, is_number, sniffed
from .streams import Part, Reader, chosen_columns

READ_BYTES = 4 * 2**20
NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"  # others are dropped anyway
UNNAMED = ("", "Unnamed: 0")  # names of a column of row numbers
csv.field_size_limit(2**24)  # of cells, which are looked at one by one only in the first lines and after an error


class CsvReader(Reader):
    """A CSV file, plain or gzipped; `dialect.py` says how it is understood.

    Where no columns are asked for, those without a number are left out, empty ones, and a first one without a name that
    counts the rows, as pandas and R write; a GuessWarning names them.
    """

    def __init__(self, path: Path, columns: Sequence[str | int] | None = None, header: bool | None = None) -> None:
        import_pyarrow("Reading CSV files")
        self.origin, self._path = str(path), path
        with self._text() as text:
            try:
                dialect = sniffed(text, header)
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                raise SourceError(f"{path} is no usable CSV file: {clipped(str(error))}") from error
        if dialect is None:
            raise SourceError(f"{path} is empty.")
        self._dialect, self._width = dialect, dialect.width
        names = dialect.header
        self._has_header = names is not None
        self._all_names = [f"f{i}" for i in range(dialect.width)] if names is None else names
        self.places = (
            self._default_places() if columns is None else chosen_columns(columns, names, dialect.width, self.origin)
        )
        self.names = None if names is None else [names[place] for place in self.places]
        if columns is None and self.names is not None and len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise SourceError(
                f"{path}: the name {twice!r} stands twice in the first line. Choose columns by place, with "
                "columns=[...]."
            )
        self.n_features, self.dtype = len(self.places), np.dtype(np.float64)

    def _default_places(self) -> list[int]:
        """The columns that are read where none are asked for; says which are not."""
        dialect, notes = self._dialect, []
        places, left = list(range(dialect.width)), []
        if self._has_header and self._all_names[0] in UNNAMED and dialect.is_count[0] and dialect.width > 1:
            places.remove(0)
            notes.append("the first column, which has no name and counts the rows, is left out")
        for place in list(places):
            no_name = not self._has_header or not self._all_names[place].strip()
            if (dialect.is_text[place] or (dialect.is_empty[place] and no_name)) and len(places) > 1:
                places.remove(place)
                left.append(self._all_names[place] if self._has_header else str(place))
        if left and len(places) == sum(dialect.is_text[place] for place in places):
            places, left = list(range(dialect.width)), []  # nothing is a number: the error says where
        if left:
            notes.append(f"columns without numbers are left out: {clipped(', '.join(map(repr, left)))}")
        if dialect.guess is not None:
            notes.append(dialect.guess)
        if notes:
            warn(f"{self.origin}: {'; '.join(notes)}. columns=[...] chooses others.", GuessWarning)
        return places

    def parts(self, n_rows: int, skips: bool) -> Iterator[Part]:
        """Yield what pyarrow parses at a time."""
        import pyarrow

        dropped: list[int] = []
        try:
            if not self._has_rows():
                return
            first = 0
            for batch in self._opened(skips, dropped):
                n_unreadable = len(dropped)
                dropped.clear()
                columns = [batch.column(i) for i in range(batch.num_columns)]
                yield Part(_values(columns), self.origin, first, n_unreadable, owned=True)
                first += batch.num_rows
            if dropped:
                yield Part(np.empty((0, self.n_features)), self.origin, first, len(dropped))
        except (pyarrow.ArrowException, OSError, EOFError) as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise SourceError(self._explained(error)) from error

    def split(self, n_rows: int) -> list[Reader]:
        """Leave the file whole: where a row begins can be known only from all rows before it."""
        return [self]

    def _has_rows(self) -> bool:
        with self._text() as text:
            for _ in range(self._dialect.skipped + int(self._has_header)):
                text.readline()
            return any(line.strip() for line in text)  # up to the first row

    def _opened(self, skips: bool, dropped: list[int]) -> Any:
        import pyarrow
        from pyarrow import csv as arrow_csv

        def skip(row: Any) -> str:
            dropped.append(1)
            return "skip"

        inner = [f"c{i}" for i in range(self._width)]  # names may be empty, or equal
        names = [inner[place] for place in self.places]
        kind = pyarrow.string() if skips else pyarrow.float64()
        skipped = self._dialect.skipped + int(self._has_header)
        return arrow_csv.open_csv(
            str(self._path),
            arrow_csv.ReadOptions(use_threads=False, block_size=READ_BYTES, column_names=inner, skip_rows=skipped),
            arrow_csv.ParseOptions(delimiter=self._dialect.delimiter, invalid_row_handler=skip if skips else None),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, kind),
                include_columns=names,
                null_values=list(EMPTY),
                decimal_point=self._dialect.decimal,
                strings_can_be_null=True,
            ),
        )

    def _text(self) -> io.TextIOWrapper:
        import pyarrow

        return io.TextIOWrapper(pyarrow.input_stream(str(self._path)), encoding="utf-8-sig", newline="")

    def _explained(self, error: Exception) -> str:
        """Look for the line and column of what cannot be read."""
        with self._text() as text:
            for _ in range(self._dialect.skipped):
                text.readline()
            lines = csv.reader(text, delimiter=self._dialect.delimiter, skipinitialspace=self._dialect.delimiter == " ")
            try:
                for row, cells in enumerate(lines, -int(self._has_header)):
                    if row < 0 or not cells:
                        continue
                    where = f"{self.origin}, line {lines.line_num + self._dialect.skipped} (row {row})"
                    if len(cells) != self._width:
                        return f"{where} has {len(cells)} cells, but the first line has {self._width}."
                    for place in self.places:
                        if not is_number(cells[place], self._dialect.decimal):
                            name = f" ({clipped(self._all_names[place])!r})" if self._has_header else ""
                            cell = clipped(cells[place])
                            return (
                                f"{where}, column {place}{name}: {cell!r} is no number. Leave such rows out with "
                                "fastgmm.open_source(path, on_bad='skip'), or such columns with columns=[...]."
                            )
            except (OSError, EOFError, UnicodeDecodeError, csv.Error):
                pass
        return f"{self.origin} cannot be read: {error}"


def _values(columns: Sequence[Any]) -> NDArray[np.float64]:
    """Columns of numbers, or of text that should be numbers, as rows; what is no number becomes NaN."""
    import pyarrow
    from pyarrow import compute

    out = np.empty((len(columns[0]), len(columns)))
    for j, column in enumerate(columns):
        if pyarrow.types.is_string(column.type):
            is_number = compute.match_substring_regex(column, NUMBER)
            text = compute.utf8_ltrim(compute.utf8_trim_whitespace(column), "+")  # which the cast does not know
            column = compute.if_else(is_number, text, None).cast(pyarrow.float64())
        out[:, j] = column.to_numpy(zero_copy_only=False)
    return out
