"""How the text of a table is meant: what separates cells, whether names stand above, which columns are numbers.

All of it is guessed from the first lines, by rules that are told to whoever reads the file where they decide something
(`exceptions.py: GuessWarning`), and can be overruled.
"""

import csv
import re
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

EMPTY = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", ".", "-", "#N/A")  # read as NaN
DELIMITERS = ",;\t| "
COMMENTS = ("#", "%")  # that lines before the table may begin with
SAMPLE = 200  # lines
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?$")


@dataclass(frozen=True)
class Dialect:
    """What `sniffed` found.

    Attributes
    ----------
    delimiter, decimal : str
    skipped : int
        Lines before the first of the table: empty ones and comments.
    header : list of str or None
        The cells of the first line, if they are names.
    width : int
        Cells of a line.
    is_text, is_empty, is_count : list of bool
        Of each column: whether no cell of the sample is a number; whether all are empty; whether they count rows.
    guess : str or None
        What was decided though it could be otherwise.
    """

    delimiter: str
    decimal: str
    skipped: int
    header: list[str] | None
    width: int
    is_text: list[bool]
    is_empty: list[bool]
    is_count: list[bool]
    guess: str | None = None


def sniffed(
    text: TextIO, header: bool | None = None, delimiter: str | None = None, decimal: str | None = None
) -> Dialect | None:
    """Look at the first lines of a text; None if there are none. What is not None is as it is given."""
    lines: list[str] = []
    skipped = 0
    for line in islice(text, SAMPLE):
        if not lines and (not line.strip() or line.lstrip().startswith(COMMENTS)):
            skipped += 1
        elif line.strip():
            lines.append(line)
    if not lines:
        return None
    delimiter = delimiter or _delimiter(lines)
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " "))
    width = len(rows[0])
    cells = [[row[j].strip() for row in rows if len(row) == width] for j in range(width)]
    if decimal is None:
        comma = delimiter != "," and any(DECIMAL_COMMA.match(cell) for column in cells for cell in column)
        decimal = "," if comma else "."
    kinds = [[_kind(cell, decimal) for cell in column] for column in cells]
    guess = None
    if header is None:
        header, guess = _has_header(cells, kinds)
    start = int(header)
    return Dialect(
        delimiter,
        decimal,
        skipped,
        rows[0] if header else None,
        width,
        [_is_text(column[start:]) for column in kinds],
        [len(column) > start and set(column[start:]) == {"empty"} for column in kinds],
        [_counts(column[start:]) for column in cells],
        guess,
    )


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell is a number, or missing."""
    return _kind(cell.strip(), decimal) != "text"


def _kind(cell: str, decimal: str) -> str:
    """What a cell is: empty, number or text."""
    if cell in EMPTY:
        return "empty"
    try:
        float(cell.replace(",", ".", 1) if decimal == "," else cell)
    except ValueError:
        return "text"
    return "text" if "_" in cell else "number"


def _delimiter(lines: list[str]) -> str:
    """The mark that cuts the first lines into equally many cells, most of them numbers, and as many as can be."""
    best, most = next((mark for mark in ",;\t" if mark in lines[0]), ","), (0.0, 1)
    for mark in DELIMITERS:
        rows = list(csv.reader(lines[:20], delimiter=mark, skipinitialspace=mark == " "))
        width = len(rows[0])
        if width == 1 or any(len(row) != width for row in rows):
            continue
        cells = [cell.strip() for row in rows for cell in row]
        decimals = "." if mark == "," else ".,"
        share = max(sum(_kind(cell, decimal) != "text" for cell in cells) for decimal in decimals) / len(cells)
        if (share, width) > most:
            best, most = mark, (share, width)
    return best


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
                return True, "the first line counts, and is taken for names; header=False (--no-header) makes it a row"
        return False, None
    if any(kind == "text" and under == {"number"} for kind, under in zip(first, below, strict=True)):
        return True, None
    if all(kind != "number" for kind in first) or len(cells[0]) == 1:
        return True, None
    return False, (
        "the first line has text only where all lines have it, and is taken for a row; header=True (--header) makes it "
        "names"
    )


def _is_text(kinds: list[str]) -> bool:
    """Whether there is text, and no number."""
    return "text" in kinds and "number" not in kinds


def _counts(cells: list[str], any_start: bool = False) -> bool:
    """Whether cells are whole numbers that follow each other, from 0 or 1 unless any start will do."""
    if not cells or not all(cell.isdigit() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return (any_start or numbers[0] in (0, 1)) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
