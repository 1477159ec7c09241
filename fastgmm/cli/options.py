"""What several commands share: options, checks before any work, what they print."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A model file, as `fit` writes it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Seed = Annotated[int | None, typer.Option(min=0, show_default="another each time", help="Seed of the random numbers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Threads = Annotated[int | None, typer.Option(min=1, show_default="all that the process may use", help="Threads.")]


def check_output(path: Path, force: bool) -> None:
    """Refuse an output that would fail or destroy something, before any work is done."""
    if path.is_dir() or not path.parent.is_dir():
        raise typer.BadParameter(f"{path} is a folder or in no existing one", param_hint="--output")
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} exists; give --force to replace it", param_hint="--output")


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts as a table, floats to ten digits, or as one JSON object of the same names with all digits."""
    if as_json:
        print(json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in facts.items()}))
    else:
        print_table({name: f"{value:.10g}" if isinstance(value, float) else value for name, value in facts.items()})


def print_table(facts: dict[str, Any]) -> None:
    """Print one `name  value` line each; values from files cannot send control characters to the terminal."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        text = f"{name:<{width}}  {value}"
        print(text if text.isprintable() else ascii(text))
