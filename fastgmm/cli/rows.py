"""What commands on rows read and write: sources of rows by their paths, results as .npy or Parquet files."""

import contextlib
import csv
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer
from typer import Argument, Option

from ..rows.dialect import TextOptions, check_text_options
from .options import check_output

if TYPE_CHECKING:
    from ..rows.source import Source

Data = Annotated[
    str,
    Argument(
        help="The rows: a .npy, CSV, Parquet, HDF5 or Zarr file ('file.h5::name' for one of several arrays), a folder "
        "of such files, or a pattern in quotes ('data/*.parquet')."
    ),
]
PANEL = "How DATA is read"


Bad = StrEnum("Bad", ["keep", "skip", "raise"])  # where each row gets a result
BadOfFit = StrEnum("BadOfFit", ["raise", "skip"])


def _option(*names: str, **settings: Any) -> Any:
    return Option(*names, rich_help_panel=PANEL, **settings)


def _guessed(help: str, metavar: str) -> Any:
    return Annotated[str | None, _option(show_default="as the first lines say", help=help, metavar=metavar)]


# Of every command that reads rows; all but the first two are of CSV files (`rows/dialect.py: TextOptions`).
OPTIONS: dict[str, Any] = {
    "columns": Annotated[
        str | None,
        _option(
            metavar="A,B,...",
            show_default="those with numbers",
            help="Columns to read, by name (quoted as in CSV if it has a comma) or by place from 0, in order.",
        ),
    ],
    "skip_bad": Annotated[bool, Option("--skip-bad", hidden=True)],  # what --bad skip was called in 0.1
    "header": Annotated[
        bool | None,
        _option(
            "--header/--no-header",
            show_default="names if text stands above numbers",
            help="Whether the first line of CSV files has names.",
        ),
    ],
    "delimiter": _guessed("What parts the cells; tab, or a blank for any number of blanks and tabs.", "SIGN"),
    "decimal": _guessed("The decimal mark, a point or a comma.", "SIGN"),
    "thousands": _guessed("What parts thousands; '' for nothing.", "SIGN"),
    "null": Annotated[
        str | None,
        _option(
            metavar="A,B,...",
            show_default="none",
            help="Cells that mean a missing value, beside empty ones, NA, NaN, null, None, ?, - and the like.",
        ),
    ],
    "comment": _guessed("What begins lines that are left out; '' for nothing.", "TEXT"),
    "encoding": _guessed("UTF-8, UTF-16, latin-1, ...", "NAME"),
}
TEXT_OPTIONS = tuple(TextOptions.__annotations__)


@dataclass(frozen=True)
class Reading:
    """How DATA is read: keyword arguments of `open_source`."""

    columns: str | None
    on_bad: str
    text: TextOptions

    @property
    def options(self) -> dict[str, Any]:
        """All of them but the columns."""
        return {"on_bad": self.on_bad, **self.text}


def reads_rows(bad: type[StrEnum]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options above, for its parameter `reading`; the first kind of `bad` is what it does else."""
    help_of_bad = {
        Bad: "Rows with NaN, infinity or cells that are no numbers: keep their place (label -2, density NaN), skip "
        "them (the column row of a .parquet file says which are left), or fail.",
        BadOfFit: "Rows with NaN, infinity or cells that are no numbers: fail, or skip and count them.",
    }[bad]
    default = next(iter(bad))
    options = {"columns": OPTIONS["columns"], "bad": Annotated[bad, _option(help=help_of_bad)], **OPTIONS}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default={"bad": default, "skip_bad": False}.get(name),
                annotation=kind,
            )
            for name, kind in options.items()
        ]
        own = [parameter for name, parameter in signature.parameters.items() if name != "reading"]

        @functools.wraps(command)
        def wrapped(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in options}
            on_bad = "skip" if given["skip_bad"] else given["bad"].value
            command(**arguments, reading=Reading(given["columns"], on_bad, _text_options(given)))

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + added
        wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


def _text_options(given: dict[str, Any]) -> TextOptions:
    """What is given of the options of CSV files; exit code 2 for what no table can have."""
    options = {name: given[name] for name in TEXT_OPTIONS if given[name] is not None}
    if "null" in options:
        options["null"] = next(csv.reader([options["null"]], skipinitialspace=True), [])
    if options.get("delimiter") in ("tab", "\\t"):
        options["delimiter"] = "\t"
    text = cast(TextOptions, options)
    try:
        check_text_options(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def parse_columns(text: str | None) -> list[str | int] | None:
    """Return names, which may be quoted as in CSV; what is no name but digits is a place (`open_source`)."""
    if text is None:
        return None
    return [part.strip() for part in next(csv.reader([text], skipinitialspace=True))]


def open_rows(data: str, reading: Reading, mixture: Any = None) -> "Source":
    """Open files as a source; exit code 2 if there are none.

    Where no columns are asked for and `mixture` knows the names of its features, those are read, whatever else there
    is: weights, labels, text.
    """
    from ..exceptions import SourceError
    from ..rows.open import open_source

    check_data(data)
    names = getattr(mixture, "feature_names_in_", None)
    if reading.columns is None and names is not None:
        with contextlib.suppress(SourceError):  # a file without these names; the mixture says what it makes of it
            return open_source(data, columns=list(names), **reading.options)
    return open_source(data, columns=parse_columns(reading.columns), **reading.options)


def open_weighted_rows(
    data: str, reading: Reading, weights_column: str | None
) -> tuple["Source", np.ndarray[Any, Any] | None]:
    """Open files as a source, with the weights of the rows, if there is a column of them."""
    if weights_column is None:
        return open_rows(data, reading), None
    from ..rows.wrappers import open_weighted

    check_data(data)
    parsed = parse_columns(weights_column) or [weights_column]
    if len(parsed) != 1:
        raise typer.BadParameter(f"{weights_column!r} must be one column", param_hint="--weights-column")
    return open_weighted(data, parsed[0], columns=parse_columns(reading.columns), **reading.options)


def check_data(data: str) -> None:
    """Exit code 2 if there are no such files."""
    from ..rows.npy import split_name
    from ..rows.open import is_address

    if not (is_address(data) or split_name(data)[0].exists() or any(mark in data for mark in "*?[")):
        raise typer.BadParameter(f"{data} does not exist", param_hint="DATA")


def load_mixture(path: Path, threads: int | None = None) -> Any:
    """Load a model of rows, to be used with so many threads."""
    from ..loading import load

    mixture = load(path)
    if hasattr(mixture, "groups_"):
        raise ValueError(f"model file {path}: holds a mixture for each group; predict and score read it with --by")
    if hasattr(mixture, "image_shape_"):
        raise ValueError(f"model file {path}: holds images, not rows; see fastgmm images --help")
    getattr(mixture, "mixture", mixture).n_jobs = threads
    return mixture


def check_rows_output(path: Path, force: bool, model: Path) -> None:
    """Refuse, with exit code 2, an output that is neither .npy nor Parquet, would fail or destroy something."""
    from ..rows.output import SUFFIXES

    if path.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"{path} must end in {' or '.join(SUFFIXES)}", param_hint="--output")
    check_output(path, force, [model])


def facts_of(source: "Source", n_bad: int = 0) -> dict[str, Any]:
    """How many rows there are, how many were left out, and how many are bad but kept."""
    counts = {"skipped": source.n_skipped, "bad": n_bad}
    return {"rows": source.n_samples} | {name: count for name, count in counts.items() if count}
