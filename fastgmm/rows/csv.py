"""Reader of CSV files, by pyarrow, with the place of what it cannot read."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SourceError
from .arrow import import_pyarrow
from .streams import Part, Reader, chosen_columns

READ_BYTES = 4 * 2**20
NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"  # others are dropped anyway
EMPTY = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]  # read as NaN


class CsvReader(Reader):
    """A CSV file, plain or gzipped.

    The first line is a header if one of its cells is no number. Cells are separated by commas, or by semicolons or
    tabs where the first line has no comma.
    """

    def __init__(self, path: Path, columns: Sequence[str | int] | None = None) -> None:
        import_pyarrow("Reading CSV files")
        self.origin, self._path = str(path), path
        with self._text() as text:
            try:
                line = text.readline()
            except (OSError, UnicodeDecodeError) as error:
                raise SourceError(f"{path} is no usable CSV file: {error}") from error
        if not line.strip():
            raise SourceError(f"{path} is empty, or begins with an empty line.")
        self._delimiter = next((mark for mark in ",;\t" if mark in line), ",")
        cells = next(csv.reader([line], delimiter=self._delimiter))
        self._has_header = not all(_is_number(cell) for cell in cells)
        self._all_names = cells if self._has_header else [f"f{i}" for i in range(len(cells))]
        if len(set(self._all_names)) < len(cells):
            twice = next(name for name in cells if cells.count(name) > 1)
            raise SourceError(f"{path}: the name {twice!r} stands twice in the first line.")
        self._width = len(cells)
        self.places = chosen_columns(columns, cells if self._has_header else None, len(cells), self.origin)
        self.names = [cells[place] for place in self.places] if self._has_header else None
        self.n_features, self.dtype = len(self.places), np.dtype(np.float64)

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
            if self._has_header:
                text.readline()
            return any(line.strip() for line in text)  # up to the first row

    def _opened(self, skips: bool, dropped: list[int]) -> Any:
        import pyarrow
        from pyarrow import csv as arrow_csv

        def skip(row: Any) -> str:
            dropped.append(1)
            return "skip"

        names = [self._all_names[place] for place in self.places]
        kind = pyarrow.string() if skips else pyarrow.float64()
        return arrow_csv.open_csv(
            str(self._path),
            arrow_csv.ReadOptions(
                use_threads=False, block_size=READ_BYTES, column_names=self._all_names, skip_rows=int(self._has_header)
            ),
            arrow_csv.ParseOptions(delimiter=self._delimiter, invalid_row_handler=skip if skips else None),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, kind),
                include_columns=names,
                null_values=EMPTY,
                strings_can_be_null=True,
            ),
        )

    def _text(self) -> io.TextIOWrapper:
        import pyarrow

        return io.TextIOWrapper(pyarrow.input_stream(str(self._path)), encoding="utf-8-sig", newline="")

    def _explained(self, error: Exception) -> str:
        """Look for the line and column of what cannot be read."""
        with self._text() as text:
            lines = csv.reader(text, delimiter=self._delimiter)
            try:
                for row, cells in enumerate(lines, -int(self._has_header)):
                    if row < 0 or not cells:
                        continue
                    where = f"{self.origin}, line {lines.line_num} (row {row})"
                    if len(cells) != self._width:
                        return f"{where} has {len(cells)} cells, but the first line has {self._width}."
                    for place in self.places:
                        if not _is_number(cells[place]):
                            name = f" ({self._all_names[place]!r})" if self._has_header else ""
                            return (
                                f"{where}, column {place}{name}: {cells[place]!r} is no number. Leave such rows out "
                                "with fastgmm.open_source(path, on_bad='skip'), or such columns with columns=[...]."
                            )
            except (OSError, EOFError, UnicodeDecodeError, csv.Error):
                pass
        return f"{self.origin} cannot be read: {error}"


def _is_number(cell: str) -> bool:
    if cell.strip() in EMPTY:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


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
