"""What commands do with --by: one mixture for each group of rows, in one model file."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import typer

from .interruptions import exiting_on_signals
from .options import check_not_input, print_facts
from .rows import Reading, check_data, facts_of, parse_columns


def refuse_with_by(given: dict[str, bool]) -> None:
    """Exit code 2 for the first of these options that was given."""
    for name, is_given in given.items():
        if is_given:
            raise typer.BadParameter("goes with one mixture for all rows, not with --by", param_hint=name)


def open_grouped_rows(data: str, by: str, reading: Reading, on_bad: str, names: Any = None) -> tuple[Any, Any]:
    """Open files as a source, with the group of each row."""
    from ..rows.labels import open_grouped

    check_data(data)
    columns = parse_columns(reading.columns)
    if columns is None and names is not None:
        columns = list(names)
    return open_grouped(data, by, columns=columns, **{**reading.options, "on_bad": on_bad})


def fit_by(
    data: str, by: str, output: Path, reading: Reading, seed: int, threads: int | None, as_json: bool, **settings: Any
) -> bool:
    """Fit, save and tell; return whether every group has converged."""
    from .. import fit_many
    from ..estimators.many_mixtures import STATUS

    source, groups = open_grouped_rows(data, by, reading, reading.on_bad)
    check_not_input(output, source.files)
    start = time.perf_counter()
    with exiting_on_signals():
        many = fit_many(source, groups, random_state=seed, n_jobs=threads, **settings)
    seconds = time.perf_counter() - start
    counts = np.bincount(many.status_, minlength=len(STATUS))
    if not counts[:2].any():
        first = many.groups_.tolist()[0]
        raise ValueError(f"no group could be fitted: the first, {first!r}, {STATUS[many.status_[0]]}.")
    many.save(output)
    facts = {
        **facts_of(source),
        "features": source.n_features,
        "by": by,
        "groups": len(many),
        "components": settings["n_components"],
        "covariance_type": settings["covariance_type"],
        "seed": seed,
        **status_facts(many),
        "log_likelihood": float(np.nansum(many.log_likelihood_)),
        "seconds": round(seconds, 2),
        "output": output,
    }
    print_facts(facts, as_json)
    return bool((many.status_ == 0).all())


def status_facts(many: Any) -> dict[str, Any]:
    """How many groups have converged, and how many have not, or have no mixture, if there are any."""
    status = many.status_
    counts = {"not_converged": int((status == 1).sum()), "without_a_mixture": int((status > 1).sum())}
    facts: dict[str, Any] = {"converged": int((status == 0).sum())} | {k: v for k, v in counts.items() if v}
    if counts["without_a_mixture"]:
        first = int(np.argmax(status > 1))
        facts["first_without"] = str(many.groups_.tolist()[first])
    return facts


def load_many(path: Path, by: str | None) -> Any:
    """The mixtures of a file that has them, None of any other; exit code 2 where --by and the file do not agree."""
    from ..storage.container import held_model
    from ..storage.many import MODEL
    from ..storage.text import open_model

    with open_model(path) as reader:
        holds_many = held_model(reader.metadata) == MODEL
    if holds_many and by is None:
        raise typer.BadParameter(
            f"{path} holds a mixture for each group of rows; say which column names the group", param_hint="--by"
        )
    if by is None:
        return None
    if not holds_many:
        raise typer.BadParameter(f"{path} holds one mixture for all rows; leave --by away", param_hint="--by")
    from ..estimators.many_mixtures import ManyMixtures

    return ManyMixtures.load(path)


def apply_by(
    many: Any, data: str, by: str, output: Path | None, reading: Reading, threads: int | None, force: bool, what: str
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Labels or log-densities of rows under their groups' mixtures, written if asked to; values and facts.

    Bad rows that are kept have label -2 and density NaN, those of groups without a mixture -1 and NaN.
    """
    from ..model.wrapped import BAD_LABEL

    source, groups = open_grouped_rows(data, by, reading, reading.on_bad, many.feature_names_in_)
    check_not_input(output, source.files)
    X = source.take(np.arange(source.n_samples))
    good = np.isfinite(X).all(axis=1) if source.keeps_bad else np.ones(len(X), bool)
    labels = what == "labels"
    values = np.full(len(X), BAD_LABEL, np.int64) if labels else np.full(len(X), np.nan, X.dtype)
    ask = many.predict_many if labels else many.score_samples_many
    with exiting_on_signals():
        try:
            values[good] = ask(X[good], groups[good], n_jobs=threads)
        except KeyError as error:
            raise ValueError(f"column {by!r}: {error.args[0]}") from None
    if output is not None:
        _write(output, source, values, "label" if labels else "log_density", force)
    facts = {**facts_of(source, int((~good).sum())), "groups": len(np.unique(groups))}
    return values, facts


def _write(path: Path, source: Any, values: np.ndarray[Any, Any], name: str, force: bool) -> None:
    """Write a value for each row; of rows that were left out, a column says which are there."""
    from ..rows.columns import Columns
    from ..rows.output import open_output

    columns, blocks = [Columns([name], values.dtype)], [values]
    if source.n_skipped:
        columns.append(Columns(["row"], np.dtype(np.int64)))
        blocks.append(source.numbers(np.arange(len(values))))
    with open_output(path, len(values), columns, overwrite=force) as write:
        write(*blocks)
