"""Calling compiled functions by address: what is called so is compiled once, not again inside each of its callers.

Numba links the code of a callee into its caller and optimises both together, so that a chain of large functions is
compiled as often as it is long: seconds. The arguments' types are the function's signature; nobody checks that again.

What Python starts, a slot function, takes a pointer to its arguments as they lie in memory (`packed`), the slot's
number and memory to work with. Wrappers that unpacked the seventeen arrays of a pass, for each slot function and
precision and again for prange, took a second to compile.
"""

import ctypes
import gc
import math
from array import array
from contextlib import contextmanager

import numba
import numpy as np
from numba import types
from numba._dispatcher import compute_fingerprint
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable
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
    if numba.config.DISABLE_JIT:
        return function
    key = function, compute_fingerprint(arguments) if kind is None else kind
    found = _addresses.get(key)
    if found is None:
        found = address_of(function, (types.CPointer(numba.typeof(arguments)), types.int64, types.int64))
        _addresses[key] = found
    return found


def address_like(function, dtype, arguments):
    """Address of the machine code of a function for arguments like these, whose types follow from `dtype`."""
    key = function, dtype
    found = _addresses.get(key)
    if found is None:
        kinds = () if numba.config.DISABLE_JIT else tuple(numba.typeof(argument) for argument in arguments)
        found = _addresses[key] = address_of(function, kinds)
    return found


def packed(arguments):
    """Arguments (integers, arrays, tuples of them) as machine code lays them out, in words of 8 bytes.

    An array is owner, parent, numbers of items and of their bytes, address, shape and strides. The owner is null: who
    calls keeps the arrays alive. An address is found through a writable buffer in 0.2 us, by NumPy's attribute in 1 us.
    """
    words = array("q")
    _append_words(arguments, words)
    return words


def _append_words(arguments, words):
    for entry in arguments:
        if isinstance(entry, tuple):
            _append_words(entry, words)
        elif not isinstance(entry, np.ndarray):
            words.append(entry)
        else:
            start = 0
            if entry.size:
                start = addressof(from_buffer(entry)) if entry.flags.carray else entry.ctypes.data
            words.extend((0, 0, entry.size, entry.itemsize, start, *entry.shape, *entry.strides))


def aligned_bytes(n_bytes):
    """Memory on a multiple of ALIGNMENT: what keeps it, and the address."""
    memory = np.empty(n_bytes + ALIGNMENT, np.uint8)
    return memory, -(-addressof(from_buffer(memory)) // ALIGNMENT) * ALIGNMENT


@intrinsic
def _array_at(typingctx, workspace, offset, shape, like):
    array = types.Array(like.dtype, len(shape), "C")

    def codegen(context, builder, sig, args):
        view = make_array(array)(context, builder)
        data = builder.inttoptr(builder.add(args[0], args[1]), view.data.type)
        itemsize = context.get_constant(types.int64, like.dtype.bitwidth // 8)
        sizes = cgutils.unpack_tuple(builder, args[2])
        strides = [itemsize]
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        populate_array(view, data, sizes, strides, itemsize, None)
        return view._getvalue()

    return array(types.int64, types.int64, shape, like), codegen


def python_array_at(workspace, offset, shape, like):
    """An array of the dtype of `like`, `offset` bytes from the start of the workspace: its address in compiled code.

    shape: a tuple of integers of 64 bits.
    """
    return workspace[offset : offset + math.prod(shape) * like.itemsize].view(like.dtype).reshape(shape)


@intrinsic
def _pointer_to(typingctx, arguments):
    def codegen(context, builder, sig, args):
        return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), context.get_value_type(types.int64))

    return types.int64(arguments), codegen


def python_pointer_to(arguments):
    """What a slot function takes for its arguments, made in compiled code; valid until the caller returns."""
    return (arguments,)


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


def python_beyond(workspace, offset):
    """The workspace from `offset` bytes on."""
    return workspace[offset:]


@register_jitable
def _beyond(workspace, offset):
    return workspace + offset


@register_jitable
def padded_to_line(n_bytes):
    """Bytes up to the next multiple of ALIGNMENT."""
    return (n_bytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


if numba.config.DISABLE_JIT:
    call, array_at, pointer_to, beyond = python_call, python_array_at, python_pointer_to, python_beyond
else:
    call, array_at, pointer_to, beyond = _call, _array_at, _pointer_to, _beyond
