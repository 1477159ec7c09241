"""Images as rows of floats in [0, 1]: the one place that decides what counts as an image."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..representation.dequantisation import Dequantisation

LEVELS = 256  # of uint8


def check_images(images: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Return images as an array of the shape given: uint8, or floats in [0, 1].

    Parameters
    ----------
    images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)

    Raises
    ------
    TypeError
        Another dtype: its scale cannot be known.
    ValueError
        Another number of dimensions, an empty axis, or a float outside [0, 1] (the first image is named).
    """
    pixels = np.asarray(images)
    if pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise ValueError(
            "images must have shape (n_images, height, width) or (n_images, height, width, channels), "
            f"none of them 0, got {pixels.shape}"
        )
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"images must be uint8 or floats in [0, 1], got {pixels.dtype}; divide by the largest value")
    outside = ~((pixels >= 0) & (pixels <= 1))  # true for NaN as well
    if outside.any():
        where = np.argwhere(outside)[0]
        raise ValueError(
            f"float images must lie in [0, 1], but image {where[0]} holds {pixels[tuple(where)]}; "
            "divide by the largest possible value, or pass uint8"
        )
    return pixels


def as_floats(images: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return checked images as float64 in [0, 1], to show or compare them: uint8 divided by 255."""
    pixels = check_images(images)
    floats = pixels.astype(np.float64, copy=False)
    return floats / 255.0 if pixels.dtype == np.uint8 else floats


def to_rows(images: npt.ArrayLike, shape: tuple[int, ...] | None = None) -> npt.NDArray[Any]:
    """Return checked images as the rows that densities are about, (n_images, n_pixels).

    uint8 values k become (k + u) / 256, u uniform and the same at every call, in float32: a density could grow
    without bound on whole numbers. Floats stay as they are. ValueError unless each image has this `shape`.
    """
    pixels = check_images(images)
    if shape is not None and pixels.shape[1:] != shape:
        raise ValueError(f"images have shape {pixels.shape[1:]}, but fit saw {shape}")
    rows = pixels.reshape(len(pixels), -1)
    if rows.dtype == np.uint8:
        return Dequantisation(LEVELS, random_state=0).fit(rows).transform(rows.astype(np.float32))
    return rows.astype(np.float32 if rows.dtype == np.float32 else np.float64, copy=False)


def hidden_pixels(mask: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return which pixels of each image are hidden, (n_images, n_pixels)."""
    hidden = np.asarray(mask)
    if hidden.dtype != bool or hidden.shape not in (shape, shape[1:]):
        raise ValueError(
            f"mask must be an array of bool of shape {shape} or {shape[1:]}, True where a pixel is hidden. Got "
            f"{hidden.dtype} of shape {hidden.shape}."
        )
    return np.broadcast_to(hidden, shape).reshape(shape[0], -1)
