"""Commands that apply a model to rows: predict, score."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from .data import Columns, Data, SkipBad, facts_of, open_rows, write_npy
from .options import Force, Model, Threads, check_output, print_table

if TYPE_CHECKING:
    from ..representation.source import Source


def predict(
    model: Model,
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npy file to write.")],
    proba: Annotated[bool, typer.Option("--proba", help="Probabilities of all components instead of labels.")] = False,
    columns: Columns = None,
    skip_bad: SkipBad = False,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Write the most probable component of each row, or the probability of each component, block by block."""
    check_output(output, force)
    mixture, source = _load(model, threads), open_rows(data, columns, skip_bad)
    n_components = len(_weights(mixture))
    if proba:
        write_npy(output, np.float64, (source.n_samples, n_components), _applied(mixture.predict_proba, source))
    else:
        write_npy(output, np.int64, (source.n_samples,), _applied(mixture.predict, source))
    print_table({**facts_of(source), "components": n_components, "output": output})


def score(
    model: Model,
    data: Data,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", show_default="none", help="A .npy file for each row's log-density.")
    ] = None,
    columns: Columns = None,
    skip_bad: SkipBad = False,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    force: Force = False,
) -> None:
    """Print the log-likelihood of rows under a model, in nats, and write each row's if asked to."""
    if output is not None:
        check_output(output, force)
    mixture, source = _load(model, threads), open_rows(data, columns, skip_bad)
    total, least = 0.0, np.inf

    def noted() -> Iterator[np.ndarray[Any, Any]]:
        nonlocal total, least
        for block in _applied(mixture.score_samples, source):
            total += float(block.sum(dtype=np.float64))
            least = min(least, float(block.min()))
            yield block

    if output is None:
        for _ in noted():
            pass
    else:
        write_npy(output, np.float64, (source.n_samples,), noted())
    facts: dict[str, Any] = {
        **facts_of(source),
        "log_likelihood": total,
        "log_likelihood_per_row": total / source.n_samples,
        "least_log_density": least,
    }
    if as_json:
        print(json.dumps(facts))
        return
    shown = {name: f"{value:.10g}" if isinstance(value, float) else value for name, value in facts.items()}
    print_table(shown | ({} if output is None else {"output": output}))


def _load(path: Path, threads: int | None) -> Any:
    from ..loading import load

    mixture = load(path)
    if not hasattr(mixture, "score_samples") or hasattr(mixture, "image_shape_"):
        raise ValueError(f"model file {path}: holds images, not rows; see fastgmm images --help")
    getattr(mixture, "mixture", mixture).n_jobs = threads
    return mixture


def _weights(mixture: Any) -> np.ndarray[Any, Any]:
    return np.asarray(getattr(mixture, "mixture", mixture).weights_)


def _applied(use: Callable[[Any], np.ndarray[Any, Any]], source: "Source") -> Iterator[np.ndarray[Any, Any]]:
    """What a method says of each block of rows, which carry the names of their columns."""
    from ..estimators._base import MixtureEstimator
    from ..representation.source import ArraySource

    named = isinstance(getattr(use, "__self__", None), MixtureEstimator)
    for _, block in source.chunks():
        for first in range(0, len(block), 2**18):
            rows = block[first : first + 2**18]
            yield use(ArraySource(rows, names=source.names) if named else rows)
