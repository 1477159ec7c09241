"""The Bayesian mixture beside scikit-learn's: seconds per iteration, and where default fits end.

`python -m benchmarks.bayesian` prints two Markdown tables, in some minutes. Iterations: both libraries start from the
same labels; fits of 2 and 2 + EXTRA iterations are subtracted, in turns. Default fits: the same problem with each
library's own k-means start and rule of stopping; quality is the lower bound per training row and the mean log-density
of rows that no fit saw. The target mixture has fewer components than the model may use.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from statistics import median

import numpy as np
from sklearn.mixture import BayesianGaussianMixture as SklearnBayesianGaussianMixture

from benchmarks.__main__ import BLAS_PRESETS
from benchmarks.measure import clock
from benchmarks.tables import markdown
from fastgmm import BayesianGaussianMixture
from fastgmm.datasets import make_mixture

N_SAMPLES, N_FEATURES, N_COMPONENTS, N_TRUE = 200_000, 10, 30, 12
HELD_OUT = 20_000
ROUNDS, EXTRA = 3, 4
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


class SklearnFromLabels(SklearnBayesianGaussianMixture):
    """scikit-learn's class with a start that is given."""

    labels: np.ndarray

    def _initialize_parameters(self, X, random_state, xp=None):
        self._initialize(X, np.eye(self.n_components)[self.labels])


def make_peer(labels: np.ndarray, **settings: object) -> SklearnFromLabels:
    peer = SklearnFromLabels(**settings)
    peer.labels = labels
    return peer


def iteration_row(X: np.ndarray, labels: np.ndarray, covariance_type: str) -> list[str]:
    """Milliseconds per iteration of both, and the ratio."""
    settings = {"n_components": N_COMPONENTS, "covariance_type": covariance_type, "tol": 0.0}

    def seconds(make, n_iter: int) -> float:
        return clock(make(max_iter=n_iter, **settings).fit, X)

    makers = (
        lambda **kwargs: BayesianGaussianMixture(init_params=labels, **kwargs),
        lambda **kwargs: make_peer(labels, **kwargs),
    )
    seconds(makers[0], 2)  # compiles
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for make, rounds in zip(makers, times, strict=True):
            rounds.append((seconds(make, 2 + EXTRA) - seconds(make, 2)) / EXTRA)
    own, peer = (median(rounds) for rounds in times)
    return [covariance_type, f"{1e3 * own:.1f}", f"{1e3 * peer:.0f}", f"{peer / own:.1f}x"]


def default_row(X: np.ndarray, held_out: np.ndarray, make, name: str, seed: int) -> list[str]:
    model = make(n_components=N_COMPONENTS, random_state=seed)
    seconds = clock(model.fit, X)
    bound = f"{float(np.squeeze(model.lower_bound_)) / len(X):.5f}"
    return [name, str(seed), f"{seconds:.2f}", str(model.n_iter_), bound, f"{model.score(held_out):.5f}"]


def main() -> None:
    warnings.simplefilter("ignore")
    rows = make_mixture(N_SAMPLES + HELD_OUT, N_FEATURES, N_TRUE, separation=2.0, random_state=0).X
    X, held_out = rows[:N_SAMPLES], rows[N_SAMPLES:]
    labels = np.argmin(((X[:, None, :] - X[:N_COMPONENTS]) ** 2).sum(axis=2), axis=1)
    lines = [iteration_row(X, labels, covariance_type) for covariance_type in COVARIANCE_TYPES]
    print(markdown(["covariance", "fastgmm, ms", "scikit-learn, ms", "scikit-learn / fastgmm"], lines, 1))
    print()
    titles = ["library", "seed", "seconds", "iterations", "lower bound per row", "held-out log-density per row"]
    makers = {"fastgmm": BayesianGaussianMixture, "scikit-learn": SklearnBayesianGaussianMixture}
    defaults = [default_row(X, held_out, make, name, seed) for seed in (0, 1) for name, make in makers.items()]
    print(markdown(titles, defaults, 1), flush=True)


if __name__ == "__main__":
    clean = {key: value for key, value in os.environ.items() if key not in BLAS_PRESETS}
    if clean != dict(os.environ):  # OpenBLAS has read them already
        sys.exit(subprocess.run([sys.executable, *sys.orig_argv[1:]], env=clean, check=False).returncode)
    main()
