"""Spherical covariance: one standard deviation per component."""

from .._compile import AS_WRITTEN, jit
from . import simd
from .e_step import make_e_step, no_preparation
from .stripes import COLUMNS


@jit(inline=True)
def squared_distances(xt, p, k, means):
    """|x - mean|^2 of the points of a stripe to the means k and k + 1, which share the loads of xt."""
    distance = simd.zeros(xt, 2, COLUMNS)
    for d in range(xt.shape[0]):
        diff = simd.load(xt, d, p, 1, COLUMNS) - simd.scalars_down(means, k, d, 2)
        distance = simd.multiply_add(diff, diff, distance)
    return distance


@jit(inline=True)
def compute_distances(xt, p, k, parameters, scratch):
    """Squared distances of a stripe to components k and k + 1, each in units of its own standard deviation."""
    inverse = simd.scalars_down(parameters.factors[:, 0], k, 0, 2)
    return squared_distances(xt, p, k, parameters.means) * (inverse * inverse)


def make_sum_x(width):
    """`accumulate_sum_x` that takes features in steps of `width`: four, or two for one and two features."""

    @jit(fastmath=AS_WRITTEN, name=f"spherical.accumulate_sum_x_by_{width}")
    def accumulate_sum_x(xt, resp, sum_x):
        """sum_x[k, d] += sum_p resp[k, p] xt[d, p], in tiles of four (last two) components by `width` features."""
        n_components, block = resp.shape
        lanes = simd.LANE_BYTES // xt.itemsize
        whole = n_components // 4 * 4
        for d in range(0, xt.shape[0], width):
            for k in range(0, whole, 4):
                product = simd.zeros(xt, 4, width)
                for p in range(0, block, lanes):
                    x = simd.transpose(simd.load(xt, d, p, width, 1))
                    product = simd.multiply_add(simd.load(resp, k, p, 4, 1), x, product)
                simd.add_sums(product, sum_x, k, d)
            if whole < n_components:
                rest = simd.zeros(xt, 2, width)
                for p in range(0, block, lanes):
                    x = simd.transpose(simd.load(xt, d, p, width, 1))
                    rest = simd.multiply_add(simd.load(resp, whole, p, 2, 1), x, rest)
                simd.add_sums(rest, sum_x, whole, d)

    return accumulate_sum_x


def _by_width(width):
    accumulate_sum_x = make_sum_x(width)

    @jit(by_address=True, name=f"spherical.accumulate_block_by_{width}")
    def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
        """Add sum_p r x (about the shift) and sum_p r |x - mean|^2 of every component.

        resp, mahalanobis: (n_components, block); sum_first: (n_components, n_features); sum_outer: (n_components, 1,
        1).
        """
        accumulate_sum_x(xt, resp, sum_first)
        zero = xt.dtype.type(0)
        for k in range(resp.shape[0]):
            if mean_resp[k] > 0:
                r, distance = resp[k], mahalanobis[k]
                s = zero
                for p in range(r.shape[0]):
                    s += r[p] * distance[p] if r[p] > 0 else zero  # 0 times an overflowed distance is NaN
                sum_outer[k, 0, 0] += s / (parameters.factors[k, 0, 0] * parameters.factors[k, 0, 0])

    return accumulate_block


KEEPS_DISTANCES = True
compute_resp = make_e_step("spherical", no_preparation, compute_distances, 2)
accumulate_block, narrow_accumulate_block = _by_width(4), _by_width(2)
