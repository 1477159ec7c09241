"""Columns brought to a common scale that a few wild values do not move, and whose tails are drawn in."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NORMAL_IQR = 1.349  # the interquartile range of a standard normal variable
CONSTANT = 1e-12  # standard deviation, in units of the largest value, of a column that does not vary
LEAST_SHARE = 0.05  # of the standard deviation: where half of the values are alike, the range says nothing


@dataclass(frozen=True)
class DrawnIn:
    """z = (2 asinh((x - median) / (2 width)) - mean) / deviation, width the interquartile range over 1.349.

    Columns that are constant, or do not vary in the middle and hardly elsewhere, are left out: `kept` are the others.
    """

    kept: NDArray[np.int64]
    median: Array
    width: Array
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, X: Array) -> Self:
        """Learn it from rows; NaN is left out."""
        size = np.nanmax(np.abs(X), axis=0)
        size = np.where(size > 0, size, 1.0)  # squares of huge and tiny values leave the floating-point range
        spread = np.nanstd(X / size, axis=0)
        kept = np.flatnonzero(spread > CONSTANT)
        spread = spread * size
        rows, spread = X[:, kept], spread[kept]
        low, median, high = np.nanpercentile(rows, [25, 50, 75], axis=0) if len(kept) else np.empty((3, 0))
        width = (high - low) / NORMAL_IQR
        width = np.where(width < LEAST_SHARE * spread, spread, width)
        drawn = 2.0 * np.arcsinh((rows - median) / (2.0 * width))
        return cls(kept, median, width, np.nanmean(drawn, axis=0), np.nanstd(drawn, axis=0))

    def transform(self, X: Array) -> Array:
        """Rows of all columns to rows of those kept."""
        drawn = 2.0 * np.arcsinh((X[:, self.kept] - self.median) / (2.0 * self.width))
        return np.ascontiguousarray((drawn - self.mean) / self.deviation)

    def inverse(self, Z: Array, columns: NDArray[np.int64]) -> Array:
        """Values of these of the kept columns, entry by entry, in the original units."""
        drawn = Z * self.deviation[columns] + self.mean[columns]
        return np.asarray(self.median[columns] + 2.0 * self.width[columns] * np.sinh(drawn / 2.0), np.float64)
