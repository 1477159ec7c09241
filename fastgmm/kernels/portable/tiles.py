"""Register tiles of four by four: products summed over the points, and rows combined point by point."""

from .._compile import jit


@jit()
def accumulate_tile(a, i, b, j, out, column):
    """out[i + r, column + c] += sum_p a[i + r, p] b[j + c, p] for r, c in 0..3.

    a, b: (rows, block), read; out: float64, added to. Sixteen sums stay in registers and share eight loads per vector.
    """
    a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
    b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
    zero = a.dtype.type(0)
    s00 = s01 = s02 = s03 = zero
    s10 = s11 = s12 = s13 = zero
    s20 = s21 = s22 = s23 = zero
    s30 = s31 = s32 = s33 = zero
    for p in range(a0.shape[0]):
        x0, x1, x2, x3 = a0[p], a1[p], a2[p], a3[p]
        y0, y1, y2, y3 = b0[p], b1[p], b2[p], b3[p]
        s00 += x0 * y0
        s01 += x0 * y1
        s02 += x0 * y2
        s03 += x0 * y3
        s10 += x1 * y0
        s11 += x1 * y1
        s12 += x1 * y2
        s13 += x1 * y3
        s20 += x2 * y0
        s21 += x2 * y1
        s22 += x2 * y2
        s23 += x2 * y3
        s30 += x3 * y0
        s31 += x3 * y1
        s32 += x3 * y2
        s33 += x3 * y3
    o0, o1, o2, o3 = out[i], out[i + 1], out[i + 2], out[i + 3]
    o0[column] += s00
    o0[column + 1] += s01
    o0[column + 2] += s02
    o0[column + 3] += s03
    o1[column] += s10
    o1[column + 1] += s11
    o1[column + 2] += s12
    o1[column + 3] += s13
    o2[column] += s20
    o2[column + 1] += s21
    o2[column + 2] += s22
    o2[column + 3] += s23
    o3[column] += s30
    o3[column + 1] += s31
    o3[column + 2] += s32
    o3[column + 3] += s33


@jit()
def transform_tile(xt, d, factor, e, out, row):
    """out[row + c] += sum_r factor[d + r, e + c] xt[d + r] for r, c in 0..3; xt, out: (rows, block)."""
    x0, x1, x2, x3 = xt[d], xt[d + 1], xt[d + 2], xt[d + 3]
    y0, y1, y2, y3 = out[row], out[row + 1], out[row + 2], out[row + 3]
    f0, f1, f2, f3 = factor[d], factor[d + 1], factor[d + 2], factor[d + 3]
    u00, u01, u02, u03 = f0[e], f0[e + 1], f0[e + 2], f0[e + 3]
    u10, u11, u12, u13 = f1[e], f1[e + 1], f1[e + 2], f1[e + 3]
    u20, u21, u22, u23 = f2[e], f2[e + 1], f2[e + 2], f2[e + 3]
    u30, u31, u32, u33 = f3[e], f3[e + 1], f3[e + 2], f3[e + 3]
    for p in range(x0.shape[0]):
        v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
        y0[p] += u00 * v0 + u10 * v1 + u20 * v2 + u30 * v3
        y1[p] += u01 * v0 + u11 * v1 + u21 * v2 + u31 * v3
        y2[p] += u02 * v0 + u12 * v1 + u22 * v2 + u32 * v3
        y3[p] += u03 * v0 + u13 * v1 + u23 * v2 + u33 * v3
