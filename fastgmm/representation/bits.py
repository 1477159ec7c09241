"""Log-likelihoods in the unit in which image models are compared."""

from typing import overload

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@overload
def bits_per_dimension(log_likelihood: float, n_dimensions: int, levels: int = 256) -> float: ...
@overload
def bits_per_dimension(log_likelihood: npt.ArrayLike, n_dimensions: int, levels: int = 256) -> FloatArray: ...
def bits_per_dimension(log_likelihood: npt.ArrayLike, n_dimensions: int, levels: int = 256) -> float | FloatArray:
    """Return log2(levels) - log_likelihood / (n_dimensions ln 2): the code length of a pixel value, in bits.

    Parameters
    ----------
    log_likelihood : float or array-like
        Log-density of images whose pixels are dequantised to [0, 1] (see `Dequantisation`), nats per image: one
        value, a mean, or a value for each image.
    n_dimensions : int
        Pixels times channels of an image.
    levels : int, default=256
        Pixel values that [0, 1] stands for. With 1, `log_likelihood` is one of the whole-number pixels
        already: a log-probability, or a log-density to which `Dequantisation.log_abs_det` was added.

    Returns
    -------
    float, or ndarray of the shape of `log_likelihood`, float64
        Lower is better; the uniform density on [0, 1] has log2(levels).

    Raises
    ------
    ValueError
        `n_dimensions` or `levels` is below 1.

    Examples
    --------
    >>> from fastgmm.representation import bits_per_dimension
    >>> bits_per_dimension(0.0, n_dimensions=784)
    8.0
    """
    if n_dimensions < 1 or levels < 1:
        raise ValueError(f"n_dimensions and levels must be at least 1, got {n_dimensions} and {levels}")
    bits = np.log2(levels) - np.asarray(log_likelihood, dtype=np.float64) / (n_dimensions * np.log(2))
    return bits if np.ndim(bits) else float(bits)
