"""Calling compiled functions by address: what is called so is compiled once, not again inside each of its callers.

Numba links the code of a callee into its caller and optimises both together, so that a chain of large functions is
compiled as often as it is long: seconds. The arguments' types are the function's signature; nobody checks that again.

What Python starts, a slot function, takes a pointer to its arguments as they lie in memory (`packed`), the slot's
number and memory to work with. Wrappers that unpacked the seventeen arrays of a pass, for each slot function and
precision and again for prange, took a second to compile.
"""

import ctypes
import gc
from array import array
from contextlib import contextmanager

import numba
import numpy as np
from numba import types
from numba._dispatcher import compute_fingerprint
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

ALIGNMENT = 64  # unaligned vectors cost up to half the speed

_addresses: dict[object, int] = {}
addressof, from_buffer = ctypes.addressof, ctypes.c_char.from_buffer


@contextmanager
def _collection_paused():
    """Keep the garbage collector from walking through the compiler's objects again and again: a sixth of the time."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def address_of(function, kinds):
    """Address of the machine code of a function for arguments of these types, compiled if need be."""
    if numba.config.DISABLE_JIT:
        return function
    key = function, kinds
    if key not in _addresses:
        with _collection_paused():
            function.compile(kinds)
        result = function.overloads[kinds]
        _addresses[key] = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    return _addresses[key]


def address_for(function, arguments, kind=None):
    """Address of the machine code of a slot function for arguments like these.

    Known by `kind`, if that says what the arguments are, or by Numba's fingerprint of them (3 us for those of a pass):
    their types take 250 us to find and hash.
    """
    key = function, compute_fingerprint(arguments) if kind is None else kind
    found = _addresses.get(key)
    if found is None:
        found = address_of(function, (types.CPointer(numba.typeof(arguments)), types.int64, types.int64))
        _addresses[key] = found
    return found


def packed(arguments):
    """Arguments (integers, arrays, tuples of them) as machine code lays them out, in words of 8 bytes.

    An array is owner, parent, numbers of items and of their bytes, address, shape and strides. The owner is null: who
    calls keeps the arrays alive. An address is found through a writable buffer in 0.2 us, by NumPy's attribute in 1 us.
    """
    words = []
    for argument in arguments:
        for entry in argument if isinstance(argument, tuple) else (argument,):
            if not isinstance(entry, np.ndarray):
                words.append(entry)
                continue
            start = 0
            if entry.size:
                start = addressof(from_buffer(entry)) if entry.flags.carray else entry.ctypes.data
            words += (0, 0, entry.size, entry.itemsize, start, *entry.shape, *entry.strides)
    return array("q", words)


def aligned_bytes(n_bytes):
    """Memory on a multiple of ALIGNMENT: what keeps it, and the address."""
    memory = np.empty(n_bytes + ALIGNMENT, np.uint8)
    return memory, -(-addressof(from_buffer(memory)) // ALIGNMENT) * ALIGNMENT


@intrinsic
def _rows_at(typingctx, workspace, offset, n_rows, n_columns, like):
    matrix = types.Array(like.dtype, 2, "C")

    def codegen(context, builder, sig, args):
        view = make_array(matrix)(context, builder)
        data = builder.inttoptr(builder.add(args[0], args[1]), view.data.type)
        itemsize = context.get_constant(types.int64, like.dtype.bitwidth // 8)
        populate_array(view, data, args[2:4], [builder.mul(args[3], itemsize), itemsize], itemsize, None)
        return view._getvalue()

    return matrix(types.int64, types.int64, types.int64, types.int64, like), codegen


def python_rows_at(workspace, offset, n_rows, n_columns, like):
    """A matrix of the dtype of `like`, `offset` bytes from the start of the workspace: its address in compiled code."""
    return workspace[offset : offset + n_rows * n_columns * like.itemsize].view(like.dtype).reshape(n_rows, n_columns)


@intrinsic
def _call(typingctx, address, arguments):
    def codegen(context, builder, sig, args):
        kinds = sig.args[1].types
        function = context.call_conv.get_function_type(types.none, kinds)
        pointer = builder.inttoptr(args[0], function.as_pointer())
        values = cgutils.unpack_tuple(builder, args[1])
        status, _ = context.call_conv.call_function(builder, pointer, types.none, kinds, values)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.none(address, arguments), codegen


def python_call(address, arguments):
    """Call the function at `address`, which returns nothing, with a tuple of arguments."""
    address(*arguments)


call, rows_at = (python_call, python_rows_at) if numba.config.DISABLE_JIT else (_call, _rows_at)
