"""Results written to files block by block: the numbers of the model's methods, whole files or none, little memory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy.stats import kstest, norm

import fastgmm.images.output
from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    StandardisedMixture,
    batch,
    open_source,
)
from fastgmm.datasets import load_digits
from fastgmm.exceptions import NotFittedError, SourceError
from fastgmm.images import ImageGenerator
from fastgmm.rows import parquet_output

MIB = 2**20


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 70 rows of three features, row groups of 256 rows."""
    monkeypatch.setattr(batch, "BLOCK_VALUES", 210)
    monkeypatch.setattr(parquet_output, "GROUP_ROWS", 256)


@pytest.fixture(scope="module")
def mixture(blobs):
    return GaussianMixture(3, random_state=0).fit(blobs[0])


@pytest.fixture(scope="module")
def generator():
    images, labels = load_digits()
    return ImageGenerator(1, n_factors=2, random_state=0, tol=1).fit(images[:300], labels=labels[:300])


def with_gaps(X):
    return np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)


MODELS = {
    "full": (GaussianMixture(3, random_state=0), lambda X: X),
    "float32": (GaussianMixture(3, covariance_type="diag", random_state=0), lambda X: X.astype(np.float32)),
    "noise": (GaussianMixture(3, noise=True, random_state=0), lambda X: X),
    "gaps": (GaussianMixture(3, missing="em", random_state=0), with_gaps),
    "bayesian": (BayesianGaussianMixture(n_components=3, random_state=0), lambda X: X),
    "factors": (MixtureOfFactorAnalyzers(3, 1, random_state=0), lambda X: X),
    "factor gaps": (MixtureOfFactorAnalyzers(3, 1, missing="em", random_state=0), with_gaps),
    "standardised": (StandardisedMixture(GaussianMixture(3, random_state=0)), lambda X: X),
    "standardised float32": (StandardisedMixture(MixtureOfFactorAnalyzers(3, 1)), lambda X: X.astype(np.float32)),
}


def values(path):
    """What a file holds, as one array."""
    if Path(path).suffix == ".npy":
        return np.load(path)
    table = pa.parquet.read_table(path)
    columns = [column.to_numpy() for column in table.columns]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def files():
    return {path.name for path in Path().iterdir()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MODELS)
def test_files_hold_what_the_models_own_methods_give(kind, blobs, small_blocks):
    model, prepare = MODELS[kind]
    X = prepare(blobs[0])
    model.fit(X)
    np.save("rows.npy", X)
    for data in (X, "rows.npy"):
        for name, use in (("predict", batch.predict), ("predict_proba", batch.predict_proba)):
            for suffix in (".npy", ".parquet"):
                assert use(model, data, f"new{suffix}", overwrite=True) == len(X)
                expected, found = getattr(model, name)(X), values(f"new{suffix}")
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected)
        for path in ("new.npy", "new.parquet", None):
            scores, expected = batch.score_samples(model, data, path, overwrite=True), model.score_samples(X)
            if path is not None:
                assert values(path).dtype == expected.dtype
                np.testing.assert_array_equal(values(path), expected)
            assert scores.n_samples == len(X)
            assert scores.log_likelihood == pytest.approx(expected.sum(dtype=np.float64), rel=1e-12)
            assert scores.least_log_density == expected.min()


def test_parquet_files_have_named_columns_and_groups_of_equal_length(mixture, blobs, small_blocks):
    batch.predict(mixture, blobs[0], "labels.parquet")
    batch.predict_proba(mixture, blobs[0], "proba.parquet")
    batch.score_samples(mixture, blobs[0], "scores.parquet")
    for name, columns, kind in (
        ("labels", ["label"], "int64"),
        ("proba", ["component_0", "component_1", "component_2"], "double"),
        ("scores", ["log_density"], "double"),
    ):
        file = pa.parquet.ParquetFile(f"{name}.parquet")
        assert file.schema_arrow.names == columns
        assert {str(kind) for kind in file.schema_arrow.types} == {kind}
        assert [file.metadata.row_group(i).num_rows for i in range(3)] == [256, 256, 88]
    again = open_source("proba.parquet")
    np.testing.assert_array_equal(again.take(np.arange(600)), mixture.predict_proba(blobs[0]))


def test_opened_sources_frames_and_names_of_columns(blobs):
    frame = pd.DataFrame(blobs[0], columns=["a", "b", "c"])
    model = GaussianMixture(3, random_state=0).fit(frame)
    frame.assign(note="x").to_parquet("rows.parquet")
    bad = frame.assign(note="x")
    bad.loc[[3, 500], "b"] = np.nan
    bad.to_parquet("bad.parquet")
    expected = model.predict(frame)
    assert batch.predict(model, frame, "a.npy") == 600
    assert batch.predict(model, open_source("rows.parquet", columns=["a", "b", "c"]), "b.npy") == 600
    np.testing.assert_array_equal(np.load("a.npy"), expected)
    np.testing.assert_array_equal(np.load("b.npy"), expected)
    source = open_source("bad.parquet", columns=["a", "b", "c"], on_bad="skip")
    with pytest.raises(ValueError, match=r"2 bad rows are left out.*c\.npy.*\.parquet file, .*`row`.*on_bad='keep'"):
        batch.predict(model, source, "c.npy")
    assert "c.npy" not in files()
    assert batch.predict(model, source, "c.parquet") == 598
    found = pd.read_parquet("c.parquet")
    assert list(found) == ["row", "label"]
    np.testing.assert_array_equal(found["row"], np.delete(np.arange(600), [3, 500]))
    np.testing.assert_array_equal(found["label"], expected[found["row"]])
    source = open_source("bad.parquet", columns=["a", "b", "c"], on_bad="keep")
    assert batch.predict(model, source, "c.npy") == 600
    expected[[3, 500]] = -2
    np.testing.assert_array_equal(np.load("c.npy"), expected)
    for wrong, message in ((["c", "b", "a"], "feature names should match"), (["a", "b"], "feature names|3 features")):
        with pytest.raises(ValueError, match=message):
            batch.predict(model, open_source("rows.parquet", columns=wrong), "d.npy")
    assert "d.npy" not in files()


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("from_file", [False, True])
def test_a_bad_row_is_named_by_its_place_and_leaves_no_file(mixture, blobs, small_blocks, standardised, from_file):
    model = StandardisedMixture(GaussianMixture(3, random_state=0)).fit(blobs[0]) if standardised else mixture
    X = blobs[0].copy()
    X[430, 1] = np.nan
    if from_file:
        np.save("1.npy", X[:400])
        np.save("2.npy", X[400:])
    place = ", which is row 30 of 2.npy" if from_file else ""
    before = files()
    with pytest.raises(ValueError, match=rf"first at row 430{place}, column 1"):
        batch.score_samples(model, ["1.npy", "2.npy"] if from_file else X, "new.parquet")
    assert files() == before


# sample


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MODELS)
def test_rows_of_a_seed_are_the_same_in_whatever_parts_they_are_drawn(kind, blobs, small_blocks):
    model, prepare = MODELS[kind]
    model.fit(prepare(blobs[0]))
    before = getattr(model, "mixture", model).random_state
    assert batch.sample(model, 500, "whole.npy", random_state=3) == 500
    batch.sample(model, 33, "first.npy", random_state=3)
    batch.sample(model, 200, "part.npy", random_state=3, first=217)
    batch.sample(model, 500, "whole.parquet", random_state=3, labels=True)
    batch.sample(model, 500, "other.npy", random_state=4)
    whole = np.load("whole.npy")
    assert (whole.shape, whole.dtype) == ((500, 3), np.float64)
    np.testing.assert_array_equal(np.load("first.npy"), whole[:33])
    np.testing.assert_array_equal(np.load("part.npy"), whole[217:417])
    table = pa.parquet.read_table("whole.parquet")
    assert table.column_names == ["x0", "x1", "x2", "label"]
    np.testing.assert_array_equal(np.column_stack([table[i] for i in range(3)]), whole)
    assert len(np.unique(whole, axis=0)) == 500  # no block repeats another
    assert not np.isin(whole, np.load("other.npy")).any()
    assert getattr(model, "mixture", model).random_state is before


def test_sampled_rows_follow_the_model_with_their_labels_in_random_order(mixture, small_blocks):
    batch.sample(mixture, 4000, "new.parquet", random_state=0, labels=True)
    assert batch.score_samples(
        mixture, open_source("new.parquet", columns=["x0", "x1", "x2"]), None
    ).log_likelihood == pytest.approx(4000 * mixture.score(mixture.sample(100_000)[0]), rel=0.02)
    table = pa.parquet.read_table("new.parquet")
    labels = table["label"].to_numpy()
    for k, (weight, mean, covariance) in enumerate(
        zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
    ):
        x = table["x1"].to_numpy()[labels == k]
        assert kstest(x, norm(mean[1], np.sqrt(covariance[1, 1])).cdf).pvalue > 1e-4
        assert abs(len(x) / 4000 - weight) < 5 * np.sqrt(0.25 / 4000)
    same = (labels[1:] == labels[:-1]).mean()
    assert abs(same - (mixture.weights_**2).sum()) < 5 * np.sqrt(0.25 / 4000)


def test_seeds_of_every_kind(mixture):
    for name, seed in (("a", 5), ("b", np.random.default_rng(5)), ("c", np.random.RandomState(5)), ("d", None)):
        batch.sample(mixture, 10, f"{name}1.npy", random_state=seed)
        batch.sample(mixture, 10, f"{name}2.npy", random_state=seed)
        same = np.array_equal(np.load(f"{name}1.npy"), np.load(f"{name}2.npy"))
        assert same == (name == "a")  # generators go on
    for name, seed in (("b", np.random.default_rng(5)), ("c", np.random.RandomState(5))):
        batch.sample(mixture, 10, "again.npy", random_state=seed, overwrite=True)
        np.testing.assert_array_equal(np.load("again.npy"), np.load(f"{name}1.npy"))


def test_columns_of_a_sample_are_named_like_those_of_the_fit(blobs):
    frame = pd.DataFrame(blobs[0], columns=["a", "b", "label"])
    model = GaussianMixture(2, random_state=0).fit(frame)
    batch.sample(model, 20, "new.parquet")
    assert batch.predict(model, "new.parquet", "labels.npy") == 20
    with pytest.raises(ValueError, match=r"Two columns of new2\.parquet would be named 'label'"):
        batch.sample(model, 20, "new2.parquet", labels=True)
    assert files() == {"new.parquet", "labels.npy"}


# generate


def test_generated_images_are_those_of_the_generator(generator, monkeypatch):
    monkeypatch.setattr(fastgmm.images.output, "BLOCK_BYTES", 8 * 64 * 7)
    options = {"label": 3, "temperature": 0.5, "noise": True, "first": 5}
    expected = generator.generate(30, random_state=2, **options)
    assert batch.generate(generator, 30, "a.npy", random_state=2, **options) == 30
    as_bytes = np.load("a.npy")
    assert as_bytes.dtype == np.uint8
    np.testing.assert_array_equal(as_bytes, np.rint(255 * expected))
    batch.generate(generator, 30, "b.npy", random_state=2, as_float=True, **options)
    np.testing.assert_array_equal(np.load("b.npy"), expected.astype(np.float32))
    batch.generate(generator, 30, "c.parquet", random_state=2, **options)
    table = pa.parquet.read_table("c.parquet")
    assert table.column_names == [f"pixel_{i}" for i in range(64)]
    assert table.schema.types == [pa.uint8()] * 64
    assert table.schema.metadata[b"image_shape"] == b"[8, 8]"
    np.testing.assert_array_equal(values("c.parquet").reshape(30, 8, 8), as_bytes)


def test_a_table_of_generated_floats_is_scored_by_the_generators_mixture(generator):
    batch.generate(generator, 30, "new.parquet", random_state=2, as_float=True)
    batch.score_samples(generator.mixture_, "new.parquet", "scores.npy")
    images = generator.generate(30, random_state=2).astype(np.float32)
    np.testing.assert_allclose(np.load("scores.npy"), generator.score_samples(images), rtol=1e-5)


def test_tables_of_as_many_columns_as_large_images_have_pixels_are_read_at_once():
    names = [f"pixel_{i}" for i in range(64 * 64 * 3)]
    pa.parquet.write_table(pa.table(dict.fromkeys(names, np.arange(3.0))), "wide.parquet")
    start = time.process_time()
    source = open_source("wide.parquet")
    assert (source.names, source.take(np.array([2])).tolist()) == (names, [[2.0] * len(names)])
    assert time.process_time() - start < 10  # work in the square of the columns took two minutes


# What is refused


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_bad_requests_are_refused_before_any_work(mixture, generator, blobs, suffix):
    Path(f"kept{suffix}").write_bytes(b"precious")
    Path(f"folder{suffix}").mkdir()

    class Unread:
        def chunks(self):
            raise AssertionError("read")

    for path, error, message in (
        (f"kept{suffix}", FileExistsError, "overwrite=True"),
        (f"folder{suffix}", IsADirectoryError, "is a folder"),
        (f"missing/new{suffix}", FileNotFoundError, "no folder .*missing"),
        ("new.csv", ValueError, r"end in \.npy or \.parquet"),
        ("new", ValueError, r"end in \.npy or \.parquet"),
    ):
        for action in (
            lambda path: batch.predict(mixture, Unread(), path),
            lambda path: batch.predict_proba(mixture, Unread(), path),
            lambda path: batch.score_samples(mixture, Unread(), path),
            lambda path: batch.sample(mixture, 10, path),
            lambda path: batch.generate(generator, 10, path),
        ):
            with pytest.raises(error, match=message):
                action(path)
    assert Path(f"kept{suffix}").read_bytes() == b"precious"
    assert files() == {f"kept{suffix}", f"folder{suffix}"}


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda m, g, X: batch.predict(g, X, "new.npy"), TypeError, "Give its mixture_"),
        (lambda m, g, X: batch.sample(g, 5, "new.npy"), TypeError, "generate draws images"),
        (lambda m, g, X: batch.generate(m, 5, "new.npy"), TypeError, "drawn by sample"),
        (lambda m, g, X: batch.predict(dict, X, "new.npy"), TypeError, "mixture of fastgmm's, got a type"),
        (lambda m, g, X: batch.predict(GaussianMixture(), X, "new.npy"), NotFittedError, "not fitted"),
        (lambda m, g, X: batch.sample(GaussianMixture(), 5, "new.npy"), NotFittedError, "not fitted"),
        (lambda m, g, X: batch.generate(ImageGenerator(), 5, "new.npy"), NotFittedError, "not fitted"),
        (lambda m, g, X: batch.predict(m, X[:0], "new.npy"), ValueError, "minimum of 1"),
        (lambda m, g, X: batch.predict(m, X[:, :2], "new.npy"), ValueError, "3 features"),
        (lambda m, g, X: batch.predict(m, "missing.npy", "new.npy"), FileNotFoundError, "missing.npy"),
        (lambda m, g, X: batch.sample(m, 0, "new.npy"), ValueError, "n_samples must be an int of at least 1, got 0"),
        (lambda m, g, X: batch.sample(m, 1e3, "new.npy"), ValueError, "n_samples must be an int"),
        (lambda m, g, X: batch.sample(m, 5, "new.npy", first=-1), ValueError, "first must be an int of at least 0"),
        (lambda m, g, X: batch.sample(m, 5, "new.npy", random_state=-1), ValueError, "random_state must be at least"),
        (lambda m, g, X: batch.sample(m, 5, "new.npy", random_state="a"), ValueError, "cannot be used to seed"),
        (lambda m, g, X: batch.sample(m, 5, "new.npy", labels=True), ValueError, r"write a \.parquet file"),
        (lambda m, g, X: batch.generate(g, 0, "new.npy"), ValueError, "size must be an int of at least 1"),
        (lambda m, g, X: batch.generate(g, 5, "new.npy", label="x"), ValueError, "label must be one of"),
    ],
)
def test_wrong_arguments_are_named_and_leave_no_file(mixture, generator, blobs, action, error, message):
    with pytest.raises(error, match=message):
        action(mixture, generator, blobs[0])
    assert files() == set()


def test_parquet_without_pyarrow_is_one_sentence(mixture, blobs, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Writing Parquet files needs pyarrow\. Install it with: pip install"):
        batch.predict(mixture, blobs[0], "new.parquet")
    assert batch.predict(mixture, blobs[0], "new.npy") == 600


# Whole or not at all


@pytest.fixture
def full_disk():
    """Function that runs an action while no file may grow beyond a number of bytes, which is a real OSError."""

    def run(n_bytes, action):
        resource = pytest.importorskip("resource", reason="this system limits no process")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            action()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return run


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("n_bytes", [2**6, 10_000])
def test_a_full_disk_leaves_what_was_there(
    mixture, generator, blobs, small_blocks, monkeypatch, full_disk, n_bytes, suffix, overwrite
):
    monkeypatch.setattr(fastgmm.images.output, "BLOCK_BYTES", 8 * 64 * 100)
    path = f"new{suffix}"
    if overwrite:
        Path(path).write_bytes(b"precious")
    for action in (
        lambda: batch.predict_proba(mixture, blobs[0], path, overwrite=overwrite),
        lambda: batch.sample(mixture, 1000, path, random_state=0, overwrite=overwrite),
        lambda: batch.generate(generator, 1000, path, random_state=0, overwrite=overwrite),
    ):
        with pytest.raises(OSError, match=rf"File too large: '{path}'"):
            full_disk(n_bytes, action)
        assert files() == ({path} if overwrite else set())
    if overwrite:
        assert Path(path).read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_data_that_fail_in_the_middle_leave_what_was_there(mixture, blobs, suffix):
    class Breaking:
        passes = 0

        def chunks(self):
            self.passes += 1
            yield blobs[0]
            if self.passes > 2:  # the first ones look and count
                raise OSError(5, "Input/output error")
            yield blobs[0]

    path = Path(f"new{suffix}")
    path.write_bytes(b"precious")
    with pytest.raises((OSError, SourceError), match="Input/output error"):
        batch.predict(mixture, open_source(Breaking(), batch_rows=100), path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert files() == {path.name}


TERMINATED = """
import sys
from fastgmm.cli import main
main(["sample", "model.safetensors", "-n", "2000000000", "-o", sys.argv[1]])
"""


@pytest.mark.parametrize("path", ["new.npy", "new.parquet"])
def test_a_terminated_command_leaves_no_file(mixture, path):
    mixture.save("model.safetensors")
    process = subprocess.Popen([sys.executable, "-c", TERMINATED, path])
    deadline = time.monotonic() + 60
    while len(files()) == 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert any(name.startswith(f".{path}.") for name in files())
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert files() == {"model.safetensors"}


PEAK = """
import resource
import numpy as np
from fastgmm import GaussianMixture, batch
rng = np.random.default_rng(0)
mixture = GaussianMixture(4, random_state=0, tol=0.1).fit(rng.normal(size=(2000, 4)) + rng.integers(0, 9, (2000, 1)))
for n in (1_200_000, 2_400_000):
    for end in ("npy", "parquet"):
        batch.sample(mixture, n, f"rows.{end}", random_state=0, overwrite=True)
        batch.predict_proba(mixture, f"rows.{end}", f"new.{end}", overwrite=True)
        batch.predict(mixture, f"rows.{end}", f"new.{end}", overwrite=True)
        batch.score_samples(mixture, f"rows.{end}", f"new.{end}", overwrite=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_memory_does_not_grow_with_the_number_of_rows():
    out = subprocess.run(
        [sys.executable, "-c", PEAK],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ).stdout
    assert Path("rows.npy").stat().st_size > 70 * MIB
    small, large = map(int, out.split())
    assert large - small <= 24 * MIB, f"{(large - small) / MIB:.0f} MiB"
