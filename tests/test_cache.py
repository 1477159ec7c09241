"""Machine code on disk: whatever the folder or its files are like, a fit works, and its results are the same."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.permissions import BOUND, read_only_folder

FIT = """
import json, os, sys
import numpy as np
import fastgmm
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
results = {"package": fastgmm.__file__}
for dtype in sys.argv[1:]:
    X = np.random.default_rng(0).normal([[0.0, 0.0]] * 400 + [[5.0, 5.0]] * 400).astype(dtype)
    mixture = fastgmm.GaussianMixture(2, covariance_type="spherical", init_params=(np.arange(800) >= 400).astype(int))
    results[dtype] = mixture.fit(X).covariances_.tolist()
    results[f"files of {dtype}"] = sorted(os.path.basename(path) for path in opened if path.endswith(".nbc"))
print(json.dumps(results))
"""

# The smallest functions that are kept on disk.
SUMMARY = """
import sys
import numpy as np
from fastgmm.kernels import columns, parallel
for dtype in sys.argv[1:]:
    summary = np.empty((1, 8, 1))
    arguments = np.array([[1.0], [2.0], [6.0]], dtype), np.empty(0), np.empty(0, np.int64), np.zeros(1), summary
    parallel.run_slots(columns.summarise_columns_slot, 1, 0, *arguments)
    print(*summary.ravel())
"""
SUMMARY_OUT = "1.0 6.0 9.0 41.0 0.0 3.0 0.0 0.0"


def start(code, *arguments, cwd=ROOT, without=(), **environment):
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in environment.items()}}
    for name in without:
        variables.pop(name, None)
    command = [sys.executable, "-c", code, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=variables, **pipes)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip(), err


def run(code, *arguments, **options):
    return finish(start(code, *arguments, **options))


def written(folder):
    """When each file below the folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that two processes filled at once, with code for different precisions, and what they found."""
    folder = tmp_path_factory.mktemp("cache")
    processes = [start(FIT, dtype, FASTGMM_CACHE=folder) for dtype in ("float64", "float32")]
    results = {}
    for process in processes:
        results |= json.loads(finish(process)[0])
    return folder, results


def test_two_processes_that_compile_at_once_leave_the_code_of_both(filled):
    """Numbered files, as Numba has them, make one of them call the code of the other."""
    folder, results = filled
    before = written(folder)
    again = json.loads(run(FIT, "float64", "float32", FASTGMM_CACHE=folder)[0])
    assert [again[dtype] for dtype in ("float64", "float32")] == [results[dtype] for dtype in ("float64", "float32")]
    assert written(folder) == before  # nothing was compiled again
    assert {path.suffix for path in before} == {".nbc"}


DAMAGE = {
    "empty": lambda content, other, rng: b"",
    "cut in half": lambda content, other, rng: content[: len(content) // 2],
    "one byte short": lambda content, other, rng: content[:-1],
    "random": lambda content, other, rng: rng.bytes(len(content)),
    "one bit": lambda content, other, rng: flip(content, int(rng.integers(32, len(content)))),  # also of machine code
    "whole, but of another function": lambda content, other, rng: other,
}


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_damaged_files_are_compiled_and_written_anew(filled, tmp_path):
    folder, results = filled
    copy = shutil.copytree(folder, tmp_path / "copy")
    paths = [next(copy.rglob(name)) for name in results["files of float64"]]
    assert len(paths) >= len(DAMAGE)
    contents, rng = [path.read_bytes() for path in paths], np.random.default_rng(0)
    damaged = {}
    for path, kind, content, other in zip(paths, itertools.cycle(DAMAGE), contents, contents[1:] + contents[:1]):
        damaged[path] = DAMAGE[kind](content, other, rng)
        path.write_bytes(damaged[path])
    assert json.loads(run(FIT, "float64", FASTGMM_CACHE=copy)[0])["float64"] == results["float64"]
    for path, changed in damaged.items():
        assert path.read_bytes() != changed
    before = written(copy)
    assert json.loads(run(FIT, "float64", FASTGMM_CACHE=copy)[0])["float64"] == results["float64"]
    assert written(copy) == before


def test_processors_have_code_of_their_own_in_one_folder(tmp_path):
    assert run(SUMMARY, "float64", FASTGMM_CACHE=tmp_path, NUMBA_CPU_NAME="generic")[0] == SUMMARY_OUT
    generic = written(tmp_path)
    assert run(SUMMARY, "float64", FASTGMM_CACHE=tmp_path)[0] == SUMMARY_OUT
    both = written(tmp_path)
    assert generic.items() < both.items()
    assert run(SUMMARY, "float64", FASTGMM_CACHE=tmp_path, NUMBA_CPU_NAME="generic")[0] == SUMMARY_OUT
    assert written(tmp_path) == both


@pytest.mark.slow
def test_a_fit_goes_by_the_processor_that_is_named(filled, tmp_path):
    folder, results = filled
    copy = shutil.copytree(folder, tmp_path / "copy")
    generic = json.loads(run(FIT, "float64", FASTGMM_CACHE=copy, NUMBA_CPU_NAME="generic")[0])
    np.testing.assert_allclose(generic["float64"], results["float64"], rtol=1e-9)


# ---- folders that cannot be written ----


# As where a container is run as a number that its password database does not hold.
UNKNOWN_USER = """
import pwd
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
"""
HOME = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "FASTGMM_CACHE")


def test_a_read_only_installation_without_a_home_fits_and_warns_once(tmp_path):
    package = shutil.copytree(ROOT / "fastgmm", tmp_path / "fastgmm", ignore=shutil.ignore_patterns("__pycache__"))
    with read_only_folder(tmp_path):
        before = written(tmp_path)
        code = BOUND + UNKNOWN_USER + FIT
        out, err = run(code, "float64", cwd=tmp_path, without=HOME, PYTHONPATH=tmp_path, PYTHONWARNINGS="always")
        assert written(tmp_path) == before
    results = json.loads(out)
    assert Path(results["package"]).parent == package
    assert len(results["float64"]) == 2
    assert err.count("Warning") == err.count("fastgmm cannot keep compiled code") == 1
    assert "this user has no home folder" in err


def test_a_user_without_a_home_gets_no_folder_named_after_the_tilde(tmp_path):
    out, err = run(UNKNOWN_USER + SUMMARY, "float64", cwd=tmp_path, without=HOME)
    assert out == SUMMARY_OUT
    assert "this user has no home folder" in err
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_home_warns_once(tmp_path):
    with read_only_folder(tmp_path):
        environment = {"HOME": tmp_path, "PYTHONWARNINGS": "always"}
        out, err = run(BOUND + SUMMARY, "float64", cwd=tmp_path, without=HOME[1:], **environment)
    assert out == SUMMARY_OUT
    assert err.count("Warning") == err.count("Permission denied") == 1


def test_a_read_only_cache_that_was_filled_before_is_used(tmp_path):
    """As in a container whose image was built with `fastgmm warmup`."""
    run(SUMMARY, "float64", FASTGMM_CACHE=tmp_path)
    hits = "\nprint(sum(columns.summarise_columns_slot.stats.cache_hits.values()))"
    settings = {"cwd": tmp_path, "FASTGMM_CACHE": tmp_path, "PYTHONWARNINGS": "always"}
    with read_only_folder(tmp_path):
        out, err = run(BOUND + SUMMARY + hits, "float64", **settings)
        assert (out.splitlines(), err) == ([SUMMARY_OUT, "1"], "")
        out, err = run(BOUND + SUMMARY + hits, "float32", "float64", **settings)
    assert out.splitlines() == [SUMMARY_OUT, SUMMARY_OUT, "1"]
    assert err.count("Warning") == err.count("Permission denied") == 1
    assert "every process compiles again what is not there" in err


def test_a_file_in_the_place_of_the_folder_warns_once(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    out, err = run(SUMMARY, "float64", FASTGMM_CACHE=tmp_path / "file", PYTHONWARNINGS="always")
    assert out == SUMMARY_OUT
    assert err.count("Warning") == err.count("fastgmm cannot keep compiled code") == 1


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root, to give files to another user")
@pytest.mark.parametrize("what", ["base", "folder", "file"])
def test_machine_code_of_another_user_or_that_others_can_write_is_not_loaded(what, tmp_path):
    """Who can write there can run code; a warning names the folder, and results are the same."""
    base = tmp_path / "cache"

    def summarise():
        return subprocess.run(
            ["sh", "-c", 'umask 0; exec "$@"', "sh", sys.executable, "-c", SUMMARY, "float64"],
            capture_output=True,
            text=True,
            env={**os.environ, "FASTGMM_CACHE": str(base)},
        )

    first = summarise()
    assert (first.returncode, first.stdout.strip(), first.stderr) == (0, SUMMARY_OUT, "")
    (folder,) = base.iterdir()
    files = sorted(folder.glob("*.nbc"))
    assert files
    assert not any(path.stat().st_mode & 0o022 for path in (base, folder, *files))
    place = {"base": base, "folder": folder, "file": files[0]}[what]
    mode = place.stat().st_mode
    for spoil, mend in (
        (lambda: place.chmod(mode | 0o020), lambda: place.chmod(mode)),
        (lambda: place.chmod(mode | 0o002), lambda: place.chmod(mode)),
        (lambda: os.chown(place, 12345, -1), lambda: os.chown(place, 0, -1)),
    ):
        spoil()
        again = summarise()
        assert (again.returncode, again.stdout) == (0, first.stdout)
        assert what == "file" or ("machine code" in again.stderr and str(place) in again.stderr)
        if place.exists():
            mend()
