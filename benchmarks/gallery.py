"""Draw the gallery: `python -m benchmarks.gallery` writes the pictures of docs/gallery.md, from package data alone.

Digits are the 5,000 of `fastgmm.datasets.load_mnist`, 4,000 to fit and 1,000 held out; faces are the 100 of
scikit-image's `lfw_subset`.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastgmm.datasets import load_mnist
from fastgmm.images import ImageGenerator, save_grid, upscale

HIDDEN = np.zeros((28, 28), bool)
HIDDEN[:, 14:] = True
Images = np.ndarray
# Of the generated digits here and of their figures in the README (benchmarks/images.py).
SETTINGS: dict[str, Any] = {"n_factors": 6, "noise_prior": "auto", "max_iter": 15, "tol": 0, "random_state": 0}


def generated_digits(folder: Path, train: Images, labels: np.ndarray, held_out: Images) -> None:
    """Real digits beside drawn ones: of all classes together, and of a mixture for each class."""
    shown = {
        "real, held out": held_out[:100] / 255,
        "generated, no labels": ImageGenerator(100, **SETTINGS).fit(train).generate(100, random_state=0),
        "generated, by label": ImageGenerator(10, **SETTINGS).fit(train, labels=labels).generate(100, random_state=0),
    }
    save_grid(folder / "generated.png", shown, scale=1)


def classes(folder: Path, train: Images, labels: np.ndarray) -> None:
    """Twenty digits of each class."""
    generator = ImageGenerator(10, **SETTINGS).fit(train, labels=labels)
    drawn = np.concatenate([generator.generate(20, label=c, random_state=c) for c in range(10)])
    save_grid(folder / "classes.png", drawn, n_columns=20, scale=1)


def completed(folder: Path, train: Images, held_out: Images) -> None:
    """Held-out digits, what is left of them, their expectation, and three draws."""
    generator = ImageGenerator(20, n_factors=40, noise_floor=2e-2, max_iter=12, tol=0, random_state=0).fit(train)
    digits = held_out[:20]
    rows = [digits / 255, np.where(HIDDEN, 0.4, digits / 255), generator.inpaint(digits, HIDDEN, obs_noise=0.2)]
    rows += [generator.inpaint(digits, HIDDEN, "sample", obs_noise=0.2, random_state=seed) for seed in range(3)]
    save_grid(folder / "completed.png", np.concatenate(rows), n_columns=20, scale=1)


def enlarged(folder: Path, train: Images, held_out: Images) -> None:
    """Held-out digits of 7 x 7 pixels, by bicubic splines, by the model, and as they were."""
    from scipy.ndimage import zoom

    generator = ImageGenerator(20, n_factors=40, noise_floor=1e-2, max_iter=12, tol=0, random_state=0).fit(train)
    digits = held_out[:20] / 255
    small = digits.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))
    splines = np.stack([zoom(image, 4, order=3, mode="grid-constant", grid_mode=True) for image in small])
    rows = [small.repeat(4, axis=1).repeat(4, axis=2), np.clip(splines, 0, 1), upscale(generator, small), digits]
    save_grid(folder / "enlarged.png", np.concatenate(rows), n_columns=20, scale=1)


def interpolated(folder: Path, generator: ImageGenerator, held_out: Images) -> None:
    """Walks between pairs of held-out digits; the ends are what the model makes of them."""
    walks = [generator.interpolate(held_out[2 * i], held_out[2 * i + 1], 20) for i in range(6)]
    save_grid(folder / "interpolated.png", np.concatenate(walks), n_columns=20, scale=1)


def ranked(folder: Path, generator: ImageGenerator, held_out: Images) -> None:
    """The least and the most probable of the held-out digits."""
    order = generator.most_unusual(held_out, len(held_out))
    shown = {"most unusual of 1,000": held_out[order[:50]], "least unusual": held_out[order[::-1][:50]]}
    save_grid(folder / "unusual.png", shown, scale=1)


def faces(folder: Path) -> None:
    """100 faces are few: a curiosity."""
    from skimage.data import lfw_subset

    real = np.clip(lfw_subset()[:100], 0, 1).astype(np.float32)
    generator = ImageGenerator(2, n_factors=12, noise_floor=1e-3, max_iter=50, tol=0, random_state=0).fit(real)
    shown = {"real": real[:50], "generated": generator.generate(50, random_state=0)}
    save_grid(folder / "faces.png", shown, scale=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/gallery"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # of fits that stop after a given number of passes
    images, labels = load_mnist()
    order = np.random.default_rng(0).permutation(len(images))
    train, held_out = images[order[:4000]], images[order[4000:]]
    generated_digits(folder, train, labels[order[:4000]], held_out)
    classes(folder, train, labels[order[:4000]])
    completed(folder, train, held_out)
    enlarged(folder, train, held_out)
    generator = ImageGenerator(40, n_factors=25, noise_floor=1e-4, max_iter=12, tol=0, random_state=0).fit(train)
    interpolated(folder, generator, held_out)
    ranked(folder, generator, held_out)
    faces(folder)


if __name__ == "__main__":
    main()
