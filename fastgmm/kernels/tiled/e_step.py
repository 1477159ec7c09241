"""The E-step of a block that every covariance type shares, in tiles, stripe by stripe.

The components pass over a stripe twice: distances to log-probabilities and their peak, then exponentials and their
sum; a last multiplication normalises. Skipping the exponentials of stripes that have none to speak of gained nothing
(32 separated components, 16 features): few stripes of 32 points in random order lack a component altogether.
"""

from .._compile import AS_WRITTEN, jit
from ..elementary import log_floor
from . import simd
from .exponential import exp
from .stripes import COLUMNS, stripe_size


@jit(inline=True)
def no_preparation(xt, p, parameters, scratch):
    """Nothing to compute once per stripe."""


@jit(inline=True)
def find_labels(log_prob, p, peak):
    """The first component whose log-probability is the peak, for the points of a stripe; in the tile's dtype."""
    label = simd.zeros(log_prob, 1, COLUMNS)
    for k in range(log_prob.shape[0] - 1, -1, -1):
        number = simd.zeros(log_prob, 1, COLUMNS) + k
        label = simd.where_greater(peak, simd.load(log_prob, k, p, 1, COLUMNS), label, number)
    return label


def make_e_step(name, prepare_stripe, compute_distances, n_rows):
    """Compose the `compute_resp` of a covariance type.

    compute_distances(xt, p, k, parameters, scratch) returns the squared Mahalanobis distances of the stripe at p to the
    components from k on, as an (n_rows, COLUMNS) tile; prepare_stripe fills scratch once per stripe before.
    """

    @jit(inline=True, name=f"{name}.score_stripe")
    def score_stripe(xt, p, parameters, scratch, mahalanobis, X, following, log_prob):
        """Store the weighted log-probabilities of the stripe (and its distances if they are kept); return the peak."""
        floor = log_floor(parameters.log_const[0])
        prepare_stripe(xt, p, parameters, scratch)
        peak = simd.zeros(xt, 1, COLUMNS) + floor
        row_bytes = X.shape[1] * X.itemsize
        line, end = p * row_bytes, (p + stripe_size(xt)) * row_bytes
        step = stripe_size(xt) * row_bytes * n_rows // log_prob.shape[0] + 64
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
        for p in range(0, xt.shape[1], stripe_size(xt)):
            highest = score_stripe(xt, p, parameters, scratch, mahalanobis, X, following, resp)
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
