"""A quasi-Newton point from the last few points and their updates: the algebra of optimization/acceleration.py.

Coordinates about an origin, in which the complete data's Fisher information is one. Per component of weight w, mean mu
and factor U (U U^T = precision) of the origin: sqrt(w) times the change of log-weight, sqrt(w) U^T times the change of
mean, and sqrt(w) times T = U^-1 U', with sqrt(2) times logarithms on the diagonal (w is 1 for a factor all components
share; a variance counts once per feature that has it). Scaling a column changes none of them.

tests/reference_acceleration.py has the formulas in NumPy, which take four times as long for small mixtures, where a
pass over the rows is worth less than the calls.
"""

import numpy as np

from ._compile import jit

TINY = 2.2250738585072014e-308  # for log(0) of a component without rows
ROOT_2 = 1.4142135623730951


@jit()
def to_coordinates(weights, means, factors, origin, roots, is_matrix, out):
    """Coordinates of one mixture about origin = (weights, means, factors), (n_coordinates,), overwritten.

    weights (n_components,), means (n_components, n_features), factors (n_factors, rows, columns): upper triangles, or
    one row of inverse standard deviations. roots (2, n_components): of the weights, and of the factors; 0 where a
    component is held.
    """
    n_components, n_features = means.shape
    n_factors, n_columns = factors.shape[0], factors.shape[2]
    for k in range(n_components):
        out[k] = 0.0
        if roots[0, k] > 0:
            out[k] = roots[0, k] * (np.log(max(weights[k], TINY)) - np.log(max(origin[0][k], TINY)))
    first = n_components
    for k in range(n_components):
        move, factor = out[first : first + n_features], origin[2][min(k, n_factors - 1)]
        for j in range(n_features):
            move[j] = 0.0
        if roots[0, k] > 0 and is_matrix:
            for i in range(n_features):
                change = roots[0, k] * (means[k, i] - origin[1][k, i])
                for j in range(i, n_features):
                    move[j] += change * factor[i, j]
        elif roots[0, k] > 0:
            for j in range(n_features):
                move[j] = roots[0, k] * (means[k, j] - origin[1][k, j]) * factor[0, min(j, n_columns - 1)]
        first += n_features
    for k in range(n_factors):
        root, factor = roots[1, k], origin[2][k]
        if not is_matrix:
            for j in range(n_columns):
                out[first + j] = root * ROOT_2 * np.log(factors[k, 0, j] / factor[0, j]) if root > 0 else 0.0
            first += n_columns
            continue
        # Back substitution: row i of T from the rows below it, which lie behind it.
        ends = first + n_columns * (n_columns + 1) // 2
        start = ends
        for i in range(n_columns - 1, -1, -1):
            start -= n_columns - i
            row, below = out[start : start + n_columns - i], start + n_columns - i
            for j in range(n_columns - i):
                row[j] = factors[k, i, i + j]
            for e in range(i + 1, n_columns):
                scale, other = factor[i, e], out[below : below + n_columns - e]
                for j in range(n_columns - e):
                    row[e - i + j] -= scale * other[j]
                below += n_columns - e
            inverse = 1.0 / factor[i, i]
            for j in range(n_columns - i):
                row[j] *= inverse
        start = first
        for i in range(n_columns):
            if root > 0:
                out[start] = ROOT_2 * np.log(out[start])
            for j in range(n_columns - i):
                out[start + j] = root * out[start + j] if root > 0 else 0.0
            start += n_columns - i
        first = ends


@jit()
def from_coordinates(point, origin, roots, is_matrix, weights, means, factors):
    """Overwrite weights (with sum 1), means and factors by the mixture at `point`, which is overwritten as well.

    The factors of held components are those of the origin.
    """
    n_components, n_features = means.shape
    n_factors, n_columns = factors.shape[0], factors.shape[2]
    largest = 0.0
    for k in range(n_components):
        point[k] = point[k] / roots[0, k] if roots[0, k] > 0 else 0.0
        largest = point[k] if k == 0 else max(largest, point[k])
    total = 0.0
    for k in range(n_components):
        weights[k] = origin[0][k] * np.exp(point[k] - largest)
        total += weights[k]
    first = n_components
    for k in range(n_components):
        weights[k] /= total
        move, factor = point[first : first + n_features], origin[2][min(k, n_factors - 1)]
        for j in range(n_features):
            change = move[j] / roots[0, k] if roots[0, k] > 0 else 0.0
            change /= factor[j, j] if is_matrix else factor[0, min(j, n_columns - 1)]
            means[k, j] = origin[1][k, j] + change
            if is_matrix and roots[0, k] > 0:
                for e in range(j + 1, n_features):
                    move[e] -= roots[0, k] * change * factor[j, e]
        first += n_features
    for k in range(n_factors):
        root, factor = roots[1, k], origin[2][k]
        if not is_matrix:
            for j in range(n_columns):
                change = point[first + j] / (root * ROOT_2) if root > 0 else 0.0
                factors[k, 0, j] = factor[0, j] * np.exp(change)
            first += n_columns
            continue
        if not root > 0:
            for i in range(n_columns):
                for j in range(n_columns):
                    factors[k, i, j] = factor[i, j]
            first += n_columns * (n_columns + 1) // 2
            continue
        below = first
        for i in range(n_columns):
            point[below] = np.exp(point[below] / (root * ROOT_2))
            for j in range(1, n_columns - i):
                point[below + j] /= root
            below += n_columns - i
        for i in range(n_columns):
            for j in range(n_columns):
                factors[k, i, j] = 0.0
        for i in range(n_columns):
            start = first + i * n_columns - i * (i - 1) // 2
            for e in range(i, n_columns):
                scale, other = factor[i, e], point[start : start + n_columns - e]
                for j in range(n_columns - e):
                    factors[k, i, e + j] += scale * other[j]
                start += n_columns - e
        first = below


@jit()
def dot(a, b):
    """Sum of products."""
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@jit()
def add_scaled(out, scale, a):
    """Add scale times a to out."""
    for i in range(out.shape[0]):
        out[i] += scale * a[i]


@jit()
def two_loops(points, steps, least_cosine, pairs, step):
    """Overwrite `step` (n_coordinates,) by the L-BFGS step from the last of `points`, where EM would do the last of
    `steps`; both (n_points, n_coordinates), overwritten, as are pairs (2, n_points - 1). Returns whether there is one.

    The two-loop recursion (Nocedal and Wright, 2006, algorithm 7.4) with EM's step as the gradient of the
    log-likelihood. None without a pair of positive curvature or with numbers that are not finite.
    """
    n_pairs, curvature, coefficients = points.shape[0] - 1, pairs[0], pairs[1]
    for j in range(step.shape[0]):
        step[j] = steps[n_pairs, j]
    last = -1
    for i in range(n_pairs):
        move, fall = points[i], steps[i]
        for j in range(move.shape[0]):
            move[j] = points[i + 1, j] - move[j]
            fall[j] = fall[j] - steps[i + 1, j]
        curvature[i] = dot(move, fall)
        if curvature[i] > least_cosine * np.sqrt(dot(move, move) * dot(fall, fall)):
            last = i
        else:
            curvature[i] = 0.0
    if last < 0:
        return False
    for i in range(n_pairs - 1, -1, -1):
        if curvature[i] > 0:
            coefficients[i] = dot(points[i], step) / curvature[i]
            add_scaled(step, -coefficients[i], steps[i])
    scale = curvature[last] / dot(steps[last], steps[last])
    for j in range(step.shape[0]):
        step[j] *= scale
    for i in range(n_pairs):
        if curvature[i] > 0:
            add_scaled(step, coefficients[i] - dot(steps[i], step) / curvature[i], points[i])
    return np.isfinite(dot(step, step))


@jit(entry=True)
def propose(weights, means, factors, alive, is_matrix, is_shared, least_cosine, radius):
    """The point after a quasi-Newton step of at most `radius`, from (point, update) pairs that follow each other.

    weights (n_points, 2, n_components), means (..., n_components, n_features), factors (..., n_factors, rows, columns),
    alive (n_components,): the others have no coordinates, and stay where the last point has them. Weights, overwritten,
    need not sum to 1. Returns whether there is such a point, its weights, means and factors, and step times direction,
    of which half is the gain per row that the model of the curvature expects; else the squared step.
    """
    n_points, _, n_components = weights.shape
    n_features, (n_factors, n_rows, n_columns) = means.shape[3], factors.shape[2:]
    roots = np.zeros((2, n_components))
    for pair in weights:
        for mixture in pair:
            total = 0.0
            for k in range(n_components):
                total += mixture[k]
            for k in range(n_components):
                mixture[k] /= total
    origin = (weights[n_points - 1, 0], means[n_points - 1, 0], factors[n_points - 1, 0])
    repeats = np.sqrt(n_features / n_columns)
    for k in range(n_components):
        roots[0, k] = np.sqrt(max(origin[0][k], TINY)) if alive[k] else 0.0
        roots[1, k] = repeats * roots[0, k]
    if is_shared:
        roots[1, 0] = repeats
    size = n_columns * (n_columns + 1) // 2 if is_matrix else n_columns
    size = n_components * (1 + n_features) + n_factors * size
    points, steps, step = np.empty((n_points, size)), np.empty((n_points, size)), np.empty(size)
    for i in range(n_points):
        to_coordinates(weights[i, 0], means[i, 0], factors[i, 0], origin, roots, is_matrix, points[i])
        to_coordinates(weights[i, 1], means[i, 1], factors[i, 1], origin, roots, is_matrix, steps[i])
        add_scaled(steps[i], -1.0, points[i])
    last = steps[n_points - 1].copy()
    found = two_loops(points, steps, least_cosine, np.zeros((2, n_points - 1)), step)
    expected = dot(last, step) if found else dot(last, last)
    new_weights, new_means = np.empty(n_components), np.empty((n_components, n_features))
    new_factors = np.empty((n_factors, n_rows, n_columns))
    if found:
        length = np.sqrt(dot(step, step))
        if length > radius:
            for j in range(size):
                step[j] *= radius / length
        from_coordinates(step, origin, roots, is_matrix, new_weights, new_means, new_factors)
    return found, new_weights, new_means, new_factors, expected
