"""What commands on rows read and write: sources of rows by their paths, results as .npy or Parquet files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import check_output

if TYPE_CHECKING:
    from ..representation.source import Source

Data = Annotated[
    str,
    typer.Argument(
        help="The rows: a .npy, CSV or Parquet file, a folder of such files, or a pattern in quotes ('data/*.parquet')."
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", show_default="all", help="Columns to read, by name or by place from 0, in order."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave rows with NaN, infinity or cells that are no numbers out, and count.")
]


def open_rows(data: str, columns: str | None, skip_bad: bool) -> "Source":
    """Open files as a source; exit code 2 if there are none."""
    from ..representation.open import open_source

    if not (Path(data).exists() or any(mark in data for mark in "*?[")):
        raise typer.BadParameter(f"{data} does not exist", param_hint="DATA")
    chosen = None
    if columns is not None:
        chosen = [int(name) if name.isdigit() else name for name in (part.strip() for part in columns.split(","))]
    return open_source(data, columns=chosen, on_bad="skip" if skip_bad else "raise")


def check_rows_output(path: Path, force: bool) -> None:
    """Refuse, with exit code 2, an output that is neither .npy nor Parquet, would fail or destroy something."""
    from ..representation.output import SUFFIXES

    if path.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"{path} must end in {' or '.join(SUFFIXES)}", param_hint="--output")
    check_output(path, force)


def facts_of(source: "Source") -> dict[str, Any]:
    """How many rows there are, and how many were left out."""
    skipped = getattr(source, "n_skipped", 0)
    return {"rows": source.n_samples} | ({"skipped": skipped} if skipped else {})
