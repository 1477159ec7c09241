"""Affine maps of the columns: a known range to [0, 1], or every column to mean 0 and variance 1."""

from typing import Self

import numpy as np
import numpy.typing as npt

from ..rows.summary import ColumnSummary
from .transform import FloatArray, Table, Transform, check_range, check_table, map_blocks, summarise_finite


class Scaling(Transform):
    """Map the range [low, high] onto [0, 1]: z = (x - low) / (high - low).

    Nothing is learned: the range is a property of how the data were recorded, not of the rows at hand. `transform`
    raises ValueError for a value that is NaN or outside the range, the first named with its row and column; in
    `inverse_transform`, values outside [0, 1] land outside the range. `log_abs_det` is -n_features log(high - low).

    Parameters
    ----------
    low, high : float, default=0 and 255
        Ends of the range, the same for all columns; 255 is levels - 1 of 8-bit pixels. ValueError by `fit` unless both
        are finite and low < high.

    Examples
    --------
    >>> from fastgmm.representation import Scaling
    >>> scaling = Scaling().fit([[0, 51, 255]])
    >>> scaling.transform([[0, 51, 255]])
    array([[0. , 0.2, 1. ]])
    """

    def __init__(self, low: float = 0.0, high: float = 255.0) -> None:
        self.low = low
        self.high = high

    def fit(self, X: npt.ArrayLike) -> Self:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(f"low must be below high, both finite, got {self.low} and {self.high}")
        self.n_features_in_ = check_table(X, "X").shape[1]
        return self

    def transform(self, X: npt.ArrayLike) -> Table:
        X = self._check_rows(X)

        def scale(first_row: int, block: FloatArray) -> FloatArray:
            check_range(block, first_row, self.low, self.high, "correct the value or widen low and high")
            return (block - self.low) / (self.high - self.low)

        return map_blocks(X, X.shape[1], scale)

    def inverse_transform(self, Z: npt.ArrayLike) -> Table:
        Z = self._check_transformed(Z)
        return map_blocks(Z, Z.shape[1], lambda _, block: self.low + block * (self.high - self.low))

    def log_abs_det(self, X: npt.ArrayLike) -> FloatArray:
        X = self._check_rows(X)
        return np.full(len(X), -X.shape[1] * np.log(self.high - self.low))


class Standardisation(Transform):
    """Shift and scale every column to mean 0 and variance 1, z = (x - mean_) / scale_; a constant column only shifted.

    `fit` takes one pass over at least one row, and raises ValueError with the place of the first value that is not
    finite. `log_abs_det` is -sum log scale_.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64
    scale_ : ndarray of shape (n_features,), float64
        Standard deviation (divided by n_samples), 1 for a constant column.

    Examples
    --------
    >>> from fastgmm.representation import Standardisation
    >>> Standardisation().fit([[1.0, 7.0], [3.0, 7.0]]).transform([[5.0, 7.0]])
    array([[3., 0.]])
    """

    def fit(self, X: npt.ArrayLike) -> Self:
        return self.fit_summary(summarise_finite(check_table(X, "X")))

    def fit_summary(self, summary: ColumnSummary) -> Self:
        """Take mean and standard deviation from a summary of the columns, which may be weighted."""
        self.mean_ = summary.mean
        # Of a column that varies by less than its rounding the variance may vanish as well.
        self.scale_ = np.where(summary.variance > 0, np.sqrt(summary.variance), 1.0)
        self.n_features_in_ = len(summary.mean)
        return self

    def transform(self, X: npt.ArrayLike) -> Table:
        X = self._check_rows(X)
        return map_blocks(X, X.shape[1], lambda _, block: (block - self.mean_) / self.scale_)

    def inverse_transform(self, Z: npt.ArrayLike) -> Table:
        Z = self._check_transformed(Z)
        return map_blocks(Z, Z.shape[1], lambda _, block: self.mean_ + block * self.scale_)

    def log_abs_det(self, X: npt.ArrayLike) -> FloatArray:
        return np.full(len(self._check_rows(X)), self.row_log_abs_det)

    @property
    def row_log_abs_det(self) -> float:
        """`log_abs_det` of any row, nats."""
        return -float(np.log(self.scale_).sum())

    def log_abs_det_of_values(self, X: Table) -> FloatArray | float:
        """`log_abs_det` of the values that are not NaN: of each row, or a number if all rows are complete."""
        missing = np.isnan(X)
        return self.row_log_abs_det + missing @ np.log(self.scale_) if missing.any() else self.row_log_abs_det

    def of_columns(self, columns: npt.NDArray[np.int64]) -> "Standardisation":
        """The standardisation of these columns alone."""
        part = Standardisation()
        part.mean_, part.scale_, part.n_features_in_ = self.mean_[columns], self.scale_[columns], len(columns)
        return part
