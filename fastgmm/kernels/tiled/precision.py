"""Tiles from float32 to float64 and back, for sums too long for float32."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import Tile, mask, pack, unpack


@intrinsic
def widen(typingctx, tile):
    """Return the tile in float64: of float32, with twice the columns."""
    wide = Tile(types.float64, tile.n_rows, tile.n_columns * 64 // tile.dtype.bitwidth)

    def codegen(context, builder, sig, args):
        if wide == tile:
            return args[0]
        low, high = mask(range(wide.lanes)), mask(range(wide.lanes, tile.lanes))
        halves = [builder.shuffle_vector(v, v, half) for v in unpack(builder, args[0], tile) for half in (low, high)]
        return pack(builder, [builder.fpext(half, wide.vector) for half in halves])

    return wide(tile), codegen


@intrinsic
def narrow(typingctx, tile, like):
    """Return the float64 tile in the dtype of the array `like`: in float32, with half the columns."""
    kept = Tile(like.dtype, tile.n_rows, tile.n_columns * like.dtype.bitwidth // 64)

    def codegen(context, builder, sig, args):
        if kept == tile:
            return args[0]
        half = ir.VectorType(ir.FloatType(), tile.lanes)
        halves = [builder.fptrunc(vector, half) for vector in unpack(builder, args[0], tile)]
        pairs = zip(halves[::2], halves[1::2], strict=True)
        return pack(builder, [builder.shuffle_vector(*pair, mask(range(kept.lanes))) for pair in pairs])

    return kept(tile, like), codegen
