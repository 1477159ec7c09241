"""Intensity and colour differences instead of red, green and blue."""

from typing import Self

import numpy as np
import numpy.typing as npt

from .transform import FloatArray, Table, Transform, check_table, map_blocks

# Rows: intensity, red-green, yellow-blue. Orthonormal, so the inverse is the transpose.
_BASIS = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])


class OpponentColour(Transform):
    """Rotate (red, green, blue) to intensity, red-green and yellow-blue, so that they can be modelled apart.

        intensity   = (R + G + B) / sqrt(3)
        red-green   = (R - G) / sqrt(2)
        yellow-blue = (R + G - 2 B) / sqrt(6)

    The basis is orthonormal: distances stay, `log_abs_det` is 0, and for R, G, B in [0, 1] a grey pixel of value v
    becomes (sqrt(3) v, 0, 0). All methods take images, (n_samples, height, width, 3), or rows, (n_samples, 3 n_pixels),
    the three channels of a pixel side by side, and raise ValueError for another shape. Results have the layout of what
    was passed: images hold the intensity in Z[..., 0], rows in Z[:, 0::3].

    References
    ----------
    K. E. A. van de Sande, T. Gevers and C. G. M. Snoek (2010), Evaluating Color Descriptors for Object and Scene
    Recognition, IEEE Trans. Pattern Anal. Mach. Intell. 32(9), section 3.1; their O3 comes first here.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.representation import OpponentColour
    >>> grey = np.full((1, 2, 2, 3), 0.5)
    >>> OpponentColour().fit(grey).transform(grey)[0, 0, 0].round(3) + 0.0
    array([0.866, 0.   , 0.   ])
    """

    def fit(self, X: npt.ArrayLike) -> Self:
        rows = _as_rows(X, "X")
        if rows.shape[1] % 3:
            raise ValueError(f"rows must hold 3 channels for each pixel, got {rows.shape[1]} columns")
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, X: npt.ArrayLike) -> Table:
        rows = self._check_rows(_as_rows(X, "X"))
        return _rotate(rows, _BASIS.T).reshape(np.shape(X))

    def inverse_transform(self, Z: npt.ArrayLike) -> Table:
        rows = self._check_transformed(_as_rows(Z, "Z"))
        return _rotate(rows, _BASIS).reshape(np.shape(Z))

    def log_abs_det(self, X: npt.ArrayLike) -> FloatArray:
        return np.zeros(len(self._check_rows(_as_rows(X, "X"))))


def _as_rows(X: npt.ArrayLike, name: str) -> Table:
    X = np.asarray(X)
    if X.ndim == 4 and X.shape[3] == 3:
        X = X.reshape(len(X), X.shape[1] * X.shape[2] * 3)
    elif X.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n_samples, height, width, 3) or (n_samples, 3 n_pixels), got {X.shape}"
        )
    return check_table(X, name)


def _rotate(rows: Table, basis: FloatArray) -> Table:
    return map_blocks(rows, rows.shape[1], lambda _, block: (block.reshape(-1, 3) @ basis).reshape(block.shape))
