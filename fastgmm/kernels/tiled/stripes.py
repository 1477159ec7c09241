"""A stripe: the few vectors of points that a kernel holds at once, in registers and the L1 cache."""

from .._compile import jit
from . import simd

COLUMNS = 4  # vectors of a stripe: enough independent chains of multiply-adds to hide their latency


@jit(inline=True)
def stripe_size(xt):
    """Points of a stripe."""
    return COLUMNS * simd.LANE_BYTES // xt.itemsize
