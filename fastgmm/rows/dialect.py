"""How the text of a table is meant: what separates cells, whether names stand above, which columns are numbers.

All of it is guessed from the first lines, by rules that are told to whoever reads the file where they decide something
(`exceptions.py: GuessWarning`), and can be overruled (`TextOptions`).
"""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TextIO, TypedDict

from ..exceptions import InvalidParameterError

EMPTY = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", ".", "-", "#N/A")  # read as NaN
TRUTH = {"true": 1.0, "false": 0.0}  # in any case of their letters
DELIMITERS = ",;\t| "
COMMENTS = ("#", "%")  # that lines before the table may begin with, and then all others too
EMPTY_MARK = "#N/A"  # is none of them
SAMPLE = 200  # lines
SAMPLE_CELLS = 2**18  # of these, at most
MOST_COLUMNS = 1_000_000
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
INFINITE = r"[-+]?(?:inf|infinity|nan)"
NOTATIONS = ((".", ""), (",", ""), (".", ","), (",", "."), (".", "'"), (".", " "), (",", " "))  # decimal, thousands
SEP_LINE = re.compile(r"sep=(.)\r?\n?$")  # of spreadsheets


class TextOptions(TypedDict, total=False):
    """How a CSV file is to be read; what is not given, or None, is guessed.

    header : whether the first line has names. delimiter : what parts cells, one sign; a blank stands for any number of
    blanks and tabs. decimal, thousands : one sign each; '' where thousands are not parted. null : cells that are
    missing values, beside `EMPTY`. comment : what begins lines that are left out; '' for none. encoding : Python's name
    of it.
    """

    header: bool | None
    delimiter: str | None
    decimal: str | None
    thousands: str | None
    null: Sequence[str] | None
    comment: str | None
    encoding: str | None


def check_text_options(options: TextOptions) -> None:
    """Raise InvalidParameterError for options that no table can have."""
    unknown = sorted(set(options) - set(TextOptions.__annotations__))
    if unknown:
        known = ", ".join(TextOptions.__annotations__)
        raise TypeError(
            f"open_source() got an unexpected keyword argument {unknown[0]!r}; for CSV files it takes {known}"
        )

    def check(name: str, is_good: bool, what: str) -> None:
        value = options.get(name)
        if value is not None and not is_good:
            raise InvalidParameterError(f"{name} must be {what}, or None. Got {value!r}.")

    header, delimiter, encoding, null = (options.get(name) for name in ("header", "delimiter", "encoding", "null"))
    check("header", isinstance(header, bool), "a bool")
    single = isinstance(delimiter, str) and len(delimiter) == 1
    check("delimiter", single and str(delimiter) not in "\"\r\n'" and str(delimiter).isascii(), "one ASCII sign")
    decimal, thousands = options.get("decimal"), options.get("thousands")
    check("decimal", decimal in (".", ","), "'.' or ','")
    allowed = thousands == "" or (isinstance(thousands, str) and len(thousands) == 1 and not thousands.isalnum())
    check("thousands", allowed and thousands not in ("-", "+", '"', "\n"), "one sign that is no digit, or ''")
    if thousands and thousands == (decimal or "."):
        raise InvalidParameterError(f"decimal and thousands must differ. Got {thousands!r} for both.")
    is_list = isinstance(null, Sequence) and not isinstance(null, str) and all(isinstance(n, str) for n in null)
    check("null", is_list, "a list of str")
    comment: Any = options.get("comment")
    check("comment", isinstance(comment, str) and "\n" not in comment, "a str")
    if encoding is not None:
        try:
            codecs.lookup(str(encoding))
        except LookupError:
            raise InvalidParameterError(f"encoding must be a name that Python knows. Got {encoding!r}.") from None


@dataclass(frozen=True)
class Cells:
    """Which cells are numbers.

    Attributes
    ----------
    decimal, thousands : str
        The latter is empty where thousands are not parted.
    empty : tuple of str
        Cells that are missing values.
    """

    decimal: str = "."
    thousands: str = ""
    empty: tuple[str, ...] = EMPTY
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", re.compile(f"(?:{self.pattern})$", re.ASCII | re.IGNORECASE))

    @property
    def pattern(self) -> str:
        """A regular expression of numbers, without what surrounds them."""
        point = re.escape(self.decimal)
        plain = NUMBER.replace(r"\.", point)
        parted = ""
        if self.thousands:
            parted = rf"[-+]?\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+(?:{point}\d*)?|"
        return f"{parted}{plain}|{INFINITE}"

    def kind(self, cell: str) -> str:
        """What a cell is: empty, number, truth or text."""
        cell = cell.strip()
        if cell in self.empty:
            return "empty"
        if self._pattern.match(cell):
            return "number"
        return "truth" if cell.lower() in TRUTH else "text"

    def is_text(self, cell: str, may_be_truth: bool) -> bool:
        """Whether a cell is neither a number nor missing."""
        kind = self.kind(cell)
        return kind == "text" or (kind == "truth" and not may_be_truth)


@dataclass(frozen=True)
class Dialect:
    """What `sniffed` found.

    Attributes
    ----------
    delimiter : str
    cells : Cells
    comment : str or None
        What begins lines that are left out.
    skipped : int
        Lines before the first of the table: empty ones and comments.
    header : list of str or None
        The cells of the first line, if they are names.
    width : int
        Cells of a line.
    is_text, is_empty, is_count, is_truth : list of bool
        Of each column: whether no cell of the sample is a number; whether all are empty; whether they count rows;
        whether some are True or False, and none is text.
    guesses, header_guesses : list of str
        What was decided though it could be otherwise; of the first line.
    """

    delimiter: str
    cells: Cells
    comment: str | None
    skipped: int
    header: list[str] | None
    width: int
    is_text: list[bool]
    is_empty: list[bool]
    is_count: list[bool]
    is_truth: list[bool]
    guesses: list[str]
    header_guesses: list[str]


def sniffed(text: TextIO, options: TextOptions) -> Dialect | None:
    """Look at the first lines of a text; None if there are none."""
    lines, skipped, comment, delimiter = _first_lines(text, options)
    if not lines:
        return None
    empty = (*EMPTY, *(options.get("null") or ()))
    delimiter = delimiter or _delimiter(lines, empty)
    rows = _split(lines, delimiter)
    width = len(rows[0])
    columns = [[row[j].strip() for row in rows if len(row) == width] for j in range(width)]
    cells, guesses = _cells(columns, delimiter, empty, options)
    kinds = [[cells.kind(cell) for cell in column] for column in columns]
    header, header_guess = options.get("header"), None
    if header is None:
        header, header_guess = _has_header(columns, kinds)
    start = int(header)
    below = [column[start:] for column in kinds]
    return Dialect(
        delimiter,
        cells,
        comment,
        skipped,
        [name.strip() for name in rows[0]] if header else None,
        width,
        [_is_text(column) for column in below],
        [set(column) == {"empty"} for column in below],
        [_counts(column[start:]) for column in columns],
        ["truth" in column and "text" not in column for column in below],
        guesses,
        [header_guess] if header_guess else [],
    )


def _first_lines(text: TextIO, options: TextOptions) -> tuple[list[str], int, str | None, str | None]:
    """Lines of the table; how many stand before it; what begins comments; the delimiter if it is said there."""
    lines: list[str] = []
    skipped, comment, delimiter = 0, options.get("comment"), options.get("delimiter")
    marks = COMMENTS if comment is None else (comment,) if comment else ()
    left = SAMPLE_CELLS
    for line in islice(text, SAMPLE):
        left -= (n_marks := max(map(line.count, DELIMITERS)))
        if n_marks >= MOST_COLUMNS:
            raise csv.Error(f"a line of it has {n_marks + 1} cells, more than {MOST_COLUMNS}")
        if left < 0 and len(lines) > 2:
            break
        start = line.lstrip()
        if not lines and not skipped and SEP_LINE.match(line):
            skipped, delimiter = 1, delimiter or line[4]
        elif start and marks and start.startswith(marks) and not start.startswith(EMPTY_MARK):
            if not lines:
                comment, skipped = comment or start[0], skipped + 1
            elif not comment:
                lines.append(line)
        elif not lines and not start:
            skipped += 1
        elif start:
            lines.append(line)
    return lines, skipped, comment or None, delimiter


def _split(lines: list[str], delimiter: str) -> list[list[str]]:
    if delimiter == " ":
        lines = [" ".join(line.split()) for line in lines]
    return list(csv.reader(lines, delimiter=delimiter))


def _delimiter(lines: list[str], empty: tuple[str, ...]) -> str:
    """The mark that cuts the first lines into equally many cells, most of them numbers, and as many as can be."""
    best, most = next((mark for mark in ",;\t" if mark in lines[0]), ","), (0.0, 1)
    for mark in DELIMITERS:
        rows = _split(lines[:20], mark)
        width = len(rows[0])
        if width == 1 or any(len(row) != width for row in rows):
            continue
        found = [cell for row in rows for cell in row]
        notations = [Cells(*pair, empty) for pair in NOTATIONS if mark not in pair or mark == ","]
        share = max(sum(cells.kind(cell) != "text" for cell in found) for cells in notations) / len(found)
        if (share, width) > most:
            best, most = mark, (share, width)
    return best


def _cells(
    columns: list[list[str]], delimiter: str, empty: tuple[str, ...], options: TextOptions
) -> tuple[Cells, list[str]]:
    """The notation by which most columns are numbers, the plainest of those; what to say where it is a guess."""
    decimal, thousands = options.get("decimal"), options.get("thousands")
    pairs = [pair for pair in NOTATIONS if delimiter == "," or delimiter not in pair]
    if decimal is not None:
        pairs = [pair for pair in pairs if pair[0] == decimal]
    if thousands is not None:
        pairs = [(mark, thousands) for mark in dict.fromkeys(pair[0] for pair in pairs) if mark != thousands]
    best, most = Cells(decimal or ".", thousands or "", empty), -1
    for pair in pairs:
        cells = Cells(*pair, empty)
        count = sum(_is_mostly_numbers([cells.kind(cell) for cell in column]) for column in columns)
        if count > most:
            best, most = cells, count
    guesses = []
    if thousands is None and best.thousands:
        guesses.append(f"{best.thousands!r} is taken for the mark of thousands; thousands='' takes it for text")
    if decimal is None and thousands is None and best.decimal == "," and _are_ambiguous(columns):
        guesses.append(
            "',' is taken for the decimal mark, though each stands before three digits; decimal='.' and thousands=',' "
            "(--decimal . --thousands ,) take it for the mark of thousands"
        )
    return best, guesses


def _is_mostly_numbers(kinds: list[str]) -> bool:
    numbers = sum(kind in ("number", "truth") for kind in kinds)
    return numbers > 0 and 2 * numbers >= sum(kind != "empty" for kind in kinds[1:])


def _are_ambiguous(columns: list[list[str]]) -> bool:
    """Whether every comma in a number parts whole thousands."""
    found = [cell for column in columns for cell in column if re.fullmatch(r"[-+]?[\d,]+", cell) and "," in cell]
    return bool(found) and all(re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+", cell) for cell in found)


def _has_header(cells: list[list[str]], kinds: list[list[str]]) -> tuple[bool, str | None]:
    """Whether names stand in the first line, and what to say where it is a guess.

    They do where one stands above numbers, or where there is nothing but text, or nothing else; a line of numbers is
    one of names where it counts (0, 1, 2 or 2019, 2020) and the lines below do not. Text above text alone, as of
    classes beside numbers, is data.
    """
    first, below = [column[0] for column in kinds], [set(column[1:]) - {"empty"} for column in kinds]
    if "text" not in first:
        if len(cells) > 1 and len(cells[0]) > 2 and _counts([c[0] for c in cells], any_start=True):
            rows = list(zip(*(column[1:] for column in cells), strict=True))
            if not any(_counts(list(row), any_start=True) for row in rows):
                return True, "the first line counts, and is taken for names; header=False makes it a row"
        return False, None
    if any(kind == "text" and under and under <= {"number", "truth"} for kind, under in zip(first, below, strict=True)):
        return True, None
    if all(kind != "number" for kind in first) or len(cells[0]) == 1:
        return True, None
    return False, (
        "the first line has text only where all lines have it, and is taken for a row; header=True makes it names"
    )


def _is_text(kinds: list[str]) -> bool:
    """Whether there is text, and no number."""
    return "text" in kinds and "number" not in kinds


def _counts(cells: list[str], any_start: bool = False) -> bool:
    """Whether cells are whole numbers that follow each other, from 0 or 1 unless any start will do."""
    if not cells or not all(cell.isascii() and cell.isdigit() and len(cell) < 19 for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return (any_start or numbers[0] in (0, 1)) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
