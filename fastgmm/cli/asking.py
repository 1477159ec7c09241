"""Commands that ask: condition (columns given others), anomalies (which rows are odd, and why)."""

import csv
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer import Option

from .interruptions import exiting_on_signals
from .models import check_model_output
from .options import (
    AsJson,
    Force,
    Model,
    Seed,
    Threads,
    check_not_input,
    check_output,
    check_suffix,
    chosen_seed,
    print_facts,
)
from .rows import BadOfFit, Data, Reading, facts_of, load_mixture, open_rows, reads_rows

Output = Annotated[Path, Option("-o", "--output", help="The file to write.")]
Share = Annotated[
    float | None, Option(min=0.0, max=1.0, help="The share of rows to name, 0.05 if not said.", show_default=False)
]


def condition(
    model: Model,
    given: Annotated[
        str, Option("--given", metavar="NAME=VALUE,...", help="Columns, by name or number, and their values.")
    ],
    output: Output,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Write the model of the other columns where these have the given values, and print what to expect of them."""
    check_model_output(output, force, [model])
    mixture = load_mixture(model)
    columns, values = _assignments(given, mixture)
    left = mixture.condition(columns, values)
    whole = left._density().gaussians()
    mean = whole.weights @ whole.means
    variance = np.einsum("k,kdd->d", whole.weights, whole.covariances) + whole.weights @ (whole.means - mean) ** 2
    left.save(output)
    names = getattr(left, "feature_names_in_", None)
    shown = [str(column) for column in (range(len(mean)) if names is None else names)]
    facts = {
        "model": type(left).__name__,
        "weights": np.round(left.weights_, 6).tolist(),
        "columns": shown,
        "expected": mean.tolist(),
        "deviation": np.sqrt(variance).tolist(),
        "output": output,
    }
    print_facts(facts, as_json)


def _assignments(text: str, mixture: Any) -> tuple[list[Any], list[float]]:
    """Columns and values of NAME=VALUE,...; exit code 2 for anything else."""
    names = list(getattr(mixture, "feature_names_in_", ()))
    columns: list[Any] = []
    values = []
    for part in next(csv.reader([text], skipinitialspace=True)):
        name, sign, value = part.rpartition("=")
        try:
            values.append(float(value))
        except ValueError:
            sign = ""
        if not sign:
            raise typer.BadParameter(f"{part!r} is not NAME=VALUE", param_hint="--given")
        name = name.strip()
        columns.append(int(name) if name.isdigit() and name not in names else name)
    return columns, values


@reads_rows(BadOfFit)
def anomalies(
    data: Data,
    output: Annotated[
        Path, Option("-o", "--output", help="A .csv file to write: odd rows, the strangest first, and why.")
    ],
    model: Annotated[
        Path | None,
        Option("--model", exists=True, dir_okay=False, help="A model file; without, a detector is fitted to DATA."),
    ] = None,
    reference: Annotated[
        str | None,
        Option("--reference", metavar="DATA", help="Rows known to be normal, to which DATA is compared."),
    ] = None,
    share: Share = None,
    rate: Annotated[
        float, Option("--rate", min=0.0, max=1.0, help="With --reference: greatest share of false discoveries.")
    ] = 0.1,
    reasons: Annotated[int, Option("--reasons", min=1, help="Columns to name for each row.")] = 3,
    seed: Seed = None,
    *,
    reading: Reading,
    threads: Threads = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Write which rows are odd, with the columns that make them so and what was expected there.

    DATA may hold anomalies itself: a share of its rows is named. With --reference, rows are named that stand out from
    normal ones. Rows are numbered from 0 as they stand in DATA, those that were skipped counted.
    """
    from ..rows.source import ArraySource

    check_suffix(output, (".csv",))
    check_output(output, force, [] if model is None else [model])
    if reference is not None and share is not None:
        raise typer.BadParameter("goes with rows that may hold anomalies, not with --reference", param_hint="--share")
    mixture = None if model is None else load_mixture(model, threads)
    source = open_rows(data, reading, mixture)
    check_not_input(output, source.files)
    normal = None if reference is None else open_rows(reference, reading, mixture)
    seed = chosen_seed(seed)
    with exiting_on_signals():
        scores, found, ask, pvalues = _verdicts(source, mixture, normal, share, rate, seed, threads)
        odd = np.flatnonzero(found)
        odd = odd[np.argsort(scores[odd], kind="stable")]
        why = ask.reasons(ArraySource(source.take(odd), names=source.names), reasons) if len(odd) else None
    _write(output, source.numbers(odd), scores[odd], None if pvalues is None else pvalues[odd], why)
    facts = {**facts_of(source), "anomalies": len(odd), "seed": seed, "output": output}
    print_facts(facts, as_json)


def _verdicts(
    source: Any, mixture: Any, normal: Any, share: float | None, rate: float, seed: int, threads: int | None
) -> tuple[Any, Any, Any, Any]:
    """Scores (lower is stranger), which rows are odd, what says why, and p-values if there are any."""
    from ..estimators.reasons import judged
    from ..model.outliers import discoveries

    if mixture is not None:
        contamination = None if normal is not None else 0.05 if share is None else share
        scores, found, pvalues = judged(mixture, source, contamination, normal, rate)
        return scores, found, mixture, pvalues
    from .. import MixtureOutlierDetector

    settings: dict[str, Any] = {"random_state": seed, "n_jobs": threads}
    if normal is None:
        detector = MixtureOutlierDetector(contamination="auto" if share is None else share, **settings).fit(source)
        scores = detector.score_samples(source)
        return scores, scores < detector.offset_, detector, None
    detector = MixtureOutlierDetector(training="clean", **settings).fit(normal)
    pvalues = detector.pvalues(source)
    return detector.score_samples(source), discoveries(pvalues, rate), detector, pvalues


def _write(path: Path, rows: Any, scores: Any, pvalues: Any, why: Any) -> None:
    from ..rows.atomic import replace_atomically

    top = 0 if why is None else why.columns.shape[1]
    names = [f"{what}_{number + 1}" for number in range(top) for what in ("column", "value", "expected", "deviation")]
    with replace_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file)
        write.writerow(["row", "score", *(["pvalue"] if pvalues is not None else []), *names])
        for place, (row, score) in enumerate(zip(rows, scores, strict=True)):
            line = [int(row), float(score), *([float(pvalues[place])] if pvalues is not None else [])]
            for number in range(top):
                column = int(why.columns[place, number])
                line += [column if why.names is None else why.names[column], why.values[place, number]]
                line += [why.expected[place, number], why.deviation[place, number]]
            write.writerow(line)
