"""Diagonal covariance: one standard deviation per component and feature. Features are padded to a multiple of four."""

from ._compile import jit
from .passes import make_passes


@jit()
def compute_mahalanobis(xt, parameters, scratch, mahalanobis):
    """mahalanobis[k, p] = sum_d (offsets[k, d] + factors[k, 0, d] xt[d, p])^2 with factor 1/sd and offset -mean/sd.

    The two multiply-adds per feature are as accurate as subtracting the mean first: one rounding of the data.
    """
    for k in range(mahalanobis.shape[0]):
        out = mahalanobis[k]
        factor, offset = parameters.factors[k, 0], parameters.offsets[k]
        out[:] = 0
        for d in range(0, xt.shape[0], 4):
            x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
            f0, f1, f2, f3 = factor[d], factor[d + 1], factor[d + 2], factor[d + 3]
            c0, c1, c2, c3 = offset[d], offset[d + 1], offset[d + 2], offset[d + 3]
            for p in range(out.shape[0]):
                z0 = c0 + f0 * x0[p]
                z1 = c1 + f1 * x1[p]
                z2 = c2 + f2 * x2[p]
                z3 = c3 + f3 * x3[p]
                out[p] += z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3


@jit()
def accumulate_block(xt, resp, block_resp, mahalanobis, parameters, scratch, sum_first, sum_outer):
    """Add sum_p r (x - mean) and sum_p r (x - mean)^2 per feature of every component.

    resp: (n_components, block); block_resp: (n_components,) its row sums; sum_first: (n_components, n_features);
    sum_outer: (n_components, 1, n_features).
    """
    zero = xt.dtype.type(0)
    for k in range(resp.shape[0]):
        if block_resp[k] > 0:
            r = resp[k]
            mean, first, second = parameters.means[k], sum_first[k], sum_outer[k, 0]
            for d in range(0, xt.shape[0], 4):
                x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
                m0, m1, m2, m3 = mean[d], mean[d + 1], mean[d + 2], mean[d + 3]
                s0 = s1 = s2 = s3 = zero
                q0 = q1 = q2 = q3 = zero
                for p in range(r.shape[0]):
                    t0, t1, t2, t3 = x0[p] - m0, x1[p] - m1, x2[p] - m2, x3[p] - m3
                    w0, w1, w2, w3 = r[p] * t0, r[p] * t1, r[p] * t2, r[p] * t3
                    s0 += w0
                    s1 += w1
                    s2 += w2
                    s3 += w3
                    q0 += w0 * t0
                    q1 += w1 * t1
                    q2 += w2 * t2
                    q3 += w3 * t3
                first[d] += s0
                first[d + 1] += s1
                first[d + 2] += s2
                first[d + 3] += s3
                second[d] += q0
                second[d + 1] += q1
                second[d + 2] += q2
                second[d + 3] += q3


accumulate_pass, accumulate_slot, score_pass, score_slot = make_passes("diag", compute_mahalanobis, accumulate_block)
