"""Small fits, one by one and thousands at once, beside scikit-learn's.

`python -m benchmarks.small` prints two Markdown tables, in some three minutes. Rows are drawn from well separated
Gaussians, as many as there are components; both libraries fit them with their defaults, start included, taking turns;
times are medians. With `--threads 1` (or another number) both use so many; without, all. `fit_many` is beside loops of
one `fit` per group over the first hundred groups; ratios are loops over `fit_many`.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from statistics import median

SINGLE = ((10, 1, 1), (50, 1, 2), (200, 2, 3), (1000, 2, 3), (1000, 4, 5), (500, 8, 4), (10_000, 2, 3), (2000, 20, 3))
WIDE = ((500, 50, 2), (2000, 100, 2), (2000, 500, 1))
MANY = ((10_000, 200, 2, 3), (2000, 1000, 4, 5), (2000, 500, 8, 4), (10_000, 50, 1, 2))
LOOP = 100


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds of a call, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return median(times)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small", description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=None, help="threads of both libraries (all)")
    parser.add_argument("--repeats", type=int, default=15, help="times that each fit is taken")
    options = parser.parse_args()
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # presets of these slow NumPy down
        os.environ.pop(name, None)
    if options.threads is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ[name] = str(options.threads)
    warnings.simplefilter("ignore")
    print_single(options.repeats)
    print()
    print_many()


def make_rows(n_groups: int, n: int, d: int, k: int):
    """Rows of groups, one after the other: Gaussians whose means are normal with deviation 2.5."""
    import numpy as np

    rng = np.random.default_rng(0)
    centres = rng.normal(0, 2.5, (n_groups, k, d))
    of = rng.integers(k, size=(n_groups, n))
    return (centres[np.arange(n_groups)[:, None], of] + rng.normal(size=(n_groups, n, d))).reshape(-1, d)


def print_single(repeats: int) -> None:
    """One default fit after the other."""
    import numpy as np
    from sklearn.mixture import GaussianMixture as Peer

    from fastgmm import GaussianMixture

    print("| rows x features | k | fit, ms | scikit-learn, ms | ratio | iteration, us | log-likelihood: more per row |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for n, d, k in (*SINGLE, *WIDE):
        X = make_rows(1, n, d, k)
        ours = seconds(lambda X=X, k=k: GaussianMixture(k, random_state=0).fit(X), repeats)
        theirs = seconds(lambda X=X, k=k: Peer(k, random_state=0).fit(X), repeats)
        start = {
            "weights_init": np.full(k, 1 / k),
            "means_init": X[:k],
            "precisions_init": np.stack([np.eye(d)] * k),
            "tol": 0.0,
        }
        one, more = (
            seconds(lambda m=m, X=X, k=k, start=start: GaussianMixture(k, max_iter=m, **start).fit(X), repeats)
            for m in (1, 51)
        )
        gain = np.mean(
            [
                GaussianMixture(k, random_state=seed).fit(X).score(X) - Peer(k, random_state=seed).fit(X).score(X)
                for seed in range(5)
            ]
        )
        step = (more - one) / 50 * 1e6
        cells = f"{ours * 1e3:.2f} | {theirs * 1e3:.2f} | {theirs / ours:.1f}x | {step:.1f} | {gain:+.4f}"
        print(f"| {n:,} x {d} | {k} | {cells} |", flush=True)


def print_many() -> None:
    """Thousands of fits at once, and in loops."""
    from sklearn.mixture import GaussianMixture as Peer

    from fastgmm import GaussianMixture, fit_many

    heads = ("groups", "rows x features, k", "fit_many, s", "us per fit", "loop of fit", "of scikit-learn's")
    print("|", " | ".join((*heads, "log-likelihood per row: fit_many / fit / scikit-learn")), "|")
    print("|--:|---|--:|--:|--:|--:|---|")
    for n_groups, n, d, k in MANY:
        X = make_rows(n_groups, n, d, k)
        offsets = [n * g for g in range(n_groups + 1)]
        whole = seconds(lambda X=X, k=k, o=offsets: fit_many(X, None, k, offsets=o, random_state=0), 5)
        many = fit_many(X, None, k, offsets=offsets, random_state=0)
        means, times = [many.log_likelihood_[:LOOP].mean() / n], []
        for kind in (GaussianMixture, Peer):
            kind(k, random_state=0).fit(X[:n])
            begin = time.perf_counter()
            models = [kind(k, random_state=0).fit(X[n * g : n * (g + 1)]) for g in range(LOOP)]
            times.append((time.perf_counter() - begin) / LOOP)
            scores = [model.score(X[n * g : n * (g + 1)]) for g, model in enumerate(models)]
            means.append(sum(scores) / LOOP)
        each = whole / n_groups
        ratios = " | ".join(f"{t / each:.0f}x" for t in times)
        likelihoods = " / ".join(f"{mean:.4f}" for mean in means)
        cells = f"{whole:.2f} | {each * 1e6:.0f} | {ratios} | {likelihoods}"
        print(f"| {n_groups:,} | {n:,} x {d}, {k} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
