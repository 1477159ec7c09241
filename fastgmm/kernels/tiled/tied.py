"""Tied covariance: one triangular factor shared by all components.

A stripe is whitened once, so that a pair costs what it costs under a spherical covariance. Only first moments are
accumulated: the pooled scatter follows from the scatter of the data about a fixed point, computed once per fit
(model/covariance.py, which also says when that difference is too small to trust).
"""

from .._compile import AS_WRITTEN, jit
from . import simd
from .e_step import make_e_step
from .spherical import make_sum_x, squared_distances
from .stripes import COLUMNS


@jit(inline=True)
def compute_distances(xt, p, k, parameters, scratch):
    """|x U - mean U|^2 of the stripe to components k and k + 1; offsets hold mean U."""
    return squared_distances(scratch[: xt.shape[0]], 0, k, parameters.offsets)


def _by_width(width):
    """Block functions that take features in steps of `width`: four, or two for one and two features."""
    accumulate_sum_x = make_sum_x(width)

    @jit(inline=True, name=f"tied.whiten_stripe_by_{width}")
    def whiten_stripe(xt, p, parameters, white):
        """white[e, :stripe] = sum_{d <= e} factor[d, e] xt[d, p : p + stripe], `width` rows at a time."""
        factor = parameters.factors[0]
        for e in range(0, xt.shape[0], width):
            y = simd.zeros(xt, width, COLUMNS)
            for d in range(e + width):
                y = simd.multiply_add(simd.scalars_along(factor, d, e, width), simd.load(xt, d, p, 1, COLUMNS), y)
            simd.store(y, white, e, 0)

    @jit(by_address=True, fastmath=AS_WRITTEN, name=f"tied.accumulate_block_by_{width}")
    def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
        """Add sum_p r x (about the shift) of every component; sum_outer is left alone."""
        accumulate_sum_x(xt, resp, sum_first)

    return make_e_step(f"tied.by_{width}", whiten_stripe, compute_distances, 2), accumulate_block


KEEPS_DISTANCES = False
compute_resp, accumulate_block = _by_width(4)
narrow_compute_resp, narrow_accumulate_block = _by_width(2)
