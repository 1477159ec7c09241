"""The wanted columns of a mixture given others, row by row: moments, quantiles, modes, densities and draws.

What a slot (parallel.py) finds as arguments begins alike: X (n_rows, n_given), the given columns less a common shift;
probabilities (n_rows, n_components) of the components given them, or their logarithms; intercepts (n_components,
n_wanted) and slopes (n_components, one or none, n_wanted, n_given): component k expects intercepts[k] + slopes[k] X[i]
of the wanted columns. All float64.
"""

import math

from numba.extending import register_jitable

from ._compile import EXACT, jit
from .calls import array_at
from .parallel import slot_bounds

ROWS = 64  # rows that lie side by side as the vector lane
SLOTS = 64
SQRT_2, LOG_2_PI = math.sqrt(2.0), math.log(2.0 * math.pi)
NEGLIGIBLE = 1e-14  # probability of a component from whose mean no mode is looked for
MOST_STEPS = 200


def moments_bytes(n_given, n_components, n_wanted):
    """Bytes that `moments_slot` works with."""
    return 8 * ROWS * (n_given + n_components + 2 * n_wanted)


def mode_bytes(n_components, n_wanted):
    """Bytes that `mode_slot` works with."""
    return 8 * (n_components * (n_wanted + 2) + n_wanted * (2 * n_wanted + 6))


def row_bytes(n_components, n_wanted):
    """Bytes that the other slots work with."""
    return 8 * n_components * (n_wanted + 2)


@register_jitable
def copy_into(out, values):
    """Out = values; a slice assignment would look for overlaps, with memory of its own."""
    for w in range(out.shape[0]):
        out[w] = values[w]


@register_jitable
def expect(x, k, intercepts, slopes, out):
    """Out (n_wanted,) = what component k expects for the given values x (n_given,)."""
    for w in range(out.shape[0]):
        out[w] = intercepts[k, w]
    if slopes.shape[0] > 0:
        slope = slopes[min(k, slopes.shape[0] - 1)]
        for w in range(out.shape[0]):
            s = 0.0
            for d in range(x.shape[0]):
                s += slope[w, d] * x[d]
            out[w] += s


@register_jitable
def expect_rows(xt, k, w, intercepts, slopes, out):
    """Out (ROWS,) = what component k expects of wanted column w, for xt (n_given, ROWS)."""
    start = intercepts[k, w]
    for p in range(ROWS):
        out[p] = start
    if slopes.shape[0] > 0:
        slope = slopes[min(k, slopes.shape[0] - 1), w]
        for d in range(xt.shape[0]):
            a, x = slope[d], xt[d]
            for p in range(ROWS):
                out[p] += a * x[p]


@jit(by_address=True, fastmath=EXACT)
def moments_slot(arguments, slot, workspace):
    """mean[i] = sum_k r m_k; variance[i] = sum_k r (v_k + (m_k - mean)^2); covariance likewise, (n_rows, w, w).

    arguments[0]: X, probabilities, intercepts, slopes, left (n_components or one, w, w), the components' covariances;
    mean (n_rows, w), variance (n_rows, w) or empty and covariance (n_rows, w, w) or empty, overwritten; n_slots.
    """
    X, resp, intercepts, slopes, left, mean, variance, covariance, n_slots = arguments[0]
    (n_rows, n_given), n_components, n_wanted = X.shape, resp.shape[1], intercepts.shape[1]
    xt = array_at(workspace, 0, (n_given, ROWS), mean)
    rt = array_at(workspace, 8 * ROWS * n_given, (n_components, ROWS), mean)
    expected = array_at(workspace, 8 * ROWS * (n_given + n_components), (n_wanted, ROWS), mean)
    centre = array_at(workspace, 8 * ROWS * (n_given + n_components + n_wanted), (n_wanted, ROWS), mean)
    lower, upper = slot_bounds(-(-n_rows // ROWS), n_slots, slot)
    for first in range(lower * ROWS, min(upper * ROWS, n_rows), ROWS):
        count = min(ROWS, n_rows - first)
        for d in range(n_given):
            for p in range(ROWS):
                xt[d, p] = X[first + p, d] if p < count else 0.0
        for k in range(n_components):
            for p in range(ROWS):
                rt[k, p] = resp[first + p, k] if p < count else 0.0
        centre[:] = 0.0
        for k in range(n_components):
            r = rt[k]
            for w in range(n_wanted):
                expect_rows(xt, k, w, intercepts, slopes, expected[w])
                m, c = expected[w], centre[w]
                for p in range(ROWS):
                    c[p] += r[p] * m[p]
        for p in range(count):
            for w in range(n_wanted):
                mean[first + p, w] = centre[w, p]
        if variance.shape[0] + covariance.shape[0] == 0:
            continue
        for k in range(n_components):
            r, own = rt[k], left[min(k, left.shape[0] - 1)]
            for w in range(n_wanted):
                expect_rows(xt, k, w, intercepts, slopes, expected[w])
                m, c = expected[w], centre[w]
                for p in range(ROWS):
                    m[p] -= c[p]
            for w in range(n_wanted):
                a = expected[w]
                if variance.shape[0] > 0:
                    for p in range(count):
                        before = variance[first + p, w] if k > 0 else 0.0
                        variance[first + p, w] = before + r[p] * (own[w, w] + a[p] * a[p])
                if covariance.shape[0] > 0:
                    for v in range(w + 1):
                        b = expected[v]
                        for p in range(count):
                            before = covariance[first + p, w, v] if k > 0 else 0.0
                            covariance[first + p, w, v] = before + r[p] * (own[w, v] + a[p] * b[p])
                            covariance[first + p, v, w] = covariance[first + p, w, v]


@register_jitable
def tail_of(x, is_upper, resp, mean, deviation):
    """Probability of the tail that begins at x, and the density there, of a mixture in one dimension."""
    sign = 1.0 if is_upper else -1.0
    mass, density = 0.0, 0.0
    for k in range(resp.shape[0]):
        if resp[k] > 0.0:
            z = (x - mean[k]) / deviation[k]
            mass += resp[k] * 0.5 * math.erfc(sign * z / SQRT_2)
            density += resp[k] * math.exp(-0.5 * z * z - 0.5 * LOG_2_PI) / deviation[k]
    return mass, density


@register_jitable
def find_quantile(probability, normal, resp, mean, deviation):
    """Where the cumulative distribution of a mixture in one dimension is `probability`; normal: that of N(0, 1).

    It lies between the least and the greatest of the components' own. Newton's method on the logarithm of the smaller
    tail, kept within what is known to hold it: extreme probabilities keep their digits.
    """
    is_upper = probability > 0.5
    low, high, total, x = math.inf, -math.inf, 0.0, 0.0
    for k in range(resp.shape[0]):
        if resp[k] > 0.0:
            own = mean[k] + deviation[k] * normal
            low, high = min(low, own), max(high, own)
            total += resp[k]
            x += resp[k] * own
    if not low < high or math.isinf(normal):
        return low
    x /= total
    goal = math.log(((1.0 - probability) if is_upper else probability) * total)
    for _ in range(MOST_STEPS):
        mass, density = tail_of(x, is_upper, resp, mean, deviation)
        log_mass = math.log(mass) if mass > 0.0 else -math.inf
        too_high = log_mass > goal if not is_upper else log_mass < goal
        if too_high:
            high = x
        else:
            low = x
        following = 0.5 * (low + high)
        if mass > 0.0 and density > 0.0:
            step = (log_mass - goal) * mass / density
            newton = x + step if is_upper else x - step
            if abs(newton - x) <= 4e-16 * abs(x):
                return newton
            if low < newton < high:
                following = newton
        if following == x or not low < following < high:
            return following
        x = following
    return x


@jit(by_address=True)
def quantile_slot(arguments, slot, workspace):
    """out[i, w, q] = quantile of probability q of wanted column w.

    arguments[0]: X, probabilities, intercepts, slopes, deviations (n_components, w); probabilities (n_q,) asked for and
    those of N(0, 1) at them; out (n_rows, w, n_q), overwritten; n_slots.
    """
    X, resp, intercepts, slopes, deviations, asked, normal, out, n_slots = arguments[0]
    n_components, n_wanted = intercepts.shape
    expected = array_at(workspace, 0, (n_components, n_wanted), intercepts)
    mean = array_at(workspace, 8 * n_components * n_wanted, (n_components,), deviations)
    deviation = array_at(workspace, 8 * n_components * (n_wanted + 1), (n_components,), deviations)
    lower, upper = slot_bounds(X.shape[0], n_slots, slot)
    for i in range(lower, upper):
        for k in range(n_components):
            expect(X[i], k, intercepts, slopes, expected[k])
        for w in range(n_wanted):
            for k in range(n_components):
                mean[k], deviation[k] = expected[k, w], deviations[k, w]
            for q in range(asked.shape[0]):
                out[i, w, q] = find_quantile(asked[q], normal[q], resp[i], mean, deviation)


@jit(by_address=True)
def log_density_slot(arguments, slot, workspace):
    """out[i] = log sum_k exp(log_resp + log N(Y[i]; m_k, C_k)), in nats.

    arguments[0]: X, log-probabilities, intercepts, slopes, factors (n_components or one, w, w), upper triangular with
    U U^T = inverse of C_k; log_norm (n_components,), log-density of the component at its mean; Y (n_rows, w); out
    (n_rows,), overwritten; n_slots.
    """
    X, log_resp, intercepts, slopes, factors, log_norm, Y, out, n_slots = arguments[0]
    n_components, n_wanted = intercepts.shape
    diff = array_at(workspace, 0, (n_wanted,), log_norm)
    value = array_at(workspace, 8 * n_wanted, (n_components,), log_norm)
    lower, upper = slot_bounds(X.shape[0], n_slots, slot)
    for i in range(lower, upper):
        peak = -math.inf
        for k in range(n_components):
            expect(X[i], k, intercepts, slopes, diff)
            for w in range(n_wanted):
                diff[w] = Y[i, w] - diff[w]
            factor, distance = factors[min(k, factors.shape[0] - 1)], 0.0
            for e in range(n_wanted):
                s = 0.0
                for d in range(e + 1):
                    s += factor[d, e] * diff[d]
                distance += s * s
            value[k] = log_resp[i, k] + log_norm[k] - 0.5 * distance
            peak = max(peak, value[k])
        total = 0.0
        for k in range(n_components):
            total += math.exp(value[k] - peak) if peak > -math.inf else 0.0
        out[i] = peak + math.log(total) if total > 0.0 else -math.inf


@jit(by_address=True)
def draw_slot(arguments, slot, workspace):
    """out[j] = a draw of the wanted columns for row j // repeats, m_k + L_k z, of a component drawn by probability.

    arguments[0]: X, probabilities, intercepts, slopes, lower (n_components or one, w, w), L L^T = C_k; numbers, uniform
    (n_draws,) and normal (n_draws, w); repeats; out (n_draws, w), overwritten; n_slots.
    """
    X, resp, intercepts, slopes, factors, uniform, normal, repeats, out, n_slots = arguments[0]
    n_wanted = intercepts.shape[1]
    lower, upper = slot_bounds(out.shape[0], n_slots, slot)
    for j in range(lower, upper):
        i = j // repeats
        total = 0.0
        for k in range(resp.shape[1]):
            total += resp[i, k]
        left, chosen = uniform[j] * total, 0
        for k in range(resp.shape[1]):
            if resp[i, k] > 0.0:
                chosen = k
                left -= resp[i, k]
                if left < 0.0:
                    break
        expect(X[i], chosen, intercepts, slopes, out[j])
        factor = factors[min(chosen, factors.shape[0] - 1)]
        for w in range(n_wanted):
            s = 0.0
            for v in range(w + 1):
                s += factor[w, v] * normal[j, v]
            out[j, w] += s


@register_jitable
def log_density_at(x, expected, constant, precisions, share):
    """Log-density of a mixture at x; share (n_components,) = the components' posterior probabilities there."""
    peak = -math.inf
    for k in range(share.shape[0]):
        precision, distance = precisions[min(k, precisions.shape[0] - 1)], 0.0
        for d in range(x.shape[0]):
            s = 0.0
            for e in range(x.shape[0]):
                s += precision[d, e] * (x[e] - expected[k, e])
            distance += s * (x[d] - expected[k, d])
        share[k] = constant[k] - 0.5 * distance
        peak = max(peak, share[k])
    total = 0.0
    for k in range(share.shape[0]):
        share[k] = math.exp(share[k] - peak)
        total += share[k]
    for k in range(share.shape[0]):
        share[k] /= total
    return peak + math.log(total)


@register_jitable
def solve_inplace(matrix, vector):
    """Overwrite vector by matrix^-1 vector for a positive definite matrix, itself overwritten; False if it is not."""
    n = vector.shape[0]
    for i in range(n):
        for j in range(i + 1):
            s = matrix[i, j]
            for e in range(j):
                s -= matrix[i, e] * matrix[j, e]
            if i > j:
                matrix[i, j] = s / matrix[j, j]
            elif s > 0.0:
                matrix[i, i] = math.sqrt(s)
            else:
                return False
    for i in range(n):
        for e in range(i):
            vector[i] -= matrix[i, e] * vector[e]
        vector[i] /= matrix[i, i]
    for i in range(n - 1, -1, -1):
        for e in range(i + 1, n):
            vector[i] -= matrix[e, i] * vector[e]
        vector[i] /= matrix[i, i]
    return True


@register_jitable
def pull(x, expected, precisions, share, gradient, pulled, matrix, curved):
    """Fill the gradient of the log-density at x and the matrix of a step, sum r P, or if `curved` minus the Hessian."""
    n = x.shape[0]
    gradient[:] = 0.0
    matrix[:] = 0.0
    for k in range(share.shape[0]):
        if share[k] > 0.0:
            precision = precisions[min(k, precisions.shape[0] - 1)]
            for d in range(n):
                s = 0.0
                for e in range(n):
                    s += precision[d, e] * (expected[k, e] - x[e])
                pulled[d] = s
            for d in range(n):
                gradient[d] += share[k] * pulled[d]
                for e in range(d + 1):
                    matrix[d, e] += share[k] * precision[d, e]
                    if curved:
                        matrix[d, e] -= share[k] * pulled[d] * pulled[e]
    if curved:
        for d in range(n):
            for e in range(d + 1):
                matrix[d, e] += gradient[d] * gradient[e]


@register_jitable
def climb(x, expected, constant, precisions, share, spare, matrix):
    """Move x uphill to a mode of a mixture; return the log-density there.

    Newton's step where minus the Hessian is positive definite and the density rises, else that of EM, the fixed point
    (sum r P)^-1 sum r P m, under which it never falls (Carreira-Perpinan, 2000).
    """
    gradient, step, pulled, trial = spare[0], spare[1], spare[2], spare[3]
    value = log_density_at(x, expected, constant, precisions, share)
    for _ in range(MOST_STEPS):
        moved = False
        for curved in (True, False):
            log_density_at(x, expected, constant, precisions, share)
            pull(x, expected, precisions, share, gradient, pulled, matrix, curved)
            copy_into(step, gradient)
            if not solve_inplace(matrix, step):
                continue
            gain = 0.0
            for d in range(x.shape[0]):
                gain += step[d] * gradient[d]
                trial[d] = x[d] + step[d]
            if gain < 1e-26:  # a step of 1e-13 standard deviations
                return value
            reached = log_density_at(trial, expected, constant, precisions, share)
            if reached > value:
                copy_into(x, trial)
                value, moved = reached, True
                break
        if not moved:
            return value
    return value


@jit(by_address=True)
def mode_slot(arguments, slot, workspace):
    """out[i] = where the density of the wanted columns is highest, of all modes reached from the components' means.

    arguments[0]: X, log-probabilities, intercepts, slopes, precisions (n_components or one, w, w), log_norm
    (n_components,); out (n_rows, w), overwritten; n_slots.
    """
    X, log_resp, intercepts, slopes, precisions, log_norm, out, n_slots = arguments[0]
    n_components, n_wanted = intercepts.shape
    expected = array_at(workspace, 0, (n_components, n_wanted), out)
    end = 8 * n_components * n_wanted
    constant = array_at(workspace, end, (n_components,), log_norm)
    share = array_at(workspace, end + 8 * n_components, (n_components,), log_norm)
    end += 16 * n_components
    spare = array_at(workspace, end, (5, n_wanted), out)
    matrix = array_at(workspace, end + 40 * n_wanted, (n_wanted, n_wanted), out)
    lower, upper = slot_bounds(X.shape[0], n_slots, slot)
    for i in range(lower, upper):
        for k in range(n_components):
            expect(X[i], k, intercepts, slopes, expected[k])
            constant[k] = log_resp[i, k] + log_norm[k]
        best = -math.inf
        for k in range(n_components):
            if math.exp(log_resp[i, k]) > NEGLIGIBLE:
                x = spare[4]
                copy_into(x, expected[k])
                value = climb(x, expected, constant, precisions, share, spare, matrix)
                if value > best:
                    best = value
                    copy_into(out[i], x)
