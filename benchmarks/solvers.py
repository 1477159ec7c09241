"""How good each solver is after how many passes over the rows: a table and a figure.

`python -m benchmarks.solvers` prints a Markdown table and writes docs/solvers.png, in about a minute. The rows are
scikit-learn's digits (1,797 x 20 principal components, 10 full components), from the k-means start of seed 0 and from a
start of random rows. Every solver runs on its own for 1, 2, 5, 10, 20 and 60 passes; the log-likelihood per row in the
table is that of the parameters it then returns, recomputed from all rows. Batches have 300 rows.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from fastgmm import GaussianMixture
from fastgmm.exceptions import ConvergenceWarning, EmptyComponentWarning

PASSES = (1, 2, 5, 10, 20, 60)
STARTS = {"k-means": "kmeans", "random rows": "random_from_data"}
BATCH = 300


def settings(solver: str, passes: int) -> dict[str, object]:
    """Constructor arguments that make a solver take this many passes."""
    options = {
        "stepwise EM": {"batch_size": BATCH, "passes": passes, "polish": False},
        "gradient, Adam": {"batch_size": BATCH, "learning_rate": 0.03, "relative_tol": 0},
        "gradient, SGD": {"batch_size": BATCH, "optimizer": "sgd", "learning_rate": 0.05, "relative_tol": 0},
    }
    return {
        "EM": {},
        "EM, lbfgs": {"acceleration": "lbfgs"},
        "hard EM": {"solver": "hard"},
        "annealed EM": {"solver": "annealed"},
        "stepwise EM": {"solver": "stepwise", "solver_options": options["stepwise EM"]},
        "gradient, Adam": {"solver": "gradient", "solver_options": options["gradient, Adam"]},
        "gradient, SGD": {"solver": "gradient", "solver_options": options["gradient, SGD"]},
    }[solver]


SOLVERS = ("EM", "EM, lbfgs", "stepwise EM", "hard EM", "annealed EM", "gradient, Adam", "gradient, SGD")


def run(X: np.ndarray, solver: str, start: str, passes: int) -> float:
    """Log-likelihood per row in nats after so many passes."""
    common = {"init_params": STARTS[start], "random_state": 0, "tol": 0, "max_iter": passes, "reg_covar": 1e-2}
    model = GaussianMixture(10, **common, **settings(solver, passes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", EmptyComponentWarning)
        return model.fit(X).score(X)


def plot(results: dict[tuple[str, str], list[float]], path: Path) -> None:
    """One panel per start, one line per solver."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(STARTS), sharey=True)
    for axis, start in zip(axes, STARTS, strict=True):
        for marker, solver in zip("os^vDxP", SOLVERS, strict=True):
            axis.plot(PASSES, results[solver, start], marker=marker, markersize=4, linewidth=1.2, label=solver)
        axis.set(xscale="log", xlabel="passes over the rows", title=f"start: {start}", xticks=PASSES)
        axis.set_xticks([], minor=True)
        axis.set_xticklabels([str(n) for n in PASSES])
        axis.grid(alpha=0.3)
    lowest = min(results[solver, start][0] for solver in SOLVERS[:3] for start in STARTS)
    axes[0].set(ylabel="log-likelihood per row (nats)", ylim=(lowest - 2.0, max(map(max, results.values())) + 0.4))
    axes[0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, default=Path("docs/solvers.png"))
    arguments = parser.parse_args()
    X = PCA(20, random_state=0).fit_transform(load_digits().data)
    results = {(solver, start): [run(X, solver, start, n) for n in PASSES] for solver in SOLVERS for start in STARTS}
    print(f"| start | solver | {' | '.join(f'{n} passes' for n in PASSES)} |\n|---|---|{'--:|' * len(PASSES)}")
    for start in STARTS:
        for solver in SOLVERS:
            print(f"| {start} | {solver} | {' | '.join(f'{value:.2f}' for value in results[solver, start])} |")
    plot(results, arguments.plot)


if __name__ == "__main__":
    main()
