"""How a pass is cut into blocks and slots, and who runs the slots.

The cut depends on the problem's shape only, and slots are added up in their order, so that results are the same bits
for any number of threads. Two schedulers run the same machine code: Numba's prange, one pass at a time, and a pool of
Python threads (kernels release the GIL) where prange is not safe, which is in a forked child. `FASTGMM_ENGINE=pool`
or `=prange` chooses.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numba
import numpy as np
from numba.extending import register_jitable

from ._compile import jit
from .calls import ALIGNMENT, address_for, address_of, aligned_bytes, call, packed

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


@register_jitable
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


@register_jitable
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

    run_slot(arguments, slot, workspace) finds the arguments as arguments[0], and n_bytes to work with (calls.array_at).
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
    with _prange_threads(n_threads):
        _run_all(address, pointer, start, n_bytes, n_slots)


class Team(NamedTuple):
    """Who runs the slots of what compiled code starts: threads, or with `run_all` of 0 the code's own alone.

    run_all: address of `_run_all`; workspaces: address of the memory that slots work with, n_bytes for each thread.
    """

    run_all: int
    workspaces: int
    n_bytes: int


@jit()
def run_team(team, address, arguments, n_slots):
    """Run the slot function at `address` for all slots; arguments: what `calls.pointer_to` has made of them."""
    if n_slots > 1 and team.run_all != 0:
        call(team.run_all, (address, arguments, team.workspaces, team.n_bytes, n_slots))
    else:
        for slot in range(n_slots):
            call(address, (arguments, slot, team.workspaces))


def run_leader(leader, n_bytes, n_bytes_of_team, threaded, *arguments, kind=None):
    """Run a slot function once that runs others by `run_team`: its last argument is the Team.

    threaded: whether the others have slots enough that threads pay.
    """
    if numba.config.DISABLE_JIT:
        team = Team(0, np.empty(n_bytes_of_team, np.uint8), n_bytes_of_team)
        leader(((*arguments, team),), 0, np.empty(n_bytes, np.uint8))
        return
    n_threads = min(get_n_threads(), numba.config.NUMBA_NUM_THREADS)
    threaded = threaded and n_threads > 1 and not _uses_pool()
    n_bytes_of_team = -(-n_bytes_of_team // ALIGNMENT) * ALIGNMENT
    run_all = address_of(_run_all, (numba.int64,) * 5) if threaded else 0
    _memory, start = aligned_bytes(n_bytes)
    _team_memory, of_team = aligned_bytes((numba.config.NUMBA_NUM_THREADS if threaded else 1) * n_bytes_of_team)
    arguments = (*arguments, Team(run_all, of_team, n_bytes_of_team))
    address = address_for(leader, arguments, kind)
    frame = packed(arguments)
    pointer = frame.buffer_info()[0]
    if not threaded:
        _run_one(address, pointer, start, 0)
        return
    with _prange_threads(n_threads):
        _run_one(address, pointer, start, 0)


@contextmanager
def _prange_threads(n_threads):
    """One pass at a time, by so many threads."""
    with _prange_lock:
        previous = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            yield
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
