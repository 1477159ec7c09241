"""How many threads a call may use: a context manager that restores what was set before, also on error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path


def available_threads() -> int:
    """Processors this process may use: its affinity mask, capped by its control group's quota (Linux).

    And by LOKY_MAX_CPU_COUNT, as in joblib and scikit-learn. NUMBA_NUM_THREADS, which joblib sets in its worker
    processes to their share (`inner_max_num_threads`), caps what a pass uses whatever `n_jobs` is.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        count = os.cpu_count() or 1
    count = min(count, _quota())
    with suppress(KeyError, ValueError):  # not set, or not to a number
        count = min(count, max(1, int(os.environ["LOKY_MAX_CPU_COUNT"])))
    return count


@cache
def _quota() -> int:
    """Processors that the control group of this process grants, read once: reading took 3 % of a fit of 100 rows."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no control group, or the word "max"
        return sys.maxsize


@contextmanager
def thread_limit(n_jobs: int | None) -> Iterator[int]:
    """Limit passes started from this Python thread to `n_jobs` threads; None and -1 mean all that are available.

    Negative numbers count back from all, as in joblib: -2 leaves one processor free.
    """
    from .kernels.parallel import set_n_threads

    available = available_threads()
    if n_jobs is None:
        n_threads = available
    elif n_jobs < 0:
        n_threads = max(1, available + 1 + n_jobs)
    else:
        n_threads = n_jobs
    previous = set_n_threads(n_threads)
    try:
        yield n_threads
    finally:
        set_n_threads(previous)
