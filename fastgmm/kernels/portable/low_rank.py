"""Low-rank covariances in loops over the points of a block; the statistics in loops over the features of a row."""

import numpy as np

from .._compile import EXACT, jit
from .e_step import make_e_step

SPAN = 32  # features summed before they are added to what came before, with what that rounds off


@jit(fastmath=EXACT)
def add_exactly(total, rest, values):
    """Total + rest += values, all (block,): `rest` gathers the roundings of `total` (Knuth's two-sum)."""
    for p in range(total.shape[0]):
        a, b = total[p], values[p]
        s = a + b
        t = s - a
        rest[p] += (a - (s - t)) + (b - t)
        total[p] = s


@jit()
def compute_mahalanobis(xt, parameters, scratch, mahalanobis):
    """mahalanobis[k, p] = |u|^2 - |A u|^2, overwritten; see kernels/low_rank.py for u, A and the layout of factors.

    The two may agree in all but a few digits, hence sums of twice the digits.
    """
    n_features = xt.shape[0]
    partial, rest = scratch[n_features], scratch[n_features + 1]
    product, product_rest = scratch[n_features + 2], scratch[n_features + 3]
    for k in range(mahalanobis.shape[0]):
        factor, distance = parameters.factors[k], mahalanobis[k]
        distance[:] = 0
        rest[:] = 0
        for start in range(0, n_features, SPAN):
            partial[:] = 0
            for d in range(start, min(start + SPAN, n_features)):
                x, u, scale, offset = xt[d], scratch[d], factor[d, 0], factor[d, 1]
                for p in range(x.shape[0]):
                    u[p] = x[p] * scale + offset
                    partial[p] += u[p] * u[p]
            add_exactly(distance, rest, partial)
        for j in range(2, factor.shape[1]):
            product[:] = 0
            product_rest[:] = 0
            for start in range(0, n_features, SPAN):
                partial[:] = 0
                for d in range(start, min(start + SPAN, n_features)):
                    u, a = scratch[d], factor[d, j]
                    for p in range(u.shape[0]):
                        partial[p] += a * u[p]
                add_exactly(product, product_rest, partial)
            for p in range(product.shape[0]):
                partial[p] = -(product[p] + product_rest[p]) * (product[p] + product_rest[p])
            add_exactly(distance, rest, partial)
        for p in range(distance.shape[0]):
            value = distance[p] + rest[p]
            distance[p] = xt.dtype.type(0) if value < 0 else value  # NaN stays: inf - inf, and rows with NaN


@jit()
def add_group(white, weight, count, rows, v, weighted, cross, latent):
    """Add the first `count` rows of white (GROUP, n_features), of these weights, to cross and latent."""
    n_factors = rows.shape[0] - 2
    for g in range(count):
        u = white[g]
        for j in range(n_factors):
            row, s = rows[2 + j], 0.0
            for d in range(u.shape[0]):
                s += np.float64(row[d]) * u[d]
            v[j, g] = s
        for j in range(n_factors + 1):
            w = weight[g] * v[j, g]
            for m in range(j + 1):
                latent[j, m] += w * v[m, g]
            out = cross[j]
            for d in range(u.shape[0]):
                out[d] += w * u[d]
        out = cross[n_factors + 1]
        for d in range(u.shape[0]):
            out[d] += weight[g] * u[d] * u[d]


KEEPS_DISTANCES = True
compute_resp = make_e_step("low_rank", compute_mahalanobis)
