"""Low-rank covariances, loadings loadings^T + diag(noise), in factor space: nothing of n_features x n_features.

With sd = sqrt(noise), u = (x - mean) / sd, W = loadings / sd, M = I + W^T W = C C^T and A = C^-1 W^T, the squared
Mahalanobis distance is |u|^2 - |A u|^2 (the matrix inversion lemma). v = A u is the posterior mean of the factors but
for C^-T, so that sums of v serve the M-step (model/factors/expectation.py). Distances come block by block, points as
lanes; statistics row by row, features as lanes, because few rows of a block belong to a component where features are
many.

factors[k] of a block's parameters holds for every feature 1 / sd, -mean / sd and the column of A, of an even number of
factors and at least four. This module runs the pass that adds up statistics, with the `add_group` of the kernels that
do the work (backend.py).
"""

from typing import NamedTuple

import numpy as np

from . import backend
from ._compile import AS_WRITTEN, jit
from .calls import array_at

GROUP = 16  # rows whose statistics are summed in the dtype of the rows
add_group = backend.module("low_rank").add_group


class FactorSums(NamedTuple):
    """Accumulators of a component (and a run of the rows), float64, added to.

    With v~ = (v, 1): cross (n_slots, n_factors + 2, n_features) holds sum r v~ u^T and in its last row sum r u^2;
    latent (n_slots, n_factors + 1, n_factors + 1) holds the lower triangle of sum r v~ v~^T. Both padded.
    """

    cross: np.ndarray
    latent: np.ndarray


@jit(fastmath=AS_WRITTEN)
def load_white(X, i, shift, rows, out):
    """Overwrite out (n_features,) by (X[i] - shift) / sd + offset; rows[0] = 1 / sd, rows[1] = offset."""
    for d in range(X.shape[1]):
        out[d] = X[i, d] - shift[d]
    for d in range(X.shape[1]):
        out[d] = out[d] * rows[0, d] + rows[1, d]


@jit(fastmath=AS_WRITTEN)
def largest_weight(resp, k, sample_weight, first, last):
    """The largest weighted responsibility of component k among these rows."""
    largest = 0.0
    for i in range(first, last):
        r = np.float64(resp[i, k])
        if sample_weight.shape[0] > 0:
            r *= sample_weight[i]
        largest = max(largest, r)
    return largest


def workspace_bytes(rows):
    """Bytes that `accumulate_slot` works with."""
    n_rows, n_features = rows.shape[1:]
    return (n_rows + GROUP) * n_features * rows.itemsize + n_rows * GROUP * (8 + rows.itemsize)


@jit(by_address=True, fastmath=AS_WRITTEN)
def accumulate_slot(arguments, slot, workspace):
    """Add the statistics of component slot // n_runs, over one of n_runs runs of the rows.

    arguments[0]: X; resp (n_rows, n_components); sample_weight (n_rows,), or empty for weights of 1; shift
    (n_features,) float64; rows (n_components, 2 + n_factors, n_features padded to four vectors), 1 / sd, offset and A;
    n_runs; FactorSums.
    Rows below 2^-56 (float32: 2^-40) of the component's largest responsibility are left out: no digit of a sum changes.
    """
    X, resp, sample_weight, shift, rows, n_runs, sums = arguments[0]
    k, run = slot // n_runs, slot % n_runs
    begin, end = run * X.shape[0] // n_runs, (run + 1) * X.shape[0] // n_runs
    n_rows, n_features = rows.shape[1], rows.shape[2]
    size = n_features * rows.itemsize
    factor = array_at(workspace, 0, (n_rows, n_features), rows)
    white = array_at(workspace, n_rows * size, (GROUP, n_features), rows)
    offset = (n_rows + GROUP) * size
    v = array_at(workspace, offset, (n_rows - 1, GROUP), shift)
    weight = array_at(workspace, offset + (n_rows - 1) * GROUP * 8, (GROUP,), shift)
    weighted = array_at(workspace, offset + n_rows * GROUP * 8, (n_rows - 1, GROUP), rows)
    for r in range(n_rows):
        for d in range(n_features):
            factor[r, d] = rows[k, r, d]
    white[:] = 0
    v[:] = 1  # the last row stays: the one of v~
    limit = largest_weight(resp, k, sample_weight, begin, end) * (2.0**-56 if X.itemsize == 8 else 2.0**-40)
    count = 0
    for i in range(begin, end):
        r = np.float64(resp[i, k])
        if sample_weight.shape[0] > 0:
            r *= sample_weight[i]
        if r > limit:
            load_white(X, i, shift, factor, white[count])
            weight[count] = r
            count += 1
        if count == GROUP or (count > 0 and i == end - 1):
            add_group(white, weight, count, factor, v, weighted, sums.cross[slot], sums.latent[slot])
            count = 0
