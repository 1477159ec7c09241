"""Images of more pixels than were given: the expectation of a generator's images whose blocks have these means."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.factors.evidence import expected_given
from .generator import ImageGenerator
from .pixels import as_floats, check_images


def upscale(
    generator: ImageGenerator, images: npt.ArrayLike, *, label: Any = None, obs_noise: float = 1e-3
) -> npt.NDArray[np.float64]:
    """Return the expected image of the generator's size for each small one, whose pixels are means of blocks.

    Parameters
    ----------
    generator : ImageGenerator
        Fitted; its images are whole numbers of times as high and as wide as those given.
    images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)
        uint8, or floats in [0, 1].
    label : object, default=None
        One of the generator's `classes_`, if it is known.
    obs_noise : float, default=1e-3
        Variance by which the means of blocks may miss the model.

    Returns
    -------
    ndarray of shape (n_images, *generator.image_shape_), float64, clipped to [0, 1]

    Raises
    ------
    ValueError
        For images whose size does not divide the generator's, or an unknown label.

    Examples
    --------
    >>> from fastgmm.datasets import load_digits
    >>> from fastgmm.images import ImageGenerator, upscale
    >>> images, _ = load_digits()
    >>> small = images[:5].reshape(5, 4, 2, 4, 2).mean(axis=(2, 4)).astype("uint8")
    >>> upscale(ImageGenerator(2, random_state=0).fit(images), small).shape
    (5, 8, 8)
    """
    generator._check_fitted()
    small, whole = as_floats(check_images(images)), generator.image_shape_
    if (
        small.ndim != len(whole) + 1
        or small.shape[3:] != whole[2:]
        or whole[0] % small.shape[1]
        or whole[1] % small.shape[2]
    ):
        raise ValueError(
            f"images of shape {small.shape[1:]} are not made of whole blocks of the generator's, which have shape "
            f"{whole}; height and width must divide these."
        )
    if not (np.isfinite(obs_noise) and obs_noise > 0):
        raise ValueError(f"obs_noise must be finite and above 0, got {obs_noise!r}.")
    matrix = block_means(small.shape[1:], whole)
    parameters = generator._parameters(label)
    values = small.reshape(len(small), -1)
    return generator._as_images(expected_given(parameters, matrix, values, np.full(len(matrix), float(obs_noise))))


def block_means(small: tuple[int, ...], whole: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The matrix that takes the pixels of an image to the means of its blocks, (n_small, n_pixels)."""
    number = np.arange(np.prod(small)).reshape(small)
    high, wide = whole[0] // small[0], whole[1] // small[1]
    block_of = np.repeat(np.repeat(number, high, axis=0), wide, axis=1).ravel()
    matrix = np.zeros((number.size, block_of.size))
    matrix[block_of, np.arange(block_of.size)] = 1.0 / (high * wide)
    return matrix
