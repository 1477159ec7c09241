"""The benchmarks measure what they say: the NumPy reference is right, and a wrong answer cannot win."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from benchmarks import cases, numpy_reference, report
from benchmarks.contenders import fit_estimator
from tests.conftest import ROOT
from tests.reference import COVARIANCE_TYPES

# Both are float64 and differ in the order of their sums alone, over 4,000 rows.
ATOL_ONE_STEP = 1e-10
# Statistics of float32 rows in float32 within a block: 24 bits, relative to values of order one.
ATOL_FLOAT32 = 2e-5


@pytest.fixture(params=COVARIANCE_TYPES)
def problem(request):
    case = cases.Case(4_000, 4, 5, request.param, "float64")
    X = cases.make_data(case)
    return X, cases.make_start(case, X)


def assert_same_parameters(actual, expected, atol):
    for name in numpy_reference.Mixture._fields:
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=0, atol=atol, err_msg=name)


def test_numpy_reference_takes_scikit_learns_step(problem):
    X, start = problem
    *mixture, log_likelihood = numpy_reference.em_iteration(
        X, start.weights, start.means, start.precisions_cholesky, start.covariance_type, start.reg_covar
    )
    expected = fit_estimator(SklearnGaussianMixture, X, start, n_iter=1)
    assert_same_parameters(numpy_reference.Mixture(*mixture), expected, ATOL_ONE_STEP)
    model = SklearnGaussianMixture(len(start.weights), covariance_type=start.covariance_type)
    model.weights_, model.means_, model.precisions_cholesky_ = start.weights, start.means, start.precisions_cholesky
    assert log_likelihood == pytest.approx(model.score(X), abs=ATOL_ONE_STEP)


def test_numpy_variants_agree_with_the_reference(problem):
    X, start = problem
    expected = numpy_reference.fit_fixed(X, start, n_iter=3)
    assert_same_parameters(numpy_reference.fit_fixed(X, start, 3, n_threads=2), expected, ATOL_ONE_STEP)
    assert_same_parameters(numpy_reference.fit_fixed(X.astype(np.float32), start, 3), expected, ATOL_FLOAT32)
    if start.covariance_type == "full":
        assert_same_parameters(numpy_reference.fit_fixed(X, start, 3, packed=True), expected, ATOL_ONE_STEP)


def test_numpy_reference_scores_as_scikit_learn(problem):
    X, start = problem
    mixture = numpy_reference.fit_fixed(X, start, n_iter=3)
    model = SklearnGaussianMixture(len(start.weights), covariance_type=start.covariance_type)
    model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = mixture
    for method in ("score_samples", "predict", "predict_proba"):
        actual = getattr(numpy_reference, method)(X, mixture, start.covariance_type)
        np.testing.assert_allclose(actual, getattr(model, method)(X), rtol=0, atol=ATOL_ONE_STEP, err_msg=method)


def test_report_log_likelihood_equals_scikit_learns(problem):
    X, start = problem
    mixture = numpy_reference.fit_fixed(X, start, n_iter=3)
    model = SklearnGaussianMixture(len(start.weights), covariance_type=start.covariance_type)
    model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = mixture
    total = report.total_log_likelihood(X, mixture, start.covariance_type)
    assert total == pytest.approx(len(X) * model.score(X), rel=1e-12)


def test_a_wrong_answer_and_a_failure_are_not_timed(monkeypatch):
    case = cases.Case(4_000, 4, 5, "diag", "float64")

    def wrong(X, start, n_iter):
        mixture = numpy_reference.fit_fixed(X, start, n_iter)
        return mixture._replace(covariances=mixture.covariances * (1 + 1e-4))

    def failing(X, start, n_iter):
        raise ValueError("no fit today")

    fits = {"numpy": numpy_reference.fit_fixed, "wrong": wrong, "failing": failing}
    monkeypatch.setattr(report, "contenders", lambda *_: fits)
    row = report.run_case(case, n_threads=1, names=None, repeats=1, seconds=0)
    cells = row["contenders"]
    assert [name for name in fits if cells[name]["agrees"]] == ["numpy"]
    assert [name for name in fits if "ns_per_pair_min" in cells[name]] == ["numpy"]
    printed = report.format_rows(row, peak=1.0)
    assert "log-likelihood off by" in printed[1]
    assert "ValueError: no fit today" in printed[2]


def test_smoke_profile_and_table_run(tmp_path):
    output = tmp_path / "smoke.json"
    smoke = ["--profile", "smoke", "--repeats", "2", "--seconds", "0.01", "--output", str(output)]

    def run(*arguments):
        command = [sys.executable, "-m", "benchmarks", *arguments]
        environment = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout

    printed = run(*smoke)
    written = json.loads(output.read_text())
    assert [row["case"] for row in written["cases"]] == [str(case) for case in cases.PROFILES["smoke"]]
    assert all(row["case"] in printed for row in written["cases"])
    for row in written["cases"]:
        assert {"fastgmm", "numpy", "scikit-learn"} <= set(row["contenders"])
        assert all(cell["agrees"] for cell in row["contenders"].values())
    assert not any("Nehalem" in blas for blas in written["blas"]), "BLAS ran with preset, slow kernels"
    assert min(written["fma_peak_gflops"].values()) > 0
    assert run("table", str(output)).count("| 4,000 x 4 |") == len(written["cases"])
