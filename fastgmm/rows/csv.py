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
from .dialect import TRUTH, TextOptions, sniffed
from .streams import Part, Reader, chosen_columns
from .text import FALLBACK, CleanText, guessed_encoding, raw_stream

READ_BYTES = 4 * 2**20
WIDE = 10_000  # columns from which Python splits lines, sooner than pyarrow, to which each column takes 9 kB
WIDE_CELLS = 2**18  # of a block of such lines
UNNAMED = ("", "Unnamed: 0")  # names of a column of row numbers
csv.field_size_limit(2**24)  # of cells, which are looked at one by one only in the first lines and after an error


class CsvReader(Reader):
    """A CSV file, plain or gzipped; `dialect.py` says how it is understood.

    Where no columns are asked for, those without a number are left out, empty ones, and a first one without a name that
    counts the rows, as pandas and R write; a GuessWarning names them.
    """

    def __init__(
        self, path: Path, columns: Sequence[str | int] | None = None, options: TextOptions | None = None
    ) -> None:
        import_pyarrow("Reading CSV files")
        options = options or {}
        self.origin, self._path = str(path), path
        self._comment: str | None = None
        self._joins_blanks = False
        try:
            self._encoding = options.get("encoding") or guessed_encoding(path)
            with self._text() as text:
                dialect = sniffed(text, options)
        except (OSError, UnicodeError, csv.Error) as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise SourceError(f"{path} is no usable CSV file: {clipped(str(error))}") from error
        if dialect is None:
            raise SourceError(f"{path} is empty.")
        if self._encoding == FALLBACK and options.get("encoding") is None:
            dialect.guesses.append(f"it is not UTF-8 and is read as {FALLBACK}; encoding= says otherwise")
        if dialect.guesses:
            warn(f"{self.origin}: {'; '.join(dialect.guesses)}.", GuessWarning)
        self._dialect, self._width = dialect, dialect.width
        self._comment, self._joins_blanks = dialect.comment, dialect.delimiter == " "
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
        needs_text = bool(dialect.cells.thousands) or any(dialect.is_truth[place] for place in self.places)
        self._as_text = needs_text  # cells are looked at here, which takes longer, instead of being numbers to pyarrow

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
        notes += dialect.header_guesses
        if notes:
            warn(f"{self.origin}: {'; '.join(notes)}. columns=[...] chooses others.", GuessWarning)
        return places

    def parts(self, n_rows: int, lenient: bool) -> Iterator[Part]:
        """Yield what pyarrow parses at a time."""
        import pyarrow

        done = 0
        try:
            if not self._has_rows():
                return
            if not (lenient or self._as_text or self._width >= WIDE):
                try:
                    for batch in self._opened(pyarrow.float64(), None):
                        values = _stacked([column.to_numpy(zero_copy_only=False) for column in batch.columns])
                        yield Part(values, self.origin, done, owned=True)
                        done += len(values)
                    return
                except pyarrow.ArrowInvalid:  # to pyarrow; not all that is a number here is one there
                    pass
            yield from self._looked_at(done, lenient)
        except (pyarrow.ArrowException, OSError, EOFError, _NoNumberError, UnicodeError, csv.Error) as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise SourceError(self._explained(error)) from error

    def texts(self) -> list[str | None]:
        """The cells of the one column that was chosen, as they stand; None for rows of another width."""
        import pyarrow

        if not self._has_rows():
            return []
        dropped: list[int] = []
        cells: list[str | None] = []
        try:
            for batch in self._opened(pyarrow.string(), dropped, has_nulls=False):
                cells += batch.column(0).to_pylist()
        except (pyarrow.ArrowException, OSError, EOFError, UnicodeError, csv.Error) as error:
            raise SourceError(self._explained(error)) from error
        if not dropped:
            return cells
        others = {number - 1 - self._skipped_lines for number in dropped}
        left = iter(cells)
        return [None if row in others else next(left) for row in range(len(cells) + len(others))]

    def _looked_at(self, done: int, lenient: bool) -> Iterator[Part]:
        """Rows from number `done` on, cells being looked at here."""
        dropped: list[int] = []
        bad: list[int] = []  # rows of another width whose place is not reached
        row = 0
        for values in self._blocks(lenient, dropped):
            bad += [number - 1 - self._skipped_lines for number in dropped]
            dropped.clear()
            values, n_placed = _with_bad_rows(values, row, np.array(bad, np.int64))
            del bad[:n_placed]
            stop = row + len(values)
            if stop > done:
                yield Part(values[max(0, done - row) :], self.origin, max(row, done), owned=True)
            row = stop
        bad += [number - 1 - self._skipped_lines for number in dropped]
        if bad:
            yield Part(np.full((len(bad), self.n_features), np.inf), self.origin, row, owned=True)

    @property
    def _skipped_lines(self) -> int:
        return self._dialect.skipped + int(self._has_header)

    def split(self, n_rows: int) -> list[Reader]:
        """Leave the file whole: where a row begins can be known only from all rows before it."""
        return [self]

    def _has_rows(self) -> bool:
        with self._text() as text:
            for _ in range(self._skipped_lines):
                text.readline()
            return any(line.strip() for line in text)  # up to the first row

    def _opened(self, kind: Any, dropped: list[int] | None, has_nulls: bool = True) -> Any:
        """The chosen columns as pyarrow reads them; rows of another width go into `dropped`, by their number."""
        from pyarrow import csv as arrow_csv

        def skip(row: Any) -> str:
            assert dropped is not None
            dropped.append(row.number)  # of those that are not empty, from 1, those that are skipped included
            return "skip"

        inner = [f"c{i}" for i in range(self._width)]  # names may be empty, or equal
        names = [inner[place] for place in self.places]
        dialect = self._dialect
        is_plain = self._encoding == "utf-8" and self._comment is None and not self._joins_blanks
        return arrow_csv.open_csv(
            raw_stream(self._path) if is_plain else self._cleaned(),
            arrow_csv.ReadOptions(
                use_threads=False, block_size=READ_BYTES, column_names=inner, skip_rows=self._skipped_lines
            ),
            arrow_csv.ParseOptions(delimiter=dialect.delimiter, invalid_row_handler=None if dropped is None else skip),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, kind),
                include_columns=names,
                null_values=list(dialect.cells.empty),
                decimal_point=dialect.cells.decimal,
                strings_can_be_null=has_nulls,
            ),
        )

    def _blocks(self, lenient: bool, dropped: list[int]) -> Iterator[NDArray[np.float64]]:
        """Rows whose cells are looked at here; those of another width go into `dropped`, by their number."""
        import pyarrow

        if self._width < WIDE:
            for batch in self._opened(pyarrow.string(), dropped if lenient else None):
                yield _stacked([self._numbers(batch.column(i), lenient) for i in range(batch.num_columns)])
            return
        cells: list[str] = []
        for row in self._split_lines(lenient, dropped):
            cells += [row[place] for place in self.places]
            if len(cells) >= WIDE_CELLS:
                yield self._numbers(pyarrow.array(cells), lenient).reshape(-1, self.n_features)
                cells = []
        if cells:
            yield self._numbers(pyarrow.array(cells), lenient).reshape(-1, self.n_features)

    def _split_lines(self, lenient: bool, dropped: list[int]) -> Iterator[list[str]]:
        """What `_opened` reads, by Python."""
        with self._text() as text:
            for _ in range(self._skipped_lines):
                text.readline()
            rows = (row for row in csv.reader(text, delimiter=self._dialect.delimiter) if row)
            for number, row in enumerate(rows, 1 + self._skipped_lines):
                if len(row) == self._width:
                    yield row
                elif lenient:
                    dropped.append(number)
                else:
                    raise _NoNumberError

    def _numbers(self, column: Any, lenient: bool) -> NDArray[np.float64]:
        """A column of text as numbers; what is none becomes infinity, or is an error."""
        import pyarrow
        from pyarrow import compute

        cells = self._dialect.cells
        text = compute.utf8_trim_whitespace(column)
        is_empty = compute.is_in(text, value_set=pyarrow.array(list(cells.empty)))
        is_number = compute.match_substring_regex(text, f"^(?i:{cells.pattern})$")
        is_truth = compute.is_in(compute.utf8_lower(text), value_set=pyarrow.array(list(TRUTH)))
        is_known = compute.fill_null(compute.or_(compute.or_(is_empty, is_number), is_truth), True)
        if not (lenient or compute.all(is_known).as_py()):
            raise _NoNumberError
        number = compute.if_else(compute.and_not(is_number, is_empty), text, None)
        if cells.thousands:
            number = compute.replace_substring(number, cells.thousands, "")
        if cells.decimal != ".":
            number = compute.replace_substring(number, cells.decimal, ".")
        number = compute.utf8_ltrim(number, "+").cast(pyarrow.float64())  # which the cast does not know
        if compute.any(compute.fill_null(is_truth, False)).as_py():
            truth = compute.equal(compute.utf8_lower(text), "true").cast(pyarrow.float64())
            number = compute.if_else(compute.fill_null(is_truth, False), truth, number)
        return compute.if_else(is_known, number, np.inf).to_numpy(zero_copy_only=False)

    def _cleaned(self) -> CleanText:
        return CleanText(self._path, self._encoding, self._comment, self._joins_blanks)

    def _text(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BufferedReader(self._cleaned()), encoding="utf-8", newline="")

    def _explained(self, error: Exception) -> str:
        """Look for the line and column of what cannot be read."""
        dialect = self._dialect
        with self._text() as text:
            for _ in range(dialect.skipped):
                text.readline()
            lines = csv.reader(text, delimiter=dialect.delimiter)
            row = -1 - int(self._has_header)
            try:
                for cells in lines:
                    if not cells:
                        continue
                    row += 1
                    if row < 0:
                        continue
                    where = f"{self.origin}, line {lines.line_num + dialect.skipped} (row {row})"
                    if len(cells) != self._width:
                        return (
                            f"{where} has {len(cells)} cells, but the first line has {self._width}. Leave such rows "
                            "out with on_bad='skip'; if it is a comment, say comment=."
                        )
                    for place in self.places:
                        if dialect.cells.is_text(cells[place], may_be_truth=True):
                            name = f" ({clipped(self._all_names[place])!r})" if self._has_header else ""
                            return (
                                f"{where}, column {place}{name}: {clipped(cells[place])!r} is no number. Leave such "
                                "rows out with fastgmm.open_source(path, on_bad='skip'), or such columns "
                                "with columns=[...]; null= says what stands for a missing value."
                            )
            except (OSError, EOFError, csv.Error):
                pass
            except UnicodeError as wrong:
                error = wrong
        if isinstance(error, UnicodeError):
            return f"{self.origin} is not {self._encoding}: {error}. Say what it is with encoding=."
        if "straddling object" in str(error):  # in pyarrow's words
            return f"{self.origin} has a line of more than {READ_BYTES >> 20} MiB"
        return f"{self.origin} cannot be read: {error}"


class _NoNumberError(Exception):
    """A cell is neither a number nor missing."""


def _stacked(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    out = np.empty((len(columns[0]), len(columns)))
    for j, column in enumerate(columns):
        out[:, j] = column
    return out


def _with_bad_rows(values: NDArray[np.float64], first: int, bad: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
    """Rows from number `first` on with infinity in the places of bad ones among them, and how many they are."""
    if not len(bad) or not len(values):
        return values, 0
    numbers = first + np.arange(len(values))
    numbers += np.searchsorted(bad - np.arange(len(bad)), numbers, side="right")
    out = np.full((numbers[-1] + 1 - first, values.shape[1]), np.inf)
    out[numbers - first] = values
    return out, int(np.searchsorted(bad, numbers[-1]))
