"""Squared distances in loops over points, for k-means and the portable kernels."""

from ._compile import jit


@jit()
def compute_two_distances(xt, mean_a, mean_b, out_a, out_b):
    """out_a[p] = sum_d (xt[d, p] - mean_a[d])^2, and out_b likewise; both (block,), overwritten.

    Two means share the loads of xt: 0.55 against 1.0 ns per pair at 16 features for one mean at a time.
    """
    block = xt.shape[1]
    for d in range(0, xt.shape[0], 4):
        x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
        a0, a1, a2, a3 = mean_a[d], mean_a[d + 1], mean_a[d + 2], mean_a[d + 3]
        b0, b1, b2, b3 = mean_b[d], mean_b[d + 1], mean_b[d + 2], mean_b[d + 3]
        if d == 0:
            for p in range(block):
                s0, s1, s2, s3 = x0[p] - a0, x1[p] - a1, x2[p] - a2, x3[p] - a3
                t0, t1, t2, t3 = x0[p] - b0, x1[p] - b1, x2[p] - b2, x3[p] - b3
                out_a[p] = s0 * s0 + s1 * s1 + s2 * s2 + s3 * s3
                out_b[p] = t0 * t0 + t1 * t1 + t2 * t2 + t3 * t3
        else:
            for p in range(block):
                s0, s1, s2, s3 = x0[p] - a0, x1[p] - a1, x2[p] - a2, x3[p] - a3
                t0, t1, t2, t3 = x0[p] - b0, x1[p] - b1, x2[p] - b2, x3[p] - b3
                out_a[p] += s0 * s0 + s1 * s1 + s2 * s2 + s3 * s3
                out_b[p] += t0 * t0 + t1 * t1 + t2 * t2 + t3 * t3
