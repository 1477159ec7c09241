"""Diagonal covariance: one standard deviation per component and feature."""

from .._compile import AS_WRITTEN, jit
from . import simd
from .blocks import all_vectors, find_active
from .e_step import make_e_step, no_preparation
from .stripes import COLUMNS


@jit(inline=True)
def compute_distances(xt, p, k, parameters, scratch):
    """sum_d (offset[d] + factor[d] x[d])^2 of a stripe to components k and k + 1: factor 1/sd, offset -mean/sd.

    The multiply-add is as accurate as subtracting the mean first: one rounding of the data.
    """
    factors, offsets = parameters.factors[:, 0], parameters.offsets
    distance = simd.zeros(xt, 2, COLUMNS)
    for d in range(xt.shape[0]):
        x = simd.load(xt, d, p, 1, COLUMNS)
        white = simd.multiply_add(simd.scalars_down(factors, k, d, 2), x, simd.scalars_down(offsets, k, d, 2))
        distance = simd.multiply_add(white, white, distance)
    return distance


def _by_width(width):
    """Sums that take features in steps of `width`: four, or two for one and two features."""
    find_vectors = all_vectors if width == 2 else find_active

    @jit(inline=True, name=f"diag.accumulate_moments_by_{width}")
    def accumulate_moments(xt, k, d, resp, active, means, sum_first, sum_second):
        """Add sum_p r (x - mean) and sum_p r (x - mean)^2 of component k, features d to d + width; p in `active`."""
        mean = simd.scalars_along(means, k, d, width)
        first = second = simd.zeros(xt, width, 1)
        for q in range(active.shape[0]):
            p = active[q]
            diff = simd.load(xt, d, p, width, 1) - mean
            weighted = simd.load(resp, k, p, 1, 1) * diff
            first += weighted
            second = simd.multiply_add(weighted, diff, second)
        simd.add_sums(simd.transpose(first), sum_first, k, d)
        simd.add_sums(simd.transpose(second), sum_second, k, d)

    @jit(by_address=True, fastmath=AS_WRITTEN, name=f"diag.accumulate_block_by_{width}")
    def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
        """Add the moments of `accumulate_moments` of every component.

        resp: (n_components, block); mean_resp: (n_components,), see `run_slot`; sum_first: (n_components, n_features);
        sum_outer: (n_components, 1, n_features).
        """
        means, sum_second = parameters.means, sum_outer[:, 0]
        for k in range(resp.shape[0]):
            if mean_resp[k] > 0:
                vectors = active[: find_vectors(resp, k, mean_resp[k], active)]
                for d in range(0, xt.shape[0], width):
                    accumulate_moments(xt, k, d, resp, vectors, means, sum_first, sum_second)

    return accumulate_block


KEEPS_DISTANCES = False
compute_resp = make_e_step("diag", no_preparation, compute_distances, 2)
accumulate_block, narrow_accumulate_block = _by_width(4), _by_width(2)
