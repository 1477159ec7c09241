"""Where default fits of the Bayesian mixture end, beside plain updates at convergence and scikit-learn's own rule.

`python -m benchmarks.variational [--seeds N] [--first SEED]` prints Markdown tables, in some minutes. Both libraries
start from the same responsibilities or labels. The reference is plain updates to a change of 1e-8 nats in total.
scikit-learn's time is its seconds per iteration (of thirty, threads pinned on both sides) times the iterations that
plain updates, which are the same, take to its `tol` of 1e-3 nats in total. Problems: the six settings of
scikit-learn's example of the concentration prior; columns as RDT and CTGAN normalise them; small real tables;
200,000 made rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.mixture import BayesianGaussianMixture as SklearnBayesianGaussianMixture
from threadpoolctl import threadpool_limits

from benchmarks.__main__ import BLAS_PRESETS
from benchmarks.measure import clock
from benchmarks.tables import markdown
from fastgmm import BayesianGaussianMixture
from fastgmm.datasets import make_mixture

THREADS, TIMED = 2, 30
KINDS = ("dirichlet_distribution", "dirichlet_process")


class SklearnFromResp(SklearnBayesianGaussianMixture):
    """scikit-learn's class with a start that is given."""

    resp: np.ndarray

    def _initialize_parameters(self, X, random_state, xp=None):
        self._initialize(X, self.resp)


@dataclass
class Problem:
    """Rows, responsibilities to start from, and settings of both libraries."""

    group: str
    X: np.ndarray
    resp: np.ndarray
    settings: dict = field(default_factory=dict)


def concentration(seed: int) -> Iterator[Problem]:
    """The six panels of plot_concentration_prior.py, with rows of other seeds."""
    rng = np.random.RandomState(seed)
    covariances = np.array([[[0.7, 0], [0, 0.1]], [[0.5, 0], [0, 0.1]], [[0.5, 0], [0, 0.1]]])
    means = np.array([[0, -0.7], [0, 0], [0, 0.7]])
    X = np.vstack([rng.multivariate_normal(means[j], covariances[j], n) for j, n in enumerate([200, 500, 200])])
    for kind, priors in zip(KINDS, ([0.001, 1, 1000], [1, 1000, 100000]), strict=True):
        for prior in priors:
            resp = rng.uniform(size=(len(X), 6))
            settings = {"weight_concentration_prior_type": kind, "weight_concentration_prior": prior}
            settings |= {"n_components": 6, "reg_covar": 0.0, "mean_precision_prior": 0.8}
            yield Problem("concentration", X, resp / resp.sum(axis=1, keepdims=True), settings)


def columns(seed: int, n: int = 3000) -> Iterator[Problem]:
    """Columns of tables, each in one dimension, with RDT's settings."""
    rng = np.random.default_rng(seed)
    made = (
        rng.lognormal(0, 1, n),
        np.r_[rng.normal(0, 1, n // 2), rng.normal(8, 0.5, n - n // 2)],
        rng.choice([5.0, 10, 20, 50], n),
        rng.poisson(4, n).astype(float),
        rng.uniform(size=n),
        rng.standard_t(3, n),
        np.where(rng.random(n) < 0.3, 0.0, rng.exponential(1000, n)),
        rng.normal(size=n),
        rng.integers(17, 90, n).astype(float),
        rng.gamma(2.0, 1.5, n),
    )
    settings = {"n_components": 10, "weight_concentration_prior": 0.001}
    for column in made:
        X = column[:, None]
        yield Problem("columns", X, hard(X, 10, seed), settings)


def tables(seed: int) -> Iterator[Problem]:
    """Small real tables, standardised, in the four types."""
    for load in (load_iris, load_wine, load_breast_cancer, load_diabetes):
        X = load().data
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        for covariance_type in ("full", "tied", "diag", "spherical"):
            yield Problem("tables", X, hard(X, 8, seed), {"n_components": 8, "covariance_type": covariance_type})


def many_rows(seed: int) -> Iterator[Problem]:
    """200,000 rows of 20 overlapping Gaussians in 10 dimensions, fitted with 30."""
    X = make_mixture(200_000, 10, 20, separation=2.0, random_state=seed).X
    yield Problem("200,000 rows", X, hard(X, 30, seed), {"n_components": 30})


def hard(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.eye(k)[KMeans(k, n_init=1, random_state=seed).fit(X).labels_]


@dataclass
class Outcome:
    """Of one problem: the reference, scikit-learn's seconds, and for each way passes, seconds, bound and components."""

    reference: tuple[float, int, int]
    sklearn_seconds: float
    sklearn_iterations: int
    ways: dict[str, tuple[int, float, float, int, bool]]


def fitted(problem: Problem, **settings: object) -> tuple[BayesianGaussianMixture, float]:
    start = problem.resp.argmax(axis=1) if np.isin(problem.resp, (0, 1)).all() else problem.resp
    model = BayesianGaussianMixture(init_params=start, n_jobs=THREADS, **(problem.settings | settings))
    return model, clock(model.fit, problem.X)


def large(model: BayesianGaussianMixture) -> int:
    return int((model.weights_ > 0.01).sum())


WAYS: dict[str, dict[str, object]] = {
    "default": {},
    "plain, tol 1e-3": {"acceleration": None, "max_iter": 20_000},
    "prune": {"prune": True, "max_iter": 5000},
}


def measure(problem: Problem) -> Outcome:
    plain, _ = fitted(problem, acceleration=None, tol=1e-8, max_iter=30_000)
    changes = np.abs(np.diff(plain.lower_bounds_))
    few = np.flatnonzero(changes < 1e-3)
    n_iter = int(few[0]) + 2 if len(few) else plain.n_iter_
    peer = SklearnFromResp(tol=0.0, max_iter=min(TIMED, n_iter), **problem.settings)
    peer.resp = problem.resp
    with threadpool_limits(THREADS):
        seconds = clock(peer.fit, problem.X) / peer.max_iter * n_iter
    ways = {}
    for name, settings in WAYS.items():
        model, own = fitted(problem, **settings)
        ways[name] = (model.n_iter_, own, float(model.lower_bound_), large(model), model.converged_)
    return Outcome((float(plain.lower_bound_), plain.n_iter_, large(plain)), seconds, n_iter, ways)


def rows(outcomes: list[Outcome]) -> list[list[str]]:
    lines = []
    for name in WAYS:
        passes, seconds, bounds, large_ones, converged = zip(*(o.ways[name] for o in outcomes), strict=True)
        reference = np.array([o.reference[0] for o in outcomes])
        ratio = [o.sklearn_seconds / own for o, own in zip(outcomes, seconds, strict=True)]
        long = [r for r, o in zip(ratio, outcomes, strict=True) if o.sklearn_iterations >= 200]
        gap = np.array(bounds) - reference
        same = sum(k == o.reference[2] for k, o in zip(large_ones, outcomes, strict=True))
        lines.append(
            [
                *(name, f"{median(passes):.0f} / {max(passes)}", f"{sum(gap >= -1)} of {len(gap)}", f"{gap.min():.1f}"),
                *(f"{sum(gap > 1)}", f"{same}", f"{sum(converged)}"),
                *(f"{median(long):.1f}x" if long else "-", f"{min(ratio):.1f}x"),
            ]
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variational", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=100)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    titles = ["way", "passes, median / most", "bound at most 1 nat lower", "lowest", "more than 1 higher"]
    titles += ["components as the reference", "converged", "scikit-learn / fastgmm where it takes 200", "least"]
    for make, used in ((concentration, seeds), (columns, seeds[:3]), (tables, seeds[:2]), (many_rows, seeds[:4])):
        problems = [problem for seed in used for problem in make(seed)]
        fitted(problems[0])  # compiles
        outcomes = [measure(problem) for problem in problems]
        needed = median(o.sklearn_iterations for o in outcomes)
        print(f"{problems[0].group}: {len(problems)} fits; scikit-learn needs {needed:.0f} iterations (median)\n")
        print(markdown(titles, rows(outcomes), 1), "\n", flush=True)


if __name__ == "__main__":
    clean = {key: value for key, value in os.environ.items() if key not in BLAS_PRESETS}
    if clean != dict(os.environ):  # OpenBLAS has read them already
        sys.exit(subprocess.run([sys.executable, *sys.orig_argv[1:]], env=clean, check=False).returncode)
    main()
