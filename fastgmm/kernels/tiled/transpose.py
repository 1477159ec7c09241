"""Rows of data into rows of a block: transposed in registers, 8 x 8 numbers at a time or whole short rows."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .._compile import AS_WRITTEN, jit
from . import simd


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


@intrinsic(prefer_literal=True)
def _load_short(typingctx, X, i, n_features, shift, like):
    """Return the (n_features, 1) tile of X[i + lane, r] - shift[r] for rows of a literal number of features.

    The rows stand in memory one after the other, so that every n_features-th number is a column.
    """
    n_columns = n_features.literal_value
    tile = simd.Tile(like.dtype, n_columns, 1)

    def codegen(context, builder, sig, args):
        count = n_columns * tile.lanes
        entries, doubles = ir.VectorType(tile.vector.element, count), ir.VectorType(ir.DoubleType(), count)
        zero = ir.Constant(args[1].type, 0)
        (pointer,) = simd.address(context, builder, sig.args[0], args[0], args[1], zero, 1)
        numbers = builder.load(builder.bitcast(pointer, entries.as_pointer()), align=tile.dtype.bitwidth // 8)
        (pointer,) = simd.address(context, builder, sig.args[3], args[3], zero, zero, 1)
        eight = ir.VectorType(ir.DoubleType(), 8)  # shift has at least so many entries
        offset = builder.load(builder.bitcast(pointer, eight.as_pointer()), align=8)
        offset = builder.shuffle_vector(offset, offset, simd.mask([r % n_columns for r in range(count)]))
        if tile.dtype == types.float32:
            numbers = builder.fptrunc(builder.fsub(builder.fpext(numbers, doubles), offset), entries)
        else:
            numbers = builder.fsub(numbers, offset)
        masks = [simd.mask(range(r, count, n_columns)) for r in range(n_columns)]
        return simd.pack(builder, [builder.shuffle_vector(numbers, numbers, mask) for mask in masks])

    return tile(X, types.int64, n_features, shift, like), codegen


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


def _rows_of(n_features):
    """The loop over rows of this many features, which would use a part of each row of an 8 x 8 tile."""

    @jit(fastmath=AS_WRITTEN, name=f"load_rows_of_{n_features}")
    def load_rows(X, first, whole, shift, xt):
        for p in range(0, whole, simd.LANE_BYTES // xt.itemsize):
            _store_rows(_load_short(X, first + p, n_features, shift, xt), n_features, xt, 0, p)

    return load_rows


load_rows_of_one, load_rows_of_two, load_rows_of_four = (_rows_of(n) for n in (1, 2, 4))


@jit(fastmath=AS_WRITTEN)
def load_tiles(X, first, count, shift, xt):
    """Load as many rows as tiles can, and return their number: a third of the time of loops over columns, or less."""
    n_samples, n_features = X.shape
    lanes = simd.LANE_BYTES // xt.itemsize
    whole = count // lanes * lanes
    if n_features == 1:
        load_rows_of_one(X, first, whole, shift, xt)
        return whole
    if n_features == 2:
        load_rows_of_two(X, first, whole, shift, xt)
        return whole
    if n_features == 4:
        load_rows_of_four(X, first, whole, shift, xt)
        return whole
    # A tile reads 8 entries of a row from its first feature on, the last rows of X beyond its end.
    safe = n_samples if n_features >= 8 else n_samples - (8 + n_features - 1) // n_features
    whole = max(0, min(count, safe - first)) // lanes * lanes
    for p in range(0, whole, lanes):
        for start in range(0, n_features, 8):
            d = max(0, min(start, n_features - 8))
            tile = _load_transposed(X, first + p, d, shift, xt)
            _store_rows(tile, n_features, xt, d, p)
    return whole
