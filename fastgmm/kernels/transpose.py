"""Rows of data into rows of a block: 8 x 8 numbers transposed in registers."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd
from ._compile import AS_WRITTEN, jit


@intrinsic
def _load_transposed(typingctx, X, i, d, shift, like):
    """Return the (8, 1) tile of X[i + lane, d + r] - shift[d + r]: a square of rows turned into rows of a block.

    The difference is taken in float64. Reads X from X[i, d] on as if each row had 8 entries from d: the caller makes
    sure that X does not end before. Three levels of shuffles transpose 8 x 8 numbers, for float32 two squares at once.
    """
    tile = simd.Tile(like.dtype, 8, 1)

    def codegen(context, builder, sig, args):
        entries = ir.VectorType(tile.vector.element, 8)
        doubles = ir.VectorType(ir.DoubleType(), 8)
        rows = simd.address(context, builder, sig.args[0], *args[:3], tile.lanes)
        (pointer,) = simd.address(context, builder, sig.args[3], args[3], ir.Constant(args[1].type, 0), args[2], 1)
        offset = builder.load(builder.bitcast(pointer, doubles.as_pointer()), align=8)
        vectors = []
        for row in rows:
            vector = builder.load(builder.bitcast(row, entries.as_pointer()), align=tile.dtype.bitwidth // 8)
            if tile.dtype == types.float32:
                vector = builder.fptrunc(builder.fsub(builder.fpext(vector, doubles), offset), entries)
            else:
                vector = builder.fsub(vector, offset)
            vectors.append(vector)
        if tile.lanes == 16:
            pairs = zip(vectors[:8], vectors[8:], strict=True)
            vectors = [builder.shuffle_vector(a, b, simd.mask(range(16))) for a, b in pairs]
        for width in (4, 2, 1):  # exchange off-diagonal quarters of squares of 2 width
            masks = []
            for start in (0, width):
                mask = [lane // (2 * width) * 2 * width + start + lane % width for lane in range(tile.lanes)]
                masks.append(simd.mask([m + tile.lanes * (lane // width % 2) for lane, m in enumerate(mask)]))
            for r in range(8):
                if r // width % 2 == 0:
                    a, b = vectors[r], vectors[r + width]
                    vectors[r], vectors[r + width] = (builder.shuffle_vector(a, b, mask) for mask in masks)
        return simd.pack(builder, vectors)

    return tile(X, types.int64, types.int64, shift, like), codegen


@intrinsic
def _store_rows(typingctx, tile, count, array, i, p):
    """array[i + r, p :] = tile for the first `count` rows of a tile of one column."""

    def codegen(context, builder, sig, args):
        for r, row in enumerate(simd.address(context, builder, array, *args[2:], tile.n_rows)):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(args[1].type, r), args[1])):
                builder.store(
                    builder.extract_value(args[0], r),
                    builder.bitcast(row, tile.vector.as_pointer()),
                    align=simd.LANE_BYTES,
                )
        return context.get_dummy_value()

    return types.void(tile, types.int64, array, types.int64, types.int64), codegen


@jit(fastmath=AS_WRITTEN)
def load_squares(X, first, count, shift, xt):
    """Load as many rows as 8 x 8 tiles can, and return their number: a third of the time of loops over columns."""
    n_samples, n_features = X.shape
    lanes = simd.LANE_BYTES // xt.itemsize
    # A tile reads 8 entries of a row from its first feature on, the last rows of X beyond its end.
    safe = n_samples if n_features >= 8 else n_samples - (8 + n_features - 1) // n_features
    whole = max(0, min(count, safe - first)) // lanes * lanes
    for start in range(0, n_features, 8):
        d = max(0, min(start, n_features - 8))
        for p in range(0, whole, lanes):
            tile = _load_transposed(X, first + p, d, shift, xt)
            _store_rows(tile, n_features, xt, d, p)
    return whole
