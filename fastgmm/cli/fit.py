"""The command fit."""

import contextlib
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from .groups import fit_by, refuse_with_by
from .interruptions import NOT_CONVERGED, ProgressKind, exiting_on_signals, parse_every, warnings_as
from .models import check_model_output
from .options import AsJson, By, Force, Seed, Threads, check_not_input, chosen_seed, print_facts
from .rows import BadOfFit, Data, Reading, facts_of, open_weighted_rows, reads_rows

# Values of options, which have them in their help.
MixtureModel = StrEnum("MixtureModel", ["gaussian", "bayesian", "mfa"])
CovarianceType = StrEnum("CovarianceType", ["full", "tied", "diag", "spherical"])
InitParams = StrEnum("InitParams", ["auto", "kmeans", "k-means++", "random_from_data", "random"])


# typer reads the options from the signature, one argument each.
@reads_rows(BadOfFit)
def fit(
    data: Data,
    n_components: Annotated[int, Option("-k", "--n-components", min=1, help="Components of the mixture.")],
    output: Annotated[
        Path, Option("-o", "--output", help="The model file to write: safetensors, or JSON if it ends in .json.")
    ],
    model: Annotated[
        MixtureModel,
        Option(
            help="gaussian: maximum likelihood by EM; bayesian: variational inference, -k being the most components; "
            "mfa: factor analysers, for hundreds of features."
        ),
    ] = MixtureModel.gaussian,
    covariance_type: Annotated[
        CovarianceType | None, Option(show_default="full", help="Structure of the covariances (not mfa).")
    ] = None,
    n_factors: Annotated[int | None, Option(min=1, show_default="2", help="Factors of each component (mfa).")] = None,
    tol: Annotated[float, Option(min=0, help="Stop when an iteration gains less than this, in nats per row.")] = 1e-3,
    reg_covar: Annotated[
        float | None, Option(min=0, show_default="1e-6", help="Added to the variances (not mfa).")
    ] = None,
    max_iter: Annotated[int, Option(min=1, help="Most iterations of EM.")] = 100,
    *,
    reading: Reading,
    weights_column: Annotated[
        str | None,
        Option(
            metavar="NAME|PLACE",
            show_default="none",
            help="A column of the same files that holds weights, no feature: 2 is the row twice, 0 the row absent. "
            "They stay in memory, 8 bytes a row.",
        ),
    ] = None,
    standardize: Annotated[
        bool,
        Option(
            "--standardize",
            help="Bring all columns to mean 0 and variance 1 first, for columns in different units; the model is still "
            "one of the rows as they are.",
        ),
    ] = False,
    by: By = None,
    n_init: Annotated[int, Option(min=1, help="Starts, of which the best is kept.")] = 1,
    init_params: Annotated[
        InitParams | None,
        Option(show_default="auto; bayesian and mfa: kmeans", help="How a start is found (mfa: kmeans or random)."),
    ] = None,
    seed: Seed = None,
    threads: Threads = None,
    dask: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            show_default="none",
            help="Scheduler of a Dask cluster, such as tcp://host:8786, whose workers read the files in parts; they "
            "need fastgmm and the same paths.",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None, Option(min=0, show_default="no limit", help="Stop after the iteration that ends later.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        Option(
            dir_okay=False,
            show_default="none",
            help="File for the state of the fit; the one before is kept as FILE.previous. SIGINT and SIGTERM write it.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        str, Option(metavar="60s|10", help="Seconds (with an s) or iterations between checkpoints.")
    ] = "60s",
    resume: Annotated[
        bool, Option("--resume", help="Go on from --checkpoint, to the same bits; start anew if there is none.")
    ] = False,
    progress: Annotated[
        ProgressKind, Option(help="On stderr: a bar (auto, on terminals), lines, JSON lines or nothing.")
    ] = ProgressKind.auto,
    strict: Annotated[bool, Option("--strict", help="Exit with 3 if the fit did not converge.")] = False,
    verbose: Annotated[bool, Option("--verbose", help="One line per iteration.")] = False,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Fit a mixture to rows and write it to a model file.

    Files are read block by block, once per iteration: they may be larger than memory (not with --by).

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not converged (with --strict; the model is written), 130 interrupted
    (SIGINT), 143 terminated (SIGTERM).
    """
    check_model_output(output, force)
    every = _check_checkpoint(checkpoint, checkpoint_every, resume, output)
    own = _settings_of(model, covariance_type, reg_covar, n_factors)
    if by is not None:
        others = {"--model": model is not MixtureModel.gaussian, "--weights-column": weights_column is not None}
        others |= {"--standardize": standardize, "--dask": dask is not None, "--checkpoint": checkpoint is not None}
        others |= {"--max-seconds": max_seconds is not None, "--verbose": verbose}
        refuse_with_by(others | {"--init-params": init_params not in (None, InitParams.auto)})
        settings = {"n_components": n_components, "tol": tol, "max_iter": max_iter, "n_init": n_init, **own}
        with warnings_as(progress):
            done = fit_by(data, by, output, reading, chosen_seed(seed), threads, as_json, **settings)
        if strict and not done:
            raise typer.Exit(NOT_CONVERGED)
        return
    X, weights = open_weighted_rows(data, reading, weights_column)
    check_not_input(output, X.files)
    seed = chosen_seed(seed)
    from .._terminal import progress as show_progress

    start = time.perf_counter()
    lines = verbose and progress is ProgressKind.auto
    callback = show_progress("plain" if lines else progress.value, every=0.0 if verbose else None)
    mixture = _make(
        model,
        standardize,
        n_components=n_components,
        tol=tol,
        max_iter=max_iter,
        n_init=n_init,
        **({} if init_params is None else {"init_params": init_params.value}),
        random_state=seed,
        n_jobs=threads,
        callback=callback,
        max_seconds=max_seconds,
        checkpoint=checkpoint,
        checkpoint_every=every,
        resume=resume,
        **own,
    )
    with exiting_on_signals(), warnings_as(progress), contextlib.closing(callback), _cluster(dask) as client:
        mixture.fit(X, sample_weight=weights, executor=client)
    seconds = time.perf_counter() - start
    mixture.save(output)
    facts = {
        **facts_of(X),
        **({} if weights is None else {"total_weight": float(weights.sum())}),
        "features": X.n_features,
        "model": model.value,
        "components": n_components,
        **{name: value for name, value in own.items() if name != "reg_covar"},
        "seed": seed,
        "iterations": mixture.n_iter_,
        "stop_reason": mixture.stop_reason_,
        "log_likelihood": mixture.log_likelihood_,
        "seconds": round(seconds, 2),
        "output": output,
    }
    print_facts(facts, as_json)
    if strict and not mixture.converged_:
        raise typer.Exit(NOT_CONVERGED)


def _settings_of(
    model: MixtureModel, covariance_type: CovarianceType | None, reg_covar: float | None, n_factors: int | None
) -> dict[str, Any]:
    """The settings that not every model has; refuse those of another one."""
    if model is MixtureModel.mfa:
        for name, value in (("--covariance-type", covariance_type), ("--reg-covar", reg_covar)):
            if value is not None:
                raise typer.BadParameter(f"{name} goes with gaussian and bayesian, not with mfa", param_hint="--model")
        return {"n_factors": 2 if n_factors is None else n_factors}
    if n_factors is not None:
        raise typer.BadParameter(f"--n-factors goes with mfa, not with {model.value}", param_hint="--model")
    return {
        "covariance_type": (covariance_type or CovarianceType.full).value,
        "reg_covar": 1e-6 if reg_covar is None else reg_covar,
    }


def _cluster(address: str | None) -> contextlib.AbstractContextManager[Any]:
    """Connect to a cluster, if there is one, and leave it in the end."""
    if address is None:
        return contextlib.nullcontext()
    from ..distributed.clusters import connect

    client: contextlib.AbstractContextManager[Any] = connect(address)
    return client


def _make(model: MixtureModel, standardize: bool, **settings: Any) -> Any:
    """Return the estimator."""
    from .. import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture

    kinds = {"gaussian": GaussianMixture, "bayesian": BayesianGaussianMixture, "mfa": MixtureOfFactorAnalyzers}
    mixture = kinds[model](**settings)
    return StandardisedMixture(mixture) if standardize else mixture


def _check_checkpoint(path: Path | None, every: str, resume: bool, output: Path) -> float | int:
    """Refuse options that do not go together; return what `checkpoint_every` is."""
    if path is None and resume:
        raise typer.BadParameter("needs --checkpoint, the file to go on from", param_hint="--resume")
    if path is not None and path.resolve() == output.resolve():
        raise typer.BadParameter("is the output; name another file", param_hint="--checkpoint")
    return parse_every(every)
