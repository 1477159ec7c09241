"""What every representation shares: an invertible map of rows that keeps account of their density.

The one convention of this package: for a row x with image z,

    log p(x) = log p(z) + log_abs_det(x)

so that a density fitted to transformed rows is, whatever the transforms, a density of the original ones. For a
bijection `log_abs_det` is the log-determinant |det dz/dx|; a transform that drops a part of the row and models it
(a truncated PCA) adds the log-density of that part.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..exceptions import NotFittedError
from ..rows.source import ArraySource
from ..rows.summary import ColumnSummary, first_nonfinite, summarise_columns

FloatArray = npt.NDArray[np.float64]
Table = npt.NDArray[Any]

BLOCK_BYTES = 2**23  # rows converted to float64 at once


class Transform(ABC):
    """An invertible map of rows.

    float32 rows give float32 rows and everything else gives float64; the arithmetic and all log-densities are
    float64. Beside its result a transform holds one block of rows of a few megabytes.

    Attributes
    ----------
    n_features_in_ : int
        Columns of the rows that `fit` saw.
    """

    n_features_in_: int

    @abstractmethod
    def fit(self, X: npt.ArrayLike) -> Self:
        """Learn the parameters of the map from rows, (n_samples, n_features), and return the transform itself.

        ValueError for another shape, and as the class says.
        """

    @abstractmethod
    def transform(self, X: npt.ArrayLike) -> Table:
        """Return the image z of each row, (n_samples, n_features_out); NotFittedError before `fit`."""

    @abstractmethod
    def inverse_transform(self, Z: npt.ArrayLike) -> Table:
        """Return the rows whose images are `Z`, (n_samples, n_features)."""

    @abstractmethod
    def log_abs_det(self, X: npt.ArrayLike) -> FloatArray:
        """Return what turns log p(z) into log p(x) when added to it, nats, (n_samples,), float64."""

    @property
    def n_features_out(self) -> int:
        """Columns of the images."""
        return self.n_features_in_

    def _check_rows(self, X: npt.ArrayLike) -> Table:
        self._check_fitted()
        return self._check_width(check_table(X, "X"), "X", self.n_features_in_, " was fitted with")

    def _check_transformed(self, Z: npt.ArrayLike) -> Table:
        self._check_fitted()
        return self._check_width(check_table(Z, "Z"), "Z", self.n_features_out, ".transform gives")

    def _check_width(self, rows: Table, name: str, width: int, why: str) -> Table:
        if rows.shape[1] != width:
            raise ValueError(f"{name} has {rows.shape[1]} features, but {type(self).__name__}{why} {width}")
        return rows

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit(X) first.")


class Chain(Transform):
    """Transforms applied one after the other, as one transform; each is fitted to the rows that those before it give.

    `log_abs_det` is the sum of what the transforms give, each at the rows that reach it.

    Parameters
    ----------
    transforms : sequence of Transform
        At least one, in the order in which rows pass them.

    Raises
    ------
    ValueError
        `transforms` is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.representation import PCA, Chain, Dequantisation
    >>> pixels = np.random.default_rng(0).integers(256, size=(100, 16))
    >>> chain = Chain([Dequantisation(random_state=0), PCA(4, whiten=True)]).fit(pixels)
    >>> chain.transform(pixels).shape, chain.log_abs_det(pixels).shape
    ((100, 4), (100,))
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        if not transforms:
            raise ValueError("transforms is empty; a Chain needs at least one")
        self.transforms = transforms

    def fit(self, X: npt.ArrayLike) -> Self:
        for transform in self.transforms[:-1]:
            X = transform.fit(X).transform(X)
        self.transforms[-1].fit(X)
        self.n_features_in_ = self.transforms[0].n_features_in_
        return self

    def transform(self, X: npt.ArrayLike) -> Table:
        for transform in self.transforms:
            X = transform.transform(X)
        return np.asarray(X)

    def inverse_transform(self, Z: npt.ArrayLike) -> Table:
        for transform in reversed(self.transforms):
            Z = transform.inverse_transform(Z)
        return np.asarray(Z)

    def log_abs_det(self, X: npt.ArrayLike) -> FloatArray:
        total = self.transforms[0].log_abs_det(X)
        for before, transform in zip(self.transforms, self.transforms[1:], strict=False):
            X = before.transform(X)
            total = total + transform.log_abs_det(X)
        return total


def check_table(X: npt.ArrayLike, name: str) -> Table:
    """Return rows of real numbers as an array, without a copy of an array."""
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_samples, n_features), got {X.shape}")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {X.dtype}; convert it to float64 or float32")
    return X


def summarise_finite(X: Table) -> ColumnSummary:
    """Return the summary of the columns; raise ValueError with the place of the first NaN or infinity."""
    if len(X) == 0:
        raise ValueError("X has no rows; fit needs at least 1")
    source = ArraySource(X)
    summary = summarise_columns(source)
    if not summary.finite and (place := first_nonfinite(source)) is not None:
        raise ValueError(f"X is not finite in row {place[0]}, column {place[1]}; remove or impute it")
    return summary


def check_range(block: FloatArray, first_row: int, low: float, high: float, remedy: str) -> None:
    """Raise ValueError with the place of the first value of a block that is NaN or not from `low` to `high`."""
    outside = ~((block >= low) & (block <= high))  # true for NaN as well
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise ValueError(
            f"X must lie from {low:g} to {high:g}, but row {first_row + row}, column {column} holds "
            f"{block[row, column]:g}; {remedy}"
        )


def float_blocks(X: Table) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first row, float64 rows) for consecutive blocks."""
    n_rows = max(1, BLOCK_BYTES // (8 * X.shape[1]))
    for start in range(0, len(X), n_rows):
        yield start, np.asarray(X[start : start + n_rows], dtype=np.float64)


def map_blocks(X: Table, n_columns: int, function: Callable[[int, FloatArray], FloatArray]) -> Table:
    """Return function(first row, float64 rows) of every block, as float32 where X is and else as float64."""
    is_float32 = X.dtype.newbyteorder("=") == np.float32
    Z = np.empty((len(X), n_columns), np.float32 if is_float32 else np.float64)
    for start, block in float_blocks(X):
        Z[start : start + len(block)] = function(start, block)
    return Z
