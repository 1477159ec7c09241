"""Uniform dequantisation: whole numbers as draws from a density on [0, 1]."""

from typing import Self

import numpy as np
import numpy.typing as npt

from .transform import FloatArray, Table, Transform, check_range, check_table, float_blocks, map_blocks


class Dequantisation(Transform):
    """Spread the pixel values 0, 1, ..., levels - 1 evenly over [0, 1]: z = (k + u) / levels, u uniform on [0, 1).

    A density cannot be fitted to whole numbers, on which it may grow without bound. After this transform the mean
    over u of

        log p(z) + log_abs_det(k),  log_abs_det(k) = -n_features log(levels)

    is at most the log-probability of the pixels k under the model that integrates p over their cells, so it can be
    compared with the log-likelihoods of discrete models. In bits per dimension it is
    `bits_per_dimension(log p(z), n_features, levels)`.

    `transform` raises ValueError for a value that is not a whole number from 0 to levels - 1, the first named with its
    row and column, and where float32 cannot tell the values of so many levels apart. `inverse_transform` gives the
    pixels floor(z levels), of the smallest unsigned integer type that holds them; what lies outside [0, 1], as draws
    from a mixture may, becomes the nearest pixel value, and NaN is a ValueError.

    Parameters
    ----------
    levels : int, default=256
        Number of pixel values; ValueError by `fit` unless it is an int of at least 2.
    random_state : int, numpy.random.Generator or None, default=None
        Seed of u. The seed is drawn in `fit`, and from then on every call uses the same u for the same place in
        the table, so that `transform` and `log_abs_det` of a chain see the same rows. An int gives the same u after
        every `fit`.

    Notes
    -----
    Whole numbers as float32 give float32 rows, and integers give float64. u keeps so far from 0 and 1
    (3e-5 in float32, 6e-14 in float64, for 256 levels) that rounding never moves a pixel into the next cell.

    References
    ----------
    L. Theis, A. van den Oord and M. Bethge (2016), A note on the evaluation of generative models, ICLR, section 3.1.

    Examples
    --------
    >>> from fastgmm.representation import Dequantisation
    >>> dequantisation = Dequantisation(random_state=0).fit([[0, 128, 255]])
    >>> Z = dequantisation.transform([[0, 128, 255]])
    >>> dequantisation.inverse_transform(Z)
    array([[  0, 128, 255]], dtype=uint8)
    """

    def __init__(self, levels: int = 256, random_state: int | np.random.Generator | None = None) -> None:
        self.levels = levels
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike) -> Self:
        if not isinstance(self.levels, int | np.integer) or self.levels < 2:
            raise ValueError(f"levels must be an int of at least 2, got {self.levels!r}")
        X = check_table(X, "X")
        self._seed = int(np.random.default_rng(self.random_state).integers(2**63))
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: npt.ArrayLike) -> Table:
        X = self._check_rows(X)
        is_float32 = X.dtype.newbyteorder("=") == np.float32
        margin = self.levels * float(np.finfo(np.float32 if is_float32 else np.float64).eps)
        if margin > 0.01:
            raise ValueError(f"float32 is too coarse for {self.levels} levels; pass integers or float64")
        rng = np.random.default_rng(self._seed)

        def spread(first_row: int, block: FloatArray) -> FloatArray:
            check_range(block, first_row, 0, self.levels - 1, "pass the original pixels, or set levels")
            fractional = block != np.floor(block)
            if fractional.any():
                row, column = np.argwhere(fractional)[0]
                raise ValueError(
                    f"X must hold whole numbers, but row {first_row + row}, column {column} holds "
                    f"{block[row, column]:g}; pass the original pixels, not scaled ones"
                )
            return (block + rng.uniform(margin, 1 - margin, block.shape)) / self.levels

        return map_blocks(X, X.shape[1], spread)

    def inverse_transform(self, Z: npt.ArrayLike) -> Table:
        Z = self._check_transformed(Z)
        pixels = np.empty(Z.shape, np.min_scalar_type(self.levels - 1))
        for start, block in float_blocks(Z):
            if np.isnan(block).any():
                row, column = np.argwhere(np.isnan(block))[0]
                raise ValueError(f"Z is NaN in row {start + row}, column {column}; no pixel value is nearest to it")
            pixels[start : start + len(block)] = np.clip(np.floor(block * self.levels), 0, self.levels - 1)
        return pixels

    def log_abs_det(self, X: npt.ArrayLike) -> FloatArray:
        X = self._check_rows(X)
        return np.full(len(X), -X.shape[1] * np.log(self.levels))
