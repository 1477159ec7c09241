"""What every covariance type shares, in tiles: loading a block, its responsibilities' sums, and where they count."""

from numba.extending import register_jitable

from .._compile import AS_WRITTEN, jit
from . import simd
from .stripes import COLUMNS, stripe_size
from .transpose import load_tiles


@register_jitable
def padded_features(n_features):
    """Features as the block functions see them: a multiple of four, or two for one or two."""
    return 2 if n_features <= 2 else -(-n_features // 4) * 4


@jit(fastmath=AS_WRITTEN)
def load_block(X, first, count, shift, xt):
    """xt[d, p] = X[first + p, d] - shift[d] in float64, rounded to xt's dtype; zero beyond `count` rows."""
    for p in range(load_tiles(X, first, count, shift, xt), count):
        for d in range(X.shape[1]):
            xt[d, p] = X[first + p, d] - shift[d]
    if count < xt.shape[1]:
        xt[:, count:] = 0


@jit(fastmath=AS_WRITTEN)
def sum_rows(resp, block_sum):
    """block_sum[k] = sum of resp[k]; float64."""
    for k in range(resp.shape[0]):
        s = simd.zeros(resp, 1, COLUMNS)
        for p in range(0, resp.shape[1], stripe_size(resp)):
            s += simd.load(resp, k, p, 1, COLUMNS)
        block_sum[k] = 0
        simd.add_sums(simd.sum_columns(s), block_sum, 0, k)


@jit(fastmath=AS_WRITTEN)
def all_vectors(resp, k, mean_resp, active):
    """`find_active` where finding them would cost more than it saves: write the offsets of all vectors."""
    lanes = simd.LANE_BYTES // resp.itemsize
    count = resp.shape[1] // lanes
    for q in range(count):
        active[q] = q * lanes
    return count


@jit(fastmath=AS_WRITTEN)
def find_active(resp, k, mean_resp, active):
    """Write the offsets of the vectors of resp[k] that count into `active`, and return their number.

    The others lie under 2^-72 (float32: 2^-35) of the component's mean over the rows of the slot so far. All those of
    n rows together hold less than 2^-72 (1 + log n) of its sum, in whatever order rows come: this changes no digit of
    a sum of r |x - mean|^2 unless rows lie 500 (float32: 10) standard deviations out, and then the last ones.
    """
    limit = mean_resp * (2.0**-72 if resp.itemsize == 8 else 2.0**-35)
    count = 0
    for p in range(0, resp.shape[1], simd.LANE_BYTES // resp.itemsize):
        active[count] = p
        count += simd.any_greater(simd.load(resp, k, p, 1, 1), limit)
    return count
