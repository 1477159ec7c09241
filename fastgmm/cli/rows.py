"""What commands on rows read and write: sources of rows by their paths, results as .npy or Parquet files."""

import contextlib
import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from typer import Argument, Option

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
Columns = Annotated[
    str | None,
    Option(
        metavar="A,B,...",
        show_default="all",
        help="Columns to read, by name (quoted as in CSV if it has a comma) or by place from 0, in order.",
    ),
]
Header = Annotated[
    bool | None,
    Option(
        "--header/--no-header",
        show_default="names if text stands above numbers",
        help="Whether the first line of CSV files has names.",
    ),
]
SkipBad = Annotated[
    bool, Option("--skip-bad", help="Leave rows with NaN, infinity or cells that are no numbers out, and count.")
]


def parse_columns(text: str | None) -> list[str | int] | None:
    """Return names, which may be quoted as in CSV; what is no name but digits is a place (`open_source`)."""
    if text is None:
        return None
    return [part.strip() for part in next(csv.reader([text], skipinitialspace=True))]


def open_rows(
    data: str, columns: str | None, skip_bad: bool, mixture: Any = None, header: bool | None = None
) -> "Source":
    """Open files as a source; exit code 2 if there are none.

    Where no columns are asked for and `mixture` knows the names of its features, those are read, whatever else there
    is: weights, labels, text.
    """
    from ..exceptions import SourceError
    from ..rows.open import open_source

    _check_data(data)
    on_bad = "skip" if skip_bad else "raise"
    names = getattr(mixture, "feature_names_in_", None)
    if columns is None and names is not None:
        with contextlib.suppress(SourceError):  # a file without these names; the mixture says what it makes of it
            return open_source(data, columns=list(names), on_bad=on_bad, header=header)
    return open_source(data, columns=parse_columns(columns), on_bad=on_bad, header=header)


def open_weighted_rows(
    data: str, columns: str | None, skip_bad: bool, weights_column: str | None, header: bool | None = None
) -> tuple["Source", np.ndarray[Any, Any] | None]:
    """Open files as a source, with the weights of the rows, if there is a column of them."""
    if weights_column is None:
        return open_rows(data, columns, skip_bad, header=header), None
    from ..rows.wrappers import open_weighted

    _check_data(data)
    parsed = parse_columns(weights_column) or [weights_column]
    if len(parsed) != 1:
        raise typer.BadParameter(f"{weights_column!r} must be one column", param_hint="--weights-column")
    return open_weighted(
        data, parsed[0], columns=parse_columns(columns), on_bad="skip" if skip_bad else "raise", header=header
    )


def _check_data(data: str) -> None:
    from ..rows.npy import split_name

    if not (split_name(data)[0].exists() or any(mark in data for mark in "*?[")):
        raise typer.BadParameter(f"{data} does not exist", param_hint="DATA")


def load_mixture(path: Path, threads: int | None = None) -> Any:
    """Load a model of rows, to be used with so many threads."""
    from ..loading import load

    mixture = load(path)
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


def facts_of(source: "Source") -> dict[str, Any]:
    """How many rows there are, and how many were left out."""
    skipped = getattr(source, "n_skipped", 0)
    return {"rows": source.n_samples} | ({"skipped": skipped} if skipped else {})
