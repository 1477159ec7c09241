"""The commands around a model: convert, plot, what fit takes beside rows, weights from a column, JSON, completion."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    StandardisedMixture,
    cli,
    load,
    open_source,
)
from fastgmm.cli.options import print_facts
from fastgmm.images import ImageGenerator
from fastgmm.rows.wrappers import open_weighted
from tests.data.models import write

ROOT = Path(__file__).parents[1]
MODELS = sorted((ROOT / "tests/data/models").glob("*/*.safetensors"))
NAMES = ["a", "b", "c"]


def write_weighted(folder, X, weight):
    """Rows with their weights as CSV, Parquet and .npy; the place of the weights is 1."""
    columns = {"a": X[:, 0], "w": weight, "b": X[:, 1], "c": X[:, 2]}
    lines = [",".join(columns), *(",".join(repr(float(v)) for v in row) for row in zip(*columns.values(), strict=True))]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    pa.parquet.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=100)
    np.save(folder / "rows.npy", np.column_stack(list(columns.values())))


@pytest.fixture
def weighted(blobs, tmp_path):
    X, weight = blobs[0], np.arange(len(blobs[0])) % 4 / 2
    write_weighted(tmp_path, X, weight)
    return X, weight


# ---- convert ----


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_files_of_every_version_become_json_and_come_back(run, path):
    assert run("convert", path, "-o", "m.json")[0] == 0
    code, out, err = run("convert", "m.json", "-o", "m.safetensors", "--json")
    assert (code, err) == (0, "")
    model, there, back = load(path), load("m.json"), load("m.safetensors")
    assert json.loads(out)["model"] == type(model).__name__ == type(back).__name__
    np.testing.assert_array_equal(write.scores(there), write.scores(model))
    np.testing.assert_array_equal(write.scores(back), write.scores(model))
    assert type(model).load("m.json").to_json() == back.to_json() == json.dumps(json.loads(Path("m.json").read_text()))
    facts = json.loads(run("info", "m.json", "--json")[1])
    assert facts == json.loads(run("info", "m.safetensors", "--json")[1])
    assert facts["n_features"] == (12 if isinstance(model, ImageGenerator) else 3)
    assert {"settings", "model"} <= set(facts) or isinstance(model, ImageGenerator)  # what the first release lacks


def test_what_cannot_be_converted_is_told_and_nothing_is_written(run, tmp_path, monkeypatch):
    GaussianMixture(1).fit(write.rows()).save(tmp_path / "m.safetensors")
    for output, cause in (("m.pkl", "reading one runs code"), ("m.txt", r"\.safetensors or \.json"), ("m", "must end")):
        code, out, err = run("convert", "m.safetensors", "-o", output)
        assert (code, out) == (2, "")
        assert re.search(cause, " ".join(err.replace("│", " ").split()))
    (tmp_path / "m.json").write_text('{"metadata": {}, "tensors": {}}')
    code, _, err = run("convert", "m.json", "-o", "new.safetensors")
    assert code == 1
    assert err.startswith("error: model file m.json: metadata 'format' must be")
    (tmp_path / "m.json").write_bytes(b'{"metadata": "\xff"}')
    assert "not valid JSON" in run("convert", "m.json", "-o", "new.safetensors")[2]
    assert run("convert", "m.safetensors", "-o", "m.json")[0] == 2  # it exists
    monkeypatch.setattr("fastgmm.storage.text.MAX_NUMBERS", 10)
    code, _, err = run("convert", "m.safetensors", "-o", "big.json")
    assert (code, "more than 10" in err) == (1, True)
    monkeypatch.setattr("fastgmm.storage.text.MAX_TEXT", 10)
    assert "more than 10 bytes" in run("info", "m.json")[2]
    assert {path.name for path in tmp_path.iterdir()} == {"m.safetensors", "m.json"}


# ---- plot ----


def test_models_are_drawn_with_and_without_rows(run, blobs, tmp_path):
    X = blobs[0]
    pa.parquet.write_table(
        pa.table(dict(zip(NAMES, X.T, strict=True)) | {"note": ["x"] * len(X)}), tmp_path / "rows.pq"
    )
    model = GaussianMixture(3, random_state=0).fit(open_source(tmp_path / "rows.pq", columns=NAMES))
    model.save(tmp_path / "m.safetensors")
    notes = {
        "--kind ellipses --features c,a": "50, 90 and 99 % of each component; 600 rows",
        "--kind density --levels 0.5": "50 % of the mixture; 600 rows",
        "--features 1 --max-points 100": "100 of 600 rows",
        "--kind responsibilities": r"600 rows, \S+ % of them less than 90 % sure",
    }
    for number, (options, words) in enumerate(notes.items()):
        # The model asks for its own columns: the text beside them is in nobody's way.
        code, out, err = run("plot", "m.safetensors", "rows.pq", "-o", f"{number}.png", *options.split())
        assert (code, err) == (0, "")
        assert re.search(rf"^shown +{words}$", out, re.MULTILINE)
        with Image.open(f"{number}.png") as picture:
            assert picture.width > 400
            assert len(picture.convert("RGB").getcolors(10**6)) > 10
    code, out, _ = run("plot", "m.safetensors", "--kind", "convergence", "-o", "c.svg", "--json")
    assert json.loads(out) == {
        "kind": "convergence",
        "shown": f"{model.n_iter_} iterations, converged",
        "output": "c.svg",
    }
    assert "<svg" in (tmp_path / "c.svg").read_text()
    assert run("plot", "m.safetensors", "-o", "c.pdf")[0] == 0
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        ("m.safetensors -o p.gif", 2, r"must end in \.png, \.svg or \.pdf"),
        ("m.safetensors -o p.png --kind responsibilities", 2, "is needed"),
        ("m.safetensors rows.npy -o p.png --kind convergence", 2, "is not used"),
        ("m.safetensors rows.npy -o p.png --kind responsibilities --levels 0.5", 2, "not with responsibilities"),
        ("m.safetensors -o p.png --levels 50", 2, "shares between 0 and 1"),
        ("m.safetensors -o p.png --levels half", 2, "shares between 0 and 1"),
        ("m.safetensors -o p.png --max-points 5", 2, "needs DATA"),
        ("m.safetensors nowhere.npy -o p.png", 2, "nowhere.npy does not exist"),
        ("m.safetensors -o p.png --features 7", 1, "feature 7 is out of range"),
        ("m.safetensors -o p.png --features a,b", 1, "the mixture has no feature names"),
        ("images.safetensors -o p.png", 1, "holds images, not rows"),
    ],
)
def test_pictures_that_cannot_be_drawn_are_told(run, tmp_path, arguments, code, cause):
    np.save(tmp_path / "rows.npy", write.rows())
    GaussianMixture(2, random_state=0).fit(write.rows()).save(tmp_path / "m.safetensors")
    (tmp_path / "images.safetensors").write_bytes((write.FOLDER / "1.1/images.safetensors").read_bytes())
    found, out, err = run("plot", *arguments.split())
    assert (found, out) == (code, "")
    assert re.search(cause, " ".join(err.replace("│", " ").split()))
    assert not list(tmp_path.glob("*p.*"))


def test_a_picture_needs_matplotlib_and_says_so(run, tmp_path, monkeypatch):
    GaussianMixture(2, random_state=0).fit(write.rows()).save(tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run("plot", "m.safetensors", "-o", "p.png")
    assert (code, out) == (1, "")
    assert err == "error: plots need matplotlib: pip install 'fastgmm[plot]'\n"


# ---- fit ----


def test_fit_takes_the_other_models(run, blobs, tmp_path):
    X = blobs[0]
    np.save(tmp_path / "rows.npy", X)
    fit = ("fit", "rows.npy", "-k", 3, "--seed", 0, "--json", "-o")
    expected = {
        "bayesian --covariance-type diag": BayesianGaussianMixture(
            n_components=3, covariance_type="diag", random_state=0
        ),
        "mfa --n-factors 1": MixtureOfFactorAnalyzers(3, 1, random_state=0),
    }
    for number, (options, mixture) in enumerate(expected.items()):
        code, out, _ = run(*fit, f"{number}.safetensors", "--model", *options.split())
        assert code == 0
        np.testing.assert_array_equal(load(f"{number}.safetensors").means_, mixture.fit(X).means_)
        assert json.loads(out)["log_likelihood"] == mixture.log_likelihood_
    for options in ("mfa --covariance-type full", "mfa --reg-covar 1", "bayesian --n-factors 2"):
        code, _, err = run(*fit, "x.safetensors", "--model", *options.split())
        assert (code, "goes with" in err) == (2, True)
    assert not (tmp_path / "x.safetensors").exists()


def test_a_standardised_fit_is_one_of_the_rows_as_they_are(run, weighted):
    X, weight = weighted
    code, out, _ = run(
        *("fit", "rows.csv", "--weights-column", "w", "-k", 3, "--seed", 0, "--standardize", "--json"),
        *("-o", "m.json", "--covariance-type", "tied"),
    )
    assert code == 0
    facts = json.loads(out)
    assert (facts["rows"], facts["features"], facts["total_weight"]) == (600, 3, weight.sum())
    expected = StandardisedMixture(GaussianMixture(3, covariance_type="tied", random_state=0)).fit(
        X, sample_weight=weight
    )
    assert facts["log_likelihood"] == pytest.approx(expected.log_likelihood_, rel=1e-10)
    model = load("m.json")
    assert isinstance(model, StandardisedMixture)
    assert model.feature_names_in_.tolist() == NAMES
    np.testing.assert_allclose(model.means_, expected.means_, rtol=1e-9)
    shown = json.loads(run("info", "m.json", "--json")[1])
    assert float(shown["log_likelihood"]) == facts["log_likelihood"]
    assert run("predict", "m.json", "rows.csv", "--columns", "a,b,c", "-o", "labels.npy")[0] == 0
    rows = open_source("rows.csv", columns=NAMES)
    np.testing.assert_array_equal(np.load("labels.npy"), model.predict(rows))
    code, out, _ = run("score", "m.json", "rows.csv", "--columns", "a,b,c", "--json")
    assert json.loads(out)["log_likelihood_per_row"] == pytest.approx(model.score(rows), rel=1e-10)
    assert run("sample", "m.json", "-n", 5000, "-o", "new.npy", "--seed", 0)[0] == 0
    np.testing.assert_allclose(np.load("new.npy").std(axis=0), X.std(axis=0), rtol=0.1)


# ---- weights from a column ----


@pytest.mark.parametrize(
    ("name", "column"), [("rows.csv", "w"), ("rows.parquet", "w"), ("rows.csv", 1), ("rows.npy", 1)]
)
def test_a_column_of_weights_is_the_same_as_an_array_of_them(weighted, tmp_path, name, column):
    X, weight = weighted
    source, found = open_weighted(tmp_path / name, column)
    np.testing.assert_array_equal(found, weight)
    assert found.dtype == np.float64
    assert source.names == (None if name == "rows.npy" else NAMES)
    np.testing.assert_array_equal(np.concatenate([block for _, block in source.chunks()]), X)
    index = np.array([599, 3, 3])
    np.testing.assert_array_equal(source.take(index), X[index])
    assert source.read_as(np.float32).take(index).dtype == np.float32
    two, _ = open_weighted(tmp_path / name, column, columns=[2, 0])
    np.testing.assert_array_equal(two.take(index), X[index][:, [1, 0]])
    mixture = GaussianMixture(3, random_state=0).fit(source, sample_weight=found)
    expected = GaussianMixture(3, random_state=0).fit(X, sample_weight=weight)
    np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-11)


def test_rows_left_out_lose_their_weights(run, weighted, tmp_path):
    X, weight = weighted[0].copy(), weighted[1].copy()
    X[[7, 300], [0, 2]] = np.nan
    weight[[8, 301]] = np.nan, 1.5
    write_weighted(tmp_path, X, weight)
    good = np.isfinite(X).all(axis=1) & np.isfinite(weight)
    expected = GaussianMixture(3, random_state=0).fit(X[good], sample_weight=weight[good])
    for name in ("rows.csv", "rows.parquet", "rows.npy"):
        code, out, _ = run(
            *("fit", name, "--weights-column", "1", "--skip-bad", "-k", 3, "--seed", 0),
            *("-o", "m.safetensors", "--force", "--json"),
        )
        assert code == 0
        facts = json.loads(out)
        assert (facts["rows"], facts["skipped"]) == (597, 3)
        assert facts["total_weight"] == weight[good].sum()
        np.testing.assert_allclose(load("m.safetensors").means_, expected.means_, rtol=1e-11)


def test_features_stay_float32_beside_weights_of_float64(weighted, tmp_path):
    X, weight = weighted
    columns = dict(zip(NAMES, X.astype(np.float32).T, strict=True)) | {"w": weight}
    pa.parquet.write_table(pa.table(columns), tmp_path / "single.parquet")
    source, found = open_weighted(tmp_path / "single.parquet", "w")
    assert source.dtype == source.input_dtype == next(iter(source.chunks()))[1].dtype == np.float32
    np.testing.assert_array_equal(found, weight)
    np.testing.assert_array_equal(source.take(np.arange(600)), X.astype(np.float32))
    assert GaussianMixture(3, random_state=0).fit(source, sample_weight=found).means_.dtype == np.float32


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_bad_weights_name_their_row(run, weighted, tmp_path, value):
    X, weight = weighted
    weight = weight.copy()
    weight[20] = value
    write_weighted(tmp_path, X, weight)
    for name in ("rows.csv", "rows.parquet", "rows.npy"):
        column = "1" if name == "rows.npy" else "w"
        code, out, err = run("fit", name, "--weights-column", column, "-k", 3, "-o", "m.safetensors")
        assert (code, out) == (1, "")
        assert re.search(rf"must hold weights.*it holds {value:g} in row 20, which is row 20 of {name}", err)
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "code", "cause"),
    [
        ("--weights-column z", 1, "no single column 'z'; it has columns a, w, b, c"),
        ("--weights-column w --columns a,w", 1, "holds the weights and cannot be a feature too"),
        ("--weights-column 1 --columns 0,1", 1, "holds the weights and cannot be a feature too"),
        ("--weights-column w,a", 2, "must be one column"),
    ],
)
def test_columns_that_cannot_be_weights_are_told(run, weighted, options, code, cause):
    found, out, err = run("fit", "rows.csv", "-k", 2, "-o", "m.safetensors", *options.split())
    assert (found, out) == (code, "")
    assert cause in " ".join(err.replace("│", " ").split())


def test_weights_alone_are_nothing_to_fit(tmp_path):
    np.save(tmp_path / "w.npy", np.ones((5, 1)))
    with pytest.raises(ValueError, match="nothing is left to fit"):
        open_weighted(tmp_path / "w.npy", 0)


# ---- what is printed ----


def test_json_is_exact_and_has_nothing_that_is_not_json(capsys):
    facts = {
        "x": 0.1 + 0.2,
        "y": np.float64(1.5),
        "z": np.inf,
        "path": Path("a"),
        "list": [np.nan, 1],
        "n": np.int64(3),
    }
    print_facts(facts, True)
    expected = {"x": 0.1 + 0.2, "y": 1.5, "z": None, "path": "a", "list": [None, 1], "n": 3}
    assert json.loads(capsys.readouterr().out) == expected
    print_facts({"x": 0.1 + 0.2, "list": [1 / 3, 2.0]}, False)
    assert capsys.readouterr().out == "x     0.3\nlist  0.3333 2\n"


def test_warmup_tells_json_from_the_log(run, monkeypatch):
    monkeypatch.setattr(cli.rows, "_WARMUP_ROWS", 100)
    code, out, err = run("warmup", "--json")
    assert code == 0
    seconds = json.loads(out)
    assert len(seconds) == 9
    assert seconds["total"] >= seconds["full float64"] > 0
    assert re.search(r"^full float64: \d", err, re.MULTILINE)


def test_images_commands_print_json(run, tmp_path):
    np.save("images.npy", write.images()[0])
    code, out, _ = run("images", "fit", "images.npy", "-o", "i.safetensors", "-k", 2, "--factors", 1, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["images"] == 40
    assert facts["log_likelihood"] == pytest.approx(load("i.safetensors").score(write.images()[0]))
    facts = json.loads(run("images", "generate", "i.safetensors", "-n", 3, "-o", "new.npy", "--seed", 4, "--json")[1])
    assert facts == {"images": 3, "shape": "3x4", "seed": 4, "output": "new.npy"}
    out = run("images", "inpaint", "i.safetensors", "images.npy", "--mask", "top", "-o", "done.npy", "--json")[1]
    assert json.loads(out)["hidden"] == 0.5


# ---- completion ----


def completed(*words):
    """What bash would offer for the last of these words."""
    environment = {
        **os.environ,
        "_FASTGMM_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(("fastgmm", *words)),
        "COMP_CWORD": str(len(words)),
    }
    code = "from fastgmm.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_commands_options_and_their_values_are_completed_and_files_left_to_the_shell():
    assert completed("conv") == ["convert"]
    assert completed("fit", "--stan") == ["--standardize"]
    assert completed("fit", "--covariance-type", "") == ["full", "tied", "diag", "spherical"]
    # Nothing is offered where a file stands: the script says `complete -o default`, bash's own files.
    assert completed("info", "") == []


def test_help_loads_nothing_heavy(monkeypatch):
    code = (
        "import sys\nfrom fastgmm.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('numba', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'PIL', 'safetensors', 'fastgmm.estimators')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
