"""A pass of EM for a mixture of linear regressions: residuals, responsibilities, second moments of a slot's rows."""

import math

from numba.extending import register_jitable

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
    n_components, n_outputs, _ = coefficients.shape
    v = array_at(workspace, 0, (n_columns + 1, ROWS), rows)
    share = array_at(workspace, 8 * ROWS * (n_columns + 1), (n_components, ROWS), rows)
    residual = array_at(workspace, 8 * ROWS * (n_columns + 1 + n_components), (n_outputs, ROWS), rows)
    spare = array_at(workspace, 8 * ROWS * (n_columns + 1 + n_components + n_outputs), (4, ROWS), rows)
    peak, total, weight, gate_total = spare[0], spare[1], spare[2], spare[3]
    lower, upper = slot_bounds(-(-n_rows // ROWS), n_slots, slot)
    for first in range(lower * ROWS, min(upper * ROWS, n_rows), ROWS):
        count = min(ROWS, n_rows - first)
        load_rows(rows, sample_weight, first, count, shift, v, weight)
        for k in range(n_components):
            score_rows(v, coefficients[k], factors[k], log_norm[k], residual, share[k])
            for p in range(ROWS):
                share[k, p] += 0.0 if depends else gates[k, 0]
        if depends:
            gate_rows(v, gates, share, peak, total, gate_total)
        if labels.shape[0] > 0:
            keep_known(labels, first, count, share)
        exponentiate(share, peak, total)
        for p in range(ROWS):
            peak[p] += log(total[p])
        for p in range(count):
            log_likelihood[slot] += weight[p] * peak[p]
        if log_density.shape[0] > 0:
            for p in range(count):
                log_density[first + p] = peak[p]
        for p in range(ROWS):
            total[p] = 1.0 / total[p]
        if resp.shape[0] > 0:
            for k in range(n_components):
                for p in range(count):
                    resp[first + p, k] = share[k, p] * total[p]
        if moments.shape[1] == 0:
            continue
        for p in range(ROWS):
            total[p] *= weight[p]
        if hard:
            harden(share, total, weight)
        for k in range(n_components):
            for p in range(ROWS):
                share[k, p] *= total[p]
            add_moments(v, share[k], peak, moments[slot, k])
        if depends:
            add_gates(v, gates, share, weight, peak, gate_total, gate_sums[slot])


@register_jitable
def load_rows(rows, sample_weight, first, count, shift, v, weight):
    """V = (1, row - shift) of the rows from `first` on, points as the vector lane, and their weights; 0 beyond them."""
    for p in range(ROWS):
        v[0, p] = 1.0
        weight[p] = 1.0 if p < count else 0.0
    if sample_weight.shape[0] > 0:
        for p in range(count):
            weight[p] = sample_weight[first + p]
    for d in range(rows.shape[1]):
        centre, out = shift[d], v[1 + d]
        for p in range(count):
            out[p] = rows[first + p, d] - centre
        for p in range(count, ROWS):
            out[p] = 0.0


@jit(fastmath=FASTMATH)
def score_rows(v, coefficients, factor, log_norm, residual, out):
    """out[p] = log N(y; B (1, x), S); residual (n_outputs, ROWS) is overwritten.

    Four inputs at a time: a pass over the rows for each took a third longer.
    """
    n_outputs, n_inputs = coefficients.shape
    for e in range(n_outputs):
        r, y, b = residual[e], v[n_inputs + e], coefficients[e]
        start = b[0]
        for p in range(ROWS):
            r[p] = y[p] - start
        d = 1
        while d + 4 <= n_inputs:
            b0, b1, b2, b3 = b[d], b[d + 1], b[d + 2], b[d + 3]
            x0, x1, x2, x3 = v[d], v[d + 1], v[d + 2], v[d + 3]
            for p in range(ROWS):
                r[p] -= b0 * x0[p] + b1 * x1[p] + b2 * x2[p] + b3 * x3[p]
            d += 4
        if d + 2 <= n_inputs:
            b0, b1, x0, x1 = b[d], b[d + 1], v[d], v[d + 1]
            for p in range(ROWS):
                r[p] -= b0 * x0[p] + b1 * x1[p]
            d += 2
        if d < n_inputs:
            b0, x0 = b[d], v[d]
            for p in range(ROWS):
                r[p] -= b0 * x0[p]
    r, scale = residual[0], factor[0, 0]
    for p in range(ROWS):
        s = scale * r[p]
        out[p] = log_norm - 0.5 * s * s
    for e in range(1, n_outputs):
        for p in range(ROWS):
            s = 0.0
            for d in range(e + 1):
                s += factor[d, e] * residual[d, p]
            out[p] -= 0.5 * s * s


@register_jitable
def keep_known(labels, first, count, share):
    """Share = -inf for all components but the known one of a row."""
    for p in range(count):
        known = labels[first + p]
        for k in range(share.shape[0]):
            if known >= 0 and k != known:
                share[k, p] = -math.inf


@jit(fastmath=FASTMATH)
def exponentiate(share, peak, total):
    """Peak = the largest of share's log-probabilities, share = exp(share - peak), total = their sum."""
    for p in range(ROWS):
        peak[p] = -1e300
        total[p] = 0.0
    for k in range(share.shape[0]):
        values = share[k]
        for p in range(ROWS):
            peak[p] = values[p] if values[p] > peak[p] else peak[p]
    for k in range(share.shape[0]):
        values = share[k]
        for p in range(ROWS):
            value = exp(values[p] - peak[p])
            values[p] = value
            total[p] += value


@jit(fastmath=FASTMATH)
def add_moments(v, resp, spare, sums):
    """sums[a, b] += sum_p resp[p] v[a, p] v[b, p] for b <= a; v[0] is 1."""
    s = 0.0
    for p in range(ROWS):
        s += resp[p]
    sums[0, 0] += s
    for a in range(1, v.shape[0]):
        left = v[a]
        s = 0.0
        for p in range(ROWS):
            spare[p] = resp[p] * left[p]
            s += spare[p]
        sums[a, 0] += s
        b = 1
        while b + 3 <= a + 1:
            x, y, z = v[b], v[b + 1], v[b + 2]
            s, t, u = 0.0, 0.0, 0.0
            for p in range(ROWS):
                s += spare[p] * x[p]
                t += spare[p] * y[p]
                u += spare[p] * z[p]
            sums[a, b] += s
            sums[a, b + 1] += t
            sums[a, b + 2] += u
            b += 3
        while b <= a:
            x, s = v[b], 0.0
            for p in range(ROWS):
                s += spare[p] * x[p]
            sums[a, b] += s
            b += 1


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
