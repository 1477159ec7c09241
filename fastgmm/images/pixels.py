"""Images as floats in [0, 1]: the one place that decides what counts as an image."""

import numpy as np
import numpy.typing as npt


def check_images(images: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return images as float64 in [0, 1], of the shape given.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)
        uint8, divided by 255, or floats in [0, 1], taken as they are.

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
        return pixels / 255.0
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"images must be uint8 or floats in [0, 1], got {pixels.dtype}; divide by the largest value")
    outside = ~((pixels >= 0) & (pixels <= 1))  # true for NaN as well
    if outside.any():
        where = np.argwhere(outside)[0]
        raise ValueError(
            f"float images must lie in [0, 1], but image {where[0]} holds {pixels[tuple(where)]}; "
            "divide by the largest possible value, or pass uint8"
        )
    return pixels.astype(np.float64, copy=False)
