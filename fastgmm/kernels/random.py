"""Uniform random numbers inside compiled code, one stream per seed."""

import numpy as np

from ._compile import jit

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@jit()
def mixed(bits):
    """A permutation of the integers of 64 bits that scatters neighbours (Stafford's thirteenth variant)."""
    bits = (bits ^ (bits >> _30)) * _FIRST
    bits = (bits ^ (bits >> _27)) * _SECOND
    return bits ^ (bits >> _31)


@jit()
def uniform(state):
    """The next number in [0, 1) of a stream: SplitMix64 (Steele, Lea and Flood, 2014); state (1,) uint64 advances."""
    state[0] += _GOLDEN
    return np.float64(mixed(state[0]) >> _11) * 2.0**-53
