"""What every covariance type shares, in tiles: loading a block, its E-step and the sums of its responsibilities.

A chunk is COLUMNS vectors of points, which stay in registers and the L1 cache all through the E-step. The components
pass over it twice: distances to log-probabilities and their peak, then exponentials and their sum; a last
multiplication normalises. Skipping the exponentials of chunks that have none to speak of gained nothing (32 separated
components, 16 features): few chunks of 32 points in random order lack a component altogether.
"""

from . import simd
from ._compile import AS_WRITTEN, jit
from .elementary import log_floor
from .exponential import exp
from .transpose import load_tiles

COLUMNS = 4  # vectors of a chunk: enough independent chains of multiply-adds to hide their latency


@jit(inline=True)
def chunk_size(xt):
    """Points of a chunk."""
    return COLUMNS * simd.LANE_BYTES // xt.itemsize


@jit(inline=True)
def no_preparation(xt, p, parameters, scratch):
    """Nothing to compute once per chunk."""


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
        for p in range(0, resp.shape[1], chunk_size(resp)):
            s += simd.load(resp, k, p, 1, COLUMNS)
        block_sum[k] = 0
        simd.add_sums(simd.sum_columns(s), block_sum, 0, k)


@jit(fastmath=AS_WRITTEN)
def all_vectors(resp, k, block_sum, active):
    """`find_active` where finding them would cost more than it saves: write the offsets of all vectors."""
    lanes = simd.LANE_BYTES // resp.itemsize
    count = resp.shape[1] // lanes
    for q in range(count):
        active[q] = q * lanes
    return count


@jit(fastmath=AS_WRITTEN)
def find_active(resp, k, block_sum, active):
    """Write the offsets of the vectors of resp[k] that count into `active`, and return their number.

    The others hold less than 2^-80 (float32: 2^-40) of the component's sum each: 512 of them change no digit of a sum
    of r |x - mean|^2 unless rows lie 500 (float32: 10) standard deviations out, and then the last ones.
    """
    limit = block_sum * (2.0**-80 if resp.itemsize == 8 else 2.0**-40)
    count = 0
    for p in range(0, resp.shape[1], simd.LANE_BYTES // resp.itemsize):
        active[count] = p
        count += simd.any_greater(simd.load(resp, k, p, 1, 1), limit)
    return count


@jit(inline=True)
def find_labels(log_prob, p, peak):
    """The first component whose log-probability is the peak, for the points of a chunk; floats, in the tile's dtype."""
    label = simd.zeros(log_prob, 1, COLUMNS)
    for k in range(log_prob.shape[0] - 1, -1, -1):
        number = simd.zeros(log_prob, 1, COLUMNS) + k
        label = simd.where_greater(peak, simd.load(log_prob, k, p, 1, COLUMNS), label, number)
    return label


def make_e_step(name, prepare_chunk, compute_distances, n_rows):
    """Compose the `compute_resp` of a covariance type.

    compute_distances(xt, p, k, parameters, scratch) returns the squared Mahalanobis distances of the chunk at p to the
    components from k on, as an (n_rows, COLUMNS) tile; prepare_chunk fills scratch once per chunk before.
    """

    @jit(inline=True, name=f"{name}.score_chunk")
    def score_chunk(xt, p, parameters, scratch, mahalanobis, X, following, log_prob):
        """Store the weighted log-probabilities of the chunk (and its distances if they are kept); return the peak."""
        floor = log_floor(parameters.log_const[0])
        prepare_chunk(xt, p, parameters, scratch)
        peak = simd.zeros(xt, 1, COLUMNS) + floor
        row_bytes = X.shape[1] * X.itemsize
        line, end = p * row_bytes, (p + chunk_size(xt)) * row_bytes
        step = chunk_size(xt) * row_bytes * n_rows // log_prob.shape[0] + 64
        for k in range(0, log_prob.shape[0], n_rows):
            stop = min(line + step, end)
            while line < stop:
                simd.prefetch(X, following, line)
                line += 64
            distance = compute_distances(xt, p, k, parameters, scratch)
            if mahalanobis.shape[0] > 0:
                simd.store(distance, mahalanobis, k, p)
            value = simd.multiply_add(distance, -0.5, simd.scalars_along(parameters.log_const, 0, k, n_rows))
            value = simd.where_greater(value, floor, value, floor)
            simd.store(value, log_prob, k, p)
            best = simd.largest_rows(value)
            peak = simd.where_greater(best, peak, best, peak)
        return peak

    @jit(by_address=True, fastmath=AS_WRITTEN, name=f"{name}.compute_resp")
    def compute_resp(xt, parameters, scratch, mahalanobis, weight, X, following, only_log_prob, resp, peak, total):
        """resp[k, p] = weight[p] times the responsibility; total[p] = sum_k exp(log_prob[k, p] - peak[p]).

        log_prob = log weight + log density, not under a finite floor, and peak its maximum over components. With
        `only_log_prob`, resp[k, p] = log_prob[k, p], total[p] is the first component of the peak, and no exponential
        is taken. The rows of X from `following` on, the next block's, are brought into the cache meanwhile: where
        components are few, waiting for them took a quarter of the time (diag, 64 features).
        """
        for p in range(0, xt.shape[1], chunk_size(xt)):
            highest = score_chunk(xt, p, parameters, scratch, mahalanobis, X, following, resp)
            simd.store(highest, peak, 0, p)
            if only_log_prob:
                simd.store(find_labels(resp, p, highest), total, 0, p)
                continue
            s = simd.zeros(xt, 1, COLUMNS)
            for k in range(resp.shape[0]):
                value = exp(simd.load(resp, k, p, 1, COLUMNS) - highest)
                simd.store(value, resp, k, p)
                s += value
            simd.store(s, total, 0, p)
            scale = simd.load(weight, 0, p, 1, COLUMNS) / s
            for k in range(resp.shape[0]):
                simd.store(simd.load(resp, k, p, 1, COLUMNS) * scale, resp, k, p)

    return compute_resp
