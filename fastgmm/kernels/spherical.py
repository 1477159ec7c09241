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
def accumulate_diff(xt, resp, mean, sum_diff):
    """sum_diff[d] += sum_p resp[p] (xt[d, p] - mean[d])."""
    zero = xt.dtype.type(0)
    for d in range(0, xt.shape[0], 4):
        x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
        m0, m1, m2, m3 = mean[d], mean[d + 1], mean[d + 2], mean[d + 3]
        s0 = s1 = s2 = s3 = zero
        for p in range(resp.shape[0]):
            s0 += resp[p] * (x0[p] - m0)
            s1 += resp[p] * (x1[p] - m1)
            s2 += resp[p] * (x2[p] - m2)
            s3 += resp[p] * (x3[p] - m3)
        sum_diff[d] += s0
        sum_diff[d + 1] += s1
        sum_diff[d + 2] += s2
        sum_diff[d + 3] += s3


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
def accumulate_block(xt, resp, block_resp, parameters, scratch, sum_diff, sum_outer):
    """Add sum_p r (x - mean) and sum_p r |x - mean|^2 of every component.

    resp: (n_components, block); block_resp: (n_components,) its row sums; sum_diff: (n_components, n_features);
    sum_outer: (n_components, 1, 1).
    """
    distance = scratch[0]
    for k in range(resp.shape[0]):
        if block_resp[k] > 0:
            r = resp[k]
            accumulate_diff(xt, r, parameters.means[k], sum_diff[k])
            compute_squared_distance(xt, parameters.means[k], distance)
            s = xt.dtype.type(0)
            for p in range(r.shape[0]):
                s += r[p] * distance[p]
            sum_outer[k, 0, 0] += s


accumulate_pass, accumulate_slot, score_pass, score_slot = make_passes(
    "spherical", compute_mahalanobis, accumulate_block
)
