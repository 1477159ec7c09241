"""A message never costs a result: progress, warnings and log lines that cannot be written are dropped."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture
from fastgmm.exceptions import ConvergenceWarning, say
from fastgmm.images import ImageGenerator

POSIX = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
X = np.random.default_rng(0).normal(size=(300, 2)) + 4 * np.arange(300)[:, None] % 8


class Bad(io.StringIO):
    """A stream that fails when it is written to."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


STREAMS = {
    "broken pipe": lambda: Bad(BrokenPipeError(32, "Broken pipe")),
    "full disk": lambda: Bad(OSError(28, "No space left on device")),
    "would block": lambda: Bad(BlockingIOError(11, "Resource temporarily unavailable")),
    "closed": lambda: closed(),
    "none": lambda: None,
    "no terminal methods": lambda: type("Writer", (), {"write": lambda self, text: None, "flush": lambda self: None})(),
}


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", ["auto", "plain", "json", "none"])
def test_progress_into_a_stream_that_fails_costs_nothing(name, kind, monkeypatch):
    expected = GaussianMixture(2, random_state=0).fit(X).means_
    monkeypatch.setattr(sys, "stderr", STREAMS[name]())
    for stream in (None, STREAMS[name]()):
        shown = fastgmm.progress(kind, every=0.0, stream=stream)
        model = GaussianMixture(2, random_state=0, callback=shown).fit(X)
        np.testing.assert_array_equal(model.means_, expected)


@pytest.mark.parametrize("name", STREAMS)
def test_warnings_and_verbose_lines_into_streams_that_fail_cost_nothing(name, monkeypatch):
    monkeypatch.setattr("warnings.filters", [("default", None, Warning, None, 0)])
    monkeypatch.setattr("warnings._showwarnmsg_impl", lambda message: sys.stderr.write(str(message)))
    monkeypatch.setattr(sys, "stderr", STREAMS[name]())
    monkeypatch.setattr(sys, "stdout", STREAMS[name]())
    for kind in (GaussianMixture, BayesianGaussianMixture):
        model = kind(n_components=2, random_state=0, max_iter=1, verbose=2, verbose_interval=1).fit(X)
        assert model.n_iter_ == 1


def test_a_warning_that_is_an_error_leaves_the_fit(monkeypatch):
    model = GaussianMixture(2, random_state=0, max_iter=1)
    with pytest.raises(ConvergenceWarning):
        model.fit(X)
    assert model.n_iter_ == 1
    assert model.predict(X).shape == (300,)


def test_what_an_encoding_lacks_is_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say("größe → 1", stream)
    stream.seek(0)
    assert stream.read() == "gr\\xf6\\xdfe \\u2192 1\n"


def test_the_first_line_of_progress_has_no_change_to_tell():
    stream = io.StringIO()
    GaussianMixture(2, random_state=0, callback=fastgmm.progress("plain", every=0.0, stream=stream)).fit(X)
    assert "inf" not in stream.getvalue()
    assert "change" not in stream.getvalue().splitlines()[0]


# ---- the command ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("files")
    np.save(path / "x.npy", X)
    GaussianMixture(2, random_state=0).fit(X).save(path / "m.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    np.save(path / "images.npy", images)
    generator = ImageGenerator(1, n_factors=1, random_state=0, tol=1e6, max_iter=2).fit(images)
    generator.save(path / "images.safetensors")
    return path


COMMANDS = {
    "fit": "fit x.npy -k 2 --max-iter 1 --progress plain --verbose --seed 0 -o {}.safetensors",
    "fit json": "fit x.npy -k 2 --max-iter 1 --progress json --seed 0 -o {}.safetensors --json",
    "predict": "predict m.safetensors x.npy -o {}.npy",
    "score": "score m.safetensors x.npy -o {}.npy --json",
    "sample": "sample m.safetensors -n 5 --seed 1 -o {}.npy",
    "convert": "convert m.safetensors -o {}.json",
    "plot": "plot m.safetensors -o {}.png",
    "images generate": "images generate images.safetensors -n 3 --seed 1 -o {}.npy",
    "images inpaint": "images inpaint images.safetensors images.npy --mask left -o {}.npy",
}


def run(folder, command, name, redirection, **environment):
    """Run a command by the shell, with its streams where the redirection says."""
    line = f'"{sys.executable}" -W ignore::ImportWarning -m fastgmm {command.format(name)} {redirection}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=folder, capture_output=True, text=True, errors="replace",
        timeout=120, env={**os.environ, "PYTHONWARNINGS": "", **environment},
    )  # fmt: skip


def written(folder, name):
    (file,) = folder.glob(f"{name}.*")
    content = file.read_bytes()
    file.unlink()
    return content


SLOWER = [name for name in COMMANDS if name not in ("fit json", "score", "images generate")]


@POSIX
@pytest.mark.parametrize("command", [pytest.param(c, marks=[pytest.mark.slow] * (c in SLOWER)) for c in COMMANDS])
def test_without_a_usable_stderr_results_are_written_and_stdout_carries_them_alone(command, folder):
    usual = run(folder, COMMANDS[command], "usual", "")
    assert usual.returncode == 0, usual.stderr
    content = written(folder, "usual")
    for i, redirection in enumerate(("2>&-", "2>/dev/full")):
        found = run(folder, COMMANDS[command], f"out{i}", redirection)
        assert found.returncode == 0, (redirection, found.stdout, found.stderr)
        assert "arning" not in found.stdout
        if "--json" in COMMANDS[command]:
            json.loads(found.stdout)
        assert len(written(folder, f"out{i}")) == len(content) or command == "plot"


@POSIX
@pytest.mark.parametrize("command", ["fit", "sample"])
def test_results_in_files_are_written_whatever_becomes_of_stdout(command, folder):
    full = run(folder, COMMANDS[command], "full", ">/dev/full")
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    assert written(folder, "full")
    shut = run(folder, COMMANDS[command], "shut", "| true")
    assert shut.returncode in (0, 141)
    assert "Traceback" not in shut.stderr
    assert "Exception" not in shut.stderr
    assert written(folder, "shut")
    none = run(folder, COMMANDS[command], "none", ">&-")
    assert none.returncode == 0, none.stderr
    assert written(folder, "none")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_odd_encodings_cost_nothing(encoding, folder):
    found = run(folder, COMMANDS["fit"], "größe", "", PYTHONIOENCODING=encoding)
    assert found.returncode == 0, found.stderr
    assert written(folder, "größe")


def test_the_module_and_the_help_of_every_command_by_its_short_name(folder):
    for command in ("", "fit", "predict", "images", "images fit", "info"):
        found = run(folder, f"{command} -h", "", "")
        assert found.returncode == 0
        assert f"Usage: fastgmm{' ' if command else ''}{command}" in found.stdout


def test_info_gives_numbers_as_numbers_and_the_settings_of_the_fit(folder):
    facts = json.loads(run(folder, "info m.safetensors --json", "", "").stdout)
    assert isinstance(facts["n_iter"], int)
    assert facts["converged"] is True
    assert isinstance(facts["log_likelihood"], float)
    assert facts["settings"]["random_state"] == 0
    facts = json.loads(run(folder, "info images.safetensors --json", "", "").stdout)
    assert facts["settings"]["tol"] == 1e6
    assert facts["settings"]["noise_floor"] == 1e-3
    assert facts["image_shape"] == [4, 4]


def test_a_fit_without_a_seed_says_the_one_it_drew(folder):
    first = json.loads(run(folder, "fit x.npy -k 2 -o first.safetensors --json", "", "").stdout)
    again = run(folder, f"fit x.npy -k 2 --seed {first['seed']} -o again.safetensors --json", "", "")
    assert json.loads(again.stdout)["log_likelihood"] == first["log_likelihood"]
    assert written(folder, "first") == written(folder, "again")
