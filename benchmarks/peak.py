"""The fused-multiply-add peak of this machine, measured: the denominator of every share that the report prints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numba
import numpy as np

CHAINS = 12  # independent accumulators per lane: two pipes times four cycles of latency need at least eight
STEPS = 8


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _multiply_add(x: np.ndarray, scale: float, shift: float, n_repeats: int) -> None:
    """Overwrite each x[i] by the sum of CHAINS affine recurrences of STEPS steps, n_repeats times.

    The inner loop has a constant length: LLVM unrolls it, then vectorises over i with all chains in registers.
    """
    for _ in range(n_repeats):
        for i in range(x.shape[0]):
            a = x[i]
            b, c, d, e, f, g = a + shift, a - shift, a * scale, a + scale, a - scale, scale - a
            h, j, k, l, m = shift - a, a * shift, a + a, a * a, -a  # noqa: E741 - twelve letters
            for _ in range(STEPS):
                a = a * scale + shift
                b = b * scale + shift
                c = c * scale + shift
                d = d * scale + shift
                e = e * scale + shift
                f = f * scale + shift
                g = g * scale + shift
                h = h * scale + shift
                j = j * scale + shift
                k = k * scale + shift
                l = l * scale + shift  # noqa: E741
                m = m * scale + shift
            x[i] = (((a + b) + (c + d)) + ((e + f) + (g + h))) + ((j + k) + (l + m))


def measure_fma_peak(dtype: str, n_threads: int, seconds: float = 0.5) -> float:
    """Return GF/s (two flops per multiply-add) over `n_threads` threads: the best of repeats within `seconds`."""
    scalar = np.dtype(dtype).type
    arrays = [np.zeros(1024, dtype=dtype) for _ in range(n_threads)]
    scale, shift, n_repeats = scalar(0.01), scalar(0.5), 2000
    _multiply_add(arrays[0], scale, shift, 1)
    flops = 2.0 * n_threads * n_repeats * len(arrays[0]) * CHAINS * STEPS
    best = 0.0
    with ThreadPoolExecutor(n_threads) as pool:
        end = perf_counter() + seconds
        while perf_counter() < end:
            begin = perf_counter()
            list(pool.map(lambda x: _multiply_add(x, scale, shift, n_repeats), arrays))
            best = max(best, flops / (perf_counter() - begin) / 1e9)
    return best
