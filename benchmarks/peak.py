"""The fused-multiply-add peak of this machine, measured: the denominator of every share that the report prints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numba
import numpy as np

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


def measure_fma_peak(dtype: str, n_threads: int, seconds: float = 0.5) -> float:
    """Return GF/s, two flops per multiply-add, over `n_threads` threads: the best of the runs within `seconds`."""
    scalar = np.dtype(dtype).type
    arrays = [np.zeros((CHAINS, 256), dtype=dtype) for _ in range(n_threads)]
    scale, shift, n_repeats = scalar(0.01), scalar(0.5), 4000
    _multiply_add(arrays[0], scale, shift, 1)
    flops = 2.0 * n_threads * n_repeats * arrays[0].size * STEPS
    best = 0.0
    with ThreadPoolExecutor(n_threads) as pool:
        end = perf_counter() + seconds
        while not best or perf_counter() < end:
            begin = perf_counter()
            list(pool.map(lambda x: _multiply_add(x, scale, shift, n_repeats), arrays))
            best = max(best, flops / (perf_counter() - begin) / 1e9)
    return best
