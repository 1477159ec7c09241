"""The benchmarks measure what they say: the NumPy reference is right, and a wrong answer cannot win."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from benchmarks import calls, cases, contenders, files, measure, numpy_reference, processes, run, scaling
from benchmarks.compare import compare_reports
from benchmarks.contenders import fit_estimator
from benchmarks.plots import write_plots
from benchmarks.report import full_report, main_block, replace_block
from benchmarks.roofline import roofline, useful_flops
from tests.conftest import ROOT
from tests.reference import COVARIANCE_TYPES

# Both are float64 and differ in the order of their sums alone, over 4,000 rows.
ATOL_ONE_STEP = 1e-10
# Statistics of float32 rows in float32 within a block: 24 bits, relative to values of order one.
ATOL_FLOAT32 = 2e-5


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    """Nothing here needs exact times."""
    monkeypatch.setattr(measure, "SETTLE", 0.0)


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


def test_the_harness_log_likelihood_equals_scikit_learns(problem):
    X, start = problem
    mixture = numpy_reference.fit_fixed(X, start, n_iter=3)
    model = SklearnGaussianMixture(len(start.weights), covariance_type=start.covariance_type)
    model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = mixture
    total = measure.total_log_likelihood(X, mixture, start.covariance_type)
    assert total == pytest.approx(len(X) * model.score(X), rel=1e-12)


DIAG = cases.Case(4_000, 4, 5, "diag", "float64")


def test_a_wrong_answer_and_a_failure_are_not_timed():
    def wrong(X, start, n_iter):
        mixture = numpy_reference.fit_fixed(X, start, n_iter)
        return mixture._replace(covariances=mixture.covariances * (1 + 1e-4))

    def not_a_number(X, start, n_iter):
        mixture = numpy_reference.fit_fixed(X, start, n_iter)
        return mixture._replace(weights=mixture.weights * np.nan)

    def failing(X, start, n_iter):
        raise ValueError("no fit today")

    fits = {"numpy": numpy_reference.fit_fixed, "wrong": wrong, "nan": not_a_number, "failing": failing}
    cells = measure.measure_iterations(DIAG, fits, repeats=9, seconds=1)
    assert [name for name in fits if cells[name]["agrees"]] == ["numpy"]
    assert [name for name in fits if "seconds" in cells[name]] == ["numpy"]
    printed = run.describe_row("iteration", {"case": str(DIAG), "contenders": cells})
    assert "log-likelihood off by" in printed[1]
    assert "ValueError: no fit today" in printed[3]


def test_a_contender_without_regularisation_is_compared_with_a_reference_without():
    def unregularised(X, start, n_iter):
        bare = SimpleNamespace(**vars(start) | {"reg_covar": 0.0})
        return numpy_reference.fit_fixed(X, bare, n_iter)

    X = cases.make_data(DIAG)
    start = cases.Start(**vars(cases.make_start(DIAG, X)) | {"reg_covar": 1e-2})
    cells = measure.check_contenders(X, start, {"onedal": unregularised, "numpy": unregularised})
    assert cells["onedal"]["agrees"]
    assert not cells["numpy"]["agrees"]


def test_too_slow_is_skipped_and_slow_is_timed_once(monkeypatch):
    X = cases.make_data(DIAG)
    start = cases.make_start(DIAG, X)
    monkeypatch.setattr(measure, "LONGEST_ITERATION", 0.0)
    cell = measure.check_contenders(X, start, {"numpy": numpy_reference.fit_fixed})["numpy"]
    assert cell["skipped"].startswith("too slow at this size")
    assert "seconds" not in cell
    monkeypatch.setattr(measure, "LONGEST_ITERATION", 10.0)
    monkeypatch.setattr(measure, "TIMED_ONCE", 0.0)

    def slow(X, start, n_iter):  # far above what a busy machine adds to the difference of two fits
        time.sleep(0.05 * n_iter)
        return numpy_reference.fit_fixed(X, start, n_iter)

    cells = measure.measure_iterations(DIAG, {"numpy": slow}, repeats=5, seconds=0.01)
    assert cells["numpy"]["seconds"]["rounds"] == 1


def test_a_fit_that_cannot_go_on_is_timed_with_fewer_iterations_and_one_that_breaks_fails():
    def stops_early(X, start, n_iter):
        if n_iter > 9:
            raise RuntimeError("ran 9 iterations")
        time.sleep(0.01 * n_iter)

    def breaks(X, start, n_iter):
        raise ValueError("broken")

    fits = {"stops": stops_early, "breaks": breaks}
    cells = measure.time_iterations(np.empty(0), None, fits, repeats=2, seconds=10.0)
    assert cells["stops"]["timed_iterations"] == 8
    assert cells["breaks"] == {"agrees": False, "failure": "ValueError: broken"}


def test_noise_that_swallows_the_time_is_no_time():
    assert measure.per_iteration([-1.0, -2.0, 3.0], 2)["skipped"].startswith("too noisy")
    assert measure.per_iteration([4.0, 2.0, 6.0], 2)["seconds"]["median"] == 2.0


def test_absent_and_incomparable_peers_are_recorded(monkeypatch):
    def missing(n_threads):
        raise ModuleNotFoundError("No module named 'daal4py'")

    def no_start(n_threads):
        raise contenders.NotComparableError("takes no start")

    for name, load in (("onedal", missing), ("mlpack", no_start)):
        monkeypatch.setitem(contenders.CONTENDERS, name, contenders.Contender(name, name, load, name))
    fits, records = contenders.load_contenders(["numpy", "onedal", "mlpack"], 1)
    assert list(fits) == ["numpy"]
    assert records["numpy"]["version"] == np.__version__
    assert records["onedal"] == {"title": "onedal", "absent": "No module named 'daal4py'"}
    assert records["mlpack"]["not_comparable"] == "takes no start"


@pytest.mark.parametrize("name", ["onedal", "gmmx", "tgmm", "opencv"])
def test_peers_that_are_installed_take_the_reference_steps(name):
    fits, records = contenders.load_contenders([name], 1)
    if name not in fits:
        pytest.skip(records[name]["absent"])
    contender = contenders.CONTENDERS[name]
    for covariance_type in contender.covariance_types:
        for dtype in contender.dtypes:
            case = cases.Case(4_000, 4, 5, covariance_type, dtype)
            X = cases.make_data(case)
            cell = measure.check_contenders(X, cases.make_start(case, X), fits)[name]
            # OpenCV's spherical fit takes other steps; the harness must notice.
            assert cell["agrees"] == ((name, covariance_type) != ("opencv", "spherical")), (case, cell)


def test_wrong_scores_and_samples_are_not_timed():
    expected = np.array([0.0, 1.0, 2.0])
    assert calls.scoring_failure(expected, 1e-6, expected) is None
    assert "deviates" in calls.scoring_failure(expected, 1e-6, expected + 1e-3)
    assert "deviates" in calls.scoring_failure(np.array([0, 1]), 1e-6, np.array([0, 0]))
    rows = np.random.default_rng(0).standard_normal((10_000, 2))
    assert calls.sample_failure(np.zeros(2), np.full(2, 0.01), (rows, None)) is None
    assert "standard errors" in calls.sample_failure(np.zeros(2), np.full(2, 0.01), (rows + 0.1, None))
    cells = calls.time_agreeing({"right": lambda: 1, "wrong": lambda: 2}, lambda x: "no" if x == 2 else None, 1, 0.01)
    assert "seconds" in cells["right"]
    assert cells["wrong"] == {"agrees": False, "failure": "no"}


def test_roofline_by_hand():
    """500,000 x 8, 16 components, diag: 2 (4 x 8 + 2) = 68 flops per pair, 1088 per row of 64 bytes: 17 per byte."""
    row = {"n_samples": 500_000, "n_features": 8, "n_components": 16, "covariance_type": "diag", "dtype": "float64"}
    peaks = {"fma_gflops": {"float64": 200.0}, "read_gb_per_s": 10.0}
    limits = roofline(row, 0.01, peaks)
    assert limits["flops_per_row"] == 1088
    assert limits["bytes_per_row"] == 64
    assert limits["exps_per_row"] == 16
    assert limits["flops_per_byte"] == 17
    assert limits["gflops"] == pytest.approx(54.4)  # 500,000 x 1088 / 0.01 s
    assert limits["gexps"] == pytest.approx(0.8)
    assert limits["limit_gflops"] == 170  # 17 x 10 GB/s, below the 200 of the multiply-adds
    assert limits["share_of_peak"] == pytest.approx(0.272)
    assert limits["share_of_limit"] == pytest.approx(0.32)
    assert roofline(row, 0.01, peaks | {"read_gb_per_s": 100.0})["limit_gflops"] == 200


def test_useful_flops_of_each_structure():
    """D = 16, K = 16: per pair, and for tied the whitening of a row shared by 16 components."""
    flops = {name: useful_flops(16, 16, name) for name in COVARIANCE_TYPES}
    assert flops == {"full": 608, "tied": 36 + 34 + (256 + 16) / 16, "diag": 132, "spherical": 72}


def test_a_line_is_found_and_a_bend_is_reported():
    sizes = np.array([10.0, 100.0, 1000.0])
    constant, slope, deviation = scaling.fit_line(sizes, 2 + 3 * sizes)
    assert (constant, slope, deviation) == (pytest.approx(2), pytest.approx(3), pytest.approx(0, abs=1e-9))
    assert scaling.fit_line(sizes, sizes**1.3)[2] > 0.15


def made_report(seconds=1e-3, spread=0.02, peak=100.0, rounds=5, numpy_seconds=4e-3):
    """A report of one profile with a sweep over rows and one over features; every spread is `spread`."""

    def cell(median):
        half = spread * median / 2
        low, high = median - half, median + half
        five = {"min": low, "q1": low, "median": median, "q3": high, "max": high, "rounds": rounds}
        return {"agrees": True, "seconds": five}

    shapes = [(n, 8, 16) for n in (10_000, 100_000, 1_000_000)] + [(100_000, d, 16) for d in (2, 8, 32)]
    rows = []
    for n, d, k in dict.fromkeys(shapes):
        for case in (cases.Case(n, d, k, "full", dtype) for dtype in cases.DTYPES):
            scale = n * d / 800_000
            made = {"fastgmm": cell(scale * seconds), "numpy": cell(scale * numpy_seconds)}
            rows.append({"case": str(case), **vars(case), "contenders": made})
    peaks = {"fma_gflops": dict.fromkeys(cases.DTYPES, peak), "read_gb_per_s": 20.0, "triad_gb_per_s": 30.0}
    return {
        "machine": "made up",
        "n_threads": 2,
        "versions": {"python": "3"},
        "date": "2026-01-01",
        "command": "none",
        "profile": "standard",
        "contenders": {"fastgmm": {"title": "fastgmm"}, "numpy": {"title": "NumPy"}},
        "failed_cases": [],
        "peaks": peaks,
        "iteration": rows,
    }


def test_compare_flags_a_slowdown_and_only_that(capsys):
    old = made_report()
    new = copy.deepcopy(old)
    new["iteration"][0]["contenders"]["fastgmm"]["seconds"]["median"] *= 1.2
    assert compare_reports(old, new) == 1
    flagged = [line for line in capsys.readouterr().out.splitlines() if line.endswith("slower")]
    assert len(flagged) == 1
    assert flagged[0].startswith(f"iteration {old['iteration'][0]['case']} fastgmm")
    assert compare_reports(new, old) == 0
    assert "1 faster" in capsys.readouterr().out


def test_compare_is_silent_about_noise_and_about_another_machine():
    old = made_report(spread=0.3)
    assert compare_reports(old, made_report(seconds=1.2e-3, spread=0.3)) == 0
    assert compare_reports(old, made_report(seconds=1.4e-3, spread=0.3)) == 1
    one_round = made_report(seconds=1.2e-3, rounds=1)
    assert compare_reports(old, one_round) == 0
    slower_machine = made_report(seconds=2e-3, peak=50.0, numpy_seconds=8e-3)
    assert compare_reports(made_report(), slower_machine) == 0
    assert compare_reports(made_report(), slower_machine, "numpy") == 0
    assert compare_reports(made_report(), slower_machine, "none") == 1
    assert compare_reports(old, made_report() | {"iteration": []}) == 2


def test_report_blocks_and_plots(tmp_path):
    report = made_report()
    block = main_block(report)
    assert "| 100,000 x 8 | 16 | full | 0.62 | 0.62 |" in block
    assert "- NumPy / fastgmm over all 10 cells: 4.0x" in block
    report["contenders"]["onedal"] = {"title": "oneDAL", "absent": "No module named 'daal4py'"}
    report["iteration"][0]["contenders"]["numpy"] = {"agrees": False, "failure": "off by 1"}
    text = full_report([report])
    assert text.count("| 100,000 x 8 |") == 4  # iterations and roofline, two dtypes
    assert "- oneDAL: absent: No module named 'daal4py'" in text
    assert f"- NumPy, iteration: off by 1 ({report['iteration'][0]['case']})" in text
    plots = write_plots([report], tmp_path)
    assert [path.stat().st_size > 5_000 for path in plots] == [True, True]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: old -->\nold\n<!-- end of table -->\nafter\n")
    replace_block(page, "new command", block)
    assert page.read_text() == f"before\n<!-- table: new command -->\n{block}\n<!-- end of table -->\nafter\n"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="needs one block"):
        replace_block(page, "new command", block)


COLD = cases.PROFILES["smoke"].cases["cold"][0]


def test_a_fit_in_a_fresh_process_is_timed():
    seconds = processes.run_fresh(COLD, os.environ.get("FASTGMM_CACHE", "1"))
    assert seconds.keys() == {"import", "first", "second"}
    assert seconds["first"] > seconds["second"] > 0


@pytest.mark.slow  # compiles every kernel of a structure
def test_a_cold_start_takes_longer_than_a_cached_one():
    cells = processes.measure_cold(COLD)
    cold, cached, warm = (cells[f"fastgmm-{state}"]["seconds"]["median"] for state in ("cold", "cached", "warm"))
    assert cold > cached > warm > 0


def test_the_commands_run(tmp_path):
    """The smoke profile, whose kinds are all but cold starts: measured, shown and compared with itself."""
    output = tmp_path / "smoke.json"
    names = ["fastgmm", "numpy", "numpy-pool", "numpy-packed", "scikit-learn", "mlpack"]
    environment = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}

    def benchmarks(*arguments):
        command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout

    smoke = ("run", "--profile", "smoke", "--repeats", 3, "--seconds", 0.01, "--rest", 0, "--threads", 2)
    printed = benchmarks(*smoke, "--contenders", *names, "--output", output)
    written = json.loads(output.read_text())
    profile = cases.PROFILES["smoke"]
    for kind in profile.kinds:
        assert {row["case"] for row in written[kind]} == {str(case) for case in profile.cases[kind]}
        for row in written[kind]:
            assert f"{kind:9} {row['case']}" in printed
            for cell in row["contenders"].values():
                assert cell["agrees"]
                assert "seconds" in cell or cell["skipped"].startswith("too noisy")
    for row in written["iteration"]:
        assert {"fastgmm", "numpy", "numpy-pool", "scikit-learn"} <= set(row["contenders"])
    assert {"absent", "not_comparable"} & set(written["contenders"]["mlpack"])
    assert not any("Nehalem" in blas for blas in written["blas"]), "BLAS ran with preset, slow kernels"
    assert min(written["peaks"]["fma_gflops"].values()) > 0
    assert 0 < written["peaks"]["read_gb_per_s"] < 10_000
    shown = benchmarks("report", output)
    assert shown.count("| 4,000 x 4 |") > len(written["iteration"])
    for title in ("EM iterations", "Roofline", "Scoring", "Drawing rows", "k-means start", "Whole fits", "Scaling"):
        assert f"### {title}" in shown or f"### The {title}" in shown or f"### {title} of the iterations" in shown
    assert "0 slower, 0 faster" in benchmarks("compare", output, output)


def test_rows_in_a_file_and_in_memory_are_compared(tmp_path):
    cells = files.measure_files(100_000, 3, 1, tmp_path)
    assert cells["file"]["log_likelihood"] == pytest.approx(cells["memory"]["log_likelihood"], rel=1e-10)
    assert all(cell["million_rows_per_second"] > 0 and cell["peak_mib"] > 50 for cell in cells.values())
