"""Files that others change while they are read are errors, and results take the place of nothing but files."""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import fastgmm
from fastgmm import GaussianMixture, batch
from fastgmm.distributed import distribute
from fastgmm.exceptions import FormatError, SourceError
from fastgmm.images import ImageGenerator
from fastgmm.rows.wrappers import FilledSource

POSIX = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
N = 200_000


def rows(n=N, dtype=np.float32):
    X = np.random.default_rng(0).random((n, 8), dtype=np.float32)
    X[::2] += 3
    return X.astype(dtype)


def write_as(kind, path, X):
    file = path / f"rows.{kind}"
    names = [f"x{i}" for i in range(X.shape[1])]
    if kind == "npy":
        np.save(file, X)
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(dict(zip(names, X.T, strict=True))), file, row_group_size=20_000)
    else:
        pyarrow.csv.write_csv(pyarrow.table(dict(zip(names, X.T, strict=True))), str(file))
    return file


# ---- a file that others can change never kills the reader ----


def cut(file):
    os.truncate(file, 4096)


def rewrite(file):
    with open(file, "r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(b"1" * 100)
    os.utime(file, (time.time() + 5,) * 2)


def replace(file):
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    os.replace(other, file)


def remove(file):
    file.unlink()


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("change", [cut, rewrite, replace, remove])
@pytest.mark.parametrize("kind", ["npy", "parquet", "csv"])
def test_a_fit_ends_with_an_error_that_names_the_file_and_a_checkpoint(kind, change, tmp_path):
    file, checkpoint = write_as(kind, tmp_path, rows(30_000)), tmp_path / "state"

    def callback(info):
        if info.n_iter == 2:
            change(file)

    settings = {"covariance_type": "diag", "random_state": 0, "tol": 0, "max_iter": 6, "callback": callback}
    with pytest.raises(SourceError, match="rows") as error:
        GaussianMixture(2, checkpoint=checkpoint, **settings).fit(file)
    assert str(file) in str(error.value)
    file.unlink(missing_ok=True)
    write_as(kind, tmp_path, rows(30_000))
    settings["callback"] = None
    resumed = GaussianMixture(2, checkpoint=checkpoint, resume=True, **settings).fit(file)
    assert resumed.lower_bound_ == GaussianMixture(2, **settings).fit(file).lower_bound_


class Elsewhere(Executor):
    """Workers in other processes, as far as what they are sent goes."""

    def submit(self, function, /, *args, **kwargs):
        function, args, kwargs = pickle.loads(pickle.dumps((function, args, kwargs)))
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def append(file):
    """More rows of the same kind, in the same file."""
    write_as(file.suffix[1:], file.parent, rows(30_001))


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("change", [cut, rewrite, replace, remove, append])
@pytest.mark.parametrize("kind", ["npy", "parquet", "csv"])
def test_a_file_that_changes_between_the_passes_of_workers_ends_the_fit(kind, change, tmp_path):
    file = write_as(kind, tmp_path, rows(30_000))

    def callback(info):
        if info.n_iter == 2:
            change(file)

    model = GaussianMixture(
        2, covariance_type="diag", tol=0, max_iter=6, callback=callback, init_params=rows(2), random_state=0
    )
    with pytest.raises(SourceError, match="rows") as error:
        model.fit(file, executor=Elsewhere())
    assert str(file) in str(error.value)


@pytest.mark.parametrize("change", [cut, rewrite, replace, remove, append])
@pytest.mark.parametrize("kind", ["npy", "parquet", "csv"])
def test_rows_taken_from_a_file_that_has_changed_are_an_error(kind, change, tmp_path):
    file = write_as(kind, tmp_path, rows(30_000))
    some = [1, 0] if kind == "npy" else ["x1", "x0"]
    sources = [fastgmm.open_source(file), fastgmm.open_source(file, columns=some), distribute(file, Elsewhere())]
    for source in sources:
        source.take(np.array([1, 20_000]))
    change(file)
    for source in sources:
        with pytest.raises(SourceError, match="rows"):
            source.take(np.array([1, 20_000]))


def test_tasks_do_not_carry_the_names_of_all_files(tmp_path):
    sizes = []
    for n_files in (2, 40):
        folder = tmp_path / str(n_files)
        folder.mkdir()
        for i in range(n_files):
            np.save(folder / f"{i}.npy", rows(1024))
        source = FilledSource(fastgmm.open_source(folder), np.zeros(8))
        assert len(source.files) == n_files
        sizes.append(len(pickle.dumps(source._bare())))
        assert [len(part.files) for part in source.split(None)] == [1] * n_files
    assert sizes[0] == sizes[1]


def test_rows_that_are_brought_from_workers_are_watched_too(tmp_path):
    file = write_as("npy", tmp_path, rows(30_000))
    source = distribute(file, Elsewhere(), rows=10_000)
    assert [first for first, _ in source.chunks()] == [0, 10_000, 20_000]
    chunks = source.chunks()
    assert [next(chunks)[0], next(chunks)[0]] == [0, 10_000]
    replace(file)
    with pytest.raises(SourceError, match="was replaced"):
        next(chunks)  # held back until the file is known to be the same


WHILE = """
import sys, warnings, numpy as np
warnings.simplefilter("ignore")
from fastgmm import GaussianMixture, batch, open_source
kind, file = sys.argv[1:]
g = GaussianMixture(4, covariance_type="diag", random_state=0, max_iter=2).fit(np.load(file)[:2000])
try:
    print("begun", flush=True)
    if kind == "score":
        for _ in range(10000):
            g.score(file)
    elif kind == "batch":
        for _ in range(10000):
            batch.predict_proba(g, file, file + ".out.npy", overwrite=True)
    elif kind == "take":
        source = open_source(file)
        for _ in range(10000):
            source.take(np.arange(0, source.n_samples, 7))
    else:
        solver = {"em": "em", "stepwise": "stepwise", "gradient": "gradient"}[kind]
        GaussianMixture(4, covariance_type="diag", random_state=0, tol=0, max_iter=10000, solver=solver).fit(file)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["em", "stepwise", "gradient", "score", "batch", "take"])
def test_a_file_that_is_cut_off_at_any_time_is_no_bus_error(kind, order, tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, np.asarray(rows(), order=order))
    command = [sys.executable, "-c", WHILE, kind, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "begun\n"
        time.sleep(0.3)
        os.truncate(file, 4096)
        out, err = child.communicate(timeout=120)
    assert (child.returncode, out.split(" ")[0]) == (0, "SourceError"), (child.returncode, out, err)
    assert str(file) in out
    assert {path.name for path in tmp_path.iterdir()} <= {"rows.npy", "rows.npy.out.npy"}


def test_images_in_a_file_that_is_cut_off_are_still_there(tmp_path):
    from fastgmm.images import read_images

    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    found = read_images(tmp_path / "images.npy")[0]
    os.truncate(tmp_path / "images.npy", 200)
    np.testing.assert_array_equal(found, images)


def test_a_file_that_only_grows_older_or_is_read_twice_is_the_same(tmp_path):
    file = write_as("npy", tmp_path, rows(3000))
    source = fastgmm.open_source(file)
    assert [len(block) for _, block in source.chunks()] == [3000]
    np.testing.assert_array_equal(source.take(np.array([5, 2999])), rows(3000)[[5, 2999]])
    assert GaussianMixture(1).fit(source).score(source) == GaussianMixture(1).fit(rows(3000)).score(rows(3000))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_taken_here_and_there_are_those_of_the_array(order, dtype, tmp_path):
    X = np.asarray((100 * rows(5000)).astype(dtype), order=order)
    np.save(tmp_path / "x.npy", X)
    source = fastgmm.open_source(tmp_path / "x.npy", columns=[3, 1])
    for index in (np.arange(0, 5000, 1000), np.arange(17, 4000), np.array([4999]), np.array([0, 1, 2, 4998])):
        np.testing.assert_array_equal(source.take(index), X[index][:, [3, 1]].astype(source.dtype))


# ---- what may wait for ever ----


@POSIX
@pytest.mark.parametrize("name", ["rows.npy", "rows.csv", "rows.parquet", "rows.h5", "model.safetensors", "model.json"])
def test_pipes_sockets_and_devices_are_refused_at_once(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(name)
    wrong = FormatError if name.startswith("model") else SourceError
    read = fastgmm.load if name.startswith("model") else fastgmm.open_source
    with pytest.raises(wrong, match=r"is a pipe|not a regular file"):
        read(name)
    Path(name).unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        with pytest.raises(wrong, match=r"is a socket|not a regular file"):
            read(name)
    Path(name).unlink()
    os.symlink("/dev/zero", name)
    with pytest.raises(wrong, match=r"is a device|not a regular file"):
        read(name)


@POSIX
def test_a_pipe_in_a_folder_of_rows_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", rows(10))
    os.mkfifo(tmp_path / "b.npy")
    with pytest.raises(SourceError, match="is a pipe"):
        fastgmm.open_source(tmp_path)


HEADERS = [
    b"[" * 5000,
    b"(" * 20_000,
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**30, 2), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999999999, 2), }",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3, 2), }",
    b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3, 2), }",
    b"{'descr': '<U5', 'fortran_order': False, 'shape': (3, 2), }",
    b"{'descr': '<f8', 'fortran_order': 'x', 'shape': (3, 2), }",
    b"__import__('os').system('true')",
    b"\xff\xfe" * 40,
    b"'" + b"a" * 100_000,
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"])
def test_a_hostile_header_is_a_source_error(header, version, tmp_path):
    length = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little") if len(header) < 65536 else b"\xff\xff"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + version + length + header + b"\0" * 64)
    with pytest.raises(SourceError) as error:
        fastgmm.open_source(tmp_path / "a.npy")
    assert str(tmp_path / "a.npy") in str(error.value)
    assert len(str(error.value)) < 600 + len(str(tmp_path))


# ---- outputs are files, and never an input ----


@pytest.fixture(scope="module")
def model():
    return GaussianMixture(2, random_state=0).fit(rows(300, np.float64))


def other_names(file):
    """The same file by other names."""
    link, hard = file.with_name(f"link{file.suffix}"), file.with_name(f"hard{file.suffix}")
    link.symlink_to(file)
    os.link(file, hard)
    return [file, link, hard, file.parent / "sub" / ".." / file.name]


def test_an_input_is_never_replaced_whatever_its_name(model, tmp_path):
    (tmp_path / "sub").mkdir()
    file = write_as("npy", tmp_path, rows(300, np.float64))
    content = file.read_bytes()
    for name in other_names(file):
        for write in (batch.predict, batch.predict_proba, batch.score_samples):
            with pytest.raises(FileExistsError, match="is an input"):
                write(model, file, name, overwrite=True)
    assert file.read_bytes() == content


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_rows_on_workers_are_inputs(kind, model, tmp_path):
    file = write_as(kind, tmp_path, rows(300, np.float64))
    content = file.read_bytes()
    for write in (batch.predict, batch.predict_proba, batch.score_samples):
        with pytest.raises(FileExistsError, match="is an input"):
            write(model, distribute(file, Elsewhere()), file, overwrite=True)
    assert file.read_bytes() == content


@pytest.mark.parametrize("name", ["rows.npy", "link.npy", "hard.npy"])
@pytest.mark.parametrize("command", ["fit", "predict", "score", "plot", "convert", "sample"])
def test_no_command_replaces_an_input_with_force_too(command, name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suffix = {"fit": ".npy", "plot": ".png", "convert": ".safetensors"}.get(command, ".npy")
    data, saved = tmp_path / "rows.npy", tmp_path / "model.safetensors"
    np.save(data, rows(300, np.float64))
    model.save(saved)
    inputs = {"convert": saved, "sample": saved, "plot": saved}
    target = (tmp_path / name).with_suffix(suffix)
    read = inputs.get(command, data)
    if target != read:
        target.unlink(missing_ok=True)
        target.symlink_to(read) if "link" in name else os.link(read, target)
    if command == "fit":  # its output has another ending
        target = target.with_suffix(".json")
        os.link(read, target)
    before = read.read_bytes()
    arguments = {
        "fit": ["fit", data, "-k", 1, "-o", target],
        "predict": ["predict", saved, data, "-o", target],
        "score": ["score", saved, data, "-o", target],
        "plot": ["plot", saved, "-o", target],
        "convert": ["convert", saved, "-o", target],
        "sample": ["sample", saved, "-n", 5, "-o", target],
    }[command]
    found = cli(*arguments, "--force")
    assert found[0] == 2
    assert "is an input" in " ".join(found[1].replace("│", " ").split())
    assert read.read_bytes() == before


def cli(*arguments):
    """Run the command in this process; exit code and what it says on stderr."""
    import io

    from fastgmm import cli as command

    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        try:
            command.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            return ended.code, err.getvalue()
    return 0, err.getvalue()


WRITERS = {
    "model.safetensors": lambda model, path: model.save(path),
    "model.json": lambda model, path: model.save(path),
    "labels.npy": lambda model, path: batch.predict(model, rows(50, np.float64), path, overwrite=True),
    "labels.parquet": lambda model, path: batch.predict(model, rows(50, np.float64), path, overwrite=True),
    "sheet.png": lambda model, path: fastgmm.images.save_grid(path, np.zeros((3, 4, 4))),
    "state": lambda model, path: GaussianMixture(1, checkpoint=path).fit(rows(50, np.float64)),
}


@POSIX
@pytest.mark.parametrize("name", WRITERS)
def test_only_files_are_replaced_links_and_modes_are_kept(name, model, tmp_path):
    write, target = WRITERS[name], tmp_path / name
    write(model, target)
    content = target.read_bytes()
    for mode in (0o600, 0o640, 0o444):
        target.chmod(mode)
        write(model, target)
        assert target.stat().st_mode & 0o777 == mode
    link = tmp_path / f"link.{name}"
    link.symlink_to(target)
    write(model, link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o444
    assert len(target.read_bytes()) == len(content)
    target.unlink()
    os.mkfifo(target)
    with pytest.raises((OSError, ValueError), match=r"pipe|not a regular file"):
        write(model, target)
    assert target.is_fifo()
    target.unlink()
    target.symlink_to("/dev/null")
    with pytest.raises((OSError, ValueError), match=r"device|not a regular file"):
        write(model, target)
    assert Path("/dev/null").is_char_device()
    left = {path.name for path in tmp_path.iterdir()} - {name, link.name, f"{name}.previous"}
    assert not left, "temporary files are gone"


def test_the_checkpoint_before_replaces_nothing_but_a_checkpoint(tmp_path):
    (tmp_path / "state.previous").write_bytes(b"thesis")
    with pytest.raises(ValueError, match=r"state\.previous.* is no checkpoint"):
        GaussianMixture(1, checkpoint=tmp_path / "state").fit(rows(50, np.float64))
    assert (tmp_path / "state.previous").read_bytes() == b"thesis"


def test_a_model_s_name_says_how_it_is_written(model, tmp_path):
    model.save(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text().startswith("{")
    np.testing.assert_array_equal(fastgmm.load(tmp_path / "m.json").means_, model.means_)
    np.save(tmp_path / "x.npy", rows(50, np.float64))
    for name in ("m.pkl", "m.bin", "m", "m.txt", "m.npy"):
        code, said = cli("fit", tmp_path / "x.npy", "-k", 1, "-o", tmp_path / name)
        assert code == 2
        assert ".safetensors" in said or "pickles" in said
        assert not (tmp_path / name).exists()


def test_images_are_not_written_among_those_that_are_read(tmp_path):
    from fastgmm.images import write_images

    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)
    write_images(tmp_path / "in", images)
    ImageGenerator(1, n_factors=1, random_state=0, max_iter=2, tol=1e6).fit(images).save(tmp_path / "m.safetensors")
    for output in (tmp_path / "in", tmp_path / "in" / "new.png", tmp_path):
        code, said = cli(
            "images", "inpaint", tmp_path / "m.safetensors", tmp_path / "in", "--mask", "left", "-o", output, "--force"
        )
        assert code == 2, said
        assert "is read" in " ".join(said.replace("│", " ").split())


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="the system has no bus errors")
def test_nothing_maps_files():
    """A memory map of a file that another process cuts off is a bus error, which Python cannot catch."""
    package = Path(fastgmm.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("import mmap", "np.memmap(", "open_memmap(", "memory_map=True", "mmap_mode="):
            assert word not in text, f"{path} has {word}"
