"""The exponential of tiles (simd.py)."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import elementary
from . import simd

_EXP64 = (
    *(1.0000000000000007, 0.5000000000000001, 0.16666666664209706),
    *(0.041666666663595475, 0.008333472974951229, 0.0013889063440655327),
)
_EXP32 = (1.0, 0.5000146627426147, 0.1666695922613144)


def _look_up(builder, values, index):
    """values[lane of index % 16] in every lane: one shuffle."""
    vector = index.type
    wide = vector.element.width == 64
    halves = np.split(values, 1 + wide)
    tables = [ir.Constant(vector, [ir.Constant(vector.element, int(value)) for value in half]) for half in halves]
    name = "llvm.x86.avx512." + ("vpermi2var.q.512" if wide else "permvar.si.512")
    arguments = [tables[0], index, tables[1]] if wide else [tables[0], index]
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * len(arguments)), name)
    return builder.call(function, arguments)


@intrinsic
def exp(typingctx, tile):
    """Exponential of numbers <= 0 to 1.5 ulp; 0 of NaN and below -708 (float32: -87).

    exp(x) = 2^(n / 16) (1 + r p(r)) with r = x - n ln2 / 16: a table of 16 powers, indexed by the low bits of n, and
    polynomials p for |r| <= ln2 / 32 (Chebyshev interpolation, 2e-17 and 3e-9 of the result). Two thirds of the
    multiplications of elementary.py's, which has no table because loops over tables do not vectorise.
    """

    def codegen(context, builder, sig, args):
        if tile.dtype == types.float64:
            coefs, number, mantissa = _EXP64, np.float64, 52
            names = ("LOWEST64", "LOG2E64", "ROUND64", "LN2_HI64", "LN2_LO64")
        else:
            coefs, number, mantissa = _EXP32, np.float32, 23
            names = ("LOWEST32", "LOG2E32", "ROUND32", "LN2_HI32", "LN2_LO32")
        lowest, log2e, shift, ln2_high, ln2_low = (float(getattr(elementary, name)) for name in names)
        lowest += 1  # no power below is denormal
        constants = (lowest, 16 * log2e, shift, ln2_high / 16, ln2_low / 16, 0.0)
        lowest, log2e, shift, ln2_high, ln2_low, zero = (simd.splat(builder, c, tile.vector) for c in constants)
        coefs = [simd.splat(builder, c, tile.vector) for c in coefs]
        whole = ir.VectorType(ir.IntType(tile.dtype.bitwidth), tile.lanes)
        places = ir.Constant(whole, [ir.Constant(whole.element, mantissa - 4)] * tile.lanes)
        # The bits of 2^(j / 16) less those that adding n << (mantissa - 4) contributes for its low bits j.
        powers = np.exp2(np.arange(16) / 16).astype(number).view(f"i{tile.dtype.bitwidth // 8}")
        powers = powers - (np.arange(16) << (mantissa - 4))

        values = []
        for x in simd.unpack(builder, args[0], tile):
            shifted = simd.fused(builder, x, log2e, shift)
            n = builder.fneg(builder.fsub(shifted, shift))
            r = simd.fused(builder, n, ln2_low, simd.fused(builder, n, ln2_high, x))
            p = coefs[-1]
            for coef in coefs[-2::-1]:
                p = simd.fused(builder, p, r, coef)
            bits = builder.bitcast(shifted, whole)
            power = builder.add(_look_up(builder, powers, bits), builder.shl(bits, places))
            power = builder.bitcast(power, tile.vector)
            value = simd.fused(builder, power, builder.fmul(p, r), power)
            values.append(builder.select(builder.fcmp_ordered(">", x, lowest), value, zero))
        return simd.pack(builder, values)

    return tile(tile), codegen
