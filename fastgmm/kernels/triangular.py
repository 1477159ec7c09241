"""Triangular factors: Cholesky factors of covariances, and their inverses, which are those of precisions."""

import math

from ._compile import jit
from .parallel import slot_bounds


@jit()
def factor_inplace(upper):
    """Overwrite the upper triangle of a symmetric matrix (n, n) by U with U^T U = matrix; return the smallest pivot.

    Row by row, four rows above at a time; what lies below the diagonal is left alone. A pivot that is not positive,
    which is returned as it is, ends it.
    """
    n, smallest = upper.shape[0], math.inf
    for i in range(n):
        row, j = upper[i], 0
        while j + 4 <= i:
            a, b, c, d = upper[j, i], upper[j + 1, i], upper[j + 2, i], upper[j + 3, i]
            x, y, z, w = upper[j], upper[j + 1], upper[j + 2], upper[j + 3]
            for e in range(i, n):
                row[e] -= a * x[e] + b * y[e] + c * z[e] + d * w[e]
            j += 4
        while j < i:
            a, x = upper[j, i], upper[j]
            for e in range(i, n):
                row[e] -= a * x[e]
            j += 1
        pivot = row[i]
        if not pivot > 0:
            return pivot
        smallest = min(smallest, pivot)
        inverse = 1.0 / math.sqrt(pivot)
        for e in range(i, n):
            row[e] *= inverse
    return smallest


@jit()
def invert_one(upper, out):
    """Overwrite out (n, n) by the inverse of an upper triangular matrix, upper triangular itself.

    Row by row from below: X[i] = (e[i] - sum_j U[i, j] X[j]) / U[i, i], four rows X[j] at a time. LAPACK's general
    inverse, which NumPy calls for a stack, does six times the work; its triangular one wakes threads for matrices that
    are done before they are awake. Eight times as fast as the general inverse up to 20 columns, twice at 300.
    """
    n = upper.shape[0]
    for i in range(n - 1, -1, -1):
        row = out[i]
        for j in range(n):
            row[j] = 0.0
        row[i] = 1.0
        below = i + 1
        while below + 4 <= n:
            a, b, c, d = upper[i, below], upper[i, below + 1], upper[i, below + 2], upper[i, below + 3]
            x, y, z, w = out[below], out[below + 1], out[below + 2], out[below + 3]
            for j in range(below, n):
                row[j] -= a * x[j] + b * y[j] + c * z[j] + d * w[j]
            below += 4
        while below < n:
            a, x = upper[i, below], out[below]
            for j in range(below, n):
                row[j] -= a * x[j]
            below += 1
        inverse = 1.0 / upper[i, i]
        for j in range(i, n):
            row[j] *= inverse


@jit(entry=True)
def invert_upper(upper, out):
    """Overwrite out (n_matrices, n, n) by the inverses of upper triangular matrices: `invert_one` of each."""
    for k in range(upper.shape[0]):
        invert_one(upper[k], out[k])


@jit()
def factor_precision(covariance, rtol, scale, upper, out):
    """Overwrite out (n, n) by the upper U with U U^T = covariance^-1; return whether there is one.

    There is none if a variance is not positive, or a pivot of the correlations not above rtol. scale: (n,) and upper:
    (n, n), overwritten.
    """
    n = covariance.shape[0]
    for i in range(n):
        if not covariance[i, i] > 0:
            return False
        scale[i] = math.sqrt(covariance[i, i])
    for i in range(n):
        for j in range(i, n):
            upper[i, j] = covariance[i, j] / scale[i] / scale[j]
    if not factor_inplace(upper) > rtol:
        return False
    invert_one(upper, out)
    for i in range(n):
        unit = scale[i]
        for j in range(i, n):
            out[i, j] /= unit
    return True


@jit(by_address=True)
def factor_precisions_slot(arguments, slot, workspace):
    """`factor_precision` of a slot's share of a stack.

    arguments[0]: covariances and out, both (n_matrices, n, n); scale (n_slots, n); upper (n_slots, n, n), overwritten;
    rtol (1,); failed (n_slots,), set to one more than the number of the slot's first matrix without a factor.
    """
    covariances, out, scale, upper, rtol, failed = arguments[0]
    first, last = slot_bounds(covariances.shape[0], failed.shape[0], slot)
    for k in range(first, last):
        if not factor_precision(covariances[k], rtol[0], scale[slot], upper[slot], out[k]):
            failed[slot] = k + 1
            return
