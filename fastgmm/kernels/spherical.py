"""Spherical covariance: one standard deviation per component. Features are padded to a multiple of four."""

from ._compile import jit
from .passes import make_passes
from .tiles import accumulate_tile


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
        for k in range(0, tiled, 4):
            accumulate_tile(resp, k, xt, d, sum_x, d)
        x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
        for k in range(tiled, n_components):
            r, out = resp[k], sum_x[k]
            s0 = s1 = s2 = s3 = zero
            for p in range(block):
                s0 += r[p] * x0[p]
                s1 += r[p] * x1[p]
                s2 += r[p] * x2[p]
                s3 += r[p] * x3[p]
            out[d] += s0
            out[d + 1] += s1
            out[d + 2] += s2
            out[d + 3] += s3


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
