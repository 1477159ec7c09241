"""How a pass is cut into blocks and slots, and who runs the slots.

The cut depends on the problem's shape only, and slots are added up in their order, so that results are the same bits
for any number of threads. Two schedulers run the same machine code: Numba's prange, one pass at a time, and a pool of
Python threads (kernels release the GIL) where prange is not safe, which is in a forked child. `FASTGMM_ENGINE=pool`
or `=prange` chooses.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from ._compile import jit
from .calls import ALIGNMENT, address_for, aligned_bytes, call, packed

# A pass returns to Python at least this often, so that Ctrl-C, progress and time limits work: about 0.05 s on two
# AVX-512 cores, 1 s on one slow core.
FLOPS_PER_CALL = 4e9
STATISTICS_BYTES = 16 * 2**20
OUTPUT_BYTES = 16 * 2**20

_prange_lock = threading.Lock()
_imported_by = os.getpid()  # a child forked later may have inherited threads that do not exist in it
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
    """Rows per block: the transposed copy fills about the L1 cache, between 224 (float32: 448) and 480 rows.

    An odd multiple of 32 (float64) or 64 (float32) rows, so that equal columns of successive rows of a block do not
    fall on the same lines of a cache. Measured from 2 to 256 features: with 64 rows the sums that end each tile cost up
    to twice the time, with 192 instead of 448 rows of float32 a fifth more at 64 features and beyond. With very many
    components fewer rows, so that their responsibilities take at most 1 MiB.
    """
    stripe = 256 // itemsize
    rows = min(512, max(2**11 // itemsize, 2**15 // (n_padded * itemsize)))
    rows = min(rows, max(stripe, 2**20 // (n_components * itemsize)), -(-n_samples // stripe) * stripe)
    return max(1, (rows // stripe - 1) // 2 * 2 + 1) * stripe


def slot_count(n_samples, block, slot_bytes):
    """Slots of a pass: enough to feed many threads, few enough to keep the accumulators small.

    From four on a multiple of four: two threads took three and two of five slots, a fifth more time than two and two.
    """
    n_blocks = -(-n_samples // block)
    count = max(1, min(32, n_blocks // 4, max(8, STATISTICS_BYTES // slot_bytes)))
    return count if count < 4 else count // 4 * 4


@jit()
def slot_bounds(n_blocks, n_slots, slot):
    """First and last block of a slot: a function of the problem's shape only."""
    return slot * n_blocks // n_slots, (slot + 1) * n_blocks // n_slots


def rows_per_call(flops_per_row, bytes_per_row=1):
    """Rows between two returns to Python, also bounded by the size of a temporary result."""
    return max(4096, int(min(FLOPS_PER_CALL / flops_per_row, OUTPUT_BYTES / bytes_per_row)) // 4096 * 4096)


@jit(parallel=True, entry=True)
def _run_all(address, arguments, workspaces, n_bytes, n_slots):
    """Call a slot function for every slot; every thread has its workspace."""
    for slot in numba.prange(n_slots):
        call(address, (arguments, slot, workspaces + numba.get_thread_id() * n_bytes))


@jit(entry=True)
def _run_one(address, arguments, workspace, slot):
    """Call a slot function."""
    call(address, (arguments, slot, workspace))


def run_slots(run_slot, n_slots, n_bytes, *arguments, kind=None):
    """Run a slot function for all slots: in this thread if there is one, else by prange, else by a pool of threads.

    run_slot(arguments, slot, workspace) finds the arguments as arguments[0], and n_bytes to work with (calls.rows_at).
    kind: of the arguments, if their types follow from it (`calls.address_for`).
    """
    if numba.config.DISABLE_JIT:
        for slot in range(n_slots):
            run_slot((arguments,), slot, np.empty(n_bytes, np.uint8))
        return
    address = address_for(run_slot, arguments, kind)
    frame = packed(arguments)  # must last as long as the calls, like the arguments
    pointer = frame.buffer_info()[0]
    if n_slots == 1:
        _memory, start = aligned_bytes(n_bytes)
        _run_one(address, pointer, start, 0)
        return
    n_threads = min(get_n_threads(), numba.config.NUMBA_NUM_THREADS)
    if _uses_pool():
        _run_pool(address, pointer, n_bytes, n_slots, min(n_threads, n_slots))
        return
    n_bytes = -(-n_bytes // ALIGNMENT) * ALIGNMENT
    _memory, start = aligned_bytes(numba.config.NUMBA_NUM_THREADS * n_bytes)
    with _prange_lock:
        previous = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            _run_all(address, pointer, start, n_bytes, n_slots)
        finally:
            numba.set_num_threads(previous)


def _uses_pool():
    """Whether Python's threads run the slots."""
    engine = os.environ.get("FASTGMM_ENGINE", "auto")
    if engine not in ("auto", "pool", "prange"):
        raise ValueError(f"FASTGMM_ENGINE must be auto, prange or pool. Got {engine!r} instead.")
    return engine == "pool" or (engine == "auto" and os.getpid() != _imported_by)


def _run_pool(address, pointer, n_bytes, n_slots, n_threads):
    def run(slots):
        _memory, start = aligned_bytes(n_bytes)
        for slot in slots:
            _run_one(address, pointer, start, slot)

    if n_threads == 1:
        run(range(n_slots))
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(lambda slot: run((slot,)), range(n_slots)):
            pass
