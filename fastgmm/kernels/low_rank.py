"""Low-rank covariances, loadings loadings^T + diag(noise), in factor space: nothing of n_features x n_features.

With sd = sqrt(noise), u = (x - mean) / sd, W = loadings / sd, M = I + W^T W = C C^T and A = C^-1 W^T, the squared
Mahalanobis distance is |u|^2 - |A u|^2 (the matrix inversion lemma). v = A u is the posterior mean of the factors but
for C^-T, so that sums of v serve the M-step (model/factor_statistics.py). Distances come block by block, points as
lanes; statistics row by row, features as lanes, because few rows of a block belong to a component where features are
many.
"""

from typing import NamedTuple

import numpy as np

from . import simd
from ._compile import AS_WRITTEN, jit
from .calls import rows_at
from .chunks import COLUMNS, make_e_step, no_preparation
from .precision import narrow, widen

# Features summed in the dtype of the rows before they are added in float64: with 32, scores took 3 % longer.
STRIP = 128
GROUP = 16  # rows whose statistics are summed in the dtype of the rows


class FactorSums(NamedTuple):
    """Accumulators of a component (and part of the rows), float64, added to.

    With v~ = (v, 1): cross (n_slots, n_factors + 2, n_features) holds sum r v~ u^T and in its last row sum r u^2;
    latent (n_slots, n_factors + 1, n_factors + 1) holds the lower triangle of sum r v~ v~^T. Both padded.
    """

    cross: np.ndarray
    latent: np.ndarray


def _by_width(width):
    @jit(inline=True, name=f"low_rank.squared_products_by_{width}")
    def squared_products(white, p, factor, j):
        """Sum of squares of (A u)_j to (A u)_{j + width} of the points of a chunk, float64."""
        product = widen(simd.zeros(white, width, COLUMNS))
        for start in range(0, factor.shape[0], STRIP):
            s = simd.zeros(white, width, COLUMNS)
            for d in range(start, min(start + STRIP, factor.shape[0])):
                s = simd.multiply_add(simd.scalars_along(factor, d, j, width), simd.load(white, d, p, 1, COLUMNS), s)
            product += widen(s)
        return simd.add_squares(widen(simd.zeros(white, 1, COLUMNS)), product)

    return squared_products


squared_products_by_two, squared_products_by_six = _by_width(2), _by_width(6)


@jit(inline=True)
def compute_distances(xt, p, k, parameters, white):
    """Squared distances of a chunk to component k; white: (n_features, block) scratch for u.

    factors[k] holds for every feature 1 / sd, -mean / sd and the column of A, an even number of factors and at least
    four: those are taken with |u|^2, in one sweep over the features. |u|^2 and |A u|^2 may agree in all but a few
    digits, hence float64 for what float32 has summed over a strip of features.
    """
    factor = parameters.factors[k]
    distance = widen(simd.zeros(xt, 1, COLUMNS))
    product = widen(simd.zeros(xt, 4, COLUMNS))
    for start in range(0, factor.shape[0], STRIP):
        s = simd.zeros(xt, 1, COLUMNS)
        v = simd.zeros(xt, 4, COLUMNS)
        for d in range(start, min(start + STRIP, factor.shape[0])):
            x = simd.load(xt, d, p, 1, COLUMNS)
            u = simd.multiply_add(simd.scalars_along(factor, d, 0, 1), x, simd.scalars_along(factor, d, 1, 1))
            simd.store(u, white, d, p)
            s = simd.multiply_add(u, u, s)
            v = simd.multiply_add(simd.scalars_along(factor, d, 2, 4), u, v)
        distance += widen(s)
        product += widen(v)
    distance -= simd.add_squares(widen(simd.zeros(xt, 1, COLUMNS)), product)
    j = 6
    while j + 6 <= factor.shape[1]:
        distance -= squared_products_by_six(white, p, factor, j)
        j += 6
    while j < factor.shape[1]:
        distance -= squared_products_by_two(white, p, factor, j)
        j += 2
    return narrow(simd.where_greater(0.0, distance, 0.0, distance), xt)  # NaN stays: inf - inf, and rows with NaN


@jit(fastmath=AS_WRITTEN)
def load_white(X, i, shift, rows, out):
    """Overwrite out (n_features,) by (X[i] - shift) / sd + offset; rows[0] = 1 / sd, rows[1] = offset."""
    for d in range(X.shape[1]):
        out[d] = X[i, d] - shift[d]
    for d in range(X.shape[1]):
        out[d] = out[d] * rows[0, d] + rows[1, d]


@jit(fastmath=AS_WRITTEN)
def add_group(white, weight, count, rows, v, weighted, cross, latent):
    """Add the first `count` rows of white (GROUP, n_features), of these weights, to cross and latent."""
    n_factors, n_features = rows.shape[0] - 2, rows.shape[1]
    lanes = simd.LANE_BYTES // white.itemsize
    v[:n_factors] = 0
    for g in range(0, count, 4):
        for j in range(0, n_factors, 2):
            s = simd.zeros(white, 2, 4)
            for d in range(0, n_features, lanes):
                u = simd.transpose(simd.load(white, g, d, 4, 1))
                s = simd.multiply_add(simd.load(rows, 2 + j, d, 2, 1), u, s)
            simd.add_sums(s, v, j, g)
    for g in range(count):
        for j in range(n_factors + 1):
            weighted[j, g] = weight[g] * v[j, g]
            for m in range(j + 1):
                latent[j, m] += weight[g] * v[j, g] * v[m, g]
    for d in range(0, n_features, 4 * lanes):
        for j in range(0, n_factors, 2):
            s = simd.zeros(white, 2, 4)
            for g in range(count):
                s = simd.multiply_add(simd.scalars_down(weighted, j, g, 2), simd.load(white, g, d, 1, 4), s)
            simd.add_to(s, cross, j, d)
        first = second = simd.zeros(white, 1, 4)
        for g in range(count):
            u = simd.load(white, g, d, 1, 4)
            w = simd.scalars_down(weighted, n_factors, g, 1) * u
            first += w
            second = simd.multiply_add(w, u, second)
        simd.add_to(first, cross, n_factors, d)
        simd.add_to(second, cross, n_factors + 1, d)


KEEPS_DISTANCES = False
if simd.LANE_BYTES:
    compute_resp = make_e_step("low_rank", no_preparation, compute_distances, 1)
else:
    from .portable.low_rank import KEEPS_DISTANCES, add_group, compute_resp  # noqa: F401


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
    """Add the statistics of component slot // n_parts, over one of n_parts runs of the rows.

    arguments[0]: X; resp (n_rows, n_components); sample_weight (n_rows,), or empty for weights of 1; shift
    (n_features,) float64; rows (n_components, 2 + n_factors, n_features padded to four vectors), 1 / sd, offset and A;
    n_parts; FactorSums.
    Rows below 2^-56 (float32: 2^-40) of the component's largest responsibility are left out: no digit of a sum changes.
    """
    X, resp, sample_weight, shift, rows, n_parts, sums = arguments[0]
    k, part = slot // n_parts, slot % n_parts
    begin, end = part * X.shape[0] // n_parts, (part + 1) * X.shape[0] // n_parts
    n_rows, n_features = rows.shape[1], rows.shape[2]
    size = n_features * rows.itemsize
    factor = rows_at(workspace, 0, n_rows, n_features, rows)
    white = rows_at(workspace, n_rows * size, GROUP, n_features, rows)
    offset = (n_rows + GROUP) * size
    v = rows_at(workspace, offset, n_rows - 1, GROUP, shift)
    weight = rows_at(workspace, offset + (n_rows - 1) * GROUP * 8, 1, GROUP, shift)[0]
    weighted = rows_at(workspace, offset + n_rows * GROUP * 8, n_rows - 1, GROUP, rows)
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
