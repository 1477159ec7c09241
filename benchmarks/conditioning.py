"""Conditional distributions row by row, beside gmr; mixtures of linear regressions, with a softmax gate beside cgmm.

`python -m benchmarks.conditioning` prints two Markdown tables and a line, in about a minute. gmr (`pip install gmr`) is
asked as its documentation shows: `predict` for means of many rows, `condition` and what comes after it row by row for
all else, over the first hundred rows. The mixture is the same: 8 full components, 4 columns given, 2 wanted. Times are
medians; that means agree to 1e-9 is checked. cgmm (`pip install cgmm`) fits the same 5,000 rows in as many iterations.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable

from .small import seconds

LOOP = 100
N_ROWS, N_SLOW = 1_000_000, 100_000


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(prog="python -m benchmarks.conditioning", description=__doc__.split("\n\n")[0]).parse_args()
    warnings.simplefilter("ignore")  # twenty iterations are not enough
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # presets of these slow NumPy down
        os.environ.pop(name, None)
    print_conditionals()
    print()
    print_regressions()
    print()
    print_gates()


def print_conditionals() -> None:
    """Microseconds a row, and as many times as gmr."""
    import numpy as np

    from fastgmm import GaussianMixture

    rng = np.random.default_rng(0)
    roots = rng.normal(size=(8, 6, 6))
    mixture = GaussianMixture.from_parameters(
        rng.dirichlet(np.ones(8)),
        3 * rng.normal(size=(8, 6)),
        roots @ roots.transpose(0, 2, 1) + np.eye(6),
        random_state=0,
    )
    X = np.ascontiguousarray(mixture.sample(N_ROWS)[0][:, :4])
    asked, few = mixture.conditional([0, 1, 2, 3]), X[:N_SLOW]
    ours = {
        "mean": (lambda: asked.mean(X), N_ROWS),
        "standard deviation": (lambda: asked.std(X), N_ROWS),
        "covariance": (lambda: asked.covariance(X), N_ROWS),
        "log-density": (lambda: asked.log_prob(X, X[:, :2]), N_ROWS),
        "one draw": (lambda: asked.sample(few), N_SLOW),
        "three quantiles of two columns": (lambda: asked.quantile(few, [0.1, 0.5, 0.9]), N_SLOW),
        "mode": (lambda: asked.mode(few), N_SLOW),
    }
    theirs = peers(mixture, X, asked.mean(X[:LOOP]))
    print("| 8 components, 4 given, 2 wanted | fastgmm, us a row | gmr, us a row | ratio |\n|---|--:|--:|--:|")
    for name, (call, n) in ours.items():
        own, other = seconds(call) / n * 1e6, theirs.get(name)
        shown = ("-", "-") if other is None else (f"{other:,.2f}", f"{other / own:,.0f}")
        print(f"| {name} | {own:.3f} | {shown[0]} | {shown[1]} |")


def peers(mixture, X, means) -> dict[str, float]:
    """Microseconds a row of gmr, or nothing where it is not installed."""
    import numpy as np

    try:
        from gmr import GMM
    except ImportError:
        print("gmr is not installed: `pip install gmr`\n")
        return {}
    model = GMM(
        8, np.asarray(mixture.weights_), np.asarray(mixture.means_), np.asarray(mixture.covariances_), random_state=0
    )
    given = np.arange(4)
    np.testing.assert_allclose(model.predict(given, X[:LOOP]), means, rtol=1e-9, atol=1e-9)

    def row_by_row(ask: Callable[[object], object]) -> float:
        return seconds(lambda: [ask(model.condition(given, x)) for x in X[:LOOP]], 3) / LOOP * 1e6

    many = X[:N_SLOW]
    return {
        "mean": seconds(lambda: model.predict(given, many), 3) / len(many) * 1e6,
        "one draw": row_by_row(lambda one: one.sample(1)),
        "log-density": row_by_row(lambda one: one.to_probability_density(np.zeros((1, 2)))),
    }


def print_regressions() -> None:
    """Milliseconds a pass of EM, beside one of a mixture of diagonal Gaussians over the same rows."""
    import numpy as np

    from fastgmm import engine
    from fastgmm.model.regressions import LinearParameters, regressed
    from fastgmm.rows.source import ArraySource

    rng = np.random.default_rng(0)
    print("| rows x columns, components | linear regressions, ms | diagonal Gaussians, ms | ratio |\n|---|--:|--:|--:|")
    for n, d, k in ((1_000_000, 4, 4), (1_000_000, 10, 4)):
        rows = rng.normal(size=(n, d))
        parameters = LinearParameters(
            rows.mean(axis=0), rng.normal(size=(k, 1, d)), np.ones((k, 1, 1)), np.zeros((k, d))
        )
        diagonal = engine.mixture(np.full(k, 1 / k), rng.normal(size=(k, d)), np.ones((k, d)), covariance_type="diag")
        source = ArraySource(rows)
        own = seconds(lambda s=source, p=parameters: regressed(s, p, False, "")) * 1e3
        other = seconds(lambda r=rows, m=diagonal: engine.statistics(r, m)) * 1e3
        print(f"| {n:,} x {d}, {k} | {own:.1f} | {other:.1f} | {own / other:.2f} |")


def print_gates() -> None:
    """Twenty iterations of two lines with a softmax gate, from one start, beside cgmm's mixture of experts."""
    import numpy as np

    from fastgmm import MixtureOfLinearRegressions

    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 1))
    is_first = rng.random(5000) < 1 / (1 + np.exp(-2 * x[:, 0]))
    y = np.where(is_first, 1 + 2 * x[:, 0], -1 - x[:, 0]) + rng.normal(0, 0.3, 5000)
    case = "5,000 x 1, 2 lines, softmax gate, 20 iterations"
    settings = {"max_iter": 20, "tol": 0, "n_init": 1, "random_state": 0}
    own = seconds(lambda: MixtureOfLinearRegressions(2, gate="softmax", **settings).fit(x, y))
    try:
        from cgmm import MixtureOfExpertsRegressor
    except ImportError:
        print(f"{case}: {own * 1e3:.0f} ms; cgmm is not installed")
        return
    begin = time.perf_counter()
    MixtureOfExpertsRegressor(n_components=2, **settings).fit(x, y)
    other = time.perf_counter() - begin
    print(f"{case}: {own * 1e3:.0f} ms; cgmm {other:.2f} s, {other / own:.0f} times")


if __name__ == "__main__":
    main()
