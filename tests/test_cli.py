"""The command line: what it writes, what it prints, how it fails."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest

from fastgmm import GaussianMixture, StandardisedMixture, batch, load
from fastgmm._version import __version__
from tests.mixture_files import load_mixture, save_mixture

ROOT = Path(__file__).parents[1]
MODELS = sorted((ROOT / "tests/data/models").glob("*/*.safetensors"))


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(blobs):
    np.save("rows.npy", blobs[0])
    return blobs[0]


@pytest.fixture
def model(rows):
    GaussianMixture(3, random_state=0).fit(rows).save("model.safetensors")


def test_version_is_printed(run):
    assert run("--version") == (0, f"fastgmm {__version__}\n", "")


def test_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("demo", "fit", "predict", "score", "sample", "info", "warmup"):
        assert re.search(rf"\b{command}\b", out)


def test_fit_writes_the_model_the_class_finds(run, rows):
    options = "--covariance-type tied --tol 1e-6 --reg-covar 1e-5 --init-params k-means++ --n-init 2 --seed 4"
    code, out, _ = run("fit", "rows.npy", "-k", 3, "-o", "model.safetensors", "--threads", 1, *options.split())
    assert code == 0
    expected = GaussianMixture(
        3, covariance_type="tied", tol=1e-6, reg_covar=1e-5, init_params="k-means++", n_init=2, random_state=4
    ).fit(rows)
    loaded = GaussianMixture.load("model.safetensors")
    np.testing.assert_array_equal(loaded.means_, expected.means_)
    np.testing.assert_array_equal(loaded.predict_proba(rows), expected.predict_proba(rows))
    table = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert table["rows"] == "600"
    assert table["features"] == "3"
    assert table["stop_reason"] == "converged"
    assert int(table["iterations"]) == expected.n_iter_
    assert float(table["log_likelihood"]) == pytest.approx(expected.log_likelihood_, rel=1e-9)


def test_sample_follows_the_model_block_by_block(run, model, monkeypatch):
    monkeypatch.setattr(batch, "BLOCK_VALUES", 100 * 3)
    code, out, err = run("sample", "model.safetensors", "-n", 2050, "-o", "new.npy", "--seed", 1)
    assert (code, err) == (0, "")
    assert "2050" in out
    X = np.load("new.npy")
    assert X.shape == (2050, 3)
    assert X.dtype == np.float64
    assert len(np.unique(X, axis=0)) == 2050  # no block repeats another
    mixture = GaussianMixture.load("model.safetensors")
    # Under the model, one marginal: its distribution function is a sum of normal ones.
    deviations = np.sqrt(mixture.covariances_[:, 0, 0])

    def distribution(x):
        from scipy.stats import norm

        return norm.cdf(np.subtract.outer(x, mixture.means_[:, 0]) / deviations) @ mixture.weights_

    assert kstest(X[:, 0], distribution).pvalue > 1e-4
    # Random order: a row's component says nothing about the next row's.
    labels = mixture.predict(X)
    same = (labels[1:] == labels[:-1]).mean()
    assert abs(same - (mixture.weights_**2).sum()) < 5 * np.sqrt(0.25 / 2050)


def test_sample_repeats_itself_for_one_seed_only(run, model):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("sample", "model.safetensors", "-n", 10, "-o", f"{name}.npy", "--seed", seed)[0] == 0
    a, b, c = (np.load(f"{name}.npy") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_existing_output_is_kept_unless_forced(run, model, tmp_path):
    for name, command in (
        ("new.npy", ("sample", "model.safetensors", "-n", 10)),
        ("new.json", ("fit", "rows.npy", "-k", 2)),
    ):
        (tmp_path / name).write_bytes(b"precious")
        code, _, err = run(*command, "-o", name)
        assert code == 2
        assert "--force" in err
        assert (tmp_path / name).read_bytes() == b"precious"
    assert run("sample", "model.safetensors", "-n", 10, "-o", "new.npy", "--force")[0] == 0
    assert np.load("new.npy").shape == (10, 3)


def test_failed_sample_leaves_no_file(run, model, tmp_path, monkeypatch):
    def disk_full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", disk_full)
    code, out, err = run("sample", "model.safetensors", "-n", 10, "-o", "new.npy")
    assert (code, out) == (1, "")
    assert "No space left" in err
    assert {path.name for path in tmp_path.iterdir()} == {"rows.npy", "model.safetensors"}


def test_info_prints_the_checked_content(run, model):
    code, out, _ = run("info", "model.safetensors")
    assert code == 0
    assert re.search(r"covariance_type +full\n", out)
    code, out, _ = run("info", "model.safetensors", "--json")
    assert code == 0
    facts = json.loads(out)
    mixture = load_mixture("model.safetensors")
    assert facts["weights"] == mixture.weights.tolist()
    assert (facts["n_components"], facts["n_features"]) == (3, 3)
    assert facts["format"] == "fastgmm/1"


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_info_and_sample_take_every_kind_of_model(run, path):
    code, out, err = run("info", path, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    loaded = load(path)
    assert facts["model"] == type(loaded).__name__
    assert facts["n_features"] == (12 if path.stem == "images" else 3)
    code, _, err = run("sample", path, "-n", 1000, "-o", "new.npy", "--seed", 0)
    if path.stem == "images":
        assert (code, "holds images, not rows" in err) == (1, True)
        return
    assert code == 0
    assert np.isfinite(loaded.score_samples(np.load("new.npy"))).all()


def test_samples_of_a_standardised_mixture_are_in_the_units_of_its_rows(run, rows):
    X = np.load("rows.npy") * [1e6, 1.0, 1e-6]
    StandardisedMixture(GaussianMixture(3, random_state=0)).fit(X).save("standardised.safetensors")
    assert run("sample", "standardised.safetensors", "-n", 20_000, "-o", "new.npy", "--seed", 0)[0] == 0
    np.testing.assert_allclose(np.load("new.npy").std(axis=0), X.std(axis=0), rtol=0.1)


def test_info_sends_no_control_characters_to_the_terminal(run):
    save_mixture(
        "model.safetensors",
        weights=[1.0],
        means=[[0.0]],
        covariances=[1.0],
        precisions_cholesky=[1.0],
        covariance_type="spherical",
        metadata={"note": "\x1b[2J"},
    )
    code, out, _ = run("info", "model.safetensors")
    assert code == 0
    assert "\x1b" not in out
    assert r"\x1b[2J" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "missing.npy", "-k", 2, "-o", "m.safetensors"),
        ("fit", "rows.npy", "-k", 0, "-o", "m.safetensors"),
        ("fit", "rows.npy", "-o", "m.safetensors"),
        ("fit", "rows.npy", "-k", 2, "-o", "m.safetensors", "--covariance-type", "flat"),
        ("fit", "rows.npy", "-k", 2, "-o", "missing/m.safetensors"),
        ("sample", "missing.safetensors", "-n", 2, "-o", "new.npy"),
        ("bake",),
    ],
)
def test_wrong_usage_exits_with_2(run, rows, arguments, tmp_path):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage: fastgmm" in err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"1,2\n3,4\n", r"rows\.npy is no usable \.npy file: .* Write it with numpy\.save"),
        (b"", r"rows\.npy is no usable \.npy file"),
        (np.array([[1, "a"]], dtype=object), r"rows\.npy holds object, but float32 or float64 numbers are needed"),
        (np.arange(5.0), r"rows\.npy has shape \(5,\), but rows and columns are needed"),
        (np.array([[0.0, 1], [2, np.nan], [4, 5]]), "row 1.*column 1"),
        (np.ones((1, 2)), r"minimum of 2 is required|n_samples >= n_components"),
    ],
)
def test_failed_fit_exits_with_1_and_names_the_cause(run, tmp_path, content, cause):
    if isinstance(content, bytes):
        (tmp_path / "rows.npy").write_bytes(content)
    else:
        np.save("rows.npy", content, allow_pickle=True)
    code, out, err = run("fit", "rows.npy", "-k", 2, "-o", "m.safetensors")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert re.search(cause, err)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_damaged_model_exits_with_1(run, model, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    for command in (("info", path), ("sample", path, "-n", 2, "-o", "new.npy")):
        code, out, err = run(*command)
        assert (code, out) == (1, "")
        assert err.startswith(f"error: model file {path}: is not a valid safetensors file")


def test_warnings_are_one_line_on_stderr(run, rows):
    code, out, err = run("fit", "rows.npy", "-k", 3, "-o", "m.safetensors", "--max-iter", 1, "--seed", 0)
    assert code == 0
    assert re.search(r"stop_reason +max_iter\n", out)
    assert re.fullmatch(r"warning: .*did not converge.*\n", err)


def test_verbose_prints_a_line_per_iteration(run, rows):
    _, out, err = run("fit", "rows.npy", "-k", 3, "-o", "m.safetensors", "--seed", 0, "--verbose")
    n_iter = int(re.search(r"iterations +(\d+)", out)[1])
    lines = err.splitlines()
    assert len(lines) == n_iter
    for i, line in enumerate(lines, start=1):
        assert re.fullmatch(rf"iteration {i}/100  -\d+\.\d+ nats/row  .*M rows/s(  change \S+)?(  [\d:]+ left)?", line)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_bar_is_shown_on_a_terminal_and_removed(run, rows, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run("fit", "rows.npy", "-k", 3, "-o", "m.safetensors", "--seed", 0)[0] == 0
    shown = sys.stderr.getvalue()
    assert "iteration" in shown
    assert shown.endswith("\x1b[2K")  # the line is erased at the end


def test_terminal_without_rich_gets_lines(run, rows, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("fastgmm._terminal._LINE_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert run("fit", "rows.npy", "-k", 3, "-o", "m.safetensors", "--seed", 0)[0] == 0
    assert sys.stderr.getvalue().startswith("iteration 1/100  ")


USE_EVERYTHING = """
import sys, warnings
import numpy as np
from fastgmm import GaussianMixture, fit_many
warnings.simplefilter("ignore")
rows = np.random.default_rng(0).standard_normal((50_000, 5))
for X in (rows, rows[:300], rows[:, :2]):
    for covariance_type in ("full", "tied", "diag", "spherical"):
        for dtype in ("float32", "float64"):
            mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0, max_iter=2)
            mixture.fit_predict(X.astype(dtype), sample_weight=np.ones(len(X)))
            mixture.predict_proba(X.astype(dtype)), mixture.score_samples(X.astype(dtype))
            groups = np.arange(len(X)) // 100
            fit_many(X.astype(dtype), groups, 2).predict_many(X.astype(dtype), groups)
"""


def test_after_warmup_nothing_is_left_to_compile_for_small_or_large_fits(tmp_path):
    def run_python(code, *arguments):
        environment = {**os.environ, "FASTGMM_CACHE": str(tmp_path)}
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    out = run_python("from fastgmm.cli import main; main()", "warmup")
    for covariance_type in ("full", "tied", "diag", "spherical"):
        for dtype in ("float32", "float64"):
            assert re.search(rf"^{covariance_type} {dtype}: \d", out, re.MULTILINE)
    compiled = {path.name for path in tmp_path.rglob("*.nbc")}
    assert any("_run_all" in name for name in compiled)
    run_python(USE_EVERYTHING)
    assert {path.name for path in tmp_path.rglob("*.nbc")} == compiled


def test_demo_generates_digits_and_finds_the_known_parameters(run, tmp_path):
    code, out, err = run("demo", "--rows", 50_000, "--output", "shown")
    assert code == 0
    assert "warning" not in err
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {"digits.png", "report.md"}
    with Image.open(tmp_path / "shown" / "digits.png") as picture:
        assert picture.width > 2 * 10 * 9 * 5
    report = (tmp_path / "shown" / "report.md").read_text(encoding="utf-8")
    for line in out.splitlines()[:-1]:
        assert line in report
    right = int(re.search(r"(\d+) of 100 generated digits", out)[1])
    assert right >= 95
    assert re.search(r"[\d,]+ rows per second", out)
    assert re.search(r"peak memory of the process \d+ MiB", out)
    errors = re.search(r"weights (\S+), means (\S+), covariances (\S+) \(", out).groups()
    # About 2,000 rows per component: five standard errors of a mean are 5 / sqrt(2000).
    assert max(map(float, errors)) < 0.12


def run_python(code):
    # In the checkout, so that its package is found whether or not it is installed.
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_missing_typer_is_one_sentence():
    done = run_python("import sys; sys.modules['typer'] = None; import fastgmm.cli")
    assert done.returncode == 1
    assert done.stderr == "The fastgmm command needs typer: pip install 'fastgmm[cli]'\n"


def test_short_commands_import_no_engine(model, tmp_path):
    done = run_python(
        "import sys\nfrom fastgmm.cli import main\n"
        f"try: main(['info', {str(tmp_path / 'model.safetensors')!r}])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numba', 'sklearn', 'PIL') if name in sys.modules])"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
