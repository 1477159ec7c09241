"""Fits whose rows workers look at: the same result from any workers in any order, and nothing that hangs."""

import os
import pickle
import random
import signal
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import dask.array
import dask.dataframe
import dask.distributed
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import zarr

import fastgmm
from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    StandardisedMixture,
    cli,
    open_source,
)
from fastgmm.distributed import distribute
from fastgmm.distributed.clusters import _compute_block
from fastgmm.exceptions import InvalidParameterError, SourceError, WorkerError
from fastgmm.model.expectation import accumulate_part
from fastgmm.model.statistics import add_up
from fastgmm.optimization import problem
from fastgmm.rows.wrappers import open_weighted
from tests.conftest import read_only

# Of Dask itself, from threads of its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

N, D = 3000, 3


class Disorderly(Executor):
    """Hands every call over as pickles, to threads that finish in any order; some calls fail at first."""

    def __init__(self, n_workers, n_failures=0):
        self.threads, self._max_workers = ThreadPoolExecutor(n_workers), n_workers
        self.n_failures, self.lock = n_failures, threading.Lock()

    def submit(self, function, /, *arguments):
        return self.threads.submit(self._run, pickle.dumps((function, arguments)), random.random() * 2e-3)

    def _run(self, call, delay):
        time.sleep(delay)
        with self.lock:
            fails, self.n_failures = self.n_failures > 0, self.n_failures - 1
        if fails:
            raise ConnectionResetError("the network hiccupped")
        function, arguments = pickle.loads(call)
        return pickle.loads(pickle.dumps(function(*arguments)))

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.threads.shutdown(wait)


@pytest.fixture(autouse=True)
def as_large(monkeypatch):
    """Small problems are brought to the driver whole; these are to stay where they are."""
    monkeypatch.setattr(problem, "is_small", lambda *shape: False)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D)) + 4.0 * rng.integers(0, 3, (N, 1)) * np.array([1.0, -1.0, 0.5])
    return read_only(X)


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def client():
    """A cluster of two processes that Dask restarts when they die."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        dask.distributed.LocalCluster(**settings) as cluster,
        dask.distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def parameters_of(model):
    names = ("weights_", "means_", "covariances_", "loadings_", "noise_variance_", "weight_concentration_")
    found = [np.ravel(value) for name in names for value in np.atleast_1d(getattr(model, name, []))]
    return np.concatenate([*found, [model.log_likelihood_, model.n_iter_]])


def in_blocks(X, size):
    return np.array_split(X, range(size, len(X), size))


# ---- the same answer ----


@pytest.mark.parametrize("size", [3000, 1000, 177])  # 1, 3 and 17 parts
def test_workers_and_their_order_change_no_bit(rows, covariance_type, size):
    weight = np.random.default_rng(1).uniform(0, 2, N)
    model = GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-8)
    expected = parameters_of(model.fit(rows, sample_weight=weight))
    results = []
    for n_workers in (1, 2, 4):
        with Disorderly(n_workers) as executor:
            source = distribute(rows, executor, rows=size)
            assert len(source.parts) == -(-N // size)
            results.append(parameters_of(model.fit(source, sample_weight=weight)))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_allclose(results[0], expected, rtol=1e-12, atol=1e-12)


def test_one_part_gives_the_bits_of_a_fit_without_workers(rows, covariance_type):
    model = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    expected = parameters_of(model.fit(rows))
    with Disorderly(1) as executor:
        np.testing.assert_array_equal(parameters_of(model.fit(distribute(rows, executor, rows=N))), expected)


def gaps_in(X):
    return np.where(np.random.default_rng(2).random(X.shape) < 0.1, np.nan, X)


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize(
    "model",
    [
        GaussianMixture(3, solver="hard", random_state=0),
        GaussianMixture(3, solver="annealed", random_state=0),
        GaussianMixture(3, solver="stepwise", random_state=0),
        GaussianMixture(3, solver="gradient", max_iter=5, random_state=0),
        GaussianMixture(3, acceleration="lbfgs", random_state=0),
        GaussianMixture(3, missing="em", random_state=0),
        GaussianMixture(3, noise=True, random_state=0),
        GaussianMixture(3, on_singular="restart", random_state=0),
        BayesianGaussianMixture(n_components=3, random_state=0),
        MixtureOfFactorAnalyzers(3, 1, random_state=0),
        MixtureOfFactorAnalyzers(3, 1, missing="em", random_state=0),
        StandardisedMixture(GaussianMixture(3, covariance_type="tied", random_state=0)),
    ],
    ids=str,
)
def test_every_estimator_and_solver(rows, model):
    X = gaps_in(rows) if getattr(model, "missing", "") == "em" else rows
    expected = parameters_of(model.fit(X))
    with Disorderly(2) as executor:
        found = parameters_of(model.fit(distribute(X, executor, rows=500)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_labels_scores_and_criteria(rows):
    model = GaussianMixture(3, random_state=0)
    labels = model.fit_predict(rows)
    with Disorderly(2) as executor:
        source = distribute(rows, executor, rows=500)
        np.testing.assert_array_equal(model.fit_predict(source), labels)
        assert model.score(source) == pytest.approx(model.score(rows), rel=1e-12)
        assert model.bic(source) == pytest.approx(model.bic(rows), rel=1e-12)
        np.testing.assert_array_equal(model.predict(source), labels)
        np.testing.assert_array_equal(source.take(np.array([2999, 0, 501, 0])), rows[[2999, 0, 501, 0]])


def test_statistics_are_added_in_a_tree_of_their_number():
    def tree(n):
        return add_up(f"{i}" if n == 1 else [f"{i}"] for i in range(n))

    assert tree(1) == "0"
    assert tree(5) == ["0", "1", "2", "3", "4"]

    class Sum:
        def __init__(self, text):
            self.text = text

        def __add__(self, other):
            return Sum(f"({self.text}{other.text})")

    assert [add_up(map(Sum, "abcdefg"[:n])).text for n in (3, 4, 7)] == ["((ab)c)", "((ab)(cd))", "(((ab)(cd))((ef)g))"]


# ---- kinds of data ----


def as_kind(kind, X, folder):
    if kind in ("npy", "npys"):
        blocks = [X] if kind == "npy" else in_blocks(X, 1100)
        for i, block in enumerate(blocks):
            np.save(folder / f"{i}.npy", block)
    elif kind == "parquet":
        table = pa.table(dict(zip("abc", X.T, strict=True)))
        pa.parquet.write_table(table, folder / "x.parquet", row_group_size=170)
    elif kind == "csv":
        for i, block in enumerate(in_blocks(X, 1100)):
            np.savetxt(folder / f"{i}.csv", block, delimiter=",", header="a,b,c", comments="", fmt="%.17g")
    elif kind == "zarr":
        settings = {"shape": X.shape, "chunks": (400, D), "dtype": X.dtype}
        array = zarr.open_array(str(folder / "x.zarr"), mode="w", **settings)
        array[:] = X
        return array
    elif kind == "h5":
        with h5py.File(folder / "x.h5", "w") as file:
            file["x"] = X
        return folder / "x.h5"
    else:
        return X
    return folder


@pytest.mark.parametrize("kind", ["array", "npy", "npys", "parquet", "csv", "zarr", "h5"])
def test_processes_read_what_fits_read(rows, tmp_path, pool, kind):
    data = as_kind(kind, rows, tmp_path)
    model = GaussianMixture(3, random_state=0)
    expected = parameters_of(model.fit(rows))
    source = distribute(data, pool, rows=500)
    assert len(source.parts) >= 3
    np.testing.assert_allclose(parameters_of(model.fit(source)), expected, rtol=1e-12)
    assert source.names == (["a", "b", "c"] if kind in ("parquet", "csv") else None)
    np.testing.assert_allclose(parameters_of(model.fit(data, executor=pool)), expected, rtol=1e-12)


def test_float32_stays_float32(rows, pool):
    model = GaussianMixture(3, random_state=0).fit(rows.astype(np.float32), executor=pool)
    assert model.means_.dtype == np.float32


def test_bad_rows_are_left_out_by_the_workers(tmp_path, pool):
    lines = ["a,b", *(f"{i % 7},{i % 5}" for i in range(90)), "x,1"]
    (tmp_path / "0.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "1.csv").write_text("\n".join([*lines, "nan,2"]) + "\n")
    source = distribute(open_source(tmp_path, on_bad="skip"), pool)
    assert (source.n_samples, source.n_skipped) == (180, 3)
    weight = np.ones(180)
    weight[100:] = 2
    expected = GaussianMixture(1).fit(open_source(tmp_path, on_bad="skip"), sample_weight=weight)
    np.testing.assert_allclose(GaussianMixture(1).fit(source, sample_weight=weight).means_, expected.means_, rtol=1e-12)


def test_errors_name_the_place(rows, tmp_path, pool):
    X = rows.copy()
    X[2100, 1] = np.nan
    for i, block in enumerate(in_blocks(X, 1000)):
        np.save(tmp_path / f"{i}.npy", block)
    with pytest.raises(ValueError, match=r"row 2100, which is row 100 of .*2\.npy, column 1"):
        GaussianMixture(2).fit(tmp_path, executor=pool)
    with Disorderly(2) as executor, pytest.raises(ValueError, match=r"row 2100.*column 1"):
        GaussianMixture(2).fit(X, executor=executor)
    np.save(tmp_path / "3.npy", rows[:, :2])
    with pytest.raises(SourceError, match=r"differ.*columns 3.*2"):
        distribute(tmp_path, pool)


def test_what_cannot_be_spread_says_so(rows, tmp_path, pool, client):
    class Chunks:
        def chunks(self):
            yield rows

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = rows
        with pytest.raises(TypeError, match=r"cannot be sent to workers.*h5py"):
            distribute(file["x"], pool)
    with pytest.raises(TypeError, match=r"cannot be read in parts by workers; give"):
        distribute(Chunks(), pool)
    with pytest.raises(TypeError, match=r"executor must be a dask.*Got int"):
        GaussianMixture(2).fit(rows, executor=2)
    with pytest.raises(TypeError, match="There is no active Dask client"):
        distribute(rows)
    with pytest.raises(TypeError, match=r"need a dask.distributed.Client"):
        distribute(dask.array.from_array(rows), pool)
    with pytest.raises(ValueError, match="rechunk"):
        distribute(dask.array.from_array(rows), client, rows=100)
    with pytest.raises(ValueError, match="dropna"):
        distribute(open_source(dask.array.from_array(rows), on_bad="skip"), client)
    with pytest.raises(InvalidParameterError, match="rows must be a positive int"):
        distribute(rows, pool, rows=0)


# ---- workers that fail ----


def test_failed_tasks_are_repeated(rows):
    model = GaussianMixture(3, random_state=0)
    with Disorderly(2) as executor:
        expected = parameters_of(model.fit(distribute(rows, executor, rows=500)))
    with Disorderly(1, n_failures=2) as executor:
        np.testing.assert_array_equal(parameters_of(model.fit(distribute(rows, executor, rows=500))), expected)
        assert executor.n_failures < 0
    with Disorderly(1, n_failures=100) as executor, pytest.raises(ConnectionResetError):
        model.fit(distribute(rows, executor, rows=500))


def test_a_pool_that_lost_a_worker_says_how_to_go_on(rows, tmp_path):
    settings = {"random_state": 0, "tol": 0.0, "max_iter": 6, "checkpoint": tmp_path / "fit.checkpoint"}
    with pytest.warns(fastgmm.exceptions.ConvergenceWarning), ProcessPoolExecutor(2) as pool:
        expected = parameters_of(GaussianMixture(3, **settings).fit(rows, executor=pool))

    def kill(iteration):
        if iteration.n_iter == 3:
            os.kill(next(iter(pool._processes)), signal.SIGKILL)
            while not pool._broken:  # which a thread of the pool notices
                time.sleep(0.01)

    with ProcessPoolExecutor(2) as pool, pytest.raises(WorkerError, match=r"worker died.*resume=True") as caught:
        GaussianMixture(3, callback=kill, checkpoint_every=1, **settings).fit(rows, executor=pool)
    assert isinstance(caught.value.__cause__, BrokenProcessPool)
    with pytest.warns(fastgmm.exceptions.ConvergenceWarning), ProcessPoolExecutor(2) as pool:
        resumed = GaussianMixture(3, resume=True, **settings).fit(rows, executor=pool)
    np.testing.assert_array_equal(parameters_of(resumed), expected)


# ---- Dask ----


def test_dask_arrays_and_frames_go_to_the_active_client(rows, client):
    model = GaussianMixture(3, random_state=0)
    expected = parameters_of(model.fit(rows))
    array = dask.array.from_array(rows, chunks=(400, 2))
    frame = dask.dataframe.from_pandas(pd.DataFrame(rows, columns=list("abc")), npartitions=4)
    unknown = array[array[:, 0] > -100]  # lengths that only computing tells
    with client.as_current():
        for data in (array, array.persist(), frame, unknown):
            np.testing.assert_allclose(parameters_of(model.fit(data)), expected, rtol=1e-12)
            assert len(distribute(data).parts) > 1
        assert model.fit(frame).feature_names_in_.tolist() == ["a", "b", "c"]
        with pytest.raises(ValueError, match="0 sample"):
            model.fit(array[array[:, 0] > 1e9])
    assert fastgmm.distributed.clusters.active_client() is None
    np.testing.assert_allclose(parameters_of(model.fit(array, executor=client)), expected, rtol=1e-12)
    np.testing.assert_allclose(parameters_of(model.fit(array)), expected, rtol=1e-12)  # without workers


def test_a_killed_worker_changes_nothing(rows, client):
    array = client.persist(dask.array.from_array(rows, chunks=(200, D)))
    settings = {"random_state": 0, "tol": 0.0, "max_iter": 12}
    killed = []

    def kill(iteration):
        if iteration.n_iter == 3:
            pid = client.run(os.getpid)[next(iter(client.scheduler_info()["workers"]))]
            threading.Timer(0.01, lambda: (killed.append(pid), os.kill(pid, signal.SIGKILL))).start()

    with pytest.warns(fastgmm.exceptions.ConvergenceWarning):
        expected = parameters_of(GaussianMixture(3, **settings).fit(array, executor=client))
    with pytest.warns(fastgmm.exceptions.ConvergenceWarning):
        found = parameters_of(GaussianMixture(3, callback=kill, **settings).fit(array, executor=client))
    assert killed
    np.testing.assert_array_equal(found, expected)


def test_a_block_that_travelled_gives_the_same_bits(covariance_type):
    """Dask may leave it anywhere in the memory that it was received in."""
    X = np.random.default_rng(0).standard_normal((400_000, 3))  # above 8 MiB
    memory = np.empty(X.nbytes + 1, np.uint8)[1:]
    moved = memory.view(np.float64).reshape(X.shape)
    moved[:] = X
    assert not moved.flags.aligned
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X[:1000])._parameters()
    common = pickle.dumps((accumulate_part, (mixture, np.zeros(3), False, None)))
    found = [_compute_block(rows, X.dtype, X.dtype, common, pickle.dumps((None,))) for rows in (X, moved)]
    assert found[0].log_likelihood == found[1].log_likelihood
    np.testing.assert_array_equal(found[0].sum_outer, found[1].sum_outer)


def test_two_fits_at_once_on_one_client(rows, client):
    models = [GaussianMixture(k, random_state=0) for k in (2, 3)]
    expected = [parameters_of(model.fit(rows, executor=client)) for model in models]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda model: parameters_of(model.fit(rows, executor=client)), models * 2))
    for result, wanted in zip(found, expected * 2, strict=True):
        np.testing.assert_array_equal(result, wanted)
    assert dask.config.get("scheduler", None) is None, "fits leave the settings of the process as they were"


def test_cluster_reads_files_and_uses_one_thread_per_task(rows, tmp_path, client):
    for i, block in enumerate(in_blocks(rows, 1100)):
        np.save(tmp_path / f"{i}.npy", block)
    model = GaussianMixture(3, random_state=0)
    expected = parameters_of(model.fit(rows))
    np.testing.assert_allclose(parameters_of(model.fit(tmp_path, executor=client)), expected, rtol=1e-12)
    assert set(distribute(tmp_path, client).map_parts(n_threads_of)) == {1}


def test_the_command_sends_files_to_a_cluster(rows, tmp_path, client, monkeypatch, capsys):
    for i, block in enumerate(in_blocks(np.column_stack([rows[:, :2], np.abs(rows[:, 2])]), 1100)):
        np.save(tmp_path / f"{i}.npy", block)
    command = ["fit", str(tmp_path), "-k", "3", "--seed", "0", "-o", str(tmp_path / "m.safetensors")]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--standardize", "--weights-column", "2", "--dask", client.scheduler.address])
    assert stopped.value.code == 0
    source, weight = open_weighted(sorted(tmp_path.glob("*.npy")), 2)
    expected = StandardisedMixture(GaussianMixture(3, random_state=0)).fit(source, sample_weight=weight)
    found = fastgmm.load(tmp_path / "m.safetensors")
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-10)
    monkeypatch.setattr("fastgmm.distributed.clusters.CONNECT_SECONDS", 0.3)
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--force", "--dask", "tcp://127.0.0.1:1"])
    assert stopped.value.code == 1
    assert "no Dask scheduler at 'tcp://127.0.0.1:1'" in capsys.readouterr().err


def n_threads_of(part):
    from fastgmm.kernels import parallel

    return parallel.get_n_threads()
