"""The register tile of the statistics: four rows of one block times four rows of another, summed over the points."""

from ._compile import jit


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
