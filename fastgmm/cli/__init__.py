"""The `fastgmm` command: files in, files out; results on stdout, progress and messages on stderr.

Exit codes: 0 done, 1 failed, 2 wrong usage or no such file; 130 and 143 interrupted and terminated, 141 where whoever
reads stdout has gone; of `fit` also 3, see its help.
"""

import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from .._version import __version__
from ..exceptions import say
from ..rows.dialect import TextOptions

try:
    import typer
except ImportError:
    raise SystemExit("The fastgmm command needs typer: pip install 'fastgmm[cli]'") from None

from . import asking, fit, images, plot, scoring
from . import models as files
from . import tools as rows
from .options import help_of

app = typer.Typer(
    help="Fit Gaussian mixtures to large data, and generate new data from them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


# Regular expressions of what messages of the library advise, and the same in the words of the command.
REMEDIES: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"fastgmm\.open_source\(path, on_bad='(\w+)'\)": r"--bad \1",
    r"on_bad='(\w+)'": r"--bad \1",
    r"columns=\[\.\.\.\]": "--columns",
    r"header=True": "--header",
    r"header=False": "--no-header",
    rf"\b({'|'.join(TextOptions.__annotations__)})=('.*?')?": lambda found: f"--{found[1]} {found[2] or ''}".strip(),
    "start anew with resume=False": "start anew without --resume",
    "with checkpoint and resume=True": "with --checkpoint and --resume",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the process, and exit."""
    _take_descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = _show_warning
        try:
            app(args=arguments, prog_name="fastgmm")
        except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
            say(f"error: {_in_words_of_the_command(error)}", sys.stderr)
            raise SystemExit(1) from None


def _take_descriptors() -> None:
    """Occupy closed standard streams: the next file opened would get their numbers, and messages of libraries."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    say(f"warning: {_in_words_of_the_command(message)}", sys.stderr)


def _in_words_of_the_command(message: Any) -> str:
    text = str(message)
    for python, command in REMEDIES.items():
        text = re.sub(python, command, text)
    return text


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fastgmm {__version__}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


app.callback()(common)
for command in (
    *(rows.demo, fit.fit, scoring.predict, scoring.score, scoring.sample),
    *(asking.condition, asking.anomalies),
    *(plot.plot, files.info, files.convert, rows.warmup),
):
    app.command(help=help_of(command))(command)
app.add_typer(images.app, name="images")
