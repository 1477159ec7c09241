"""Exponential and logarithm of numbers, in loops that LLVM vectorises; tiled/exponential.py has that of tiles.

Numba's `math.exp` is a scalar libm call of 3 to 6 ns; these polynomials cost 0.5 ns (float64) inside a loop.
"""

import numpy as np
from numba import types
from numba.extending import overload

from ._compile import EXACT, jit

# A finite stand-in for "less likely than any float": -inf - -inf would be NaN in the log-sum-exp.
LOG_FLOOR = {np.dtype(np.float64): np.float64(-1e300), np.dtype(np.float32): np.float32(-1e37)}

# exp(r) on [-ln2/2, ln2/2]: Chebyshev interpolation of (exp(r) - 1) / r, relative error 1e-17 and 1e-8.
EXP64 = tuple(
    np.float64(c)
    for c in (
        *(1.0, 1.0, 0.5000000000000006, 0.1666666666666667, 0.041666666666573066, 0.008333333333326136),
        *(0.001388888893251478, 0.00019841269874820627, 2.480150431378554e-05, 2.7557255400206422e-06),
        *(2.7626371065696354e-07, 2.5105217004720745e-08),
    )
)
EXP32 = tuple(
    np.float32(c)
    for c in (1.0, 1.0, 0.5, 0.16666504740715027, 0.04166646674275398, 0.00836915522813797, 0.0013933649752289057)
)
# Adding 1.5 2^52 (2^23) rounds to an integer and leaves it in the low bits; at the lowest argument that integer is
# -1023 (-127), whose power of two has the bits of 0, so that no comparison is needed to flush to zero.
ROUND64, LOWEST64, LOG2E64 = np.float64(1.5 * 2.0**52), np.float64(-709.0), np.float64(1.4426950408889634)
ROUND32, LOWEST32, LOG2E32 = np.float32(1.5 * 2.0**23), np.float32(-88.0), np.float32(1.4426950408889634)
LN2_HI64, LN2_LO64 = np.float64(0.693145751953125), np.float64(1.4286068203094172e-06)
LN2_HI32, LN2_LO32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_HALF32, _ONE32 = np.float32(0.5), np.float32(1.0)


@jit(fastmath=EXACT)
def exp_float64(x):
    """Exponential of x <= 0 to 1.5 ulp; 0 below -708.7."""
    x = x if x > LOWEST64 else LOWEST64
    shifted = x * LOG2E64 + ROUND64
    n = shifted - ROUND64
    r = (x - n * LN2_HI64) - n * LN2_LO64
    c = EXP64
    q = c[11]
    q = q * r + c[10]
    q = q * r + c[9]
    q = q * r + c[8]
    q = q * r + c[7]
    q = q * r + c[6]
    q = q * r + c[5]
    q = q * r + c[4]
    q = q * r + c[3]
    q = q * r + c[2]
    q = q * r + c[1]
    q = q * r + c[0]
    return q * np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)


@jit(fastmath=EXACT)
def exp_float32(x):
    """Exponential of x <= 0 to 1.5 ulp; 0 below -87.7."""
    x = x if x > LOWEST32 else LOWEST32
    shifted = x * LOG2E32 + ROUND32
    n = shifted - ROUND32
    r = (x - n * LN2_HI32) - n * LN2_LO32
    c = EXP32
    q = c[6]
    q = q * r + c[5]
    q = q * r + c[4]
    q = q * r + c[3]
    q = q * r + c[2]
    q = q * r + c[1]
    q = q * r + c[0]
    return q * np.int32((np.float32(shifted).view(np.int32) + 127) << 23).view(np.float32)


@jit(fastmath=EXACT)
def log_float64(x):
    """Logarithm of normal x > 0 to 1 ulp: x = 2^e m, m in [sqrt(1/2), sqrt(2)), log m = 2 atanh(s), s = (m-1)/(m+1)."""
    bits = np.float64(x).view(np.int64)
    e = (bits - 0x3FE6A09E667F3BCD) >> 52
    m = np.int64(bits - (e << 52)).view(np.float64)
    f = m - 1.0
    s = f / (m + 1.0)
    z = s * s
    # Minimax coefficients of fdlibm's e_log.c (Sun Microsystems, 1993).
    q = 1.479819860511658591e-01
    q = q * z + 1.531383769920937332e-01
    q = q * z + 1.818357216161805012e-01
    q = q * z + 2.222219843214978396e-01
    q = q * z + 2.857142874366239149e-01
    q = q * z + 3.999999999940941908e-01
    q = q * z + 6.666666666666735130e-01
    h = 0.5 * f * f
    return e * 6.93147180369123816490e-01 - ((h - (s * (h + q * z) + e * 1.90821492927058770002e-10)) - f)


@jit(fastmath=EXACT)
def log_float32(x):
    """Logarithm of normal x > 0 to 2 ulp, as `log_float64` with a shorter series."""
    bits = np.float32(x).view(np.int32)
    e = np.int32(bits - np.int32(0x3F3504F3)) >> 23
    m = np.int32(bits - np.int32(e << 23)).view(np.float32)
    f = m - _ONE32
    s = f / (m + _ONE32)
    z = s * s
    q = np.float32(0.24279078841)
    q = q * z + np.float32(0.28498786688)
    q = q * z + np.float32(0.40000972152)
    q = q * z + np.float32(0.66666662693)
    h = _HALF32 * f * f
    n = np.float32(e)
    return n * np.float32(6.9313812256e-01) - ((h - (s * (h + q * z) + n * np.float32(9.0580006145e-06))) - f)


def exp(x):
    """Exponential of x <= 0 in the precision of x."""
    return exp_float32(x) if isinstance(x, np.float32) else exp_float64(np.float64(x))


def log(x):
    """Logarithm of normal x > 0 in the precision of x."""
    return log_float32(x) if isinstance(x, np.float32) else log_float64(np.float64(x))


def log_floor(x):
    """Return the finite stand-in for -inf in the precision of x."""
    return LOG_FLOOR[np.dtype(type(x))]


@overload(exp)
def _exp_overload(x):
    if x == types.float32:
        return lambda x: exp_float32(x)
    return lambda x: exp_float64(x)


@overload(log)
def _log_overload(x):
    if x == types.float32:
        return lambda x: log_float32(x)
    return lambda x: log_float64(x)


@overload(log_floor)
def _log_floor_overload(x):
    floor = LOG_FLOOR[np.dtype(np.float32 if x == types.float32 else np.float64)]
    return lambda x: floor


@jit()
def compute_log_prob_norm(peak, total, log_prob_norm):
    """log_prob_norm = peak + log(total): the row log-sum-exp. All (block,); the last is overwritten."""
    for p in range(peak.shape[0]):
        log_prob_norm[p] = peak[p] + log(total[p])
