"""How good each solver is after how many passes over the rows: a table and a figure.

`python -m benchmarks.solvers` prints a Markdown table and writes docs/solvers.png, in about a minute. Two problems,
both with 10 full components from the k-means start of seed 0: scikit-learn's digits (1,797 x 20 principal components),
and 20,000 x 4 rows of a mixture whose components overlap. Every solver runs on its own for 1, 2, 5, 10, 20, 50 and 200
passes; the log-likelihood per row in the table is that of the parameters it then returns, recomputed from all rows.
Batches have 300 rows.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from fastgmm import GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.exceptions import ConvergenceWarning, EmptyComponentWarning

PASSES = (1, 2, 5, 10, 20, 50, 200)
DATA = {
    "digits": lambda: PCA(20, random_state=0).fit_transform(load_digits().data),
    "overlapping": lambda: make_mixture(20_000, 4, 10, separation=0.7, random_state=0).X,
}
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


def run(X: np.ndarray, solver: str, passes: int) -> float:
    """Log-likelihood per row in nats after so many passes."""
    model = GaussianMixture(10, random_state=0, tol=0, max_iter=passes, **settings(solver, passes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", EmptyComponentWarning)
        return model.fit(X).score(X)


def plot(results: dict[tuple[str, str], list[float]], path: Path) -> None:
    """One panel per problem, one line per solver."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(DATA))
    for axis, name in zip(axes, DATA, strict=True):
        for marker, solver in zip("os^vDxP", SOLVERS, strict=True):
            axis.plot(PASSES, results[solver, name], marker=marker, markersize=4, linewidth=1.2, label=solver)
        axis.set(xscale="log", xlabel="passes over the rows", title=name, xticks=PASSES)
        axis.set_xticks([], minor=True)
        axis.set_xticklabels([str(n) for n in PASSES])
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="log-likelihood per row (nats)")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, default=Path("docs/solvers.png"))
    arguments = parser.parse_args()
    rows = {name: make() for name, make in DATA.items()}
    results = {(solver, name): [run(X, solver, n) for n in PASSES] for solver in SOLVERS for name, X in rows.items()}
    print(f"| rows | solver | {' | '.join(f'{n} passes' for n in PASSES)} |\n|---|---|{'--:|' * len(PASSES)}")
    for name in DATA:
        for solver in SOLVERS:
            print(f"| {name} | {solver} | {' | '.join(f'{value:.4f}' for value in results[solver, name])} |")
    plot(results, arguments.plot)


if __name__ == "__main__":
    main()
