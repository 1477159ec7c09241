"""How a pass is cut into blocks and slots, and who runs the slots.

The cut depends on the problem's shape only, and slots are added up in their order, so that results are the same bits
for any number of threads. Two schedulers run the slots: Numba's prange, one pass at a time, and a pool of Python
threads (kernels release the GIL) where prange is not safe, which is in a forked child. `FASTGMM_ENGINE=pool` or
`=prange` chooses; their results differ by a rounding at most, because LLVM may order a sum differently in each.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numba

# A pass returns to Python at least this often, so that Ctrl-C, progress and time limits work: about 0.05 s on two
# AVX-512 cores, 1 s on one slow core.
FLOPS_PER_CALL = 4e9
STATISTICS_BYTES = 16 * 2**20
OUTPUT_BYTES = 16 * 2**20

_prange_lock = threading.Lock()
_prange_pid: int | None = None
_thread_state = threading.local()


def set_n_threads(n_threads):
    """Set the number of threads for passes started from this Python thread; return the previous setting (or None)."""
    previous = getattr(_thread_state, "n_threads", None)
    _thread_state.n_threads = n_threads
    return previous


def get_n_threads():
    """Threads a pass may use."""
    return getattr(_thread_state, "n_threads", None) or numba.config.NUMBA_NUM_THREADS


def block_size(n_samples, n_padded, n_components, itemsize):
    """Rows per block, a multiple of 16: the transposed copy fills about the L1 cache, between 256 and 512 rows.

    Measured from 2 to 128 features: at 64 rows the sums that end each tile cost up to twice the time. With very many
    components fewer rows, so that their distances and log-probabilities take at most 4 MiB each.
    """
    rows = min(512, max(256, 2**15 // (n_padded * itemsize)))
    rows = min(rows, max(64, 2**22 // (n_components * itemsize)))
    return max(16, min(rows, -(-n_samples // 16) * 16) // 16 * 16)


def slot_count(n_samples, block, slot_bytes):
    """Slots of a pass: enough to feed many threads, few enough to keep the accumulators small."""
    n_blocks = -(-n_samples // block)
    return max(1, min(32, n_blocks // 4, max(8, STATISTICS_BYTES // slot_bytes)))


def rows_per_call(flops_per_row, bytes_per_row=1):
    """Rows between two returns to Python, also bounded by the size of a temporary result."""
    return max(4096, int(min(FLOPS_PER_CALL / flops_per_row, OUTPUT_BYTES / bytes_per_row)) // 4096 * 4096)


def run_slots(run_pass, run_slot, n_slots, *arguments):
    """Run all slots: in this thread if there is one, else by prange, else by a pool of Python threads."""
    global _prange_pid
    if n_slots == 1:
        run_slot(*arguments, 0)
        return
    engine = os.environ.get("FASTGMM_ENGINE", "auto")
    if engine not in ("auto", "pool", "prange"):
        raise ValueError(f"FASTGMM_ENGINE must be auto, prange or pool. Got {engine!r} instead.")
    n_threads = min(get_n_threads(), numba.config.NUMBA_NUM_THREADS)
    forked = _prange_pid is not None and _prange_pid != os.getpid()
    if engine == "pool" or (engine == "auto" and forked):
        _run_pool(run_slot, n_slots, n_threads, arguments)
        return
    with _prange_lock:
        _prange_pid = os.getpid()
        previous = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            run_pass(*arguments)
        finally:
            numba.set_num_threads(previous)


def _run_pool(run_slot, n_slots, n_threads, arguments):
    if n_threads == 1:
        for slot in range(n_slots):
            run_slot(*arguments, slot)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(lambda slot: run_slot(*arguments, slot), range(n_slots)):
            pass
