"""A cluster that is lost ends a call with an error that names the way to go on, within a stated time."""

import os
import signal

import dask
import dask.array
import dask.distributed
import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.distributed import clusters, distribute
from fastgmm.exceptions import WorkerError
from fastgmm.optimization import problem

X = np.random.default_rng(0).normal(size=(4000, 3)) + 4 * (np.arange(4000)[:, None] % 2)
SETTINGS = {"random_state": 0, "tol": 0, "max_iter": 6, "init_params": X[:2]}
pytestmark = pytest.mark.filterwarnings("ignore:.*did not converge")


@pytest.fixture(autouse=True)
def as_large(monkeypatch):
    """Small problems are brought to the driver whole; these are to stay where they are."""
    monkeypatch.setattr(problem, "is_small", lambda *shape: False)


@pytest.fixture
def cluster():
    with (
        dask.distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", scheduler_port=0
        ) as cluster,
        dask.distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield cluster, client, dask.array.from_array(X, chunks=(1000, 3))


def then(action):
    return lambda info: action() if info.n_iter == 3 else None


def test_a_client_that_is_closed_says_how_to_go_on(cluster, tmp_path):
    _, client, rows = cluster
    model = GaussianMixture(2, checkpoint=tmp_path / "c", callback=then(client.close), **SETTINGS)
    with pytest.raises(WorkerError, match=r"The Dask client is clos.*Connect again, and go on with checkpoint=PATH"):
        model.fit(rows, executor=client)
    resumed = GaussianMixture(2, checkpoint=tmp_path / "c", resume=True, **SETTINGS).fit(X)
    np.testing.assert_allclose(resumed.means_, GaussianMixture(2, **SETTINGS).fit(X).means_, rtol=1e-10)


def test_a_cluster_without_workers_is_not_waited_for_without_end(cluster, monkeypatch):
    local, client, rows = cluster
    monkeypatch.setattr(clusters, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(clusters, "WORKERLESS_SECONDS", 1.0)

    def leave():
        client.retire_workers()
        local.scale(0)

    with pytest.raises(WorkerError, match="The cluster has had no worker for 1 s"):
        GaussianMixture(2, callback=then(leave), **SETTINGS).fit(rows, executor=client)


def test_rows_over_which_workers_die_again_and_again_are_a_worker_error():
    """And not Dask's KilledWorker, which knows no checkpoint."""
    settings = {"n_workers": 1, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        dask.distributed.LocalCluster(scheduler_port=0, **settings) as local,
        dask.distributed.Client(local, set_as_default=False) as client,
        pytest.raises(WorkerError, match=r"died again and again .*checkpoint=PATH and resume=True"),
    ):
        list(distribute(X, client).map_parts(die))


def die(part):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("use", ["fit", "score"])
def test_an_executor_that_is_shut_down_is_named(use):
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    model = GaussianMixture(2, **SETTINGS).fit(X)
    rows = distribute(X, pool)
    pool.shutdown()
    with pytest.raises(WorkerError, match=r"The executor is shut down .*Repeat the call with a new one"):
        getattr(model, use)(rows)
