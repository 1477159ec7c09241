"""Low-rank covariances in tiles; see kernels/low_rank.py for u, A and the layout of factors."""

from .._compile import AS_WRITTEN, jit
from . import simd
from .e_step import make_e_step, no_preparation
from .precision import narrow, widen
from .stripes import COLUMNS

# Features summed in the dtype of the rows before they are added in float64: with 32, scores took 3 % longer.
SPAN = 128


def _by_width(width):
    @jit(inline=True, name=f"low_rank.squared_products_by_{width}")
    def squared_products(white, p, factor, j):
        """Sum of squares of (A u)_j to (A u)_{j + width} of the points of a stripe, float64."""
        product = widen(simd.zeros(white, width, COLUMNS))
        for start in range(0, factor.shape[0], SPAN):
            s = simd.zeros(white, width, COLUMNS)
            for d in range(start, min(start + SPAN, factor.shape[0])):
                s = simd.multiply_add(simd.scalars_along(factor, d, j, width), simd.load(white, d, p, 1, COLUMNS), s)
            product += widen(s)
        return simd.add_squares(widen(simd.zeros(white, 1, COLUMNS)), product)

    return squared_products


squared_products_by_two, squared_products_by_six = _by_width(2), _by_width(6)


@jit(inline=True)
def compute_distances(xt, p, k, parameters, white):
    """Squared distances of a stripe to component k; white: (n_features, block) scratch for u.

    The first four factors are taken with |u|^2, in one sweep over the features. |u|^2 and |A u|^2 may agree in all but
    a few digits, hence float64 for what float32 has summed over a span of features.
    """
    factor = parameters.factors[k]
    distance = widen(simd.zeros(xt, 1, COLUMNS))
    product = widen(simd.zeros(xt, 4, COLUMNS))
    for start in range(0, factor.shape[0], SPAN):
        s = simd.zeros(xt, 1, COLUMNS)
        v = simd.zeros(xt, 4, COLUMNS)
        for d in range(start, min(start + SPAN, factor.shape[0])):
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
compute_resp = make_e_step("low_rank", no_preparation, compute_distances, 1)
