"""What the image models of fastgmm reach on real digits, beside NumPy's factor analysers and one Gaussian.

`python -m benchmarks.images` prints Markdown tables, in some minutes; `--readme benchmarks/README.md` also writes them
there, `--tables speed quality` chooses some. The data are those of `benchmarks.calibration`. Whatever is tuned (noise
floors, numbers of components, the weights of the stack) is tuned on 800 of the 4,000 training digits; held-out digits
only judge.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import numpy_factor_mixture as numpy_mixture
from benchmarks.__main__ import BLAS_PRESETS, available_cores
from benchmarks.calibration import Digits, load_digits, markdown
from benchmarks.gallery import SETTINGS as GALLERY
from benchmarks.peak import measure_fma_peak
from fastgmm import MixtureOfFactorAnalyzers, metrics
from fastgmm.images import ImageGenerator
from fastgmm.representation import PCA, bits_per_dimension

MARKERS = re.compile(r"<!-- images -->\n.*?<!-- /images -->", re.DOTALL)
SHAPE, D = (28, 28), 784
NOISE_LEVELS = (0.0, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
STACK = [(n, q, seed) for seed in range(3) for n, q in ((20, 10), (50, 3), (50, 6), (50, 10), (100, 3), (100, 6))]


def fit(X: np.ndarray, n_components: int, n_factors: int, floor: float, seed: int = 0, **settings: object):
    return MixtureOfFactorAnalyzers(
        n_components, n_factors, noise_floor=floor, max_iter=12, tol=0, random_state=seed, **settings
    ).fit(X)


def images_of(digits: Digits) -> np.ndarray:
    return digits.X.reshape(-1, *SHAPE).astype(np.float32)


def split(train: Digits) -> tuple[Digits, Digits]:
    """Digits to fit while something is tuned, and digits to tune with; the order is random already."""
    return Digits(train.X[:3200], train.y[:3200]), Digits(train.X[3200:], train.y[3200:])


def bits(log_likelihood: float) -> str:
    return f"{bits_per_dimension(log_likelihood, D):.3f}"


def median_seconds(runs: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Interleaved, each after a rest in which the BLAS threads of the one before stop spinning."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for name in [*runs, *(list(runs) * rounds)]:
        time.sleep(0.3)
        begin = time.perf_counter()
        runs[name]()
        seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def speed_table(train: Digits, held_out: Digits) -> str:
    """Whole fits, 50 components x 6 factors, floor 1e-4, 12 passes, from each one's own start."""
    X = {"float32": train.X.astype(np.float32), "float64": train.X}
    runs: dict[str, Callable[[], object]] = {}
    for dtype, rows in X.items():
        runs[f"fastgmm {dtype}"] = lambda rows=rows: fit(rows, 50, 6, 1e-4)
        runs[f"NumPy {dtype}"] = lambda rows=rows: numpy_mixture.fit(rows, 50, 6, n_iter=12, floor=1e-4)
        runs[f"dense {dtype}"] = lambda rows=rows: numpy_mixture.fit(rows, 50, 6, n_iter=12, floor=1e-4, cutoff=-1)
    generator = ImageGenerator(50, n_factors=6, random_state=0).fit(images_of(train))
    runs["generate 10,000"] = lambda: generator.generate(10_000, random_state=0)
    runs["generate 10,000 with noise"] = lambda: generator.generate(10_000, random_state=0, noise=True)
    seconds = median_seconds(runs)
    table = []
    for dtype, rows in X.items():
        ours, sparse, dense = (seconds[f"{name} {dtype}"] for name in ("fastgmm", "NumPy", "dense"))
        scores = [[fit(rows, 50, 6, 1e-4, seed).score(held_out.X.astype(rows.dtype)) for seed in range(5)]]
        mixtures = [numpy_mixture.fit(rows, 50, 6, floor=1e-4, seed=seed) for seed in range(5)]
        scores.append([mixture.log_density(held_out.X).mean() for mixture in mixtures])
        ratios = (f"{theirs:.2f} ({theirs / ours:.1f}x)" for theirs in (dense, sparse))
        table.append((dtype, f"{ours:.2f}", *ratios,
                      *(f"{np.mean(s):.0f} (sd {np.std(s):.0f})" for s in scores)))  # fmt: skip
    header = ("rows", "fastgmm, s", "NumPy, all rows in every sum, s", "NumPy, sparse sums, s",
              "fastgmm held-out LL", "NumPy held-out LL")  # fmt: skip
    flops = 2 * 12 * 4000 * 50 * D * 8
    peaks = {dtype: measure_fma_peak(dtype, available_cores()) for dtype in X}
    bound = ", ".join(f"{flops / peaks[dtype] / 1e9:.2f} s in {dtype}" for dtype in X)
    drawn = ", ".join(f"{name}: {seconds[name]:.3f} s" for name in ("generate 10,000", "generate 10,000 with noise"))
    return (
        f"{markdown(header, table)}\n\nAt the peak of the multiply-add loop measured in the same run, the densities of "
        f"12 passes alone would take {bound}.\n\n{drawn}."
    )


def density_table(train: Digits, held_out: Digits) -> str:
    """Densities of held-out digits, and what trivial models of their 256 grey levels take."""
    rows, tuning = (part.X.astype(np.float32) for part in split(train))
    test, whole = held_out.X.astype(np.float32), train.X.astype(np.float32)
    table = []
    for ridge in (1e-5, 1e-4, 1e-3):
        table.append((f"one Gaussian, ridge {ridge:g} (NumPy)",
                      numpy_mixture.fit_gaussian(train.X, ridge).log_density(held_out.X)))  # fmt: skip
    table = [max(table, key=lambda row: row[1].mean())]
    for floor, settings in ((1e-4, {}), (1e-5, {}), (1e-5, {"noise_prior": "auto"})):
        prior = ", noise_prior='auto'" if settings else ""
        if not settings:
            density = numpy_mixture.fit(train.X, 50, 6, floor=floor).log_density(held_out.X)
            table.append((f"K50 l6 floor {floor:g} (NumPy)", density))
        table.append((f"K50 l6 floor {floor:g}{prior}", fit(whole, 50, 6, floor, **settings).score_samples(test)))
    best = max(
        ((n, q, floor) for n in (10, 20, 50) for q in (6, 10, 20) for floor in (5e-6, 1e-5, 2e-5)),
        key=lambda s: fit(rows, *s, noise_prior="auto").score(tuning),
    )
    table.append(("K{} l{} floor {:g}, noise_prior='auto', tuned".format(*best),
                  fit(whole, *best, noise_prior="auto").score_samples(test)))  # fmt: skip
    mixtures = [fit(rows, n, q, 1e-6, seed) for n, q, seed in STACK]
    one = MixtureOfFactorAnalyzers.stack(mixtures[2:3], tuning, NOISE_LEVELS)
    table.append((f"K50 l6 floor 1e-6, stacked at {len(NOISE_LEVELS)} noise levels", one.score_samples(test)))
    stack = MixtureOfFactorAnalyzers.stack(mixtures, tuning, NOISE_LEVELS)
    table.append((f"{len(STACK)} mixtures stacked at {len(NOISE_LEVELS)} noise levels", stack.score_samples(test)))
    lines = [(name, f"{s.mean(dtype=np.float64):.0f}", f"{np.median(s):.0f}", bits(float(s.mean(dtype=np.float64))))
             for name, s in table]  # fmt: skip
    trivial = metrics.trivial_bits(*(np.floor(part.X * 256).astype(np.uint8) for part in (train, held_out)))
    names = ("a histogram of each pixel", "LZMA of the grey levels")
    lines += [(name, "-", "-", f"{found.value:.3f}") for name, found in zip(names, trivial, strict=True)]
    return markdown(("model", "held-out LL", "median digit", "held-out bits per dimension"), lines)


def sample_table(train: Digits, held_out: Digits) -> str:
    """Metrics of 1,000 generated and 1,000 training digits against held-out ones; the divergence without a class.

    Bins compare with the shares of the training digits and memorisation with all of them: there, what stands under
    training digits is of the held-out ones.
    """
    settings = {
        "the gallery's, K100 l6": ImageGenerator(100, **GALLERY),
        "K40 l25 floor 1e-4": ImageGenerator(40, n_factors=25, noise_floor=1e-4, max_iter=12, tol=0, random_state=0),
        "K50 l6 floor 1e-4": ImageGenerator(50, n_factors=6, noise_floor=1e-4, max_iter=12, tol=0, random_state=0),
        "one Gaussian": ImageGenerator(1, model="full", reg_covar=1e-4, random_state=0),
    }
    reports, divergences = {}, {}
    bins = metrics.Bins(50).fit(train.X)
    for name, generator in settings.items():
        generator.fit(images_of(train))
        reports[name] = metrics.evaluate(
            generator.generate(1000, random_state=1), images_of(train), images_of(held_out)
        )
        many = generator.generate(4000, random_state=2).reshape(4000, -1)
        divergences[name] = metrics.jensen_shannon(bins, many, held_out.X).value
    first = next(iter(reports.values()))
    lines = [(metric, *(f"{report[metric].value:.4g}" for report in reports.values()), f"{first[metric].baseline:.4g}")
             for metric in first]  # fmt: skip
    without = [metrics.jensen_shannon(bins, held_out.X[held_out.y != c], held_out.X).value for c in range(10)]
    lines.append(("Jensen-Shannon, 4,000 digits", *(f"{value:.4f}" for value in divergences.values()),
                  f"without one class: {np.mean(without):.4f} ({min(without):.4f} to {max(without):.4f})"))  # fmt: skip
    return markdown(("metric", *reports, "training digits"), lines)


def inpainting_table(train: Digits, held_out: Digits) -> str:
    """Mean squared error of the hidden right half, completions clipped to [0, 1]."""
    hidden = np.zeros(SHAPE, bool)
    hidden[:, 14:] = True
    flat, truth = hidden.ravel(), held_out.X[:, hidden.ravel()]

    def error(completed: np.ndarray) -> str:
        return f"{np.square(np.clip(completed, 0, 1) - truth).mean():.4f}"

    visible = train.X[:, ~flat], held_out.X[:, ~flat]
    nearest = [np.square(visible[0] - x).sum(axis=1).argmin() for x in visible[1]]
    gaussian = min(
        (numpy_mixture.fit_gaussian(train.X, ridge).inpaint(held_out.X, flat)[:, flat] for ridge in (1e-3, 1e-2)),
        key=lambda completed: np.square(np.clip(completed, 0, 1) - truth).mean(),
    )
    rows, tuning = split(train)
    best = min(
        ((*model, obs) for model in ((50, 10, 2e-2), (20, 40, 2e-2), (20, 40, 1e-3)) for obs in (0.05, 0.1, 0.2)),
        key=lambda s: np.square(
            complete(rows, tuning, *s, hidden)[:, hidden] - images_of(tuning)[:, hidden]
        ).mean(),
    )  # fmt: skip
    lines = [
        ("mean image", error(np.broadcast_to(train.X[:, flat].mean(axis=0), truth.shape))),
        ("nearest training digit by the left half", error(train.X[nearest][:, flat])),
        ("one Gaussian, better of ridges 1e-3 and 1e-2 (NumPy)", error(gaussian)),
        ("K50 l10 floor 2e-2 obs_noise 0.1", error(complete(train, held_out, 50, 10, 2e-2, 0.1, hidden)[:, hidden])),
        ("K{} l{} floor {:g} obs_noise {:g}, tuned".format(*best),
         error(complete(train, held_out, *best, hidden)[:, hidden])),
    ]  # fmt: skip
    return markdown(("completion", "mean squared error"), lines)


def complete(train: Digits, digits: Digits, n: int, q: int, floor: float, obs: float, hidden: np.ndarray) -> np.ndarray:
    generator = ImageGenerator(n, n_factors=q, noise_floor=floor, max_iter=12, tol=0, random_state=0)
    return generator.fit(images_of(train)).inpaint(images_of(digits), hidden, obs_noise=obs)


def classification_table(train: Digits, held_out: Digits) -> str:
    """A mixture for each class; the judge of generated digits is one Gaussian per class over 50 components."""
    rows, tuning = split(train)

    def classifier(digits: Digits, n: int, q: int, floor: float) -> ImageGenerator:
        generator = ImageGenerator(n, n_factors=q, noise_floor=floor, max_iter=20, tol=0, random_state=0)
        return generator.fit(images_of(digits), labels=digits.y)

    best = max(
        ((n, q, floor) for n in (1, 2, 3, 5) for q in (10, 15, 20, 25) for floor in (3e-2, 5e-2, 8e-2)),
        key=lambda s: np.mean(classifier(rows, *s).classify(images_of(tuning)) == tuning.y),
    )
    lines = []
    for name, setting in (("K3 l15 floor 0.05", (3, 15, 5e-2)), ("K{} l{} floor {:g}, tuned".format(*best), best)):
        generator = classifier(train, *setting)
        accuracy = np.mean(generator.classify(images_of(held_out)) == held_out.y)
        drawn = {c: generator.generate(200, label=c, random_state=int(c)).reshape(200, -1) for c in range(10)}
        judged = np.mean([judge(train, rows) == c for c, rows in drawn.items()])
        lines.append((name, f"{accuracy:.3f}", f"{judged:.3f}"))
    lines.append(("judge: 50 principal components, one Gaussian per class",
                  f"{np.mean(judge(train, held_out.X) == held_out.y):.3f}", ""))  # fmt: skip
    return markdown(("classifier", "accuracy, held out", "generated digits of class c that the judge calls c"), lines)


def judge(train: Digits, X: np.ndarray) -> np.ndarray:
    """Labels of X by SciPy's normal densities, ridge of 1 % of the mean variance."""
    from scipy.stats import multivariate_normal

    pca = PCA(50).fit(train.X)
    Z, scores = pca.transform(train.X), []
    for c in range(10):
        members = Z[train.y == c]
        covariance = np.cov(members, rowvar=False)
        ridge = 0.01 * np.trace(covariance) / 50 * np.eye(50)
        scores.append(multivariate_normal(members.mean(axis=0), covariance + ridge).logpdf(pca.transform(X)))
    return np.argmax(scores, axis=0)


def hidden_table(train: Digits, held_out: Digits) -> str:
    """Training digits of which half of the pixels are hidden at random."""
    gaps = np.where(np.random.default_rng(0).random(train.X.shape) < 0.5, np.nan, train.X)
    lines = []
    for n, q, floor in ((10, 6, 1e-3), (20, 6, 1e-3), (50, 6, 1e-3), (50, 6, 1e-4)):
        settings = {"noise_prior": "auto"}
        full = fit(train.X, n, q, floor, **settings).score(held_out.X)
        begin = time.perf_counter()
        half = fit(gaps, n, q, floor, missing="em", **settings).score(held_out.X)
        seconds = time.perf_counter() - begin
        lines.append((f"K{n} l{q} floor {floor:g}, noise_prior='auto'", f"{full:.0f}", f"{half:.0f}",
                      f"{100 * (1 - half / full):.0f} %", f"{seconds:.1f}"))  # fmt: skip
    return markdown(("model", "held-out LL, all pixels", "half hidden", "loss", "fit with gaps, s"), lines)


TABLES = {
    "speed": speed_table,
    "density": density_table,
    "samples": sample_table,
    "inpainting": inpainting_table,
    "classification": classification_table,
    "hidden": hidden_table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, help="also write the tables between the markers of this file")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    arguments = parser.parse_args()
    if set(BLAS_PRESETS) & set(os.environ):
        clean = {key: value for key, value in os.environ.items() if key not in BLAS_PRESETS}
        raise SystemExit(subprocess.run([sys.executable, *sys.orig_argv[1:]], env=clean, check=False).returncode)
    warnings.simplefilter("ignore")  # of fits that stop after a given number of passes
    digits = load_digits()
    parts = []
    for name in arguments.tables:
        parts.append(f"{inspect.getdoc(TABLES[name])}\n\n{TABLES[name](*digits)}")
        print(parts[-1], end="\n\n", flush=True)
    if arguments.readme is not None:
        block = "<!-- images -->\n" + "\n\n".join(parts) + "\n<!-- /images -->"
        arguments.readme.write_text(MARKERS.sub(lambda _: block, arguments.readme.read_text()))


if __name__ == "__main__":
    main()
