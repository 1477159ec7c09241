"""The limits of this machine, measured: fused multiply-adds per second, and memory read and triad bandwidth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

import numba
import numpy as np

from fastgmm.kernels.calls import aligned_bytes
from fastgmm.kernels.tiled import simd

CHAINS = 10  # independent accumulators: two pipes times four cycles of latency need at least eight
STEPS = 8


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _multiply_add(x: np.ndarray, scale: float, shift: float, n_repeats: int) -> None:
    """Take STEPS steps of c = c * scale + shift from the CHAINS rows of x, n_repeats times; x[0] receives their sum.

    LLVM unrolls the loop of constant length and vectorises over the columns i, all chains in registers.
    """
    for _ in range(n_repeats):
        for i in range(x.shape[1]):
            c0, c1, c2, c3, c4 = x[0, i], x[1, i], x[2, i], x[3, i], x[4, i]
            c5, c6, c7, c8, c9 = x[5, i], x[6, i], x[7, i], x[8, i], x[9, i]
            for _ in range(STEPS):
                c0 = c0 * scale + shift
                c1 = c1 * scale + shift
                c2 = c2 * scale + shift
                c3 = c3 * scale + shift
                c4 = c4 * scale + shift
                c5 = c5 * scale + shift
                c6 = c6 * scale + shift
                c7 = c7 * scale + shift
                c8 = c8 * scale + shift
                c9 = c9 * scale + shift
            x[0, i] = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + (c8 + c9)


@numba.njit(nogil=True, error_model="numpy")
def _multiply_add_tiles(x: np.ndarray, scale: float, shift: float, n_repeats: int) -> None:
    """`_multiply_add` in vectors of 64 bytes: for several Intel processors LLVM's vectoriser chooses half of that."""
    lanes = simd.LANE_BYTES // x.itemsize
    for _ in range(n_repeats):
        for p in range(0, x.shape[1], lanes):
            c = simd.load(x, 0, p, CHAINS, 1)
            for _ in range(STEPS):
                c = simd.multiply_add(c, scale, shift)
            simd.store(c, x, 0, p)


def _aligned(n_rows: int, n_columns: int, dtype: np.dtype) -> np.ndarray:
    n_bytes = n_rows * n_columns * dtype.itemsize
    memory, start = aligned_bytes(n_bytes)
    skip = start - memory.ctypes.data
    return memory[skip : skip + n_bytes].view(dtype).reshape(n_rows, n_columns)


def measure_fma_peak(dtype: str, n_threads: int, seconds: float = 0.5) -> float:
    """Return GF/s, two flops per multiply-add, over `n_threads` threads: the best of the runs within `seconds`.

    The better of two loops, since neither is the faster one on every processor.
    """
    scalar = np.dtype(dtype).type
    arrays = [_aligned(CHAINS, 256, np.dtype(dtype)) for _ in range(n_threads)]
    scale, shift, n_repeats = scalar(0.01), scalar(0.5), 4000
    flops = 2.0 * n_threads * n_repeats * arrays[0].size * STEPS
    best = 0.0
    with ThreadPoolExecutor(n_threads) as pool:
        for loop in (_multiply_add, _multiply_add_tiles) if simd.LANE_BYTES else (_multiply_add,):
            for x in arrays:
                x[:] = 0
            loop(arrays[0], scale, shift, 1)
            end = perf_counter() + seconds
            while not best or perf_counter() < end:
                begin = perf_counter()
                list(pool.map(partial(loop, scale=scale, shift=shift, n_repeats=n_repeats), arrays))
                best = max(best, flops / (perf_counter() - begin) / 1e9)
    return best


@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _read(a: np.ndarray) -> float:
    """Return the sum of a."""
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i]
    return total


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _triad(a: np.ndarray, b: np.ndarray, c: np.ndarray, scale: float) -> None:
    """Fill a with b + scale * c."""
    for i in range(a.shape[0]):
        a[i] = b[i] + scale * c[i]


def measure_bandwidth(n_threads: int, seconds: float = 0.5, length: int = 2**23) -> dict[str, float]:
    """Return GB/s over `n_threads` threads, best of the runs within `seconds` each: reading, and STREAM's triad.

    Three arrays of `length` float64 per thread (64 MiB each) exceed the caches; the triad counts 24 bytes per element,
    not the read that a store may cost.
    """
    arrays = [[np.full(length, fill) for fill in (0.0, 1.0, 2.0)] for _ in range(n_threads)]
    loops = {
        "read_gb_per_s": (8, lambda abc: _read(abc[0])),
        "triad_gb_per_s": (24, lambda abc: _triad(*abc, 3.0)),
    }
    best = dict.fromkeys(loops, 0.0)
    with ThreadPoolExecutor(n_threads) as pool:
        for name, (bytes_per_element, loop) in loops.items():
            loop([array[:8] for array in arrays[0]])  # compiles
            end = perf_counter() + seconds
            while not best[name] or perf_counter() < end:
                begin = perf_counter()
                list(pool.map(loop, arrays))
                rate = bytes_per_element * n_threads * length / (perf_counter() - begin) / 1e9
                best[name] = max(best[name], rate)
    return best
