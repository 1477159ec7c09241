"""Spherical covariance: one standard deviation per component. Features are padded to a multiple of four."""

from ._compile import jit
from .passes import make_passes


@jit()
def compute_squared_distance(xt, mean, out):
    """out[p] = sum_d (xt[d, p] - mean[d])^2; xt: (n_features, block); out: (block,), overwritten."""
    out[:] = 0
    for d in range(0, xt.shape[0], 4):
        x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
        m0, m1, m2, m3 = mean[d], mean[d + 1], mean[d + 2], mean[d + 3]
        for p in range(out.shape[0]):
            t0, t1, t2, t3 = x0[p] - m0, x1[p] - m1, x2[p] - m2, x3[p] - m3
            out[p] += t0 * t0 + t1 * t1 + t2 * t2 + t3 * t3


@jit()
def accumulate_sum_x(xt, resp, sum_x):
    """sum_x[k, d] += sum_p resp[k, p] xt[d, p], in tiles of four components by four features.

    xt: (n_features, block); resp: (n_components, block); sum_x: (n_components, n_features).
    """
    n_components, block = resp.shape
    zero = xt.dtype.type(0)
    tiled = n_components // 4 * 4
    for d in range(0, xt.shape[0], 4):
        x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
        for k in range(0, tiled, 4):
            r0, r1, r2, r3 = resp[k], resp[k + 1], resp[k + 2], resp[k + 3]
            s00 = s01 = s02 = s03 = zero
            s10 = s11 = s12 = s13 = zero
            s20 = s21 = s22 = s23 = zero
            s30 = s31 = s32 = s33 = zero
            for p in range(block):
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                w0, w1, w2, w3 = r0[p], r1[p], r2[p], r3[p]
                s00 += w0 * v0
                s01 += w0 * v1
                s02 += w0 * v2
                s03 += w0 * v3
                s10 += w1 * v0
                s11 += w1 * v1
                s12 += w1 * v2
                s13 += w1 * v3
                s20 += w2 * v0
                s21 += w2 * v1
                s22 += w2 * v2
                s23 += w2 * v3
                s30 += w3 * v0
                s31 += w3 * v1
                s32 += w3 * v2
                s33 += w3 * v3
            o0, o1, o2, o3 = sum_x[k], sum_x[k + 1], sum_x[k + 2], sum_x[k + 3]
            o0[d] += s00
            o0[d + 1] += s01
            o0[d + 2] += s02
            o0[d + 3] += s03
            o1[d] += s10
            o1[d + 1] += s11
            o1[d + 2] += s12
            o1[d + 3] += s13
            o2[d] += s20
            o2[d + 1] += s21
            o2[d + 2] += s22
            o2[d + 3] += s23
            o3[d] += s30
            o3[d + 1] += s31
            o3[d + 2] += s32
            o3[d + 3] += s33
        for k in range(tiled, n_components):
            r0, o0 = resp[k], sum_x[k]
            s00 = s01 = s02 = s03 = zero
            for p in range(block):
                s00 += r0[p] * x0[p]
                s01 += r0[p] * x1[p]
                s02 += r0[p] * x2[p]
                s03 += r0[p] * x3[p]
            o0[d] += s00
            o0[d + 1] += s01
            o0[d + 2] += s02
            o0[d + 3] += s03


@jit()
def compute_mahalanobis(xt, parameters, scratch, mahalanobis):
    """mahalanobis[k, p] = |factors[k] (x - mean)|^2 with factor 1/sd; (n_components, block), overwritten."""
    for k in range(mahalanobis.shape[0]):
        out = mahalanobis[k]
        compute_squared_distance(xt, parameters.means[k], out)
        precision = parameters.factors[k, 0, 0] * parameters.factors[k, 0, 0]
        for p in range(out.shape[0]):
            out[p] *= precision


@jit()
def accumulate_block(xt, resp, block_resp, mahalanobis, parameters, scratch, sum_first, sum_outer):
    """Add sum_p r x (about the shift) and sum_p r |x - mean|^2 of every component.

    resp, mahalanobis: (n_components, block); sum_first: (n_components, n_features); sum_outer: (n_components, 1, 1).
    """
    accumulate_sum_x(xt, resp, sum_first)
    zero = xt.dtype.type(0)
    for k in range(resp.shape[0]):
        r, distance = resp[k], mahalanobis[k]
        s = zero
        for p in range(r.shape[0]):
            s += r[p] * distance[p] if r[p] > 0 else zero  # 0 times an overflowed distance is NaN
        sum_outer[k, 0, 0] += s / (parameters.factors[k, 0, 0] * parameters.factors[k, 0, 0])


accumulate_pass, accumulate_slot, score_pass, score_slot = make_passes(
    "spherical", compute_mahalanobis, accumulate_block
)
