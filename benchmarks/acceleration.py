"""How many passes over the rows `acceleration="lbfgs"` saves, by how much the components overlap.

`python -m benchmarks.acceleration` prints a Markdown table, in about two minutes on one core. Every problem is fitted
by plain EM until it gains less than 1e-11 nats per row (at most 5,000 passes) and accelerated, from the same k-means
start. Counted are the passes until the mean log-likelihood is within 1e-6 nats per row of plain EM's end; seconds are
means per fit. Problems that never come there are counted in the last column and left out of passes and seconds.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from statistics import median

import numpy as np

from fastgmm import GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.exceptions import ConvergenceWarning

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
SEPARATIONS = (1.0, 1.5, 2.0, 3.0, 5.0)
SHAPES = ((2, 3), (4, 5), (8, 10), (16, 5))  # n_features, n_components
SEEDS = (1, 2, 3)
N_SAMPLES = 5_000
GAP = 1e-6  # nats per row
LONG = {"tol": 1e-11, "max_iter": 5_000}


@dataclass(frozen=True)
class Run:
    """Passes and seconds until the target (accelerated fits may miss it: None), and where the fit ended."""

    passes: int | None
    seconds: float
    end: float


class Clock:
    """Notes when each pass was complete."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def note(self, info: object) -> bool:
        """Take the time; a callback."""
        self.times.append(time.perf_counter())
        return False


def fit(X: np.ndarray, n_components: int, covariance_type: str, acceleration: str | None) -> tuple[np.ndarray, Clock]:
    clock = Clock()
    model = GaussianMixture(
        n_components,
        covariance_type=covariance_type,
        acceleration=acceleration,
        random_state=0,
        n_jobs=1,
        callback=clock.note,
        **LONG,
    ).fit(X)
    return np.array(model.lower_bounds_), clock


def measure(separation: float, covariance_type: str, shape: tuple[int, int], seed: int) -> tuple[Run, Run]:
    """Plain and accelerated run of one problem."""
    X = make_mixture(N_SAMPLES, *shape, covariance_type=covariance_type, separation=separation, random_state=seed).X
    fits = [fit(X, shape[1], covariance_type, acceleration) for acceleration in (None, "lbfgs")]
    target = fits[0][0][-1] - GAP
    runs = []
    for bounds, clock in fits:
        reached = bounds[-1] >= target
        last = int(np.argmax(bounds >= target)) if reached else len(bounds) - 1
        runs.append(Run(last + 1 if reached else None, clock.times[last] - clock.times[0], float(bounds[-1])))
    return runs[0], runs[1]


def row(separation: float, covariance_type: str) -> str:
    pairs = [measure(separation, covariance_type, shape, seed) for shape in SHAPES for seed in SEEDS]
    both = [(plain, fast) for plain, fast in pairs if fast.passes is not None]
    plain_passes, fast_passes = ([run.passes for run in side] for side in zip(*both, strict=True))
    plain_seconds, fast_seconds = (sum(run.seconds for run in side) for side in zip(*both, strict=True))
    gains = [fast.end - plain.end for plain, fast in pairs]
    cells = [
        f"{separation:g}",
        covariance_type,
        f"{median(plain_passes):.0f}",
        f"{median(fast_passes):.0f}",
        f"{median(p / f for p, f in zip(plain_passes, fast_passes, strict=True)):.1f}x",
        f"{sum(plain_passes) / sum(fast_passes):.1f}x",
        f"{plain_seconds / len(both):.3f}",
        f"{fast_seconds / len(both):.3f}",
        f"{median(plain.end for plain, _ in pairs):.6f}",
        f"{median(fast.end for _, fast in pairs):.6f}",
        f"{len(pairs) - len(both)} / {sum(gain > GAP for gain in gains)} of {len(pairs)}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    for covariance_type in COVARIANCE_TYPES:  # compile
        measure(5.0, covariance_type, (2, 3), 0)
    print(
        "| separation | covariance | passes, EM | passes, lbfgs | fewer, median | fewer, total | s, EM | s, lbfgs "
        "| log-likelihood, EM | log-likelihood, lbfgs | ends lower / higher |\n|--:|---|" + "--:|" * 9
    )
    for separation in SEPARATIONS:
        for covariance_type in COVARIANCE_TYPES:
            print(row(separation, covariance_type), flush=True)


if __name__ == "__main__":
    main()
