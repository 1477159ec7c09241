"""Full covariance: one triangular factor per component."""

from .._compile import AS_WRITTEN, jit
from . import simd
from .blocks import all_vectors, find_active
from .e_step import make_e_step, no_preparation
from .stripes import COLUMNS


def _by_width(width):
    """Block functions that take features in steps of `width`: tiles of 4 x 4, or 2 x 2 for one and two features."""
    find_vectors = all_vectors if width == 2 else find_active

    @jit(inline=True, name=f"full.compute_distances_by_{width}")
    def compute_distances(xt, p, k, parameters, scratch):
        """|U^T x + offset|^2 of a stripe to component k, with offset = -U^T mean: `width` rows of U^T at a time.

        Adding the offset is as accurate as subtracting the mean first: an error of the order of one rounding of x.
        """
        factor, n_features = parameters.factors[k], xt.shape[0]
        squared_norm = simd.zeros(xt, 1, COLUMNS)
        for e in range(0, n_features, width):
            y = simd.zeros(xt, width, COLUMNS) + simd.scalars_along(parameters.offsets, k, e, width)
            for d in range(e + width):
                y = simd.multiply_add(simd.scalars_along(factor, d, e, width), simd.load(xt, d, p, 1, COLUMNS), y)
            squared_norm = simd.add_squares(squared_norm, y)
        return squared_norm

    @jit(fastmath=AS_WRITTEN, name=f"full.accumulate_moments_by_{width}")
    def accumulate_moments(xt, k, means, resp, active, weighted, sum_first, sum_outer):
        """Add sum_p w[e, p] to sum_first[k, e] and sum_p x[d, p] w[e, p] to sum_outer; w[e, p] = r (x[e, p] - mean[e]).

        Only w is centred: sum_outer minus mean sum_first^T is the centred sum (model/covariance.py), as accurate as
        centring both sides, for a third less time. Below the diagonal only diagonal tiles are filled.
        xt: (n_features, block); resp: (n_components, block); active: the vectors p that count; weighted: (4, block)
        scratch.
        """
        n_features = xt.shape[0]
        lanes = simd.LANE_BYTES // xt.itemsize
        for e in range(0, n_features, width):
            mean = simd.scalars_along(means, k, e, width)
            s = simd.zeros(xt, width, 1)
            for q in range(active.shape[0]):
                p = active[q]
                w = simd.load(resp, k, p, 1, 1) * (simd.load(xt, e, p, width, 1) - mean)
                simd.store(w, weighted, 0, q * lanes)
                s += w
            simd.add_sums(simd.transpose(s), sum_first, k, e)
            for d in range(0, e + width, width):
                outer = simd.zeros(xt, width, width)
                for q in range(active.shape[0]):
                    w = simd.transpose(simd.load(weighted, 0, q * lanes, width, 1))
                    outer = simd.multiply_add(simd.load(xt, d, active[q], width, 1), w, outer)
                simd.add_sums(outer, sum_outer, d, e)

    @jit(by_address=True, fastmath=AS_WRITTEN, name=f"full.accumulate_block_by_{width}")
    def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
        """Add the moments of `accumulate_moments` of every component.

        resp: (n_components, block); mean_resp: (n_components,), see `run_slot`; sum_first: (n_components, n_features);
        sum_outer: (n_components, n_features, n_features).
        """
        for k in range(resp.shape[0]):
            if mean_resp[k] > 0:
                vectors = active[: find_vectors(resp, k, mean_resp[k], active)]
                accumulate_moments(xt, k, parameters.means, resp, vectors, scratch, sum_first, sum_outer[k])

    return make_e_step(f"full.by_{width}", no_preparation, compute_distances, 1), accumulate_block


KEEPS_DISTANCES = False
compute_resp, accumulate_block = _by_width(4)
narrow_compute_resp, narrow_accumulate_block = _by_width(2)
