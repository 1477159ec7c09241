"""Spherical covariance: one standard deviation per component. Features are padded to a multiple of four."""

from .._compile import jit
from ..distances import compute_two_distances
from .e_step import make_e_step
from .tiles import accumulate_tile


@jit()
def compute_distances(xt, means, spare, out):
    """out[k, p] = sum_d (xt[d, p] - means[k, d])^2; spare: (block,) scratch for the partner of an odd last mean."""
    last = means.shape[0] - 1
    for k in range(0, last, 2):
        compute_two_distances(xt, means[k], means[k + 1], out[k], out[k + 1])
    if last % 2 == 0:
        compute_two_distances(xt, means[last], means[last], out[last], spare)


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
    compute_distances(xt, parameters.means, scratch[0], mahalanobis)
    for k in range(mahalanobis.shape[0]):
        out = mahalanobis[k]
        precision = parameters.factors[k, 0, 0] * parameters.factors[k, 0, 0]
        for p in range(out.shape[0]):
            out[p] *= precision


@jit(by_address=True)
def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
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


KEEPS_DISTANCES = True
compute_resp = make_e_step("spherical", compute_mahalanobis)
