"""Rows as the metrics take them: checked, images flattened, and as many of one set as of another."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]

# Of float64 worked on at once. A quarter of it is 20 % faster on an idle machine, but each matrix product waits for
# all threads of the BLAS: beside other programs the smaller blocks took three times as long.
BLOCK_BYTES = 2**24


def check_rows(**sets: npt.ArrayLike) -> list[Rows]:
    """Return each set of rows or images with shape (n_rows, n_features), its dtype unchanged.

    Raises
    ------
    TypeError
        A set does not hold real numbers.
    ValueError
        A set has another number of dimensions, is empty, has a NaN or infinite value (row and column are named), or
        differs from the first in the number of features.
    """
    checked = {name: _check_set(name, X) for name, X in sets.items()}
    first, *others = checked
    for name in others:
        if checked[name].shape[1] != checked[first].shape[1]:
            raise ValueError(
                f"{name} has {checked[name].shape[1]} features per row, but {first} has {checked[first].shape[1]}; "
                "give sets of one width, or images of one size"
            )
    return list(checked.values())


def _check_set(name: str, X: npt.ArrayLike) -> Rows:
    X = np.asarray(X)
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {X.dtype}; convert it to floats")
    if X.ndim not in (2, 3, 4) or X.size == 0:
        raise ValueError(
            f"{name} must be rows of shape (n_rows, n_features) or images of shape (n_images, height, width) or "
            f"(n_images, height, width, channels), none of them 0, got {X.shape}"
        )
    rows = X.reshape(len(X), -1)
    for start, block in float_blocks(rows):
        finite = np.isfinite(block)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"{name} is {block[row, column]} in row {start + row}, column {column}; remove or impute it"
            )
    return rows


def matched(*sets: Rows, random_state: int, max_samples: int | None = None) -> list[Rows]:
    """Return as many rows of each set as the smallest has, and at most `max_samples`.

    A set that has more gives a random draw without replacement, in the order of the set.
    """
    rng = np.random.default_rng(random_state)
    size = min(len(rows) for rows in sets)
    if max_samples is not None:
        size = min(size, max_samples)
    return [draw(rows, size, rng) for rows in sets]


def draw(rows: Rows, size: int, rng: np.random.Generator) -> Rows:
    """Return `size` of the rows at random without replacement, in their order; all if there are no more."""
    if len(rows) <= size:
        return rows
    return rows[np.sort(rng.choice(len(rows), size, replace=False))]


def float_blocks(rows: Rows, width: int = 1, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first row, float64 rows) for consecutive blocks.

    Neither they nor `width` values for each of their rows, which the caller may need, exceed `block_bytes`, unless a
    single row does.
    """
    size = max(1, block_bytes // (8 * max(width, rows.shape[1])))
    for start in range(0, len(rows), size):
        yield start, np.asarray(rows[start : start + size], dtype=np.float64)
