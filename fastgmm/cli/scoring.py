"""Commands that apply a model to rows, or draw rows from it: predict, score, sample."""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from typer import Option

from .groups import apply_by, load_many, refuse_with_by
from .interruptions import exiting_on_signals
from .options import AsJson, By, Force, Model, Seed, Threads, check_not_input, chosen_seed, print_facts
from .rows import Bad, Data, Reading, check_rows_output, facts_of, load_mixture, open_rows, reads_rows

_WRITTEN = "The file to write, by the ending of its name: .npy or .parquet."


@reads_rows(Bad)
def predict(
    model: Model,
    data: Data,
    output: Annotated[Path, Option("-o", "--output", help=_WRITTEN)],
    proba: Annotated[bool, Option("--proba", help="Probabilities of all components instead of labels.")] = False,
    by: By = None,
    *,
    reading: Reading,
    threads: Threads = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Write the most probable component of each row, or the probability of each component, block by block."""
    check_rows_output(output, force, model)
    many = load_many(model, by)
    if many is not None:
        refuse_with_by({"--proba": proba})
        _, facts = apply_by(many, data, str(by), output, reading, threads, force, "labels")
        print_facts({**facts, "output": output}, as_json)
        return
    mixture = load_mixture(model, threads)
    source = open_rows(data, reading, mixture)
    check_not_input(output, source.files)
    from .. import batch

    with exiting_on_signals():
        _, n_bad = batch.write_predictions(mixture, source, output, "resp" if proba else "labels", overwrite=force)
    n_components = len(mixture.weights_)
    print_facts({**facts_of(source, n_bad), "components": n_components, "output": output}, as_json)


@reads_rows(Bad)
def score(
    model: Model,
    data: Data,
    output: Annotated[
        Path | None,
        Option("-o", "--output", show_default="none", help=f"{_WRITTEN} It has the log-density of each row."),
    ] = None,
    by: By = None,
    *,
    reading: Reading,
    threads: Threads = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Print the log-likelihood of rows under a model, in nats, and write each row's if asked to."""
    if output is not None:
        check_rows_output(output, force, model)
    many = load_many(model, by)
    if many is not None:
        values, facts = apply_by(many, data, str(by), output, reading, threads, force, "log_prob_norm")
        scored = values[~np.isnan(values)].astype(np.float64)
        facts |= {
            "without_a_density": len(values) - len(scored),
            "log_likelihood": float(scored.sum()),
            "log_likelihood_per_row": float(scored.mean()) if len(scored) else math.nan,
            "least_log_density": float(scored.min(initial=math.inf)),
        }
        print_facts(facts | ({} if output is None else {"output": output}), as_json)
        return
    mixture = load_mixture(model, threads)
    source = open_rows(data, reading, mixture)
    check_not_input(output, source.files)
    from .. import batch

    with exiting_on_signals():
        scores = batch.score_samples(mixture, source, output, overwrite=force)
    facts = {
        **facts_of(source, scores.n_bad),
        "log_likelihood": scores.log_likelihood,
        "log_likelihood_per_row": scores.log_likelihood / scores.n_samples if scores.n_samples else math.nan,
        "least_log_density": scores.least_log_density,
    }
    print_facts(facts | ({} if output is None else {"output": output}), as_json)


def sample(
    model: Model,
    n_samples: Annotated[int, Option("-n", "--n-samples", min=1, help="Rows to draw.")],
    output: Annotated[Path, Option("-o", "--output", help=_WRITTEN)],
    labels: Annotated[bool, Option("--labels", help="Add each row's component as a column (.parquet).")] = False,
    first: Annotated[int, Option(min=0, help="Number of the first row: parts of one set, drawn apart.")] = 0,
    seed: Seed = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Draw rows from a model, in random order, into a file that may be larger than memory.

    Row i of a seed, which is printed, is the same whatever --first and -n are.
    """
    check_rows_output(output, force, model)
    if labels and output.suffix.lower() == ".npy":
        raise typer.BadParameter("only a .parquet file has a column for them", param_hint="--labels")
    mixture = load_mixture(model)
    from .. import batch

    seed = chosen_seed(seed)
    with exiting_on_signals():
        batch.sample(mixture, n_samples, output, random_state=seed, labels=labels, first=first, overwrite=force)
    n_features = mixture.means_.shape[1]
    print_facts({"rows": n_samples, "features": n_features, "seed": seed, "output": output}, as_json)
