"""A pass of EM for a mixture of linear regressions: residuals, responsibilities, second moments of a slot's rows."""

import math

from ._compile import FASTMATH, jit
from .calls import array_at
from .elementary import exp, log
from .parallel import slot_bounds

ROWS = 128  # rows that lie side by side as the vector lane
SLOTS = 32


def pass_bytes(n_columns, n_components, n_outputs):
    """Bytes that `regress_slot` works with."""
    return 8 * ROWS * (n_columns + 1 + n_components + n_outputs + 4)


@jit(by_address=True, fastmath=FASTMATH)
def regress_slot(arguments, slot, workspace):
    """Add a slot's rows to moments, sum_p r v v^T with v = (1, x - shift, y - shift), and to the totals.

    log r = gate + log N(y; B (1, x), S) but for a constant. arguments[0]: rows (n_rows, n_columns), features before
    targets; sample_weight (n_rows,) or empty; labels (n_rows,), -1 where the component is not known, or empty; (shift
    (n_columns,), coefficients (n_components, n_outputs, 1 + n_features) of shifted rows, factors (n_components,
    n_outputs, n_outputs), U U^T = S^-1, log_norm (n_components,), gates (n_components, 1 + n_features), log-linear);
    whether gates depend on x; hard, whether a row counts for its best component alone; (log_likelihood (n_slots,),
    moments (n_slots, n_components, 1 + n_columns, 1 + n_columns), gate_sums (n_slots, n_components, 1 + n_features),
    sum of (r - gate) (1, x)), added to; (resp (n_rows, n_components), log_density (n_rows,)), written or empty;
    n_slots.
    """
    rows, sample_weight, labels, parameters, depends, hard, sums_of_slots, outputs, n_slots = arguments[0]
    shift, coefficients, factors, log_norm, gates = parameters
    (log_likelihood, moments, gate_sums), (resp, log_density) = sums_of_slots, outputs
    n_rows, n_columns = rows.shape
    n_components, n_outputs, n_inputs = coefficients.shape
    v = array_at(workspace, 0, (n_columns + 1, ROWS), rows)
    share = array_at(workspace, 8 * ROWS * (n_columns + 1), (n_components, ROWS), rows)
    residual = array_at(workspace, 8 * ROWS * (n_columns + 1 + n_components), (n_outputs, ROWS), rows)
    spare = array_at(workspace, 8 * ROWS * (n_columns + 1 + n_components + n_outputs), (4, ROWS), rows)
    peak, total, weight, gate_total = spare[0], spare[1], spare[2], spare[3]
    lower, upper = slot_bounds(-(-n_rows // ROWS), n_slots, slot)
    for first in range(lower * ROWS, min(upper * ROWS, n_rows), ROWS):
        count = min(ROWS, n_rows - first)
        for p in range(ROWS):
            v[0, p] = 1.0
            weight[p] = 0.0
            peak[p] = -math.inf
            total[p] = gate_total[p] = 0.0
        for p in range(count):
            weight[p] = sample_weight[first + p] if sample_weight.shape[0] > 0 else 1.0
        for d in range(n_columns):
            for p in range(ROWS):
                v[1 + d, p] = rows[first + p, d] - shift[d] if p < count else 0.0
        for k in range(n_components):
            out = share[k]
            for p in range(ROWS):
                out[p] = 0.0
            for e in range(n_outputs):
                r, b, y = residual[e], coefficients[k, e], v[n_inputs + e]
                for p in range(ROWS):
                    r[p] = y[p]
                for d in range(n_inputs):
                    x, slope = v[d], b[d]
                    for p in range(ROWS):
                        r[p] -= slope * x[p]
            for e in range(n_outputs):
                for p in range(ROWS):
                    s = 0.0
                    for d in range(e + 1):
                        s += factors[k, d, e] * residual[d, p]
                    out[p] -= 0.5 * s * s
            for p in range(ROWS):
                out[p] += log_norm[k]
            if not depends:
                for p in range(ROWS):
                    out[p] += gates[k, 0]
        if depends:
            gate_rows(v, gates, share, peak, total, gate_total)
        if labels.shape[0] > 0:
            for p in range(count):
                known = labels[first + p]
                for k in range(n_components):
                    if known >= 0 and k != known:
                        share[k, p] = -math.inf
        for p in range(ROWS):
            peak[p] = -math.inf
            total[p] = 0.0
        for k in range(n_components):
            for p in range(ROWS):
                peak[p] = max(peak[p], share[k, p])
        for p in range(ROWS):
            if not peak[p] > -1e300:
                peak[p] = -1e300
        for k in range(n_components):
            out = share[k]
            for p in range(ROWS):
                out[p] = exp(out[p] - peak[p])
                total[p] += out[p]
        s = 0.0
        for p in range(count):
            value = peak[p] + log(total[p])
            s += weight[p] * value
            if log_density.shape[0] > 0:
                log_density[first + p] = value
        log_likelihood[slot] += s
        for p in range(ROWS):
            total[p] = weight[p] / total[p]
        if hard:
            harden(share, total, weight)
        if resp.shape[0] > 0:
            for p in range(count):
                for k in range(n_components):
                    resp[first + p, k] = share[k, p] * total[p] / weight[p] if weight[p] > 0 else 0.0
        if moments.shape[1] == 0:
            continue
        for k in range(n_components):
            r, sums = share[k], moments[slot, k]
            for p in range(ROWS):
                r[p] *= total[p]
            for a in range(n_columns + 1):
                left = v[a]
                for p in range(ROWS):
                    peak[p] = r[p] * left[p]
                for b in range(a + 1):
                    right, s = v[b], 0.0
                    for p in range(ROWS):
                        s += peak[p] * right[p]
                    sums[a, b] += s
        if depends:
            add_gates(v, gates, share, weight, peak, gate_total, gate_sums[slot])


@jit(fastmath=FASTMATH)
def gate_rows(v, gates, share, peak, total, gate_total):
    """Add log-probabilities of a softmax gate to share; gate_total = log of the sum of exponentials."""
    n_components, n_rows = share.shape
    for p in range(n_rows):
        peak[p] = -math.inf
        total[p] = 0.0
    for k in range(n_components):
        for p in range(n_rows):
            s = 0.0
            for d in range(gates.shape[1]):
                s += gates[k, d] * v[d, p]
            peak[p] = max(peak[p], s)
    for k in range(n_components):
        for p in range(n_rows):
            s = 0.0
            for d in range(gates.shape[1]):
                s += gates[k, d] * v[d, p]
            share[k, p] += s
            total[p] += exp(s - peak[p])
    for p in range(n_rows):
        gate_total[p] = peak[p] + log(total[p])
    for k in range(n_components):
        for p in range(n_rows):
            share[k, p] -= gate_total[p]


@jit(fastmath=FASTMATH)
def add_gates(v, gates, share, weight, spare, gate_total, sums):
    """sums[k, d] += sum_p (share - weight gate) v[d], the gradient of a softmax gate."""
    n_components, n_rows = share.shape
    for k in range(n_components):
        for p in range(n_rows):
            s = 0.0
            for d in range(gates.shape[1]):
                s += gates[k, d] * v[d, p]
            spare[p] = share[k, p] - weight[p] * exp(s - gate_total[p])
        for d in range(gates.shape[1]):
            s = 0.0
            for p in range(n_rows):
                s += spare[p] * v[d, p]
            sums[k, d] += s


@jit()
def harden(share, total, weight):
    """Share = 1 for the component of the largest share, else 0; total = weight."""
    n_components, n_rows = share.shape
    for p in range(n_rows):
        best = 0
        for k in range(1, n_components):
            if share[k, p] > share[best, p]:
                best = k
        for k in range(n_components):
            share[k, p] = 1.0 if k == best else 0.0
        total[p] = weight[p]
