"""Low-rank covariances in loops over the points of a block; the statistics in loops over the features of a row."""

import numpy as np

from .._compile import jit
from .blocks import make_e_step


@jit()
def compute_mahalanobis(xt, parameters, scratch, mahalanobis):
    """mahalanobis[k, p] = |u|^2 - |A u|^2, overwritten; see kernels/low_rank.py for u, A and the layout of factors."""
    block, n_features = xt.shape[1], xt.shape[0]
    distance, product = np.empty(block), np.empty(block)
    for k in range(mahalanobis.shape[0]):
        factor = parameters.factors[k]
        distance[:] = 0
        for d in range(n_features):
            x, u, scale, offset = xt[d], scratch[d], factor[d, 0], factor[d, 1]
            for p in range(block):
                u[p] = x[p] * scale + offset
                distance[p] += np.float64(u[p]) * u[p]
        for j in range(2, factor.shape[1]):
            product[:] = 0
            for d in range(n_features):
                u, a = scratch[d], np.float64(factor[d, j])
                for p in range(block):
                    product[p] += a * u[p]
            for p in range(block):
                distance[p] -= product[p] * product[p]
        out = mahalanobis[k]
        for p in range(block):
            out[p] = 0.0 if distance[p] < 0.0 else distance[p]  # NaN stays: inf - inf, and rows with NaN


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
