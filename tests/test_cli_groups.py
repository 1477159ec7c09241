"""`--by`: a mixture for each group of rows, from tables to one model file and back to the rows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastgmm
from fastgmm import fit_many
from fastgmm.exceptions import FormatError, SourceError
from fastgmm.rows.labels import as_labels, open_grouped
from tests.test_fit_many import FIGURES, make_groups

SITES = np.array(["oslo", "NA", "007", "zürich", "rome, lazio"])  # none of them means a missing value


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Rows and groups, in a CSV and a Parquet file."""
    monkeypatch.chdir(tmp_path)
    X, groups = make_groups(5, 2)
    frame = pd.DataFrame({"site": SITES[groups], "a": X[:, 0], "b": X[:, 1], "year": 2000 + groups})
    frame = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    frame.to_csv("rows.csv", index=False)
    frame.to_parquet("rows.parquet")
    return frame


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("model", ["many.safetensors", "many.json"])
def test_a_table_becomes_mixtures_that_answer_for_each_row(name, model, table, run_facts):
    code, facts, _ = run_facts(
        "fit", name, "-k", 3, "--by", "site", "--columns", "a,b", "-o", model, "--seed", 4, "--json"
    )
    assert code == 0
    assert (facts["groups"], facts["rows"], facts["features"], facts["converged"]) == (5, len(table), 2, 5)
    expected = fit_many(table[["site", "a", "b"]], "site", 3, random_state=4)
    many = fastgmm.load(model)
    assert list(many.groups_) == sorted(SITES)
    for figure in FIGURES:
        np.testing.assert_array_equal(getattr(many, figure), getattr(expected, figure), err_msg=figure)
    assert facts["log_likelihood"] == pytest.approx(expected.log_likelihood_.sum(), rel=1e-12)
    code, facts, _ = run_facts("predict", model, name, "--by", "site", "-o", "labels.npy", "--json")
    assert code == 0
    np.testing.assert_array_equal(np.load("labels.npy"), expected.predict_many(table[["site", "a", "b"]], "site"))
    code, facts, _ = run_facts("score", model, name, "--by", "site", "-o", "scores.parquet", "--json")
    assert code == 0
    densities = expected.score_samples_many(table[["site", "a", "b"]], "site")
    np.testing.assert_allclose(pd.read_parquet("scores.parquet")["log_density"], densities, rtol=1e-12)
    assert facts["log_likelihood"] == pytest.approx(densities.sum(), rel=1e-12)
    code, facts, _ = run_facts("info", model, "--json")
    assert (facts["n_groups"], facts["n_features"], facts["n_components"], facts["converged"]) == (5, 2, 3, 5)
    assert facts["groups"] == sorted(SITES)


def test_groups_of_numbers_are_numbers_and_no_features(table, run_facts):
    assert run_facts("fit", "rows.parquet", "-k", 2, "--by", "year", "-o", "m.json")[0] == 0
    many = fastgmm.load("m.json")
    np.testing.assert_array_equal(many.groups_, 2000 + np.arange(5))
    assert many.groups_.dtype == np.int64
    assert list(many.feature_names_in_) == ["a", "b"]


def test_bad_rows_keep_their_place_or_are_left_out(table, run_facts):
    spoilt = table.astype({"a": object})
    spoilt.loc[[3, 9], "a"] = "broken"
    spoilt[["site", "a", "b"]].to_csv("bad.csv", index=False)
    code, _, err = run_facts("fit", "bad.csv", "-k", 2, "--by", "site", "--columns", "a,b", "-o", "m.json")
    assert code == 1
    assert "line 5 (row 3)" in err
    arguments = ("bad.csv", "-k", 2, "--by", "site", "--columns", "a,b", "--bad", "skip", "-o", "m.json", "--seed", 0)
    code, facts, _ = run_facts("fit", *arguments, "--json")
    assert (code, facts["skipped"], facts["rows"]) == (0, 2, len(table) - 2)
    left = table.drop(index=[3, 9])
    expected = fit_many(left[["site", "a", "b"]], "site", 2, random_state=0)
    np.testing.assert_array_equal(fastgmm.load("m.json").means_, expected.means_)
    run_facts("predict", "m.json", "bad.csv", "--by", "site", "-o", "kept.npy")
    labels = np.load("kept.npy")
    np.testing.assert_array_equal(np.flatnonzero(labels == -2), [3, 9])
    run_facts("predict", "m.json", "bad.csv", "--by", "site", "-o", "left.parquet", "--bad", "skip")
    written = pd.read_parquet("left.parquet")
    np.testing.assert_array_equal(written["row"], left.index)
    np.testing.assert_array_equal(written["label"], labels[left.index])


def test_rows_of_another_width_do_not_shift_the_groups(table, run_facts):
    lines = Path("rows.csv").read_text().splitlines()
    lines.insert(6, "oslo,1.0")
    Path("ragged.csv").write_text("\n".join(lines) + "\n")
    source, groups = open_grouped("ragged.csv", "site", columns=["a", "b"], on_bad="skip")
    assert source.n_skipped == 1
    np.testing.assert_array_equal(groups, table["site"])


def test_groups_that_cannot_be_fitted_are_counted_and_named(table, run_facts):
    more = pd.concat([table, pd.DataFrame({"site": ["alone"], "a": [0.0], "b": [0.0], "year": [1]})])
    more.to_csv("more.csv", index=False)
    code, facts, _ = run_facts("fit", "more.csv", "-k", 2, "--by", "site", "-o", "m.json", "--json")
    assert (code, facts["without_a_mixture"], facts["first_without"], facts["converged"]) == (0, 1, "alone", 5)
    assert run_facts("fit", "more.csv", "-k", 2, "--by", "site", "-o", "m.json", "--force", "--strict")[0] == 3
    run_facts("predict", "m.json", "more.csv", "--by", "site", "-o", "labels.npy")
    assert np.load("labels.npy")[-1] == -1
    _, facts, _ = run_facts("score", "m.json", "more.csv", "--by", "site", "--json")
    assert facts["without_a_density"] == 1
    more.iloc[-1:].to_csv("one.csv", index=False)
    code, _, err = run_facts("fit", "one.csv", "-k", 2, "--by", "site", "-o", "none.json")
    assert code == 1
    assert "'alone', has fewer rows than components" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("fit", "rows.csv", "-k", 2, "--by", "city", "-o", "x.json"), 1, "no single column 'city'"),
        (("fit", "rows.csv", "-k", 2, "--by", "site", "--columns", "site,a", "-o", "x.json"), 1, "cannot be a feature"),
        (("fit", "rows.csv", "-k", 2, "--by", "site", "--standardize", "-o", "x.json"), 2, "--standardize"),
        (("fit", "rows.csv", "-k", 2, "--by", "site", "--model", "bayesian", "-o", "x.json"), 2, "--model"),
        (("fit", "rows.npy", "-k", 2, "--by", "site", "-o", "x.json"), 1, "CSV and Parquet files alone"),
        (("predict", "m.json", "rows.csv", "-o", "x.npy"), 2, "--by"),
        (("predict", "m.json", "rows.csv", "--by", "site", "--proba", "-o", "x.npy"), 2, "--proba"),
        (("predict", "one.json", "rows.csv", "--by", "site", "-o", "x.npy"), 2, "--by"),
        (("predict", "m.json", "other.csv", "--by", "site", "-o", "x.npy"), 1, "'paris'"),
        (("sample", "m.json", "-n", 5, "-o", "x.npy"), 1, "a mixture for each group"),
        (("fit", "gap.csv", "-k", 2, "--by", "site", "-o", "x.json"), 1, "says no group in row 1"),
    ],
)
def test_what_does_not_go_together_is_named(arguments, code, words, table, run_facts):
    run_facts("fit", "rows.csv", "-k", 2, "--by", "site", "--columns", "a,b", "-o", "m.json")
    run_facts("fit", "rows.csv", "-k", 2, "--columns", "a,b", "-o", "one.json")
    np.save("rows.npy", table[["a", "b"]])
    table[:4].assign(site=["oslo", "paris", "NA", "NA"]).to_csv("other.csv", index=False)
    table[:4].assign(site=["oslo", "", "NA", "NA"]).to_csv("gap.csv", index=False)
    found, _, err = run_facts(*arguments)
    assert found == code
    assert words in " ".join(err.replace("│", " ").split())


def test_labels_are_numbers_where_all_are():
    for given, expected in (
        (["1", "2", "-3"], np.array([1, 2, -3])),
        (["1", "02"], np.array(["1", "02"], object)),
        ([1, 2], np.array([1, 2])),
        ([1.5, 2], np.array([1.5, 2.0])),
        (["1", "x"], np.array(["1", "x"], object)),
    ):
        found = as_labels(given)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_a_column_of_a_parquet_file_that_is_not_there_is_named(table):
    with pytest.raises(SourceError, match="0 columns called 'city'"):
        open_grouped("rows.parquet", "city", columns=["a", "b"])


SPOILS = {
    "a group more": lambda data: data["tensors"]["counts"].append([5, 2, 3, 0]),
    "a weight": lambda data: data["tensors"]["weights"].__setitem__(0, 0.9),
    "a status": lambda data: data["tensors"]["counts"][0].__setitem__(3, 9),
    "part of a component": lambda data: data["tensors"]["counts"][0].__setitem__(1, 1.5),
    "an order": lambda data: data["tensors"]["groups"].reverse(),
    "a factor": lambda data: data["tensors"]["precisions_cholesky"][0][0].__setitem__(0, 123.0),
    "an asymmetry": lambda data: data["tensors"]["covariances"][1][0].__setitem__(1, 0.5),
    "a variance": lambda data: data["tensors"]["covariances"][1][0].__setitem__(0, -1.0),
    "a setting": lambda data: data["metadata"].__setitem__("settings", '{"tol": -1}'),
    "a kind": lambda data: data["metadata"].__setitem__("groups", "complex"),
    "a type": lambda data: data["metadata"].__setitem__("covariance_type", "round"),
    "a name": lambda data: data["metadata"].__setitem__("feature_names", '["a"]'),
    "a number less": lambda data: data["tensors"]["numbers"].pop(),
    "no means": lambda data: data["tensors"].pop("means"),
}


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("text", [False, True])
def test_no_spoilt_file_is_read(spoil, text, tmp_path):
    X, groups = make_groups(4, 2)
    names = SITES[groups] if text else groups
    fit_many(X, names, 2, random_state=0).save(tmp_path / "m.json")
    data = json.loads((tmp_path / "m.json").read_text())
    SPOILS[spoil](data)
    (tmp_path / "m.json").write_text(json.dumps(data))
    with pytest.raises(FormatError, match=r"m\.json"):
        fastgmm.load(tmp_path / "m.json")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_what_is_saved_is_loaded(covariance_type, dtype, ending, tmp_path):
    X, groups = make_groups(7, dtype=dtype)
    X = X.copy()
    X[groups == 3] = np.nan
    many = fit_many(X, groups / 2, 1 + np.arange(7) % 3, covariance_type=covariance_type, random_state=0, tol=1e-4)
    many.save(tmp_path / f"m.{ending}")
    again = fastgmm.load(tmp_path / f"m.{ending}")
    for name in (*FIGURES, "groups_", "n_samples_", "n_components_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(many, name), err_msg=name)
        assert getattr(again, name).dtype == getattr(many, name).dtype
    assert again.settings == many.settings
    assert again.mixture(0.5).tol == 1e-4
