"""What several commands share: options, checks before any work, what they print."""

import inspect
import json
import math
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

Model = Annotated[Path, Argument(exists=True, dir_okay=False, help="A model file, as `fit` or `convert` writes it.")]
Force = Annotated[bool, Option("--force", help="Replace the output if it exists.")]
Seed = Annotated[int | None, Option(min=0, show_default="another each time", help="Seed of the random numbers.")]
Threads = Annotated[int | None, Option(min=1, show_default="all that the process may use", help="Threads.")]
By = Annotated[
    str | None,
    Option(
        metavar="COLUMN",
        show_default="one mixture",
        help="A mixture for each group of rows: the column of CSV or Parquet files that names the group.",
    ),
]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object instead of a table.")]


def help_of(command: Any) -> str:
    """Return the description of a command, its paragraphs in one line each, to be broken where the terminal ends."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def chosen_seed(seed: int | None) -> int:
    """Return the seed, a random one for None: it is printed, so that the same can be drawn again."""
    return secrets.randbits(32) if seed is None else seed


def check_output(path: Path, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output that would fail, destroy something or replace an input, before any work is done."""
    from ..rows.atomic import check_target

    try:
        check_target(path, inputs)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} exists; give --force to replace it", param_hint="--output")


def check_not_input(path: Path | None, inputs: Iterable[Path]) -> None:
    """Refuse an output that is one of the inputs, with --force too."""
    if path is not None:
        check_output(path, True, inputs)


def check_suffix(path: Path, suffixes: tuple[str, ...]) -> str:
    """Return the suffix of an output, which says what kind of file to write and must be one of these."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        known = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise typer.BadParameter(f"{path} must end in {known}", param_hint="--output")
    return suffix


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts as a table, or as one JSON object in which numbers are exact and those that are not finite null.

    The table has a line for each; values from files cannot send control characters to the terminal.
    """
    if as_json:
        print_result(json.dumps(_plain(facts), default=str, allow_nan=False))
        return
    width = max(len(name) for name in facts)
    lines = (f"{name:<{width}}  {_shown(value)}" for name, value in facts.items())
    print_result("\n".join(line if line.isprintable() else ascii(line) for line in lines))


def print_result(text: str) -> None:
    """Print to stdout, which carries results alone; leave with 141 where whoever reads it has gone.

    Files are written by now: what cannot be printed is an error, or nothing at all.
    """
    if sys.stdout is None:
        return
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        print(ascii(text)[1:-1].replace("\\n", "\n"), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would complain at exit
        raise SystemExit(128 + 13) from None


def _plain(value: Any) -> Any:
    """A value as JSON takes it; paths are left to `str`."""
    if hasattr(value, "tolist"):  # of NumPy
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Any) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(part, str | list) for part in value)):
        return json.dumps(_plain(value), ensure_ascii=False)
    if isinstance(value, list | tuple):
        return " ".join(f"{part:.4g}" if isinstance(part, float) else str(part) for part in value)
    return f"{value:.10g}" if isinstance(value, float) else value
