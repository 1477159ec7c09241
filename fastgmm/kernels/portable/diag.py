"""Diagonal covariance: one standard deviation per component and feature. Features are padded to a multiple of four."""

from .._compile import jit
from .e_step import make_e_step


@jit()
def compute_two_distances(xt, factor_a, offset_a, factor_b, offset_b, out_a, out_b):
    """out_a[p] = sum_d (offset_a[d] + factor_a[d] xt[d, p])^2, and out_b likewise: two components share the loads.

    The two multiply-adds per feature are as accurate as subtracting the mean first: one rounding of the data.
    """
    block = xt.shape[1]
    for d in range(0, xt.shape[0], 4):
        x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
        f0, f1, f2, f3 = factor_a[d], factor_a[d + 1], factor_a[d + 2], factor_a[d + 3]
        a0, a1, a2, a3 = offset_a[d], offset_a[d + 1], offset_a[d + 2], offset_a[d + 3]
        g0, g1, g2, g3 = factor_b[d], factor_b[d + 1], factor_b[d + 2], factor_b[d + 3]
        b0, b1, b2, b3 = offset_b[d], offset_b[d + 1], offset_b[d + 2], offset_b[d + 3]
        if d == 0:
            for p in range(block):
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                s0, s1, s2, s3 = a0 + f0 * v0, a1 + f1 * v1, a2 + f2 * v2, a3 + f3 * v3
                t0, t1, t2, t3 = b0 + g0 * v0, b1 + g1 * v1, b2 + g2 * v2, b3 + g3 * v3
                out_a[p] = s0 * s0 + s1 * s1 + s2 * s2 + s3 * s3
                out_b[p] = t0 * t0 + t1 * t1 + t2 * t2 + t3 * t3
        else:
            for p in range(block):
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                s0, s1, s2, s3 = a0 + f0 * v0, a1 + f1 * v1, a2 + f2 * v2, a3 + f3 * v3
                t0, t1, t2, t3 = b0 + g0 * v0, b1 + g1 * v1, b2 + g2 * v2, b3 + g3 * v3
                out_a[p] += s0 * s0 + s1 * s1 + s2 * s2 + s3 * s3
                out_b[p] += t0 * t0 + t1 * t1 + t2 * t2 + t3 * t3


@jit()
def compute_mahalanobis(xt, parameters, scratch, mahalanobis):
    """mahalanobis[k, p] = sum_d ((xt[d, p] - mean) / sd)^2: factors hold 1/sd, offsets -mean/sd; overwritten."""
    factors, offsets = parameters.factors, parameters.offsets
    last = mahalanobis.shape[0] - 1
    for k in range(0, last, 2):
        compute_two_distances(
            xt, factors[k, 0], offsets[k], factors[k + 1, 0], offsets[k + 1], mahalanobis[k], mahalanobis[k + 1]
        )
    if last % 2 == 0:
        compute_two_distances(
            xt, factors[last, 0], offsets[last], factors[last, 0], offsets[last], mahalanobis[last], scratch[0]
        )


@jit(by_address=True)
def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
    """Add sum_p r (x - mean) and sum_p r (x - mean)^2 per feature of every component.

    resp: (n_components, block); mean_resp: (n_components,), see `run_slot`; sum_first: (n_components, n_features);
    sum_outer: (n_components, 1, n_features).
    """
    zero = xt.dtype.type(0)
    for d in range(0, xt.shape[0], 4):  # outside: four rows of xt stay in the L1 cache while the components pass
        x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
        for k in range(resp.shape[0]):
            if mean_resp[k] > 0:
                r, mean, first, second = resp[k], parameters.means[k], sum_first[k], sum_outer[k, 0]
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


KEEPS_DISTANCES = True
compute_resp = make_e_step("diag", compute_mahalanobis)
