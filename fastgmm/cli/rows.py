"""Commands beside a fit: sample, warmup, demo."""

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .data import write_npy
from .fit import CovarianceType, InitParams
from .options import AsJson, Force, Model, Seed, check_output, print_facts, print_table

_SAMPLE_BLOCK_BYTES = 2**26
_WARMUP_ROWS = 20_000  # enough for several slots: smaller fits never call the parallel passes


def sample(
    model: Model,
    n_samples: Annotated[int, typer.Option("-n", "--n-samples", min=1, help="Rows to draw.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npy file to write.")],
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Draw rows from a model, in random order, into a .npy file; the file may be larger than memory."""
    check_output(output, force)
    from ..loading import load

    mixture = load(model)
    if not hasattr(mixture, "sample"):
        raise ValueError(f"model file {model}: holds images, not rows; fastgmm images generate draws them")
    drawn = getattr(mixture, "mixture", mixture)
    n_features = drawn.means_.shape[1]
    random_state = np.random.RandomState(seed)
    # One generator for all blocks: an int would make every block the same.
    drawn.random_state = random_state
    block_rows = max(1, _SAMPLE_BLOCK_BYTES // (8 * n_features))

    def blocks() -> Iterator[np.ndarray[Any, Any]]:
        for first in range(0, n_samples, block_rows):
            X, _ = mixture.sample(min(block_rows, n_samples - first))
            random_state.shuffle(X)  # `sample` groups its rows by component
            yield X

    write_npy(output, np.float64, (n_samples, n_features), blocks())
    print_table({"rows": n_samples, "features": n_features, "output": output})


def warmup(as_json: AsJson = False) -> None:
    """Compile everything into the on-disk cache, for instance while a container image is built.

    With --json, what is done is told on stderr, and the seconds at the end on stdout.
    """
    from .. import GaussianMixture

    log, seconds = sys.stderr if as_json else sys.stdout, {}
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
            name = f"{covariance_type} {np.dtype(dtype)}"
            seconds[name] = time.perf_counter() - start
            print(f"{name}: {seconds[name]:.1f} s", file=log, flush=True)
    total = time.perf_counter() - begin
    print(f"ready after {total:.1f} s", file=log)
    if as_json:
        print_facts({**seconds, "total": total}, as_json)


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
