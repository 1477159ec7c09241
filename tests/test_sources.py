"""Fits on files and other data that are read block by block: the results of arrays, clear errors, little memory."""

import os
import subprocess
import sys
import threading
import time
import warnings

import dask.array
import dask.dataframe
import h5py
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import zarr

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, engine, open_source
from fastgmm.exceptions import SourceError
from fastgmm.rows.prefetch import Prefetched
from fastgmm.rows.reservoir import Reservoir, level_of, rows_of_nodes
from fastgmm.rows.source import ArraySource
from fastgmm.rows.streams import StreamSource

MIB = 2**20
N, D = 3000, 3
NAMES = ["a", "b", "c"]
KINDS = [
    "npy",
    "fortran",
    "npys",
    "csv",
    "csvs",
    "gz",
    "parquet",
    "parquets",
    "folder",
    "glob",
    "table",
    "stream",
    "zarr",
]
KINDS += ["h5py", "dask", "frame", "chunks", "zarr path", "h5 path"]


class Chunks:
    """What a user may have."""

    def __init__(self, parts):
        self.parts = parts

    def chunks(self):
        yield from self.parts


class ReusedBuffer:
    """Yields the same memory again and again."""

    def __init__(self, X, size):
        self.X, self.buffer = X, np.empty((size, X.shape[1]), X.dtype)

    def chunks(self):
        size = len(self.buffer)
        for first in range(0, len(self.X), size):
            part = self.X[first : first + size]
            self.buffer[: len(part)] = part
            yield self.buffer[: len(part)]


class Capsule:
    """Nothing but an Arrow stream."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def rows(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, D)) + 4.0 * rng.integers(0, 3, (n, 1)) * np.array([1.0, -1.0, 0.5])


def table_of(X, names=NAMES):
    return pa.table(dict(zip(names, X.T, strict=True)))


def write_csv(X, path):
    pyarrow.csv.write_csv(table_of(X), str(path))
    return path


def as_kind(kind, X, folder):
    """The rows as a source of this kind."""
    parts = np.array_split(X, [700, 701, 2000])
    if kind == "npy":
        np.save(folder / "x.npy", X)
        return str(folder / "x.npy")
    if kind == "fortran":
        np.save(folder / "f.npy", np.asfortranarray(X))
        return folder / "f.npy"
    if kind in ("npys", "csvs", "parquets"):
        paths = []
        for i, part in enumerate(parts):
            path = folder / f"{kind}{i}.{kind[:-1]}"
            if kind == "npys":
                np.save(path, part)
            elif kind == "csvs":
                write_csv(part, path)
            else:
                pa.parquet.write_table(table_of(part), path, row_group_size=300)
            paths.append(path)
        return paths
    if kind == "csv":
        return write_csv(X, folder / "x.csv")
    if kind == "gz":
        with pa.output_stream(str(folder / "x.csv.gz"), compression="gzip") as out:
            pyarrow.csv.write_csv(table_of(X), out)
        return folder / "x.csv.gz"
    if kind == "parquet":
        pa.parquet.write_table(table_of(X), folder / "x.parquet", row_group_size=450)
        return folder / "x.parquet"
    if kind == "folder":
        (folder / "all").mkdir()
        as_kind("parquets", X, folder / "all")
        (folder / "all" / "_SUCCESS").touch()
        return folder / "all"
    if kind == "glob":
        as_kind("npys", X, folder)
        return str(folder / "npys*.npy")
    if kind == "table":
        return pa.concat_tables([table_of(part) for part in parts])
    if kind == "stream":
        return Capsule(pa.concat_tables([table_of(part) for part in parts]))
    if kind == "zarr":
        array = zarr.open_array(str(folder / "x.zarr"), mode="w", shape=X.shape, chunks=(640, 2), dtype=X.dtype)
        array[:] = X
        return zarr.open_array(str(folder / "x.zarr"), mode="r")
    if kind == "zarr path":
        as_kind("zarr", X, folder)
        return folder / "x.zarr"
    if kind == "h5 path":
        as_kind("h5py", X, folder).file.close()
        return f"{folder / 'x.h5'}::x"
    if kind == "h5py":
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset("x", data=X, chunks=(512, 3))
        return h5py.File(folder / "x.h5", "r")["x"]
    if kind == "dask":
        return dask.array.from_array(X, chunks=(777, 2))
    if kind == "frame":
        return dask.dataframe.from_pandas(pd.DataFrame(X, columns=NAMES), npartitions=4)
    assert kind == "chunks"
    return ReusedBuffer(X, 411)


def fitted(data, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GaussianMixture(**{"n_components": 3, "max_iter": 4, "random_state": 0, **settings}).fit(data)


def assert_same(one, other, tol=1e-12):
    names = ("weights_", "means_", "covariances_", "log_likelihood_", "lower_bounds_")
    for name in names:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=tol, atol=tol, err_msg=name)


def read_all(source):
    return np.concatenate([block.copy() for _, block in source.chunks()])


def no_reader_left():
    deadline = time.time() + 5
    while time.time() < deadline:
        if not any(thread.name == "fastgmm-prefetch" for thread in threading.enumerate()):
            return True
        time.sleep(0.01)
    return False


@pytest.fixture(name="X")
def data():
    return rows()


# The same results from every kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_parameters_of_the_array(kind, X, tmp_path):
    data = as_kind(kind, X, tmp_path)
    model, expected = fitted(data), fitted(X)
    assert_same(model, expected)
    source = open_source(data, batch_rows=257)
    assert isinstance(source, StreamSource)
    assert (source.n_samples, source.n_features, source.dtype) == (N, D, np.float64)
    assert np.array_equal(read_all(source), X)
    assert [first for first, _ in source.chunks()] == list(range(0, N, 257))
    assert_same(fitted(source), expected)
    np.testing.assert_allclose(model.score_samples(data), expected.score_samples(X), rtol=1e-12)
    assert np.array_equal(model.predict(source), expected.predict(X))
    index = np.array([0, 5, 699, 700, 701, 2000, N - 1])
    assert np.array_equal(source.take(index), X[index])
    assert np.array_equal(source.take(index[::-1]), X[index[::-1]])
    assert no_reader_left()


def test_same_blocks_give_the_same_bits(X, tmp_path):
    models = [
        fitted(open_source(as_kind(kind, X, tmp_path), batch_rows=512)) for kind in ("npy", "csvs", "dask", "chunks")
    ]
    for model in models[1:]:
        assert_same(models[0], model, tol=0.0)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("n_init", [1, 2])
def test_covariance_types_and_weights(covariance_type, n_init, X, tmp_path):
    weight = np.random.default_rng(1).integers(0, 3, N).astype(float)
    source = open_source(as_kind("parquet", X, tmp_path), batch_rows=500)
    settings = {
        "n_components": 3,
        "covariance_type": covariance_type,
        "max_iter": 4,
        "n_init": n_init,
        "random_state": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [GaussianMixture(**settings).fit(data, sample_weight=weight) for data in (X, source)]
    assert_same(*models)
    assert models[0].score(X, sample_weight=weight) == pytest.approx(
        models[1].score(source, sample_weight=weight), rel=1e-12
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "hard"},
        {"solver": "annealed"},
        {"solver": "stepwise", "solver_options": {"batch_size": 200, "passes": 2}},
        {"solver": "gradient", "solver_options": {"batch_size": 200}},
        {"acceleration": "lbfgs"},
        {"init_params": "random"},
        {"init_params": "k-means++"},
        {"noise": 0.05},
        {"prior": "conjugate"},
        {"on_singular": "restart"},
    ],
    ids=str,
)
def test_every_solver(settings, X, tmp_path):
    source = open_source(as_kind("parquet", X, tmp_path), batch_rows=700)
    assert_same(fitted(source, **settings), fitted(X, **settings), tol=1e-9 if "gradient" in str(settings) else 1e-11)


def test_batches_are_read_several_at_a_time(X, monkeypatch):
    passes = []

    class Counted(Chunks):
        def chunks(self):
            passes.append(1)
            yield from self.parts

    settings = {"solver": "stepwise", "solver_options": {"batch_size": 100, "passes": 3, "polish": False}}
    fitted(Counted(np.array_split(X, 7)), **settings)
    assert len(passes) < 15  # 3 passes of 30 batches


def test_other_estimators(X, tmp_path):
    source = open_source(as_kind("parquet", X, tmp_path), batch_rows=700)
    for make in (
        lambda: BayesianGaussianMixture(n_components=3, max_iter=4, random_state=0),
        lambda: MixtureOfFactorAnalyzers(3, 1, max_iter=4, random_state=0),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, other = make().fit(X), make().fit(source)
        for name in ("weights_", "means_"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-10)
        for method in ("predict", "score_samples", "predict_proba", "score"):
            np.testing.assert_allclose(getattr(one, method)(X), getattr(other, method)(source), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_missing_values_and_labels(covariance_type, X, tmp_path):
    holes = X.copy()
    holes[np.random.default_rng(2).random(X.shape) < 0.1] = np.nan
    source = open_source(as_kind("csv", holes, tmp_path), batch_rows=600)
    settings = {"missing": "em", "covariance_type": covariance_type}
    models = [fitted(data, **settings) for data in (holes, source)]
    assert_same(*models, tol=1e-11)
    np.testing.assert_allclose(models[0].score_samples(holes), models[1].score_samples(source), rtol=1e-10)
    np.testing.assert_allclose(models[0].impute(holes), models[1].impute(source), rtol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        factors = [
            MixtureOfFactorAnalyzers(2, 1, missing="em", max_iter=3, random_state=0).fit(data)
            for data in (holes, source)
        ]
    np.testing.assert_allclose(factors[0].means_, factors[1].means_, rtol=1e-9, atol=1e-9)
    labels = np.where(np.arange(N) % 10 == 0, fitted(X).predict(X), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = [
            GaussianMixture(3, semi_supervised=True, max_iter=4, random_state=0).fit(data, labels)
            for data in (X, open_source(as_kind("parquet", X, tmp_path), batch_rows=600))
        ]
    assert_same(*known)


def test_the_engine_reads_sources(X, tmp_path):
    model = fitted(X)
    mixture = engine.mixture(model.weights_, model.means_, model.covariances_)
    expected = engine.labels(X, mixture)
    assert np.array_equal(engine.labels(as_kind("npy", X, tmp_path), mixture), expected)


def test_the_index_of_pandas_is_no_column(X, tmp_path):
    frame = pd.DataFrame(X, columns=NAMES).iloc[::2]
    frame.to_parquet(tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    assert source.names == NAMES
    assert np.array_equal(read_all(source), X[::2])
    assert open_source(pa.Table.from_pandas(frame.set_index("a"))).names == ["b", "c"]
    with pytest.raises(SourceError, match="several columns named 'a'"):
        open_source(pa.table([[1.0], [2.0]], names=["a", "a"]))


def test_blocks_that_are_kept_keep_their_values(X, tmp_path):
    for kind in ("npy", "parquet", "chunks"):
        kept = list(open_source(as_kind(kind, X, tmp_path), batch_rows=100).chunks())
        assert np.array_equal(np.concatenate([block for _, block in kept]), X)


def test_memory_of_blocks_is_used_again(X, tmp_path):
    source = open_source(as_kind("chunks", X, tmp_path), batch_rows=100)
    assert len({block.__array_interface__["data"][0] for _, block in source.chunks()}) <= 8


def test_float32_stays_float32(X, tmp_path):
    Y = X.astype(np.float32)
    for kind in ("npy", "parquets", "zarr", "dask", "frame", "stream", "chunks"):
        source = open_source(as_kind(kind, Y, tmp_path))
        assert source.dtype == np.float32, kind
        assert np.array_equal(read_all(source), Y)
        assert fitted(source).means_.dtype == np.float32
    assert read_all(open_source(write_csv(Y, tmp_path / "y.csv"))).dtype == np.float64


def test_other_numbers_are_read_as_float64(tmp_path):
    table = pa.table({"i": [1, None, 3], "b": [True, False, None], "h": pa.array([0.5, 1.5, 2.5], pa.float32())})
    expected = [[1, 1, 0.5], [np.nan, 0, 1.5], [3, np.nan, 2.5]]
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    np.save(tmp_path / "i.npy", np.arange(6, dtype=">i2").reshape(3, 2))
    np.testing.assert_array_equal(read_all(open_source(table)), expected)
    np.testing.assert_array_equal(read_all(open_source(tmp_path / "t.parquet")), expected)
    np.testing.assert_array_equal(read_all(open_source(tmp_path / "i.npy")), np.arange(6.0).reshape(3, 2))


# Columns and names


def test_columns_are_chosen_by_name_and_place(X, tmp_path):
    for kind in ("csv", "parquet", "table", "stream", "frame"):
        source = open_source(as_kind(kind, X, tmp_path), columns=["c", "a"])
        assert source.names == ["c", "a"]
        assert np.array_equal(read_all(source), X[:, [2, 0]])
        assert list(fitted(source).feature_names_in_) == ["c", "a"]
    for kind in ("npy", "zarr", "h5py", "dask", "chunks"):
        (tmp_path / kind).mkdir()
        source = open_source(as_kind(kind, X, tmp_path / kind), columns=[2, 0])
        assert np.array_equal(read_all(source), X[:, [2, 0]])
        assert not hasattr(fitted(source), "feature_names_in_")
        with pytest.raises(SourceError, match="no single column 'c'"):
            open_source(as_kind("npy", X, tmp_path / kind), columns=["c"])
    frame = pd.DataFrame(X, columns=NAMES)
    assert open_source(frame, columns=["b"]).names == ["b"]
    assert np.array_equal(read_all(open_source(polars.DataFrame(X, NAMES), columns=["b"])), X[:, [1]])
    with pytest.raises(SourceError, match=r"x\.parquet has no single column 'z'; it has columns a, b, c"):
        open_source(tmp_path / "x.parquet", columns=["z"])
    with pytest.raises(ValueError, match="list of names"):
        open_source(tmp_path / "x.parquet", columns="a")


def test_names_are_kept_and_compared(X, tmp_path):
    model = fitted(as_kind("csv", X, tmp_path))
    assert list(model.feature_names_in_) == NAMES
    assert np.array_equal(model.predict(as_kind("parquet", X, tmp_path)), model.predict(pd.DataFrame(X, columns=NAMES)))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(open_source(tmp_path / "x.csv", columns=["b", "a", "c"]))
    with pytest.raises(ValueError, match="2 features"):
        fitted(X).predict(open_source(tmp_path / "x.csv", columns=["b", "a"]))


def test_frames_in_memory_stay_arrays(X):
    expected = fitted(X)
    for frame in (pd.DataFrame(X, columns=NAMES), polars.DataFrame(X, NAMES)):
        model = fitted(frame)
        assert list(model.feature_names_in_) == NAMES
        assert_same(model, expected, tol=1e-12)
    assert isinstance(open_source(X), ArraySource)


def test_csv_dialects(tmp_path):
    for name, text in {
        "header": "a,b\n1,2\n3,4\n",
        "none": "1,2\n3,4\n",
        "semicolons": "a;b\n1;2\n3;4",
        "tabs": "a\tb\r\n1\t2\r\n3\t4\r\n",
        "quotes": '"a, first",b\n"1",2\n3,4\n\n',
        "bom": "\ufeffa,b\n1,2\n3,4\n",
    }.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(text, encoding="utf-8", newline="")
        source = open_source(path)
        assert read_all(source).tolist() == [[1, 2], [3, 4]], name
        assert source.names == {"none": None, "quotes": ["a, first", "b"]}.get(name, ["a", "b"])
    (tmp_path / "gap.csv").write_text("a,b\n1,\nNA,nan\ninf,-1e-3\n")
    np.testing.assert_array_equal(
        read_all(open_source(tmp_path / "gap.csv")), [[1, np.nan], [np.nan, np.nan], [np.inf, -1e-3]]
    )


# Bad rows


def test_bad_cells_are_named(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("a,b,name\n1,2,x\n3,4,y\n5,oops,z\n")
    with pytest.raises(SourceError, match=r"bad\.csv, line 2 \(row 0\), column 2 \('name'\): 'x' is no number"):
        GaussianMixture().fit(open_source(path, columns=["a", "name"]))
    with pytest.raises(SourceError, match=r"bad\.csv, line 4 \(row 2\), column 1 \('b'\): 'oops' is no number"):
        GaussianMixture().fit(open_source(path, columns=["a", "b"]))
    path.write_text("a,b\n1,2\n3,4,5\n6,7\n")
    with pytest.raises(SourceError, match=r"line 3 \(row 1\) has 3 cells, but the first line has 2"):
        GaussianMixture().fit(path)
    assert no_reader_left()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_name_file_row_and_column(value, X, tmp_path):
    X[1500, 1] = value
    model = fitted(rows())
    for kind in ("npys", "csvs", "parquets"):
        data = as_kind(kind, X, tmp_path)
        place = rf"row 1500, which is row 799 of .*{kind}2\.{kind[:-1]}, column 1"
        with pytest.raises(ValueError, match=place):
            fitted(data)
        for method in ("score_samples", "predict"):
            with pytest.raises(ValueError, match=place):
                getattr(model, method)(data)
    assert no_reader_left()


def test_skipping_drops_the_same_rows_in_every_pass(X, tmp_path):
    X[[3, 700, 2999], [0, 1, 2]] = np.nan, np.inf, -np.inf
    good = np.isfinite(X).all(axis=1)
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        source = open_source(as_kind(kind, X, tmp_path / kind), on_bad="skip", batch_rows=500)
        assert (source.n_samples, source.n_skipped) == (N - 3, 3), kind
        assert np.array_equal(read_all(source), X[good])
        assert np.array_equal(read_all(source), X[good])
    assert_same(fitted(source), fitted(X[good]))
    source = open_source(X, on_bad="skip")
    assert (source.n_samples, source.n_skipped) == (N - 3, 3)
    assert len(fitted(X[good]).predict(source)) == N - 3


def test_skipping_in_csv_files(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("a,b,name\n1,2,x\n3,4\n5,oops,z\n-.5,1e3,\n,7,w\n 8 , +9 ,v\n1_0,1,u\n1,2,3,4\n")
    source = open_source(path, columns=["a", "b"], on_bad="skip")
    assert read_all(source).tolist() == [[1, 2], [-0.5, 1000], [8, 9]]
    assert (source.n_samples, source.n_skipped) == (3, 5)
    path.write_text("a,b\n" + "x,1\n" * 3)
    with pytest.raises(ValueError, match="0 sample"):
        GaussianMixture().fit(open_source(path, columns=["a", "b"], on_bad="skip"))


def test_chunks_of_every_shape():
    X = rows(50)
    empty, one = X[:0], X[:1]
    source = open_source(Chunks([empty, one, X[1:1], X[1:], empty]))
    assert np.array_equal(read_all(source), X)
    assert_same(fitted(source, max_iter=2), fitted(X, max_iter=2))
    assert open_source(Chunks([np.empty((0, D)), X.astype(np.float32)])).dtype == np.float32
    for bad, message in (
        (X[:, :2], r"chunk 1 of Chunks.chunks\(\) has shape \(50, 2\), but a table of 3 columns"),
        (X[0], r"chunk 1 of .* has shape \(3,\)"),
        (X.astype(np.float32), r"chunk 1 of .* holds float32, but what comes before it float64"),
        (X.astype(str), r"chunk 1 of .* holds <U"),
        (X.astype(complex), r"chunk 1 of .* holds complex128"),
    ):
        with pytest.raises(SourceError, match=message):
            fitted(Chunks([X, bad]))
    with pytest.raises(ValueError, match=r"NaN \(first at row 50, which is row 0 of chunk 1 of Chunks"):
        fitted(Chunks([X, np.full((4, D), np.nan)]))
    with pytest.raises(SourceError, match="gives no chunk"):
        fitted(Chunks([]))
    with pytest.raises(ValueError, match="0 sample"):
        fitted(Chunks([empty]))
    assert no_reader_left()


def test_unlike_files_are_named(X, tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:, :2])
    np.save(tmp_path / "c.npy", X.astype(np.float32))
    np.save(tmp_path / "flat.npy", X[0])
    np.save(tmp_path / "words.npy", X[:2].astype(str))
    write_csv(X, tmp_path / "d.csv")
    pa.parquet.write_table(table_of(X), tmp_path / "e.parquet")
    pa.parquet.write_table(table_of(X, ["a", "b", "z"]), tmp_path / "f.parquet")
    pa.parquet.write_table(pa.table({"day": ["monday"]}), tmp_path / "g.parquet")
    (tmp_path / "notes.md").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "nothing").mkdir()
    for names, error, message in (
        ("a.npy b.npy", SourceError, r"a\.npy and .*b\.npy differ: the first has columns 3, the second 2"),
        ("a.npy c.npy", SourceError, r"a\.npy and .*c\.npy differ: .* float64, the second float32"),
        ("a.npy d.csv", SourceError, r"a\.npy and .*d\.csv are of different kinds"),
        ("e.parquet f.parquet", SourceError, r"e\.parquet and .*f\.parquet differ: .*'z'"),
        ("g.parquet", SourceError, r"g\.parquet: column 'day' holds string, which is no number"),
        ("flat.npy", SourceError, r"flat\.npy has shape \(3,\)"),
        ("words.npy", SourceError, r"words\.npy holds <U"),
        ("notes.md", SourceError, r"notes\.md is of no known kind"),
        ("empty.csv", SourceError, r"empty\.csv is empty"),
        ("nothing", FileNotFoundError, "nothing is a folder without files"),
        ("gone.npy", FileNotFoundError, r"no file '.*gone\.npy'"),
        ("gone*.npy", FileNotFoundError, r"No file matches '.*gone\*\.npy'"),
    ):
        with pytest.raises(error, match=message):
            GaussianMixture().fit([tmp_path / name for name in names.split()])


def test_damaged_files_are_named(X, tmp_path):
    for kind, message in (
        ("npy", "is cut off: its header promises 3000 rows"),
        ("parquet", "cut off, or no Parquet file"),
    ):
        path = tmp_path / f"x.{kind}"
        as_kind(kind, X, tmp_path)
        whole = path.read_bytes()
        for share in (0.0, 0.01, 0.5, 0.99):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(SourceError, match=rf"x\.{kind} ") as caught:
                fitted(path)
            if share == 0.5:
                assert message in str(caught.value)
    path.write_bytes(whole[:2000] + bytes(4000) + whole[6000:])
    with pytest.raises(SourceError, match=r"x\.parquet is damaged in row group 0"):
        fitted(path)
    path = as_kind("gz", X, tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SourceError, match=r"x\.csv\.gz"):
        fitted(path)
    assert no_reader_left()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(X, tmp_path):
    for kind in ("npy", "csv", "parquet"):
        path = as_kind(kind, X, tmp_path)
        os.chmod(path, 0)
        with pytest.raises(PermissionError, match=kind):
            fitted(path)


def test_rows_that_change_between_passes_are_noticed(X):
    class Growing:
        size = 1000

        def chunks(self):
            yield X[: self.size]
            type(self).size += 10

    with pytest.raises(SourceError, match=r"Growing\.chunks\(\) held \d+ rows at first and \d+ rows when read again"):
        fitted(Growing())


def test_errors_of_the_users_code_arrive_as_they_are(X):
    class Failing:
        def chunks(self):
            yield X
            raise KeyError("disk on fire")

    with pytest.raises(KeyError, match="disk on fire"):
        fitted(Failing())


# What can be read once


def test_fit_refuses_what_can_be_read_once(X):
    once = iter([X])

    class Once:
        def chunks(self):
            return once

    for data in ((part for part in [X]), iter([X]), map(np.asarray, [X]), table_of(X).to_reader(), Once()):
        with pytest.raises(TypeError, match=r"read only once.*partial_fit"):
            GaussianMixture(3).fit(data)
    assert next(once) is X  # not consumed


def test_partial_fit_consumes_iterators(X, tmp_path):
    parts = np.array_split(X, 5)

    def settings():
        return GaussianMixture(3, random_state=0)

    expected = settings()
    for part in parts:
        expected.partial_fit(part)
    model = settings().partial_fit(part for part in parts)
    assert_same_stream(model, expected)
    frames = (pd.DataFrame(part, columns=NAMES) for part in parts)
    model = settings().partial_fit(frames)
    assert_same_stream(model, expected)
    assert list(model.feature_names_in_) == NAMES
    model = settings().partial_fit(
        pa.Table.from_batches([table_of(part).to_batches()[0] for part in parts]).to_reader()
    )
    assert_same_stream(model, expected)
    model = settings().partial_fit(open_source(as_kind("npy", X, tmp_path), batch_rows=600))
    assert_same_stream(model, expected)
    first = settings().partial_fit(X[:600])
    small = iter([X[:0], X[:1], X[1:600], X[600:600], X[600:]])  # the first rows are gathered
    assert_same_stream(settings().partial_fit(small), first.partial_fit(X[600:]))
    with pytest.raises(ValueError, match="no rows"):
        settings().partial_fit(iter([X[:0]]))
    with pytest.raises(ValueError, match="rows of an iterator"):
        settings().partial_fit(iter([X]), sample_weight=np.ones(N))
    with pytest.raises(ValueError, match="NaN") as caught:
        settings().partial_fit(iter([X, np.full((5, D), np.nan)]))
    assert caught.value.__notes__ == [f"Rows are counted from the beginning of a block, row {N} of the data."]


def assert_same_stream(one, other):
    for name in ("weights_", "means_", "covariances_"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.n_iter_ == other.n_iter_


# Options


def test_options_are_checked(X):
    with pytest.raises(ValueError, match="on_bad must be 'raise', 'skip' or 'keep'"):
        open_source(X, on_bad="ignore")
    for rows_wanted in (0, 1.5, True):
        with pytest.raises(ValueError, match="batch_rows must be a positive int"):
            open_source(X, batch_rows=rows_wanted)
    with pytest.raises(ValueError, match="a source already"):
        open_source(open_source(X), on_bad="skip")
    with pytest.raises(ValueError, match="two-dimensional"):
        open_source(3)
    with pytest.raises(ValueError, match="function of rows"):
        fitted(Chunks([X]), init_params=lambda X, n_components, random_state: np.zeros(len(X), int))
    assert isinstance(open_source(X, batch_rows=100), StreamSource)
    assert "open_source" in dir(fastgmm)


def test_other_containers_are_named(tmp_path):
    for name, message in (
        ("x.h5", "is no usable HDF5 file"),
        ("x.zarr", "is no usable Zarr store"),
        ("x.npz", "numpy.load"),
        ("x.npy::name", "only Zarr stores and HDF5 files"),
    ):
        (tmp_path / name).touch()
        with pytest.raises(SourceError, match=message):
            fitted(tmp_path / name)


def test_arrays_of_stores_are_chosen_by_name(X, tmp_path):
    zarr.open_group(str(tmp_path / "g.zarr"), mode="w").create_group("inner")
    with h5py.File(tmp_path / "g.h5", "w") as file:
        for name, values in (("line", X[:, 0]), ("inner/x", X), ("y", X[:500, :2])):
            file[name] = values
            path, settings = str(tmp_path / "g.zarr"), {"shape": values.shape, "dtype": values.dtype}
            zarr.open_array(path, path=name, mode="w", **settings)[:] = values
    for path in (tmp_path / "g.zarr", tmp_path / "g.h5"):
        assert np.array_equal(read_all(open_source(f"{path}::inner/x")), X)
        assert np.array_equal(read_all(open_source(f"{path}::y", columns=[1])), X[:500, [1]])
        with pytest.raises(SourceError, match=r"several of these.*'inner/x'.*choose with '.*::NAME'"):
            open_source(path)
        with pytest.raises(SourceError, match="none named 'z' of these"):
            open_source(f"{path}::z")
        with pytest.raises(FileNotFoundError, match="no file"):
            open_source(f"{tmp_path / 'absent.h5'}::x")
    assert open_source(str(tmp_path / "*.h5::y")).n_samples == 500


def test_without_pyarrow_the_remedy_is_named(X, tmp_path):
    as_kind("csv", X, tmp_path)
    code = (
        "import sys; sys.modules['pyarrow'] = None\nimport fastgmm\n"
        f"try: fastgmm.open_source({str(tmp_path / 'x.csv')!r})\nexcept ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'fastgmm[sources]'" in out


# Reading ahead


def test_reading_overlaps_computing():
    def slow():
        for i in range(8):
            time.sleep(0.05)
            yield i

    began = time.perf_counter()
    items = []
    for item in Prefetched(slow()):
        time.sleep(0.05)
        items.append(item)
    assert items == list(range(8))
    assert time.perf_counter() - began < 0.72  # 0.8 one after the other


def test_reading_ahead_is_bounded_and_leaves_no_thread():
    made = []

    def items():
        for i in range(1000):
            made.append(i)
            yield i

    ahead = Prefetched(items())
    assert next(ahead) == 0
    assert no_reader_left()  # even though nobody closed it
    assert len(made) == 3
    ahead.close()
    ahead.close()
    assert list(ahead) == []
    assert len(made) == 3


def test_a_generator_is_closed_when_the_consumer_stops(X):
    closed = []

    class Guarded:
        def chunks(self):
            try:
                yield from np.array_split(X, 30)
            finally:
                closed.append(threading.current_thread().name)

    source = open_source(Guarded(), batch_rows=100)
    assert source.n_samples == N
    closed.clear()
    for _ in source.chunks():
        break
    assert closed == ["MainThread"]
    source._sample = None  # as if it were too small
    assert np.array_equal(source.take(np.array([3])), X[[3]])
    assert len(closed) == 2
    assert no_reader_left()


# Memory

PEAK = """
import resource, sys, warnings
import numpy as np
import fastgmm
warnings.simplefilter("ignore")
path, small = sys.argv[1:]
mixture = fastgmm.GaussianMixture(8, covariance_type="diag", max_iter=2, random_state=0)
mixture.fit(small).score(small)  # everything is compiled and loaded before the measurement
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
mixture.fit(path).score(path)
print(peak() - before)
"""

FLAT = """
import resource, sys
import fastgmm
source = fastgmm.open_source(sys.argv[1])
peaks = []
for _ in range(6):
    assert sum(len(block) for _, block in source.chunks()) == source.n_samples == 50 * 40_000
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print(*peaks)
"""


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_memory_does_not_grow_with_the_file(kind, tmp_path):
    block = rows(1_000_000).astype(np.float32)
    block = np.concatenate([block] * 4, axis=1)[:, :10]
    n_blocks, path, small = 10, tmp_path / f"x.{kind}", tmp_path / f"small.{kind}"
    names = [f"c{i}" for i in range(10)]
    if kind == "npy":
        file = np.lib.format.open_memmap(path, "w+", np.float32, (n_blocks * len(block), 10))
        for i in range(n_blocks):
            file[i * len(block) : (i + 1) * len(block)] = block
        file.flush()
        del file
        np.save(small, block[:400_000])
    else:
        table = table_of(block, names)
        with pa.parquet.ParquetWriter(path, table.schema, compression="none", use_dictionary=False) as writer:
            for _ in range(n_blocks):
                writer.write_table(table)
        pa.parquet.write_table(table[:400_000], small)
    assert path.stat().st_size >= 390 * MIB * 0.97
    out = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(small)], capture_output=True, text=True, check=True
    )
    assert int(out.stdout) <= 100 * MIB, f"{int(out.stdout) / MIB:.0f} MiB"


def test_memory_stays_flat_over_many_parquet_files_and_passes(tmp_path):
    table = table_of(rows(40_000))
    for i in range(50):
        pa.parquet.write_table(table, tmp_path / f"part{i:02}.parquet", row_group_size=20_000)
    out = subprocess.run([sys.executable, "-c", FLAT, str(tmp_path)], capture_output=True, text=True, check=True)
    peaks = [int(word) for word in out.stdout.split()]
    assert peaks[-1] - peaks[1] <= 16 * MIB, peaks


# ---- a sample from the pass that counts the rows ----


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("block", [1, 13, 500])
def test_a_pass_keeps_the_rows_that_indices_say(size, block):
    for n in (1, 5, 64, 500, 1000):
        X = np.arange(n, dtype=float)[:, None]
        reservoir = Reservoir(1, size)
        for first in range(0, n, block):
            reservoir.add(X[first : first + block])
        index, kept = reservoir.kept()
        level = level_of(n, size)
        expected = rows_of_nodes(np.arange(((n - 1) >> level) + 1), level)
        np.testing.assert_array_equal(index, expected[expected < n])
        np.testing.assert_array_equal(kept[:, 0], index)
        assert size / 2 - 1 < len(index) <= size or len(index) == n


def test_every_row_is_kept_as_often_as_the_others():
    """Each of the 16 rows of a node by about one node in 16: chi-square with 15 degrees of freedom."""
    counts = np.bincount(rows_of_nodes(np.arange(100_000), 4) % 16, minlength=16)
    assert ((counts - 6250) ** 2 / 6250).sum() < 45  # exceeded once in 10,000 times


def test_a_start_needs_no_pass_of_its_own(tmp_path, monkeypatch):
    X = rows(20_000)
    monkeypatch.setattr("fastgmm.rows.reservoir.RESERVOIR_BYTES", 8 * D * 8_000)
    monkeypatch.setattr("fastgmm.optimization.initialization.sample_size", lambda n_components: 2_000)
    source, passes = open_source(write_csv(X, tmp_path / "x.csv")), []
    parts = source.reader.parts
    monkeypatch.setattr(source.reader, "parts", lambda *arguments: passes.append(1) or parts(*arguments))
    model = GaussianMixture(3, random_state=0).fit(source)
    assert len(passes) == 1 + 1 + model.n_iter_ + 1  # to count, for the columns, iterations, the final log-likelihood
    expected = GaussianMixture(3, random_state=0).fit(X)
    np.testing.assert_allclose(model.means_, expected.means_, rtol=1e-12)
    assert model.n_iter_ == expected.n_iter_


@pytest.mark.parametrize("size", [100, 999, 5000])
def test_float32_statistics_do_not_depend_on_the_cuts(size, covariance_type):
    """Sums of a block are float32: the blocks of the kernels must be the same ones."""
    X = rows(30_000).astype(np.float32)
    model = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    whole = model.fit(X).log_likelihood_
    assert model.fit(open_source(X, batch_rows=size)).log_likelihood_ == pytest.approx(whole, rel=1e-12)


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, rows(3000))
    source = open_source(path, batch_rows=1000)
    with path.open("r+b") as file:
        file.truncate(40_000)
    with pytest.raises(SourceError, match=r"x\.npy was written to .* has 40000 bytes where it had 72128"):
        GaussianMixture(2).fit(source)
