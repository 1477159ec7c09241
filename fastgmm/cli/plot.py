"""The command plot: pictures of models, with rows or without."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from .options import AsJson, Force, Model, check_not_input, check_output, check_suffix, print_facts
from .rows import BadOfFit, Reading, load_mixture, open_rows, parse_columns, reads_rows

if TYPE_CHECKING:
    from ..rows.source import Source

SUFFIXES = (".png", ".svg", ".pdf")
PlotKind = StrEnum("PlotKind", ["ellipses", "density", "convergence", "responsibilities"])


@reads_rows(BadOfFit)
def plot(
    model: Model,
    data: Annotated[
        str | None, Argument(help="Rows to draw: files, a folder or a pattern, as `fit` takes them.")
    ] = None,
    *,
    output: Annotated[Path, Option("-o", "--output", help="The picture to write: .png, .svg or .pdf.")],
    kind: Annotated[
        PlotKind,
        Option(
            help="ellipses, density: the mixture in two features, or in one as curves; convergence: the bound against "
            "the iterations; responsibilities: how sure the components of DATA are."
        ),
    ] = PlotKind.ellipses,
    features: Annotated[
        str | None,
        Option(metavar="A[,B]", show_default="the first two", help="One or two features, by name or by place."),
    ] = None,
    levels: Annotated[
        str | None,
        Option(metavar="P,Q,...", show_default="0.5,0.9,0.99", help="Shares that ellipses or contours hold."),
    ] = None,
    max_points: Annotated[
        int | None, Option(min=1, show_default="some thousand", help="Rows of DATA to draw, chosen at random.")
    ] = None,
    reading: Reading,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Draw a model, and rows with it, into a picture.

    DATA may be larger than memory: only the rows that are drawn are kept. The same rows are drawn each time.
    """
    suffix = check_suffix(output, SUFFIXES)
    check_output(output, force, [model])
    shares = _check_options(kind, data, features, levels, max_points)
    from ..plot import ConvergenceDisplay, MixtureDisplay, ResponsibilitiesDisplay
    from ..rows.atomic import replace_atomically

    mixture = load_mixture(model)
    X: Source | None = None if data is None else open_rows(data, reading, mixture)
    check_not_input(output, () if X is None else X.files)
    names = [str(name) for name in getattr(mixture, "feature_names_in_", ())]
    chosen = parse_columns(features)
    if chosen is not None:  # names win over places
        chosen = [int(name) if str(name).isdigit() and name not in names else name for name in chosen]
    display: Any
    if kind is PlotKind.convergence:
        display = ConvergenceDisplay.from_estimator(mixture)
    elif kind is PlotKind.responsibilities:
        display = ResponsibilitiesDisplay.from_estimator(mixture, X, max_points=max_points)
    else:
        display = MixtureDisplay.from_estimator(
            mixture, X, kind=kind.value, features=chosen, max_points=max_points, **shares
        )
    with replace_atomically(output) as temporary:
        display.figure_.savefig(temporary, format=suffix[1:])
    shown = " ".join(display.note_.get_text().split())
    print_facts({"kind": kind.value, "shown": shown, "output": output}, as_json)


def _check_options(
    kind: PlotKind, data: str | None, features: str | None, levels: str | None, max_points: int | None
) -> dict[str, Any]:
    """Refuse options that do not go together; return the levels, if any are given."""
    of_mixture = kind in (PlotKind.ellipses, PlotKind.density)
    if kind is PlotKind.responsibilities and data is None:
        raise typer.BadParameter("is needed: responsibilities are those of rows", param_hint="DATA")
    if kind is PlotKind.convergence and data is not None:
        raise typer.BadParameter("is not used: the history is in the model file", param_hint="DATA")
    for name, value in (("--features", features), ("--levels", levels)):
        if value is not None and not of_mixture:
            raise typer.BadParameter(f"goes with ellipses and density, not with {kind.value}", param_hint=name)
    if max_points is not None and data is None:
        raise typer.BadParameter("needs DATA, of which to draw rows", param_hint="--max-points")
    if levels is None:
        return {}
    try:
        shares = [float(part) for part in levels.split(",")]
    except ValueError:
        shares = []
    if not shares or not all(0 < share < 1 for share in shares):
        raise typer.BadParameter(f"{levels!r} must be shares between 0 and 1, as in 0.5,0.9", param_hint="--levels")
    return {"levels": shares}
