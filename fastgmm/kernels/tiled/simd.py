"""Tiles: small matrices of vectors held in registers, with NumPy's arithmetic, for loops that the compiler leaves slow.

A tile of R rows and C columns is R C vectors of numbers, whose lanes are points side by side in a block. `+ - * /` and
`multiply_add` work lane by lane and broadcast as in NumPy: a (R, 1) tile of scalars times a (1, C) tile of points is
the outer product that a register-blocked matrix product consists of. To LLVM a tile is an array of vectors, which its
scalar replacement takes apart, so that tiles cost no memory. Such code also compiles seven times faster than loops
unrolled by hand for LLVM's vectoriser, and runs up to a third faster (`python -m benchmarks` with FASTGMM_SIMD=0).

(array, i, p) addresses array[i, p] of a matrix with contiguous rows, unchecked; vectors must start on a multiple of
LANE_BYTES (calls.array_at), the width of a vector.
"""

import operator
from functools import reduce

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from ..backend import LANE_BYTES

_I32 = ir.IntType(32)


class Tile(types.Type):
    """The Numba type of a tile of `n_rows` x `n_columns` vectors of `dtype`."""

    def __init__(self, dtype, n_rows, n_columns):
        self.dtype, self.n_rows, self.n_columns = dtype, n_rows, n_columns
        self.lanes = 8 * LANE_BYTES // dtype.bitwidth
        super().__init__(f"Tile({dtype}, {n_rows}, {n_columns}, {self.lanes})")

    @property
    def size(self):
        """Number of vectors."""
        return self.n_rows * self.n_columns

    @property
    def vector(self):
        """LLVM type of one vector."""
        return ir.VectorType(ir.DoubleType() if self.dtype == types.float64 else ir.FloatType(), self.lanes)


@register_default(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.ArrayType(fe_type.vector, fe_type.size))


def unpack(builder, value, tile):
    """Return the vectors of a tile, row by row."""
    return [builder.extract_value(value, i) for i in range(tile.size)]


def pack(builder, vectors):
    """Return the value of a tile of these vectors."""
    value = ir.Constant(ir.ArrayType(vectors[0].type, len(vectors)), ir.Undefined)
    for i, vector in enumerate(vectors):
        value = builder.insert_value(value, vector, i)
    return value


def mask(indices):
    """Return the LLVM constant that selects lanes in a shuffle."""
    return ir.Constant(ir.VectorType(_I32, len(indices)), [ir.Constant(_I32, i) for i in indices])


def splat(builder, scalar, vector):
    """Return a vector with this number, Python's or LLVM's, in every lane."""
    if isinstance(scalar, float):
        return ir.Constant(vector, [ir.Constant(vector.element, scalar)] * vector.count)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, first, mask([0] * vector.count))


def address(context, builder, array_type, array, i, p, n_rows):
    """Byte pointers to array[i + r, p] for r < n_rows."""
    view = make_array(array_type)(context, builder, array)
    stride = cgutils.unpack_tuple(builder, view.strides)[0] if array_type.ndim > 1 else ir.Constant(i.type, 0)
    item = ir.Constant(i.type, array_type.dtype.bitwidth // 8)
    offset = builder.add(builder.mul(i, stride), builder.mul(p, item))
    pointer = builder.gep(builder.bitcast(view.data, ir.IntType(8).as_pointer()), [offset])
    return [builder.gep(pointer, [builder.mul(stride, ir.Constant(stride.type, r))]) for r in range(n_rows)]


def _shift(builder, pointer, n_bytes, kind):
    return builder.bitcast(builder.gep(pointer, [ir.Constant(_I32, n_bytes)]), kind.as_pointer())


# Arithmetic


def _broadcast(a, b):
    """Type of a op b; None if they do not go together."""
    tiles = [kind for kind in (a, b) if isinstance(kind, Tile)]
    shape = (max(tile.n_rows for tile in tiles), max(tile.n_columns for tile in tiles))
    fits = all(tile.n_rows in (1, shape[0]) and tile.n_columns in (1, shape[1]) for tile in tiles)
    return Tile(tiles[0].dtype, *shape) if fits and len({tile.dtype for tile in tiles}) == 1 else None


def _spread(context, builder, kind, value, tile):
    """Return the vectors of an operand, broadcast to the shape of `tile`."""
    if not isinstance(kind, Tile):
        scalar = context.cast(builder, value, kind, tile.dtype)
        return [splat(builder, scalar, tile.vector)] * tile.size
    vectors = unpack(builder, value, kind)
    rows = [r % kind.n_rows * kind.n_columns for r in range(tile.n_rows)]
    return [vectors[row + c % kind.n_columns] for row in rows for c in range(tile.n_columns)]


def _register(symbols, instruction):
    class _Template(AbstractTemplate):
        def generic(self, args, kws):
            number_or_tile = all(isinstance(kind, types.Number | Tile) for kind in args)
            if number_or_tile and any(isinstance(kind, Tile) for kind in args):
                result = _broadcast(*args)
                return signature(result, *args) if result else None
            return None

    def lower(context, builder, sig, args):
        tile = sig.return_type
        a, b = (_spread(context, builder, kind, value, tile) for kind, value in zip(sig.args, args, strict=True))
        emit = getattr(builder, instruction)
        return pack(builder, [emit(x, y) for x, y in zip(a, b, strict=True)])

    for symbol in symbols:
        infer_global(symbol)(type("TileOperator", (_Template,), {"key": symbol}))
        for kinds in ((Tile, Tile), (Tile, types.Number), (types.Number, Tile)):
            lower_builtin(symbol, *kinds)(lower)


_register((operator.add, operator.iadd), "fadd")
_register((operator.sub, operator.isub), "fsub")
_register((operator.mul, operator.imul), "fmul")
_register((operator.truediv, operator.itruediv), "fdiv")


def fused(builder, a, b, c):
    """Return the vector a * b + c, rounded once."""
    name = f"llvm.fma.v{a.type.count}f{64 if isinstance(a.type.element, ir.DoubleType) else 32}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(a.type, [a.type] * 3), name)
    return builder.call(function, [a, b, c])


@intrinsic
def multiply_add(typingctx, a, b, c):
    """Return a * b + c, rounded once; a, b, c broadcast."""
    tile = _broadcast(_broadcast(a, b), c)

    def codegen(context, builder, sig, args):
        a, b, c = (_spread(context, builder, kind, value, tile) for kind, value in zip(sig.args, args, strict=True))
        return pack(builder, [fused(builder, *entry) for entry in zip(a, b, c, strict=True)])

    return tile(a, b, c), codegen


@intrinsic
def where_greater(typingctx, a, b, x, y):
    """Return x where a > b, else y (also where a is NaN); a, b, x, y broadcast."""
    tile = _broadcast(_broadcast(a, b), _broadcast(x, y))

    def codegen(context, builder, sig, args):
        a, b, x, y = (_spread(context, builder, kind, value, tile) for kind, value in zip(sig.args, args, strict=True))
        greater = [builder.fcmp_ordered(">", *pair) for pair in zip(a, b, strict=True)]
        return pack(builder, [builder.select(*entry) for entry in zip(greater, x, y, strict=True)])

    return tile(a, b, x, y), codegen


@intrinsic
def any_greater(typingctx, tile, number):
    """Return 1 if some lane exceeds the number, else 0."""

    def codegen(context, builder, sig, args):
        limit = splat(builder, context.cast(builder, args[1], sig.args[1], tile.dtype), tile.vector)
        found = [builder.fcmp_ordered(">", vector, limit) for vector in unpack(builder, args[0], tile)]
        while len(found) > 1:
            found = [builder.or_(found[0], found[1]), *found[2:]]
        bits = builder.bitcast(found[0], ir.IntType(tile.lanes))
        return builder.zext(builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), ir.IntType(64))

    return types.int64(tile, number), codegen


@intrinsic
def add_squares(typingctx, total, tile):
    """Return total + the (1, C) sums over the rows of tile^2."""

    def codegen(context, builder, sig, args):
        sums = unpack(builder, args[0], total)
        for i, vector in enumerate(unpack(builder, args[1], tile)):
            sums[i % tile.n_columns] = fused(builder, vector, vector, sums[i % tile.n_columns])
        return pack(builder, sums)

    return total(total, tile), codegen


@intrinsic
def sum_columns(typingctx, tile):
    """Return the (R, 1) sums over the columns."""

    def codegen(context, builder, sig, args):
        vectors = unpack(builder, args[0], tile)
        rows = [vectors[first : first + tile.n_columns] for first in range(0, tile.size, tile.n_columns)]
        return pack(builder, [reduce(builder.fadd, row) for row in rows])

    return Tile(tile.dtype, tile.n_rows, 1)(tile), codegen


@intrinsic
def largest_rows(typingctx, tile):
    """Return the (1, C) maxima over the rows."""

    def codegen(context, builder, sig, args):
        vectors = unpack(builder, args[0], tile)
        best = vectors[: tile.n_columns]
        for i, vector in enumerate(vectors[tile.n_columns :]):
            c = i % tile.n_columns
            best[c] = builder.select(builder.fcmp_ordered(">", vector, best[c]), vector, best[c])
        return pack(builder, best)

    return Tile(tile.dtype, 1, tile.n_columns)(tile), codegen


# Memory. Shapes are literal numbers.


@intrinsic(prefer_literal=True)
def zeros(typingctx, like, n_rows, n_columns):
    """Return zeros in the dtype of the array `like`."""
    tile = Tile(like.dtype, n_rows.literal_value, n_columns.literal_value)
    return tile(like, n_rows, n_columns), lambda context, builder, sig, args: ir.Constant(
        context.get_value_type(tile), None
    )


@intrinsic(prefer_literal=True)
def load(typingctx, array, i, p, n_rows, n_columns):
    """Return the tile of array[i + r, p + c lanes :]."""
    tile = Tile(array.dtype, n_rows.literal_value, n_columns.literal_value)

    def codegen(context, builder, sig, args):
        rows = address(context, builder, sig.args[0], *args[:3], tile.n_rows)
        pointers = [_shift(builder, row, c * LANE_BYTES, tile.vector) for row in rows for c in range(tile.n_columns)]
        return pack(builder, [builder.load(pointer, align=LANE_BYTES) for pointer in pointers])

    return tile(array, types.int64, types.int64, n_rows, n_columns), codegen


@intrinsic
def store(typingctx, tile, array, i, p):
    """array[i + r, p + c lanes :] = tile."""

    def codegen(context, builder, sig, args):
        rows = address(context, builder, array, *args[1:], tile.n_rows)
        pointers = [_shift(builder, row, c * LANE_BYTES, tile.vector) for row in rows for c in range(tile.n_columns)]
        for vector, pointer in zip(unpack(builder, args[0], tile), pointers, strict=True):
            builder.store(vector, pointer, align=LANE_BYTES)
        return context.get_dummy_value()

    return types.void(tile, array, types.int64, types.int64), codegen


@intrinsic
def add_to(typingctx, tile, array, i, p):
    """array[i + r, p + c lanes :] += tile; float64, on any multiple of eight bytes."""

    def codegen(context, builder, sig, args):
        rows = address(context, builder, array, *args[1:], tile.n_rows)
        wide = ir.VectorType(ir.DoubleType(), tile.lanes)
        targets = [_shift(builder, row, 8 * c * tile.lanes, wide) for row in rows for c in range(tile.n_columns)]
        for vector, target in zip(unpack(builder, args[0], tile), targets, strict=True):
            value = builder.fpext(vector, wide) if tile.dtype == types.float32 else vector
            builder.store(builder.fadd(builder.load(target, align=8), value), target, align=8)
        return context.get_dummy_value()

    return types.void(tile, array, types.int64, types.int64), codegen


@intrinsic
def prefetch(typingctx, array, i, n_bytes):
    """Ask for the cache line `n_bytes` after array[i] without waiting; an address beyond the array does no harm."""

    def codegen(context, builder, sig, args):
        (row,) = address(context, builder, array, *args[:2], ir.Constant(args[1].type, 0), 1)
        kinds = [row.type, _I32, _I32, _I32]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        read, to_second_level, data = ir.Constant(_I32, 0), ir.Constant(_I32, 2), ir.Constant(_I32, 1)
        builder.call(function, [builder.gep(row, [args[2]]), read, to_second_level, data])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), codegen


def _scalars(array, n_rows, addresses):
    """Signature and code of a (n_rows, 1) tile of scalars, each spread over its vector."""
    tile = Tile(array.dtype, n_rows.literal_value, 1)

    def codegen(context, builder, sig, args):
        pointers = addresses(context, builder, tile, args)
        scalars = [builder.load(_shift(builder, pointer, 0, tile.vector.element)) for pointer in pointers]
        return pack(builder, [splat(builder, scalar, tile.vector) for scalar in scalars])

    return tile(array, types.int64, types.int64, n_rows), codegen


@intrinsic(prefer_literal=True)
def scalars_along(typingctx, array, i, j, n_rows):
    """Return the (n_rows, 1) tile of array[i, j + r], each spread over its vector."""

    def addresses(context, builder, tile, args):
        (row,) = address(context, builder, array, *args[:3], 1)
        size = array.dtype.bitwidth // 8
        return [builder.gep(row, [ir.Constant(_I32, r * size)]) for r in range(tile.n_rows)]

    return _scalars(array, n_rows, addresses)


@intrinsic(prefer_literal=True)
def scalars_down(typingctx, array, i, j, n_rows):
    """Return the (n_rows, 1) tile of array[i + r, j], each spread over its vector."""

    def addresses(context, builder, tile, args):
        return address(context, builder, array, *args[:3], tile.n_rows)

    return _scalars(array, n_rows, addresses)


def _sum_lanes(builder, vectors):
    """One vector whose lane l is the sum of vectors[l % len(vectors)]: at every level halves of two are interleaved.

    Three instructions per pair and level, in place of a horizontal sum of each vector: a third of the instructions.
    """
    lanes, width = vectors[0].type.count, 1
    while width < lanes:
        if len(vectors) == 1:
            vectors = vectors * 2
        low = [lane + (lanes - width) * (lane // width % 2) for lane in range(lanes)]
        high = [index + width for index in low]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [builder.fadd(*(builder.shuffle_vector(a, b, mask(m)) for m in (low, high))) for a, b in pairs]
        width *= 2
    return vectors[0]


@intrinsic
def add_sums(typingctx, tile, array, i, j):
    """array[i + r, j + c] += the sum of tile[r, c] over its lanes; float64, R and C powers of two."""

    def codegen(context, builder, sig, args):
        vectors = unpack(builder, args[0], tile)
        rows = address(context, builder, sig.args[1], *args[1:], tile.n_rows)
        group, n_columns = min(tile.lanes, tile.size), tile.n_columns
        entries = ir.VectorType(ir.DoubleType(), n_columns)
        for first in range(0, tile.size, group):
            sums = _sum_lanes(builder, vectors[first : first + group])
            for start in range(0, group, n_columns):
                row = builder.shuffle_vector(sums, sums, mask(range(start, start + n_columns)))
                if tile.dtype == types.float32:
                    row = builder.fpext(row, entries)
                pointer = builder.bitcast(rows[(first + start) // n_columns], entries.as_pointer())
                builder.store(builder.fadd(builder.load(pointer, align=8), row), pointer, align=8)
        return context.get_dummy_value()

    return types.void(tile, array, types.int64, types.int64), codegen


@intrinsic
def transpose(typingctx, tile):
    """Return the (C, 1) tile as (1, R) or the other way: the same vectors."""
    if 1 not in (tile.n_rows, tile.n_columns):
        return None
    return Tile(tile.dtype, tile.n_columns, tile.n_rows)(tile), lambda context, builder, sig, args: args[0]
