"""A cluster of several hosts, which fail: the same bits, or an end in a stated time that names the way to go on.

Scheduler and workers are processes in network namespaces of their own, on this machine: packets travel between them,
a network can be cut, and a folder that one of them sees is not on the others.
"""

import os
import pickle
import sys
import threading
import time

import dask
import dask.distributed
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import zarr

from fastgmm import GaussianMixture
from fastgmm.distributed import clusters, distribute
from fastgmm.exceptions import SourceError, WorkerError
from fastgmm.optimization import growing
from tests.conftest import read_only
from tests.hosts import Hosts, why_not

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # of Dask, from its threads
    pytest.mark.filterwarnings("ignore:.*did not converge"),
]
TCP_SECONDS = 11  # the shortest time in which Dask lets the system give up a silent connection; 30 by default
SETTINGS = {"random_state": 0, "tol": 0, "max_iter": 6}
N = 210_000  # enough for growing samples


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return read_only(rng.normal(size=(N, 2)) + 2 * rng.integers(0, 3, (N, 1)))


class Cluster:
    """A scheduler on host s, a worker on each of the hosts a and b, and a client here."""

    def __init__(self, hosts, hidden):
        self.hosts, self.hidden = hosts, hidden
        self.addresses = {name: hosts.add(name) for name in "sab"}
        self.processes, self.client = {}, None

    @property
    def url(self):
        return f"tcp://{self.addresses['s']}:8786"

    def _start(self, name):
        role = ["scheduler", "--port", "8786"]
        if name != "s":
            role = ["worker", self.url, "--no-nanny", "--nthreads", "1", "--name", name, "--death-timeout", "20"]
        command = [sys.executable, "-m", "dask", *role, "--host", self.addresses[name], "--no-dashboard"]
        settings = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"{TCP_SECONDS}s"}
        hidden = [] if name == "s" else self.hidden
        self.processes[name] = self.hosts.start(name, *command, hidden=hidden, **settings)

    def repair(self):
        """Start what does not run; a scheduler that is lost takes its workers and its client along."""
        if "s" not in self.processes or self.processes["s"].poll() is not None:
            for name in self.processes:
                self.kill(name)
            self.close()
            self._start("s")
        for name in "ab":
            if name not in self.processes or self.processes[name].poll() is not None:
                self._start(name)
        if self.client is None:
            self.client = dask.distributed.Client(self.url, timeout=20, set_as_default=False)
        deadline = time.monotonic() + 20
        while sorted(w["name"] for w in self.client.scheduler_info()["workers"].values()) != ["a", "b"]:
            assert time.monotonic() < deadline, "the workers did not come"
            time.sleep(0.05)

    def kill(self, name):
        self.hosts.kill(self.processes[name])

    def close(self):
        client, self.client = self.client, None
        if client is not None:
            client.close(timeout=1)


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with Hosts() as hosts:
        cluster = Cluster(hosts, [tmp_path_factory.mktemp("here_only")])
        try:
            yield cluster
        finally:
            for name in cluster.addresses:
                hosts.mend(name)
            cluster.close()


@pytest.fixture
def cluster(machines, monkeypatch):
    monkeypatch.setattr(growing, "SHARE", 2)  # a second sample, of 100,000 rows, is fetched
    machines.repair()
    yield machines
    for name in machines.addresses:
        machines.hosts.mend(name)


def fitted(rows, client, **more):
    """What a fit finds, and its score, with all parameters as one array."""
    source = distribute(rows, client)
    model = GaussianMixture(3, **SETTINGS | more).fit(source)
    found = [model.weights_, model.means_, model.covariances_, model.log_likelihood_, model.n_iter_]
    return np.concatenate([*map(np.ravel, found), [model.score(source)]])


@pytest.fixture(scope="module")
def expected(rows):
    """The same of a local cluster of one worker."""
    settings = {"threads_per_worker": 1, "processes": False, "dashboard_address": ":0", "scheduler_port": 0}
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.distributed.LocalCluster(n_workers=1, **settings) as local,
        dask.distributed.Client(local, set_as_default=False) as client,
    ):
        patch.setattr(growing, "SHARE", 2)
        yield fitted(rows, client)


def when_sent(monkeypatch, task, count, action, delay=0.01):
    """Act while workers are about the tasks of this name, the count-th time; return what tells that it is done."""
    run, seen, done = clusters.ClusterRunner.__call__, [], threading.Event()

    def act():
        action()
        done.set()

    def watched(self, parts, dtype, common, own):
        if pickle.loads(common)[0].__name__ == task:
            seen.append(task)
            if len(seen) == count:
                threading.Timer(delay, act).start()
        return run(self, parts, dtype, common, own)

    monkeypatch.setattr(clusters.ClusterRunner, "__call__", watched)
    return done


PHASES = {
    "the sums of the columns": ("_column_sums", 1),
    "the rows a start looks at": ("_take", 2),
    "a growing sample": ("_take", 3),
    "the first iteration": ("accumulate_part", 1),
    "an iteration": ("accumulate_part", 4),
    "the score": ("totalled", 1),
}


def test_the_phases_are_those_of_a_fit(cluster, rows, expected, monkeypatch):
    tasks, run = [], clusters.ClusterRunner.__call__

    def noted(self, parts, dtype, common, own):
        tasks.append(pickle.loads(common)[0].__name__)
        return run(self, parts, dtype, common, own)

    monkeypatch.setattr(clusters.ClusterRunner, "__call__", noted)
    np.testing.assert_array_equal(fitted(rows, cluster.client), expected)  # several hosts change no bit
    assert set(tasks) == {task for task, _ in PHASES.values()}
    assert all(tasks.count(task) >= count for task, count in PHASES.values())


# ---- no shared file system ----


def test_a_file_that_all_hosts_see_is_read_by_the_workers(cluster, rows, expected, tmp_path):
    np.save(tmp_path / "x.npy", rows)
    np.testing.assert_array_equal(fitted(tmp_path / "x.npy", cluster.client), expected)


def written(kind, rows, folder):
    path = folder / f"x.{kind}"
    if kind == "npy":
        np.save(path, rows)
    elif kind == "csv":
        np.savetxt(path, rows, delimiter=",", header="a,b", comments="")
    elif kind == "parquet":
        pa.parquet.write_table(pa.table(dict(zip("ab", rows.T, strict=True))), path, row_group_size=500)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["x"] = rows
    else:
        array = zarr.open_array(str(path), mode="w", shape=rows.shape, chunks=(500, 2), dtype=rows.dtype)
        array[:] = rows
    return path


@pytest.mark.parametrize("kind", ["npy", "csv", "parquet", "h5", "zarr", "zarr array"])
def test_a_file_that_workers_do_not_see_is_named_with_the_way_out(cluster, rows, kind):
    """And costs no worker: one that failed to open a file while it received its tasks ended itself."""
    data = path = written(kind.split()[0], rows[:2000], cluster.hidden[0])
    if kind == "zarr array":
        data = zarr.open_array(str(path), mode="r")
    where = rf"{path} cannot be read by the worker on host 'host-[ab]': No such file or directory\. Workers must see"
    with pytest.raises(SourceError, match=rf"{where} the same files .*: put them into a folder .*; or give .* rows"):
        GaussianMixture(3, **SETTINGS).fit(data, executor=cluster.client)
    assert [cluster.processes[name].poll() for name in "ab"] == [None, None]


# ---- workers that are lost ----


@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_that_is_killed_changes_no_bit(cluster, rows, expected, phase, monkeypatch):
    done = when_sent(monkeypatch, *PHASES[phase], lambda: cluster.kill("a"))
    np.testing.assert_array_equal(fitted(rows, cluster.client), expected)
    assert done.wait(5)


def test_a_worker_whose_network_is_cut_changes_no_bit_in_a_stated_time(cluster, rows, expected, monkeypatch):
    """Twice the time in which Dask gives a connection up: results may lie on that worker when it is lost."""
    done = when_sent(monkeypatch, *PHASES["an iteration"], lambda: cluster.hosts.cut("b"))
    start = time.monotonic()
    np.testing.assert_array_equal(fitted(rows, cluster.client), expected)
    assert done.is_set()
    assert time.monotonic() - start < 2 * TCP_SECONDS + 10
    cluster.kill("b")


@pytest.mark.slow
def test_workers_that_are_killed_at_any_time_change_no_bit(cluster, rows, expected):
    rng = np.random.default_rng(0)
    for number in range(20):
        cluster.repair()
        timer = threading.Timer(rng.uniform(0, 1.5), cluster.kill, "ab"[number % 2])
        timer.start()
        np.testing.assert_array_equal(fitted(rows, cluster.client), expected)
        timer.join()


# ---- schedulers that are lost ----

LOSSES = {"killed": lambda cluster: cluster.kill("s"), "cut": lambda cluster: cluster.hosts.cut("s")}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("phase", ["a growing sample", "an iteration"])
def test_a_lost_scheduler_names_the_way_to_go_on(cluster, rows, expected, loss, phase, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(clusters, "SILENT_SECONDS", 2.0)
    checkpoint, lost = tmp_path / "fit.checkpoint", []

    def lose():
        lost.append(time.monotonic())
        LOSSES[loss](cluster)

    with monkeypatch.context() as patch:
        when_sent(patch, *PHASES[phase], lose)
        with pytest.raises(WorkerError, match=r"go on with checkpoint=PATH and resume=True"):
            fitted(rows, cluster.client, checkpoint=checkpoint, checkpoint_every=1)
    assert time.monotonic() - lost[0] < 2.0 + 3.0
    assert os.path.exists(checkpoint) == (phase == "an iteration")
    cluster.hosts.mend("s")
    cluster.kill("s")
    cluster.repair()
    again = fitted(rows, cluster.client, checkpoint=checkpoint, resume=True)
    np.testing.assert_array_equal(again, expected)


def test_a_scheduler_that_is_restarted_has_forgotten_the_tasks_and_the_error_says_so(cluster, rows, monkeypatch):
    """The client is connected, its results are cancelled: what comes is no CancelledError of Dask's."""
    client = cluster.client
    done = when_sent(monkeypatch, *PHASES["an iteration"], lambda: client.restart(wait_for_workers=False))
    with pytest.raises(WorkerError, match=r"forgot the tasks.*restart.*checkpoint=PATH and resume=True"):
        fitted(rows, client)
    assert done.wait(10)
