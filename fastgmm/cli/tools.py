"""Commands beside a fit: warmup, demo."""

import sys
import time
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
from typer import Option

from ..exceptions import say
from .fit import CovarianceType, InitParams
from .options import AsJson, print_facts

_WARMUP_ROWS = 20_000  # enough for several slots: smaller fits never call the parallel passes
_FEW = 2000


def warmup(as_json: AsJson = False) -> None:
    """Compile everything into the on-disk cache, for instance while a container image is built.

    With --json, what is done is told on stderr, and the seconds at the end on stdout.
    """
    from .. import GaussianMixture, fit_many

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
                    for rows in (X, X[:_FEW]):  # small problems are compiled as a whole
                        mixture.fit(rows[:, :2])  # one and two features have loops of their own
                        mixture.fit(rows)
            for use in (mixture.predict, mixture.predict_proba, mixture.score_samples):
                use(X)
            mixture.sample(2)
            few = X[:_FEW]
            offsets = [0, len(few) // 2, len(few)]
            many = fit_many(few, offsets=offsets, covariance_type=covariance_type.value)
            many.predict_many(few, offsets=offsets)
            many.score_samples_many(few, offsets=offsets)
            name = f"{covariance_type} {np.dtype(dtype)}"
            seconds[name] = time.perf_counter() - start
            say(f"{name}: {seconds[name]:.1f} s", log)
    total = time.perf_counter() - begin
    say(f"ready after {total:.1f} s", log)
    if as_json:
        print_facts({**seconds, "total": total}, as_json)


def demo(
    output: Annotated[Path, Option("--output", file_okay=False, help="Folder for digits.png and report.md.")] = Path(
        "fastgmm-demo"
    ),
    seed: Annotated[int, Option(min=0, help="Seed of the random numbers.")] = 0,
    rows: Annotated[int, Option(min=1000, help="Rows of the large fit.")] = 2_000_000,
) -> None:
    """Learn handwritten digits and draw new ones; then fit millions of rows and compare with the truth.

    Writes digits.png (real and generated digits side by side) and report.md; takes under a minute on two cores.
    """
    from .demo import run_demo

    run_demo(output, seed, rows)
