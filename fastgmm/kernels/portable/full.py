"""Full covariance: one triangular factor per component.

Loops run over the points of a block (the vector lane) with four features unrolled in both directions, so that sixteen
multiply-adds share eight loads. Features are padded to a multiple of four with zeros.
"""

from .._compile import jit
from .e_step import make_e_step
from .tiles import accumulate_tile, transform_tile


@jit()
def accumulate_moments(xt, mean, resp, weighted, sum_diff, sum_outer):
    """sum_diff[e] += sum_p w[e, p]; sum_outer[d, e] += sum_p xt[d, p] w[e, p]; w[e, p] = resp[p] (xt[e, p] - mean[e]).

    Only w is centred: sum_outer minus mean sum_diff^T is the centred sum (model/covariance.py), as accurate as
    centring both sides, for a third less time. Tiles of 4 x 4: below the diagonal only diagonal tiles are filled.

    xt: (n_features, block); resp: (block,); weighted: (4, block) scratch; sum_outer: (n_features, n_features).
    """
    n_features, block = xt.shape
    zero = xt.dtype.type(0)
    w0, w1, w2, w3 = weighted[0], weighted[1], weighted[2], weighted[3]
    for e in range(0, n_features, 4):
        b0, b1, b2, b3 = xt[e], xt[e + 1], xt[e + 2], xt[e + 3]
        m0, m1, m2, m3 = mean[e], mean[e + 1], mean[e + 2], mean[e + 3]
        s0 = s1 = s2 = s3 = zero
        for p in range(block):
            r = resp[p]
            y0, y1, y2, y3 = r * (b0[p] - m0), r * (b1[p] - m1), r * (b2[p] - m2), r * (b3[p] - m3)
            w0[p], w1[p], w2[p], w3[p] = y0, y1, y2, y3
            s0 += y0
            s1 += y1
            s2 += y2
            s3 += y3
        sum_diff[e] += s0
        sum_diff[e + 1] += s1
        sum_diff[e + 2] += s2
        sum_diff[e + 3] += s3
        for d in range(0, e + 4, 4):
            accumulate_tile(xt, d, weighted, 0, sum_outer, e)


@jit()
def compute_squared_norm(xt, factor, offset, y, out):
    """out[p] = sum_e (offset[e] + sum_{d <= e} factor[d, e] xt[d, p])^2, the squared distance under U = factor.

    Adding offset = -mean U instead of subtracting the mean first saves a pass and is as accurate: the error is of the
    order of one rounding of the data. xt: (n_features, block); y: (4, block) scratch; out: (block,), overwritten.
    """
    block = xt.shape[1]
    y0, y1, y2, y3 = y[0], y[1], y[2], y[3]
    for e in range(0, xt.shape[0], 4):
        c0, c1, c2, c3 = offset[e], offset[e + 1], offset[e + 2], offset[e + 3]
        if e > 0:
            # Starting from the offset here instead of filling y with it first: 3.1 against 4.9 ns at 16 features.
            x0, x1, x2, x3 = xt[0], xt[1], xt[2], xt[3]
            f0, f1, f2, f3 = factor[0], factor[1], factor[2], factor[3]
            u00, u01, u02, u03 = f0[e], f0[e + 1], f0[e + 2], f0[e + 3]
            u10, u11, u12, u13 = f1[e], f1[e + 1], f1[e + 2], f1[e + 3]
            u20, u21, u22, u23 = f2[e], f2[e + 1], f2[e + 2], f2[e + 3]
            u30, u31, u32, u33 = f3[e], f3[e + 1], f3[e + 2], f3[e + 3]
            for p in range(block):
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                y0[p] = c0 + u00 * v0 + u10 * v1 + u20 * v2 + u30 * v3
                y1[p] = c1 + u01 * v0 + u11 * v1 + u21 * v2 + u31 * v3
                y2[p] = c2 + u02 * v0 + u12 * v1 + u22 * v2 + u32 * v3
                y3[p] = c3 + u03 * v0 + u13 * v1 + u23 * v2 + u33 * v3
            for d in range(4, e, 4):
                transform_tile(xt, d, factor, e, y, 0)
        x0, x1, x2, x3 = xt[e], xt[e + 1], xt[e + 2], xt[e + 3]
        f0, f1, f2, f3 = factor[e], factor[e + 1], factor[e + 2], factor[e + 3]
        u00, u01, u02, u03 = f0[e], f0[e + 1], f0[e + 2], f0[e + 3]
        u11, u12, u13 = f1[e + 1], f1[e + 2], f1[e + 3]
        u22, u23, u33 = f2[e + 2], f2[e + 3], f3[e + 3]
        if e == 0:
            for p in range(block):
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                z0 = c0 + u00 * v0
                z1 = c1 + u01 * v0 + u11 * v1
                z2 = c2 + u02 * v0 + u12 * v1 + u22 * v2
                z3 = c3 + u03 * v0 + u13 * v1 + u23 * v2 + u33 * v3
                out[p] = z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3
        else:
            for p in range(block):
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                z0 = y0[p] + u00 * v0
                z1 = y1[p] + u01 * v0 + u11 * v1
                z2 = y2[p] + u02 * v0 + u12 * v1 + u22 * v2
                z3 = y3[p] + u03 * v0 + u13 * v1 + u23 * v2 + u33 * v3
                out[p] += z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3


@jit()
def compute_mahalanobis(xt, parameters, scratch, mahalanobis):
    """Squared Mahalanobis distance of each point to each component; mahalanobis: (n_components, block), overwritten."""
    for k in range(mahalanobis.shape[0]):
        compute_squared_norm(xt, parameters.factors[k], parameters.offsets[k], scratch, mahalanobis[k])


@jit(by_address=True)
def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
    """Add the moments of `accumulate_moments` of every component.

    resp: (n_components, block); mean_resp: (n_components,), see `run_slot`; sum_first: (n_components, n_features);
    sum_outer: (n_components, n_features, n_features).
    """
    for k in range(resp.shape[0]):
        if mean_resp[k] > 0:
            accumulate_moments(xt, parameters.means[k], resp[k], scratch, sum_first[k], sum_outer[k])


KEEPS_DISTANCES = True
compute_resp = make_e_step("full", compute_mahalanobis)
