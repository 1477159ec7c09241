"""Commands on rows: fit, info, warmup, demo."""

import contextlib
import json
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .data import Columns, Data, SkipBad, facts_of, open_rows
from .interruptions import NOT_CONVERGED, ProgressKind, exiting_on_signals, parse_every, warnings_as
from .options import Force, Model, Seed, Threads, check_output, print_table

_WARMUP_ROWS = 20_000  # enough for several slots: smaller fits never call the parallel passes


class CovarianceType(StrEnum):
    """Values of --covariance-type."""

    full = "full"
    tied = "tied"
    diag = "diag"
    spherical = "spherical"


class InitParams(StrEnum):
    """Values of --init-params."""

    kmeans = "kmeans"
    kmeans_plus_plus = "k-means++"
    random_from_data = "random_from_data"
    random = "random"


# typer reads the options from the signature, one argument each.
def fit(
    data: Data,
    n_components: Annotated[int, typer.Option("-k", "--n-components", min=1, help="Components of the mixture.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model file to write (safetensors).")],
    covariance_type: Annotated[
        CovarianceType, typer.Option(help="Structure of the covariances.")
    ] = CovarianceType.full,
    tol: Annotated[
        float, typer.Option(min=0, help="Stop when an iteration gains less than this, in nats per row.")
    ] = 1e-3,
    reg_covar: Annotated[float, typer.Option(min=0, help="Added to the variances.")] = 1e-6,
    max_iter: Annotated[int, typer.Option(min=1, help="Most iterations of EM.")] = 100,
    columns: Columns = None,
    skip_bad: SkipBad = False,
    n_init: Annotated[int, typer.Option(min=1, help="Starts, of which the best is kept.")] = 1,
    init_params: Annotated[InitParams, typer.Option(help="How a start is found.")] = InitParams.kmeans,
    seed: Seed = None,
    threads: Threads = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, show_default="no limit", help="Stop after the iteration that ends later.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            show_default="none",
            help="File for the state of the fit; the one before is kept as FILE.previous. SIGINT and SIGTERM write it.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        str, typer.Option(metavar="60s|10", help="Seconds (with an s) or iterations between checkpoints.")
    ] = "60s",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from --checkpoint, to the same bits; start anew if there is none.")
    ] = False,
    progress: Annotated[
        ProgressKind, typer.Option(help="On stderr: a bar (auto, on terminals), lines, JSON lines or nothing.")
    ] = ProgressKind.auto,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if the fit did not converge.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="One line per iteration.")] = False,
    force: Force = False,
) -> None:
    """Fit a mixture to rows and write it to a model file.

    Files are mapped or read block by block, once per iteration: they may be larger than memory.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not converged (with --strict; the model is written), 130 interrupted
    (SIGINT), 143 terminated (SIGTERM).
    """
    check_output(output, force)
    every = _check_checkpoint(checkpoint, checkpoint_every, resume, output)
    X = open_rows(data, columns, skip_bad)
    from .. import GaussianMixture
    from .._progress import progress as show_progress

    start = time.perf_counter()
    lines = verbose and progress is ProgressKind.auto
    callback = show_progress("plain" if lines else progress.value, every=0.0 if verbose else None)
    with exiting_on_signals(), warnings_as(progress), contextlib.closing(callback):
        mixture = GaussianMixture(
            n_components,
            covariance_type=covariance_type.value,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params.value,
            random_state=seed,
            n_jobs=threads,
            callback=callback,
            max_seconds=max_seconds,
            checkpoint=checkpoint,
            checkpoint_every=every,
            resume=resume,
        ).fit(X)
    seconds = time.perf_counter() - start
    mixture.save(output)
    print_table(
        {
            **facts_of(X),
            "features": X.n_features,
            "components": n_components,
            "covariance_type": covariance_type.value,
            "iterations": mixture.n_iter_,
            "stop_reason": mixture.stop_reason_,
            "log_likelihood": f"{mixture.log_likelihood_:.10g}",
            "seconds": f"{seconds:.2f}",
            "model": output,
        }
    )
    if strict and not mixture.converged_:
        raise typer.Exit(NOT_CONVERGED)


def _check_checkpoint(path: Path | None, every: str, resume: bool, output: Path) -> float | int:
    """Refuse options that do not go together; return what `checkpoint_every` is."""
    if path is None and resume:
        raise typer.BadParameter("needs --checkpoint, the file to go on from", param_hint="--resume")
    if path is not None and path.resolve() == output.resolve():
        raise typer.BadParameter("is the output; name another file", param_hint="--checkpoint")
    return parse_every(every)


def info(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a model file holds, after checking it."""
    facts = _facts(model)
    if as_json:
        print(json.dumps(facts))
        return
    for name in ("weights", "image_shape", "classes"):
        if name in facts:
            facts[name] = " ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in facts[name])
    print_table(facts)


def _facts(model: Path) -> dict[str, Any]:
    """Return the content of a file of any kind, its arrays checked, without the large ones; imports no estimator."""
    from ..model.factor_persistence import read_factor_mixture
    from ..model.files import FileReader, held_model, parse_metadata
    from ..model.persistence import STANDARDISATION, read_mixture, read_standardisation
    from ..model.posterior_persistence import read_posterior

    with FileReader(model) as reader:
        facts: dict[str, Any] = {**reader.metadata, "model": held_model(reader.metadata)}
        standardised = facts["model"] == "StandardisedMixture"
        if standardised:
            reader.set_aside(STANDARDISATION)
        mixture: Any
        if "BayesianGaussianMixture" in (facts["model"], facts.get("mixture")):
            mixture = read_posterior(reader).mixture
        elif facts["covariance_type"] == "low_rank":
            mixture = read_factor_mixture(reader)
            facts["n_factors"] = mixture.n_factors
        else:
            mixture = read_mixture(reader)
        n_components, n_features = mixture.means.shape
        if standardised:
            read_standardisation(reader, n_features)
    facts |= {"n_components": n_components, "n_features": n_features, "weights": mixture.weights.tolist()}
    for name in ("lower_bounds", "diagnostics"):  # too long to read
        facts.pop(name, None)
    if "images" in facts:
        try:
            images = parse_metadata(model, facts, "images", dict)
            del facts["images"]
            facts |= {"image_shape": list(images["shape"]), "classes": list(images["classes"])}
        except (TypeError, KeyError):
            raise ValueError(f"model file {model}: metadata 'images' does not describe an image generator") from None
    return facts


def warmup() -> None:
    """Compile everything into the on-disk cache, for instance while a container image is built."""
    from .. import GaussianMixture

    begin = time.perf_counter()
    rng = np.random.default_rng(0)
    for dtype in (np.float64, np.float32):
        X = rng.standard_normal((_WARMUP_ROWS, 4)).astype(dtype)
        for covariance_type in CovarianceType:
            start = time.perf_counter()
            for init_params in InitParams:
                mixture = GaussianMixture(
                    2, covariance_type=covariance_type.value, init_params=init_params.value, random_state=0
                )
                with warnings.catch_warnings():
                    # A fit of noise that takes its time to converge is of no interest here.
                    warnings.simplefilter("ignore")
                    mixture.fit(X[:, :2])  # one and two features have loops of their own
                    mixture.fit(X)
            for use in (mixture.predict, mixture.predict_proba, mixture.score_samples):
                use(X)
            mixture.sample(2)
            print(f"{covariance_type} {np.dtype(dtype)}: {time.perf_counter() - start:.1f} s", flush=True)
    print(f"ready after {time.perf_counter() - begin:.1f} s")


def demo(
    output: Annotated[
        Path, typer.Option("--output", file_okay=False, help="Folder for digits.png and report.md.")
    ] = Path("fastgmm-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    rows: Annotated[int, typer.Option(min=1000, help="Rows of the large fit.")] = 2_000_000,
) -> None:
    """Learn handwritten digits and draw new ones; then fit millions of rows and compare with the truth.

    Writes digits.png (real and generated digits side by side) and report.md; takes under a minute on two
    cores.
    """
    from .._demo import run_demo

    run_demo(output, seed, rows)
