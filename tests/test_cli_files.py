"""The commands on rows, from CSV and Parquet files to a model, labels, scores and new rows."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fastgmm import GaussianMixture, StandardisedMixture, open_source
from fastgmm.cli import REMEDIES


@pytest.fixture
def table(tmp_path, blobs):
    """The same rows as CSV, as Parquet in two files, and as .npy; a column of text is in the way."""
    X = blobs[0]
    names = ["a", "b", "c"]
    lines = [",".join([*names, "note"]), *(",".join([*map(repr, map(float, row)), "x"]) for row in X)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "parts").mkdir()
    for number, part in enumerate((X[:250], X[250:])):
        columns = dict(zip(names, part.T, strict=True)) | {"note": ["x"] * len(part)}
        pa.parquet.write_table(pa.table(columns), tmp_path / "parts" / f"{number}.parquet")
    np.save(tmp_path / "rows.npy", X)
    return X


def facts(out):
    return dict(line.split(maxsplit=1) for line in out.splitlines())


@pytest.mark.parametrize("data", ["rows.csv", "parts", "parts/*.parquet"])
def test_every_kind_of_file_gives_the_same_model(run, table, data):
    code, out, _ = run("fit", data, "--columns", "a,b,c", "-k", 3, "-o", "m.safetensors", "--seed", 0)
    assert code == 0
    assert facts(out)["rows"] == "600"
    loaded = GaussianMixture.load("m.safetensors")
    expected = GaussianMixture(3, random_state=0).fit(table)
    np.testing.assert_allclose(loaded.means_, expected.means_, rtol=1e-12)
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c"]


def test_from_a_csv_file_to_labels_scores_and_new_rows(run, table):
    assert run("fit", "rows.csv", "--columns", "0,1,2", "-k", 3, "-o", "m.safetensors", "--seed", 0)[0] == 0
    mixture = GaussianMixture.load("m.safetensors")
    plain = GaussianMixture.from_parameters(mixture.weights_, mixture.means_, mixture.covariances_)
    code, out, _ = run("predict", "m.safetensors", "parts", "--columns", "a,b,c", "-o", "labels.npy")
    assert code == 0
    assert facts(out) == {"rows": "600", "components": "3", "output": "labels.npy"}
    labels = np.load("labels.npy")
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, plain.predict(table))
    assert run("predict", "m.safetensors", "rows.npy", "--proba", "-o", "proba.npy")[0] == 0
    np.testing.assert_allclose(np.load("proba.npy"), plain.predict_proba(table), atol=1e-12)
    code, out, _ = run("score", "m.safetensors", "rows.csv", "--columns", "a,b,c", "-o", "scores.npy", "--json")
    assert code == 0
    found = json.loads(out)
    expected = plain.score_samples(table)
    np.testing.assert_allclose(np.load("scores.npy"), expected, rtol=1e-11)
    assert found["rows"] == 600
    assert found["log_likelihood"] == pytest.approx(expected.sum(), rel=1e-11)
    assert found["log_likelihood_per_row"] == pytest.approx(expected.mean(), rel=1e-11)
    assert found["least_log_density"] == pytest.approx(expected.min(), rel=1e-11)
    assert run("sample", "m.safetensors", "-n", 50, "-o", "new.npy")[0] == 0
    assert np.load("new.npy").shape == (50, 3)


def test_parquet_in_and_out(run, table):
    data = ("parts", "--columns", "a,b,c")
    assert run("fit", *data, "-k", 3, "-o", "m.safetensors", "--seed", 0)[0] == 0
    mixture = GaussianMixture.load("m.safetensors")
    assert run("sample", "m.safetensors", "-n", 500, "-o", "new.parquet", "--seed", 1, "--labels")[0] == 0
    new = pa.parquet.read_table("new.parquet")
    assert new.column_names == ["a", "b", "c", "label"]
    X = open_source("new.parquet", columns=["a", "b", "c"])
    for command, column, expected in (
        (("predict",), "label", mixture.predict(X)),
        (("predict", "--proba"), "component_1", mixture.predict_proba(X)[:, 1]),
        (("score",), "log_density", mixture.score_samples(X)),
    ):
        options = ("m.safetensors", "new.parquet", "--columns", "a,b,c", "-o", "out.parquet", "--force")
        assert run(*command, *options)[0] == 0
        np.testing.assert_array_equal(pa.parquet.read_table("out.parquet")[column], expected)


def test_json_has_the_facts_of_the_table(run, table):
    GaussianMixture(3, random_state=0).fit(table).save("m.safetensors")
    for command in (
        ("predict", "m.safetensors", "rows.npy", "-o", "out.npy"),
        ("predict", "m.safetensors", "rows.npy", "-o", "out.parquet", "--proba"),
        ("score", "m.safetensors", "rows.npy", "-o", "out.npy"),
        ("score", "m.safetensors", "rows.npy"),
        ("sample", "m.safetensors", "-n", 50, "-o", "out.parquet", "--seed", 3),
    ):
        _, shown, _ = run(*command, "--force")
        code, out, err = run(*command, "--force", "--json")
        assert (code, err, out.count("\n")) == (0, "", 1)
        found = json.loads(out)
        assert {name: f"{v:.10g}" if isinstance(v, float) else str(v) for name, v in found.items()} == facts(shown)


def test_sample_prints_its_seed_and_draws_parts_of_one_set(run, table):
    GaussianMixture(3, random_state=0).fit(table).save("m.safetensors")
    sample = ("sample", "m.safetensors", "--json", "-n")
    seeds = [json.loads(run(*sample, 20, "-o", f"{i}.npy")[1])["seed"] for i in range(2)]
    assert seeds[0] != seeds[1]
    assert run(*sample, 5, "-o", "part.npy", "--seed", seeds[0], "--first", 12)[0] == 0
    np.testing.assert_array_equal(np.load("part.npy"), np.load("0.npy")[12:17])


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("predict", "rows.npy", "-o", "out.csv"), "must end in .npy or .parquet"),
        (("score", "rows.npy", "-o", "out"), "must end in .npy or .parquet"),
        (("sample", "-n", 5, "-o", "out.safetensors"), "must end in .npy or .parquet"),
        (("sample", "-n", 5, "-o", "out.npy", "--labels"), "--labels"),
        (("sample", "-n", 5, "-o", "missing/out.parquet"), "--output"),
    ],
)
def test_an_output_of_another_kind_is_wrong_usage(run, table, tmp_path, command, named):
    GaussianMixture(3, random_state=0).fit(table).save("m.safetensors")
    before = sorted(tmp_path.iterdir())
    code, out, err = run(command[0], "m.safetensors", *command[1:])
    assert (code, out) == (2, "")
    assert named in " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert sorted(tmp_path.iterdir()) == before


def test_bad_rows_are_named_or_left_out(run, table, tmp_path):
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    lines[7] = "1.0,nan,2.0,x"
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    fit = ("fit", "rows.csv", "--columns", "a,b,c", "-k", 3, "-o", "m.safetensors", "--seed", 0)
    code, _, err = run(*fit)
    assert code == 1
    assert re.search(r"rows\.csv", err)
    assert "b" in err
    assert not (tmp_path / "m.safetensors").exists()
    code, out, _ = run(*fit, "--bad", "skip")
    assert code == 0
    assert facts(out)["rows"] == "599"
    assert facts(out)["skipped"] == "1"
    for command, output in (("predict", "l.parquet"), ("predict", "p.npy"), ("score", "s.npy")):
        told = facts(run(command, "m.safetensors", "rows.csv", "-o", output, *["--proba"] * (output == "p.npy"))[1])
        assert (told["rows"], told["bad"]) == ("600", "1")
    assert np.flatnonzero(np.isnan(np.load(tmp_path / "s.npy"))).tolist() == [6]
    np.testing.assert_array_equal(np.isnan(np.load(tmp_path / "p.npy")).all(axis=1), np.arange(600) == 6)
    assert run("predict", "m.safetensors", "rows.csv", "-o", "r.npy", "--bad", "raise")[0] == 1


def test_remedies_are_those_of_the_command(run, table, tmp_path):
    fit = ("fit", "rows.npy", "--seed", 0, "-o", "m.safetensors", "--force")
    told = [run(*fit, "-k", 3, "--max-seconds", 1e-9, "--checkpoint", "c", "--checkpoint-every", 1)[2]]
    told += [run(*fit, "-k", 3, "--checkpoint", "c")[2], run(*fit, "-k", 4, "--checkpoint", "c", "--resume")[2]]
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    (tmp_path / "bad.csv").write_text("\n".join([*lines[:9], "x,1,2,3", *lines[9:]]) + "\n")
    told += [run("fit", "bad.csv", "--columns", "a,b,c", "-k", 3, "-o", "n.safetensors")[2]]
    text = " ".join(told)
    assert not [python for python in REMEDIES if re.search(python, text)]
    for command in ("--bad skip", "--columns", "--null", "without --resume", "with --checkpoint and --resume"):
        assert command in text, (command, told)
    (tmp_path / "years.csv").write_text("2019;2020\n1'000;2\n3'000;4\n5'000;6\n")
    told = run("fit", "years.csv", "-k", 1, "-o", "y.safetensors")[2]
    assert not [python for python in REMEDIES if re.search(python, told)]
    for command in ("--no-header", "--thousands ''", "--columns"):
        assert command in told, (command, told)


def test_standardised_models_are_applied_too(run, table):
    StandardisedMixture(GaussianMixture(3, random_state=0)).fit(table).save("s.safetensors")
    code, out, _ = run("score", "s.safetensors", "rows.npy")
    assert code == 0
    expected = StandardisedMixture.load("s.safetensors").score(table)
    assert float(facts(out)["log_likelihood_per_row"]) == pytest.approx(expected, rel=1e-9)


def test_bad_requests_are_named(run, table, tmp_path):
    GaussianMixture(3, random_state=0).fit(table).save("m.safetensors")
    code, _, err = run("predict", "m.safetensors", "nowhere.csv", "-o", "labels.npy")
    assert code == 2
    assert "nowhere.csv" in err
    code, _, err = run("predict", "m.safetensors", "rows.csv", "--columns", "a,b", "-o", "labels.npy")
    assert code == 1
    assert "3 features" in err
    code, _, err = run("score", "m.safetensors", "rows.csv", "--columns", "a,b,z")
    assert code == 1
    assert "z" in err
    (tmp_path / "labels.npy").write_bytes(b"precious")
    assert run("predict", "m.safetensors", "rows.npy", "-o", "labels.npy")[0] == 2
    assert (tmp_path / "labels.npy").read_bytes() == b"precious"
