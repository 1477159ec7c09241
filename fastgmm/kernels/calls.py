"""Calling compiled functions by address: what is called so is compiled once, not again inside each of its callers.

Numba links the code of a callee into its caller and optimises both together, so that a chain of large functions is
compiled as often as it is long: seconds. The arguments' types are the function's signature; nobody checks that again.
"""

import numba
from numba import types
from numba._dispatcher import compute_fingerprint
from numba.core import cgutils
from numba.extending import intrinsic

_addresses: dict[object, int] = {}


def address_of(function, kinds):
    """Address of the machine code of a function for arguments of these types, compiled if need be."""
    if numba.config.DISABLE_JIT:
        return function
    key = function, kinds
    if key not in _addresses:
        function.compile(kinds)
        result = function.overloads[kinds]
        _addresses[key] = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    return _addresses[key]


def address_for(function, arguments):
    """Address of the machine code of a function for arguments like these.

    Known by Numba's fingerprint of the arguments (3 us for those of a pass): their types take 250 us to find and hash.
    """
    key = function, compute_fingerprint(arguments)
    if key not in _addresses:
        _addresses[key] = address_of(function, tuple(numba.typeof(argument) for argument in arguments))
    return _addresses[key]


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


def call(address, arguments):
    """Call the function at `address`, which returns nothing, with a tuple of arguments."""
    address(*arguments)


if not numba.config.DISABLE_JIT:
    call = _call
