"""Fits from Python threads, forked children and worker processes: the same bits, never an abort, never a hang."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from fastgmm import GaussianMixture
from fastgmm.kernels.parallel import get_n_threads
from fastgmm.threads import available_threads, thread_limit
from tests.conftest import ROOT

# Large enough for several slots, so that a parallel scheduler runs.
FITS = """
import hashlib, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numba, numpy as np
from fastgmm import GaussianMixture

def fingerprint(seed, n_jobs=None):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20000, 3)) + 4 * rng.integers(0, 3, size=(20000, 1))
    model = GaussianMixture(3, random_state=0, tol=1e-2, n_jobs=n_jobs).fit(X)
    return hashlib.sha256(model.means_.tobytes() + model.covariances_.tobytes()).hexdigest()
"""


def run(body, **environment):
    """Run in a process of its own, where a hang or an abort is a failure of the test and not of the run."""
    command = [sys.executable, "-c", FITS + body]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT, check=False)


def has_tbb():
    probe = "import numba; numba.set_num_threads(1); from numba.np.ufunc import tbbpool"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


LAYERS = ["omp", "workqueue", pytest.param("tbb", marks=pytest.mark.skipif(not has_tbb(), reason="no TBB here"))]


@pytest.mark.parametrize("layer", LAYERS)
def test_four_python_threads_fit_at_once_under_every_threading_layer(layer):
    body = """
alone = [fingerprint(seed) for seed in range(4)]
with ThreadPoolExecutor(4) as pool:
    for _ in range(3):
        assert list(pool.map(fingerprint, range(4))) == alone
print(numba.threading_layer())
"""
    result = run(body, NUMBA_THREADING_LAYER=layer)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == layer


def test_the_pool_works_beside_another_library_in_the_workqueue_layer():
    """Two libraries in prange at once abort the process there, whatever locks each of them has."""
    body = """
@numba.njit(parallel=True, nogil=True)
def busy(x):
    for i in numba.prange(x.shape[0]):
        for _ in range(200):
            x[i] = x[i] * 0.5 + 1.0

import threading
stop = threading.Event()
def other_library():
    x = np.zeros(100000)
    while not stop.is_set():
        busy(x)
alone = fingerprint(0)
busy(np.zeros(10))
thread = threading.Thread(target=other_library)
thread.start()
try:
    assert [fingerprint(0) for _ in range(5)] == [alone] * 5
finally:
    stop.set()
    thread.join()
"""
    result = run(body, NUMBA_THREADING_LAYER="workqueue", FASTGMM_ENGINE="pool")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_forked_children_fit_after_their_parent(layer):
    body = """
alone = [fingerprint(seed) for seed in range(2)]
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    assert list(pool.map(fingerprint, range(2))) == alone
"""
    result = run(body, NUMBA_THREADING_LAYER=layer)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_started_afresh_fit_too(method, tmp_path):
    script = tmp_path / "children.py"
    script.write_text(
        FITS
        + f"""
if __name__ == "__main__":
    alone = [fingerprint(seed) for seed in range(2)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("{method}")) as pool:
        assert list(pool.map(fingerprint, range(2))) == alone
"""
    )
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr


def test_prange_and_the_pool_run_the_same_machine_code():
    body = "print(fingerprint(0))"
    outputs = {run(body, FASTGMM_ENGINE=engine).stdout for engine in ("prange", "pool")}
    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64


def test_one_to_eight_threads_of_either_scheduler_find_the_same_bits():
    body = """
found = set()
for os.environ["FASTGMM_ENGINE"] in ("prange", "pool"):
    found |= {fingerprint(0, n_jobs) for n_jobs in (1, 2, 3, 4, 8)}
print(numba.config.NUMBA_NUM_THREADS, len(found))
"""
    result = run(body, NUMBA_NUM_THREADS="8")
    assert result.stdout.split() == ["8", "1"], result.stderr


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_workers_find_the_same_scores(backend):
    import joblib

    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 2)) + 5 * rng.integers(0, 3, size=(6000, 1))
    search = GridSearchCV(GaussianMixture(random_state=0), {"n_components": [1, 2, 3]}, cv=2)
    best = GaussianMixture(3, random_state=0)
    alone, scores = clone(search).fit(X), cross_val_score(best, X, cv=4)
    with joblib.parallel_backend(backend, n_jobs=2):
        together = clone(search).fit(X)
        np.testing.assert_array_equal(cross_val_score(best, X, cv=4), scores)
    np.testing.assert_array_equal(together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def threads_of_a_fit(n_jobs):
    """Threads that a fit in this process may use, and how many more the process has after it."""
    import os

    import numba

    from fastgmm import GaussianMixture
    from fastgmm.kernels.parallel import get_n_threads
    from fastgmm.threads import thread_limit

    X = np.random.default_rng(0).normal(size=(20000, 2))
    before = len(os.listdir("/proc/self/task"))
    GaussianMixture(2, random_state=0, tol=0.1, n_jobs=n_jobs).fit(X)
    with thread_limit(n_jobs):
        allowed = min(get_n_threads(), numba.config.NUMBA_NUM_THREADS)
    return allowed, len(os.listdir("/proc/self/task")) - before


@pytest.mark.parametrize("n_jobs", [None, -1, 4])
def test_worker_processes_keep_to_their_share_of_the_threads(n_jobs):
    """joblib tells its worker processes how many threads each may use; a fit has no more, whatever it asks for."""
    import joblib

    with joblib.parallel_backend("loky", n_jobs=2, inner_max_num_threads=1):
        found = joblib.Parallel()(joblib.delayed(threads_of_a_fit)(n_jobs) for _ in range(4))
    assert found == [(1, 0)] * 4


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_fits_in_threads_of_joblib_have_one_team_of_threads_each_at_most(layer):
    body = """
import joblib
tasks = lambda: len(os.listdir("/proc/self/task"))
before, after = [], []
def fit(seed):
    before.append(tasks())  # the first of them without any thread of a fit
    found = fingerprint(seed)
    after.append(tasks())
    return found
with joblib.parallel_backend("threading", n_jobs=2):
    together = joblib.Parallel()(joblib.delayed(fit)(seed) for seed in range(4))
print(max(after) - before[0])
assert together == [fingerprint(seed) for seed in range(4)]
"""
    result = run(body, NUMBA_THREADING_LAYER=layer)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) <= 2 * 2 - 2  # the two that call are there anyway


@pytest.mark.parametrize(("value", "count"), [("1", 1), ("0", 1), ("100000", None), ("many", None)])
def test_the_default_number_of_threads_keeps_to_the_limit_that_joblib_knows(value, count, monkeypatch):
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    unlimited = available_threads()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", value)
    with thread_limit(None) as n_threads:
        assert n_threads == get_n_threads() == (count or unlimited)
    with thread_limit(3) as n_threads:  # who asks for a number gets it
        assert n_threads == 3


def test_the_default_number_of_threads_keeps_to_the_affinity_mask():
    body = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from fastgmm.threads import thread_limit
with thread_limit(None) as n_threads:
    print(n_threads)
"""
    assert run(body).stdout.strip() == "1"
