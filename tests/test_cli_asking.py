"""`fastgmm condition` and `fastgmm anomalies`: from tables to what they say in Python."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastgmm
from fastgmm import GaussianMixture, MixtureOutlierDetector


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Normal rows in normal.csv; rows.csv has ten odd ones first, and text."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 3))
    X[:, 2] = X[:, 0] - X[:, 1] + 0.1 * rng.normal(size=700)
    normal = pd.DataFrame(X[:500], columns=["a", "b", "a-b"])
    rows = pd.DataFrame(X[500:], columns=["a", "b", "a-b"])
    rows.loc[:9] += [9.0, 12.0, 15.0]
    normal.to_csv("normal.csv", index=False)
    rows.to_csv("rows.csv", index=False)
    return rows, normal


def read(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_condition_is_pythons(table, run_facts):
    model = GaussianMixture(2, random_state=0).fit(table[1])
    model.save("model.safetensors")
    code, facts, _ = run_facts("condition", "model.safetensors", "--given", "a=1, b=0.5", "-o", "left.json", "--json")
    assert code == 0
    left = fastgmm.load("left.json")
    expected = model.condition({"a": 1.0, "b": 0.5})
    np.testing.assert_allclose(left.means_, expected.means_, rtol=1e-12)
    assert facts["columns"] == ["a-b"]
    assert facts["expected"] == pytest.approx((expected.weights_ @ expected.means_).tolist())
    assert facts["deviation"][0] == pytest.approx(model.conditional(["a", "b"]).std([[1.0, 0.5]])[0, 0])
    code, facts, _ = run_facts("condition", "model.safetensors", "--given", "0=1", "-o", "other.json", "--json")
    assert (code, facts["columns"]) == (0, ["b", "a-b"])


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("a", 2, "'a' is not NAME=VALUE"),
        ("a=x", 2, "is not NAME=VALUE"),
        ("c=1", 1, "no column 'c'"),
        ("7=1", 1, "no column 7"),
    ],
)
def test_a_condition_that_is_none_is_named(given, code, message, table, run_facts):
    GaussianMixture(1).fit(table[1]).save("model.safetensors")
    found, _, err = run_facts("condition", "model.safetensors", "--given", given, "-o", "left.json")
    assert found == code
    assert message in " ".join(err.split()).replace("│ ", "")
    assert not Path("left.json").exists()


def test_anomalies_among_the_rows_are_pythons_with_reasons(table, run_facts):
    code, facts, _ = run_facts("anomalies", "rows.csv", "-o", "odd.csv", "--share", 0.05, "--seed", 3, "--json")
    assert (code, facts["rows"], facts["anomalies"]) == (0, 200, 10)
    found = read("odd.csv")
    assert sorted(int(line["row"]) for line in found) == list(range(10))
    scores = [float(line["score"]) for line in found]
    assert scores == sorted(scores)
    detector = MixtureOutlierDetector(contamination=0.05, random_state=3).fit(table[0])
    assert scores == pytest.approx(np.sort(detector.score_samples(table[0]))[:10])
    first = found[0]
    assert set(first) == {"row", "score"} | {
        f"{what}_{n}" for n in (1, 2, 3) for what in ("column", "value", "expected", "deviation")
    }
    assert float(first["value_1"]) == pytest.approx(table[0].loc[int(first["row"]), first["column_1"]])


def test_rows_that_stand_out_from_normal_ones(table, run_facts):
    code, _, _ = run_facts("anomalies", "rows.csv", "--reference", "normal.csv", "-o", "odd.csv", "--seed", 0, "--json")
    assert code == 0
    found = read("odd.csv")
    rows = {int(line["row"]) for line in found}
    assert set(range(10)) <= rows
    assert len(rows) <= 14
    assert all(0 < float(line["pvalue"]) < 0.1 for line in found)


@pytest.mark.parametrize("extra", [(), ("--reference", "normal.csv")])
def test_a_models_own_verdicts(extra, table, run_facts):
    GaussianMixture(1).fit(table[1][:250]).save("model.safetensors")
    code, _, said = run_facts(
        "anomalies", "rows.csv", "--model", "model.safetensors", "-o", "odd.csv", "--json", *extra
    )
    assert (code, said) == (0, "")
    found = read("odd.csv")
    assert {int(line["row"]) for line in found} >= set(range(10))
    assert all(line["column_1"] in ("a", "b", "a-b") for line in found)


def test_skipped_rows_are_counted_and_nothing_odd_is_a_table_without_rows(table, run_facts):
    lines = Path("rows.csv").read_text().splitlines()
    lines.insert(1, "x,1,2")
    Path("bad.csv").write_text("\n".join(lines) + "\n")
    code, facts, _ = run_facts("anomalies", "bad.csv", "--bad", "skip", "-o", "odd.csv", "--seed", 3, "--json")
    assert (code, facts["skipped"]) == (0, 1)
    assert sorted(int(line["row"]) for line in read("odd.csv")) == list(range(1, 11))
    code, facts, _ = run_facts(
        "anomalies", "normal.csv", "--reference", "normal.csv", "--rate", 0.0001, "-o", "none.csv", "--json"
    )
    assert (code, facts["anomalies"], read("none.csv")) == (0, 0, [])


def test_what_does_not_go_together_is_refused(table, run_facts):
    for arguments, message in (
        (("rows.csv", "-o", "odd.npy"), ".csv"),
        (("rows.csv", "--reference", "normal.csv", "--share", "0.1", "-o", "odd.csv"), "--share"),
        (("none.csv", "-o", "odd.csv"), "does not exist"),
        (("rows.csv", "-o", "rows.csv", "--force"), "rows.csv"),
    ):
        code, _, err = run_facts("anomalies", *arguments)
        assert code == 2, arguments
        assert message in err
    assert len(Path("rows.csv").read_text().splitlines()) == 201
