"""The E-step of a block that every covariance type shares, in loops over its points."""

from .._compile import jit
from ..elementary import exp, log_floor


@jit()
def compute_weighted_log_prob(log_const, mahalanobis, weighted_log_prob, peak):
    """weighted_log_prob[k] = log_const[k] - mahalanobis[k] / 2, and the peak of each row over components.

    log_const: (n_components,); mahalanobis, weighted_log_prob: (n_components, block), the second overwritten like
    peak: (block,). What lies under the finite floor (overflowed distances, NaN from inf - inf) becomes the floor.
    """
    floor = log_floor(peak[0])
    half = peak.dtype.type(0.5)
    peak[:] = floor
    for k in range(mahalanobis.shape[0]):
        distance, out = mahalanobis[k], weighted_log_prob[k]
        const = log_const[k]
        for p in range(out.shape[0]):
            value = const - half * distance[p]
            value = value if value > floor else floor
            out[p] = value
            peak[p] = value if value > peak[p] else peak[p]


@jit()
def find_labels(weighted_log_prob, peak, label):
    """label[p] = the first component whose log-probability is peak[p]; floats, all (block,)."""
    label[:] = 0
    for k in range(weighted_log_prob.shape[0] - 1, -1, -1):
        row, number = weighted_log_prob[k], label.dtype.type(k)
        for p in range(label.shape[0]):
            label[p] = number if row[p] >= peak[p] else label[p]


@jit()
def compute_unnormalised_resp_inplace(weighted_log_prob, peak, total):
    """Overwrite log-probabilities by exp(value - peak) and `total` by their sum over components."""
    total[:] = 0
    for k in range(weighted_log_prob.shape[0]):
        row = weighted_log_prob[k]
        for p in range(row.shape[0]):
            value = exp(row[p] - peak[p])
            row[p] = value
            total[p] += value


def make_e_step(name, compute_mahalanobis):
    """Compose the `compute_resp` of a covariance type from its distances."""

    @jit(by_address=True, name=f"portable.{name}.compute_resp")
    def compute_resp(xt, parameters, scratch, mahalanobis, weight, X, following, only_log_prob, resp, peak, total):
        compute_mahalanobis(xt, parameters, scratch, mahalanobis)
        compute_weighted_log_prob(parameters.log_const, mahalanobis, resp, peak)
        if only_log_prob:
            find_labels(resp, peak, total)
        else:
            compute_unnormalised_resp_inplace(resp, peak, total)
            for k in range(resp.shape[0]):
                row = resp[k]
                for p in range(row.shape[0]):
                    row[p] *= weight[p] / total[p]

    return compute_resp
