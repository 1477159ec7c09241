"""Log-likelihoods of discrete values as bits per dimension, comparable between image sizes and models."""

from math import log, log2
from typing import overload

import numpy as np
import numpy.typing as npt


@overload
def bits_per_dimension(log_likelihood: float, n_dimensions: int, levels: int = 256) -> float: ...
@overload
def bits_per_dimension(
    log_likelihood: npt.NDArray[np.floating], n_dimensions: int, levels: int = 256
) -> npt.NDArray[np.floating]: ...
def bits_per_dimension(
    log_likelihood: float | npt.NDArray[np.floating], n_dimensions: int, levels: int = 256
) -> float | npt.NDArray[np.floating]:
    """Return log2(levels) - log_likelihood / (n_dimensions ln 2), the bits needed per value.

    A value k of 0, ..., levels - 1 is taken to be (k + u) / levels in [0, 1] with u uniform in [0, 1): the mean
    log-density of such rows is then a lower bound of the log-probability of the discrete values, but for the levels'
    width, which log2(levels) puts back. A uniform density over [0, 1]^n_dimensions thus needs log2(levels) bits. For a
    density of values on another scale (0 to 255, standardised) add the log of that map's determinant first; where no
    u is added, the figure is no bound and can be made as low as one likes.

    Parameters
    ----------
    log_likelihood : float or ndarray
        Log-density of a row, or its mean over rows, in nats.
    n_dimensions : int
        Values per row: height x width x channels of an image.
    levels : int, default=256
        Number of values that each may take, at least 2.

    Returns
    -------
    float or ndarray of the shape of `log_likelihood`
        In bits; smaller is better.

    Raises
    ------
    ValueError
        `n_dimensions` is below 1 or `levels` below 2.

    References
    ----------
    L. Theis, A. van den Oord and M. Bethge (2016), A note on the evaluation of generative models, ICLR, section 3.1.

    Examples
    --------
    >>> from fastgmm.representation.bits import bits_per_dimension
    >>> bits_per_dimension(0.0, n_dimensions=784)
    8.0
    >>> round(bits_per_dimension(1819.0, n_dimensions=784), 2)
    4.65
    """
    if n_dimensions < 1:
        raise ValueError(f"n_dimensions must be at least 1, got {n_dimensions}")
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    return log2(levels) - log_likelihood / (n_dimensions * log(2))
