"""The bundled handwritten digits."""

from importlib.resources import files

import numpy as np
import numpy.typing as npt


def load_digits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Load 1,797 real handwritten digits of 8 x 8 pixels.

    They are the test part of "Optical Recognition of Handwritten Digits", 43 people's digits scanned and reduced to
    counts 0 to 16 of dark pixels in each 4 x 4 cell; licence CC BY 4.0, text beside the data.

    Returns
    -------
    images : ndarray of shape (1797, 8, 8), float64
        Pixels in [0, 1], 17 levels; 0 is paper.
    labels : ndarray of shape (1797,), int64
        The digit written, 0 to 9.

    References
    ----------
    E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    https://doi.org/10.24432/C50P49

    Examples
    --------
    >>> from fastgmm.datasets import load_digits
    >>> images, labels = load_digits()
    >>> images.shape, labels[:4].tolist()
    ((1797, 8, 8), [0, 1, 2, 3])
    """
    path = files("fastgmm.datasets").joinpath("digits.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return stored["images"] / 16.0, stored["labels"].astype(np.int64)
