"""Fits on rows that people have are measured by one harness, and losses are shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import real, real_report
from benchmarks.measure import total_log_likelihood
from benchmarks.real_sets import SETS, RealSet, sklearn_table
from tests import reference
from tests.reference import Mixture

ROOT = Path(__file__).parents[1]
IRIS = RealSet("iris", sklearn_table("iris"), 3, "tied", standardised=True)


def test_the_sets_are_many_and_of_many_kinds():
    assert len({each.name for each in SETS}) >= 12
    assert len({str(each) for each in SETS}) == len(SETS)
    assert {each.covariance_type for each in SETS} == set(reference.COVARIANCE_TYPES)
    assert {each.standardised for each in SETS} == {True, False}
    assert {each.dtype for each in SETS} == {"float32", "float64"}
    assert (min(each.n_components for each in SETS), max(each.n_components for each in SETS)) == (2, 256)


def test_rows_are_fitted_or_held_out():
    fitted, held_out = IRIS.load()
    assert (len(fitted), len(held_out)) == (120, 30)
    rows = np.concatenate([fitted, held_out])
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=0), 1.0)
    again = IRIS.load()
    np.testing.assert_array_equal(fitted, again[0])
    X = sklearn_table("iris")()
    np.testing.assert_allclose(np.sort(rows, axis=0), np.sort((X - X.mean(axis=0)) / X.std(axis=0), axis=0))


@pytest.mark.parametrize("name", ["fastgmm", "scikit-learn", "numpy"])
def test_each_contender_is_judged_by_its_parameters(name):
    X, _ = IRIS.load()
    mixture, passes = real.FITS[name](X, IRIS, 0, 1)
    assert 1 <= passes <= 100
    own = reference.log_likelihood(X, Mixture(mixture.weights, mixture.means, mixture.covariances, "tied"))
    assert total_log_likelihood(X, mixture, "tied") == pytest.approx(own, rel=1e-12)
    row = real.run_set(IRIS, [name], 1, range(2), 60.0)
    cell = row["contenders"][name]
    assert cell["failure"] is None
    assert cell["passes"][0] == passes
    assert cell["fitted"][0] == pytest.approx(own / len(X), rel=1e-12)
    assert min(cell["seconds"]) > 0


def test_numpy_starts_where_scikit_learn_does():
    X, _ = IRIS.load()
    ends = [real.FITS[name](X, IRIS, 3, 1) for name in ("scikit-learn", "numpy")]
    np.testing.assert_allclose(ends[0][0].means, ends[1][0].means, rtol=1e-6)
    assert abs(ends[0][1] - ends[1][1]) <= 1


def cell(seconds, fitted, held_out=(-2.0, -2.0)):
    return {"seconds": seconds, "passes": [3, 3], "fitted": list(fitted), "held_out": list(held_out), "failure": None}


def made_report(own, peer):
    names = {"fastgmm": own, "scikit-learn": peer}
    row = {"set": "rows", "case": "rows", "n_samples": 10, "n_features": 2, "n_components": 2} | {
        "covariance_type": "full",
        "standardised": False,
        "dtype": "float64",
        "contenders": names,
    }
    machine = {"machine": "a machine", "n_threads": 1, "versions": {}, "date": "2026-01-01T00", "command": "a command"}
    return machine | {"contenders": {name: {"title": name} for name in names}, "real": [row]}


def test_losses_stand_beside_wins():
    own, peer = cell([2.0, 2.0], (-1.0, -1.5)), cell([1.0, 1.0], (-1.0, -1.0), (-1.5, -1.5))
    assert real_report.lost(own, peer) == ["mean", "worst", "held out", "time"]
    report = made_report(own, peer)
    text = real_report.summary(report)
    assert text.count("1 (rows, k 2, full)") == 4
    assert "0.50x" in text
    assert "mean, worst, held out, time" in real_report.real_table(report)
    assert "| -0.250 | -0.500 | +0.000 | -0.500 |" in real_report.short_table(report)
    assert real_report.lost(peer, own) == []


def test_a_contender_that_fails_is_a_result():
    outcome = real.Outcome()
    real._fit_once(outcome, "numpy", np.full((9, 2), np.nan), np.zeros((3, 2)), IRIS, 0, 1)
    assert outcome.failure is not None
    assert outcome.failure.startswith("seed 0: ")
    assert outcome.seconds == []
    failed = vars(outcome)
    assert "failed" in real_report.real_table(made_report(failed, cell([1.0], (-1.0,))))


def test_the_command_measures_and_shows(tmp_path):
    output, figure, page = tmp_path / "real.json", tmp_path / "real.png", tmp_path / "page.md"
    page.write_text("before\n<!-- real rows: old -->\nold\n<!-- end of real rows -->\nafter\n")

    def benchmarks(*arguments):
        command = [sys.executable, "-m", "benchmarks", "real", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, check=True, capture_output=True, text=True)
        return done.stdout

    measured = ("--sets", "^(iris|wine)", "--seeds", 2, "--contenders", "fastgmm", "scikit-learn", "numpy")
    printed = benchmarks(*measured, "--output", output)
    assert "no failures" in printed
    report = json.loads(output.read_text())
    assert {row["set"] for row in report["real"]} == {"iris", "wine"}
    benchmarks("--show", output, "--figure", figure, "--readme", page)
    text = page.read_text()
    assert "| iris | 120 x 4 | 3 | full |" in text
    assert "scikit-learn's time / fastgmm's" in text
    assert figure.stat().st_size > 10_000
    assert "lower or slower" in benchmarks("--show", output)
