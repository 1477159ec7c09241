"""Draw docs/plots.png, the displays of fastgmm.plot on bundled data: `python -m benchmarks.display_plots`."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

from fastgmm import GaussianMixture
from fastgmm.plot import ConvergenceDisplay, MixtureDisplay, ResponsibilitiesDisplay

FAITHFUL = Path(__file__).parents[1] / "tests" / "data" / "faithful.csv"
UNITS = ("duration of the eruption (min)", "waiting time (min)")


def overlapping(n_samples: int) -> np.ndarray:
    """Three clusters of which two run into each other, and one row in ten anywhere."""
    rng = np.random.default_rng(0)
    shapes = ([0, 0], [[1, 0.7], [0.7, 1]]), ([3, 0.5], [[1, -0.5], [-0.5, 0.7]]), ([1, 6], [[2, 0], [0, 0.3]])
    parts = [rng.multivariate_normal(*shape, size=3 * n_samples // 10) for shape in shapes]
    return np.concatenate([*parts, rng.uniform([-5, -5], [9, 10], (n_samples // 10, 2))])


def main() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/plots.png"))
    path = parser.parse_args().output
    faithful = np.loadtxt(FAITHFUL, delimiter=",", skiprows=1)
    eruptions = GaussianMixture(2, random_state=0, tol=1e-8).fit(faithful)
    rows = overlapping(20_000)
    noisy = GaussianMixture(3, noise=True, random_state=0, tol=1e-6).fit(rows)

    figure = Figure(figsize=(10, 9.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 2, gridspec_kw={"height_ratios": [1.25, 1, 1.25]})
    MixtureDisplay.from_estimator(eruptions, faithful, feature_names=UNITS, ax=axes[0, 0])
    MixtureDisplay.from_estimator(eruptions, faithful, feature_names=UNITS, kind="density", ax=axes[0, 1])
    MixtureDisplay.from_estimator(eruptions, faithful, features=1, feature_names=UNITS[1:], ax=axes[1, 0])
    ConvergenceDisplay.from_estimator(eruptions, kind="gap", ax=axes[1, 1])
    MixtureDisplay.from_estimator(noisy, rows, ax=axes[2, 0])
    ResponsibilitiesDisplay.from_estimator(noisy, rows, ax=axes[2, 1])
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
