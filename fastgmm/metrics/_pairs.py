"""Squared distances between all rows of two sets, block by block, through matrix products in float64."""

from collections.abc import Iterator

import numpy as np

from ._rows import FloatArray, Rows, float_blocks

GROUP = 32  # values of which the smallest is found first
REFERENCE_BYTES = 2**26  # of a reference set, converted at once


def distance_blocks(X: Rows, Y: Rows, *, own: int | None = None) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first row, squared distances of a block of rows of X to all rows of Y, (n_block, n_Y)).

    They are |x|^2 + |y|^2 - 2 x'y, as one matrix product of [-2 x, |x|^2, 1] and [y, 1, |y|^2]; x and y are taken about
    the mean of Y, so that the digits lost are relative to the spread of the rows and not to their offset. Rounding may
    leave copies at a distance a little below 0. The caller may overwrite the blocks.

    Parameters
    ----------
    X, Y : ndarray of shape (n_X, n_features), (n_Y, n_features)
    own : int, optional
        Y is X from this row on: the distance of a row to itself is then infinite.
    """
    mean = np.asarray(Y, dtype=np.float64).mean(axis=0)
    Y = Y - mean
    right = np.column_stack([Y, np.ones(len(Y)), np.einsum("ij,ij->i", Y, Y)])
    for start, block in float_blocks(X, width=len(Y)):
        block = block - mean
        left = np.column_stack([-2 * block, np.einsum("ij,ij->i", block, block), np.ones(len(block))])
        distance: FloatArray = left @ right.T
        if own is not None:
            column = np.arange(start, start + len(block)) - own
            inside = (column >= 0) & (column < len(Y))
            distance[inside, column[inside]] = np.inf
        yield start, distance


def nearest(X: Rows, Y: Rows, *, same: bool = False) -> FloatArray:
    """Return the distance of each row of X to the nearest row of Y (if Y is X: other than itself), (n_X,).

    It is computed anew from the difference of the two rows: copies are at distance 0 exactly.
    """
    best = np.full(len(X), np.inf)
    index = np.zeros(len(X), dtype=np.int64)
    for offset, chunk in float_blocks(Y, block_bytes=REFERENCE_BYTES):
        for start, distance in distance_blocks(X, chunk, own=offset if same else None):
            here = slice(start, start + len(distance))
            closest = distance.argmin(axis=1)
            value = distance[np.arange(len(distance)), closest]
            index[here] = np.where(value < best[here], offset + closest, index[here])
            best[here] = np.minimum(value, best[here])
    for start, block in float_blocks(X):
        here = slice(start, start + len(block))
        best[here] = np.linalg.norm(block - Y[index[here]], axis=1)
    return best


def neighbour_radii(X: Rows, n_neighbors: int) -> FloatArray:
    """Return the squared distance of each row to its `n_neighbors`-th nearest other row, (n_X,)."""
    radii = np.empty(len(X))
    for start, distance in distance_blocks(X, X, own=0):
        radii[start : start + len(distance)] = _kth_smallest(distance, n_neighbors)
    return radii


def _kth_smallest(values: FloatArray, k: int) -> FloatArray:
    """Return the k-th smallest value of each row of (n_rows, n), (n_rows,).

    The k smallest lie in the k groups of smallest minimum: minima are found many times faster than a partition.
    """
    n_groups = values.shape[1] // GROUP
    if n_groups > k:
        grouped = values[:, : GROUP * n_groups].reshape(len(values), GROUP, n_groups)
        kept = grouped.min(axis=1).argpartition(k - 1, axis=1)[:, np.newaxis, :k]
        candidates = np.take_along_axis(grouped, kept, axis=2).reshape(len(values), -1)
        values = np.concatenate([candidates, values[:, GROUP * n_groups :]], axis=1)
    kth: FloatArray = np.partition(values, k - 1, axis=1)[:, k - 1]
    return kth


def median_square(X: Rows) -> float:
    """Return the median squared distance between different rows; holds n^2 values."""
    distance = np.concatenate([block for _, block in distance_blocks(X, X)])
    return float(np.median(distance[np.triu_indices(len(X), 1)]))
