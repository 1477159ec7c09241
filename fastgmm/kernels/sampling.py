"""Normal random numbers and rows of a mixture, points as the vector lane.

NumPy's `standard_normal` takes 9 to 11 ns per number and thread, and products in several threads wake BLAS's own, which
then wait for each other; `draw_rows` takes 3 to 4 ns per number at 16 features, transform included.
"""

import math

import numpy as np

from ._compile import EXACT, jit
from .elementary import log_float64

LANES = 16  # generators side by side: with 8, LLVM unrolls the lanes instead of vectorising them, six times slower
ROWS = 64  # rows transformed together
# Taylor coefficients in y^2 of sin(y) / y and cos(y): below 3e-16 of truncation for |y| <= pi / 2.
_SIN = tuple((-1) ** i / math.factorial(2 * i + 1) for i in range(11))
_COS = tuple((-1) ** i / math.factorial(2 * i) for i in range(12))


@jit()
def fill_bits(state, bits):
    """Fill bits (n,), n a multiple of LANES, with random patterns of floats in [1, 2); state (4, LANES) advances.

    xoshiro256++ (Blackman and Vigna, 2021), LANES generators side by side; the upper 52 bits are the mantissa.
    """
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    one = np.uint64(0x3FF0000000000000)
    for first in range(0, bits.shape[0], LANES):
        out = bits[first : first + LANES]
        for i in range(LANES):
            a, b, c, d = s0[i], s1[i], s2[i], s3[i]
            total = a + d
            out[i] = ((((total << np.uint64(23)) | (total >> np.uint64(41))) + a) >> np.uint64(12)) | one
            c ^= a
            d ^= b
            s0[i] = a ^ d
            s1[i] = b ^ c
            s2[i] = c ^ (b << np.uint64(17))
            s3[i] = (d << np.uint64(45)) | (d >> np.uint64(19))


@jit(fastmath=EXACT)
def compute_normal_inplace(radius, angle):
    """Overwrite two arrays of uniform numbers in [1, 2) by independent standard normal numbers (Box and Muller, 1958).

    r = sqrt(-2 log(2 - u)) and theta = 2 pi (v - 1.5); sin and cos of theta from those of its half.
    """
    for i in range(radius.shape[0]):
        r = math.sqrt(-2.0 * log_float64(2.0 - radius[i]))
        y = (angle[i] - 1.5) * np.pi
        t = y * y
        s = _SIN[10]
        s = s * t + _SIN[9]
        s = s * t + _SIN[8]
        s = s * t + _SIN[7]
        s = s * t + _SIN[6]
        s = s * t + _SIN[5]
        s = s * t + _SIN[4]
        s = s * t + _SIN[3]
        s = s * t + _SIN[2]
        s = s * t + _SIN[1]
        s = (s * t + _SIN[0]) * y
        c = _COS[11]
        c = c * t + _COS[10]
        c = c * t + _COS[9]
        c = c * t + _COS[8]
        c = c * t + _COS[7]
        c = c * t + _COS[6]
        c = c * t + _COS[5]
        c = c * t + _COS[4]
        c = c * t + _COS[3]
        c = c * t + _COS[2]
        c = c * t + _COS[1]
        c = c * t + _COS[0]
        radius[i] = r * (c * c - s * s)
        angle[i] = r * (2.0 * s * c)


@jit()
def transform_run_inplace(z, first, last, mean, scale, lower):
    """z[:, first:last] = mean + L z for the points of one component, from the last feature to the first.

    z: (n_features, ROWS); scale: (n_features,), the diagonal of L; lower: L itself, or (1, 1) where L is diagonal.
    """
    for d in range(z.shape[0] - 1, -1, -1):
        out = z[d, first:last]
        for p in range(out.shape[0]):
            out[p] = out[p] * scale[d] + mean[d]
        if lower.shape[0] == 1:
            continue
        tiled = d // 4 * 4
        for e in range(0, tiled, 4):
            a, b, c, f = lower[d, e], lower[d, e + 1], lower[d, e + 2], lower[d, e + 3]
            za, zb, zc, zf = z[e, first:last], z[e + 1, first:last], z[e + 2, first:last], z[e + 3, first:last]
            for p in range(out.shape[0]):
                out[p] += a * za[p] + b * zb[p] + c * zc[p] + f * zf[p]
        for e in range(tiled, d):
            a, za = lower[d, e], z[e, first:last]
            for p in range(out.shape[0]):
                out[p] += a * za[p]


@jit(entry=True)
def draw_rows(state, labels, means, scales, lower, X):
    """Overwrite X by rows of the components `labels`, which are in runs: X[i] = mean + L z, z standard normal.

    state: (4, LANES) uint64; labels: (n_rows,); means, scales: (n_components, n_features); lower: (n_components or
    1, n_features or 1, the same); X: (n_rows, n_features). Every ROWS rows take as many numbers, whatever the labels.
    """
    n_features = X.shape[1]
    z = np.empty((n_features, ROWS))
    flat = z.reshape(n_features * ROWS)
    bits, half = flat.view(np.uint64), flat.shape[0] // 2
    for start in range(0, X.shape[0], ROWS):
        count = min(ROWS, X.shape[0] - start)
        fill_bits(state, bits)
        compute_normal_inplace(flat[:half], flat[half:])
        first = 0
        while first < count:
            k = labels[start + first]
            last = first + 1
            while last < count and labels[start + last] == k:
                last += 1
            transform_run_inplace(z, first, last, means[k], scales[k], lower[min(k, lower.shape[0] - 1)])
            first = last
        for p in range(count):
            row = X[start + p]
            for d in range(n_features):
                row[d] = z[d, p]


@jit(by_address=True)
def combine_factors(arguments, slot, workspace):
    """out[i] = mean + loadings z + spread e, clipped to [low, high], for the rows of a slot.

    The same bits for any cut into slots and calls. arguments[0]: components (n_rows,); factors, z (n_rows, n_factors);
    residual, e (n_rows, n_features), or of no rows for no noise; means (n_components, n_features); loadings
    (n_components, n_factors, n_features); spread (n_components, n_features); bounds, low and high; out (n_rows,
    n_features), overwritten; n_slots.
    """
    components, factors, residual, means, loadings, spread, bounds, out, n_slots = arguments[0]
    low, high = bounds[0], bounds[1]
    n_features = out.shape[1]
    for i in range(slot * out.shape[0] // n_slots, (slot + 1) * out.shape[0] // n_slots):
        k, row = components[i], out[i]
        mean = means[k]
        for d in range(n_features):
            row[d] = mean[d]
        for j in range(factors.shape[1]):
            z, loading = factors[i, j], loadings[k, j]
            for d in range(n_features):
                row[d] += z * loading[d]
        if residual.shape[0] > 0:
            noise, scale = residual[i], spread[k]
            for d in range(n_features):
                row[d] += scale[d] * noise[d]
        for d in range(n_features):
            row[d] = min(max(row[d], low), high)
