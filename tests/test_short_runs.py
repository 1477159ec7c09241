"""Short runs choose among starts; on samples components lean on what they were, so that none is given up."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import fastgmm
from fastgmm import GaussianMixture
from fastgmm.estimators.gaussian.problem import make_problem
from fastgmm.estimators.interop import from_sklearn
from fastgmm.model.covariance import STRUCTURES
from fastgmm.optimization import initialization, problem, short_runs
from fastgmm.optimization.compiled import CompiledEM
from fastgmm.optimization.drawn_rows import DrawnRows
from fastgmm.optimization.initialization import initial_parameters
from fastgmm.optimization.short_runs import best_of, lean, run_briefly
from fastgmm.rows.source import ArraySource


def problem_of(X, n_components=3, **settings):
    return make_problem(GaussianMixture(n_components, **settings), ArraySource(X), None, None)


def start_of(problem, X, labels):
    resp = np.eye(problem.n_components)[labels]
    state = np.random.RandomState(0)
    return initial_parameters(problem, resp, {}, state, problem.maximise, alone=True)


def starting_at(problem, labels):
    return partial(initialization._from_labels, problem, problem.source, None, labels)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [2500, 2400, 100])
    return rng.normal(size=(5000, 3)) * [1.0, 2.0, 0.5] + 5.0 * labels[:, None], labels


def test_a_component_leans_on_its_covariance_as_on_d_plus_2_rows(rows, covariance_type):
    X, labels = rows
    problem = problem_of(X, covariance_type=covariance_type, reg_covar=0.0)
    before = start_of(problem, X, labels)
    statistics = problem.expectation()(before)
    leaning = lean(problem, statistics, before, len(X))
    plain = problem.maximise(statistics)
    d, r = X.shape[1], statistics.sum_resp
    if covariance_type == "tied":
        share = 3 * (d + 2) / (len(X) + 3 * (d + 2))
    else:
        share = ((d + 2) / (r + d + 2)).reshape(-1, *(1,) * (plain.covariances.ndim - 1))
    expected = share * before.covariances + (1 - share) * plain.covariances
    np.testing.assert_allclose(leaning.covariances, expected, rtol=1e-10)
    np.testing.assert_allclose(leaning.means, plain.means, rtol=1e-12)
    np.testing.assert_allclose(leaning.weights, plain.weights, rtol=1e-12)


def test_a_fixed_point_of_em_is_one_of_leaning_steps(rows, covariance_type):
    X, _ = rows
    model = GaussianMixture(3, covariance_type=covariance_type, tol=1e-13, max_iter=5000, reg_covar=0.0, random_state=0)
    fitted = replace(model.fit(X)._parameters(), covariances=model.covariances_)
    problem = problem_of(X, covariance_type=covariance_type, reg_covar=0.0)
    moved = lean(problem, problem.expectation()(fitted), fitted, len(X))
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(moved, name), getattr(fitted, name), rtol=1e-3, atol=1e-4)


def test_a_component_without_rows_in_a_sample_keeps_its_place(rows, covariance_type):
    X, labels = rows
    X = X + 1e3 * (labels == 2)[:, None]
    problem = problem_of(X, covariance_type=covariance_type)
    before = start_of(problem, X, labels)
    index = np.flatnonzero(labels < 2)[::5]
    run = run_briefly(problem, before, DrawnRows(index, X[index], np.random.default_rng(0)), 20, 0.0)
    assert run.n_steps == 20
    assert np.isfinite(run.objective)
    np.testing.assert_allclose(run.parameters.means[2], before.means[2], rtol=1e-3)
    assert 0 < run.parameters.weights[2] <= 1 / len(index)
    dense = STRUCTURES[covariance_type].dense(run.parameters.covariances, 3)
    assert np.linalg.eigvalsh(dense).min() > 0.1


def test_the_start_of_largest_likelihood_after_a_short_run_goes_on(rows):
    X, labels = rows
    problem = problem_of(X)
    drawn = DrawnRows(np.arange(len(X)), X, np.random.default_rng(0))
    wrong = np.random.default_rng(1).integers(3, size=len(X))
    starts = [starting_at(problem, split) for split in (wrong, labels)]
    runs = [
        run_briefly(problem, problem.maximise(start()), drawn, short_runs.STEPS, short_runs.GAIN) for start in starts
    ]
    assert runs[1].objective > runs[0].objective + 0.1
    best = best_of(problem, starts, drawn, problem.maximise)
    np.testing.assert_array_equal(best.means, runs[1].parameters.means)


def test_a_singular_start_loses_in_silence_and_if_all_are_the_m_step_decides(rows):
    X, labels = rows
    problem = problem_of(X, reg_covar=0.0)
    drawn = DrawnRows(np.arange(len(X)), X, np.random.default_rng(0))
    lonely = np.where(np.arange(len(X)) == 7, 2, labels % 2)  # one row cannot have a covariance
    starts = [starting_at(problem, split) for split in (lonely, labels)]
    assert np.isfinite(best_of(problem, starts, drawn, problem.maximise).means).all()
    with pytest.raises(fastgmm.exceptions.SingularCovarianceError):
        best_of(problem, starts[:1], drawn, problem.maximise)


@pytest.mark.parametrize("scale", [[1.0, 1.0], [1.0, 1000.0]])
def test_either_metric_of_columns_finds_its_clusters(scale):
    """Clusters in the column of small or of large variance: k-means in one metric alone misses one of the two."""
    rng = np.random.default_rng(4)
    n = 12_000
    X = np.stack([rng.normal(size=n) + 8 * rng.integers(2, size=n), rng.normal(size=n)], axis=1) * scale
    scores = [GaussianMixture(2, covariance_type="diag", random_state=seed).fit(X).score(X) for seed in range(5)]
    best = GaussianMixture(2, covariance_type="diag", n_init=20, random_state=0).fit(X).score(X)
    assert min(scores) > best - 0.01


def test_random_rows_that_start_components_differ_while_there_are_enough():
    rng = np.random.default_rng(0)
    X = np.r_[np.zeros((900, 2)), rng.normal(size=(100, 2))]
    for seed in range(20):
        index = initialization._different_rows(X, None, 3, np.random.default_rng(seed))
        assert len(index) == 3
        drawn = np.random.default_rng(seed).choice(1000, 12, replace=False)  # of which most are equal
        assert len(np.unique(X[index], axis=0)) == min(3, len(np.unique(X[drawn], axis=0)))
    assert sorted(initialization._different_rows(X[:5], None, 5, rng)) == [0, 1, 2, 3, 4]
    weight = np.zeros(1000)
    weight[[950, 960, 970]] = 1.0
    assert sorted(initialization._different_rows(X, weight, 3, rng)) == [950, 960, 970]


def test_what_is_known_of_rows_or_parameters_leaves_one_start(rows, monkeypatch):
    X, labels = rows
    searched = []
    monkeypatch.setattr(initialization, "best_of", lambda *arguments: searched.append(arguments) or best_of(*arguments))
    begin = CompiledEM.begin
    monkeypatch.setattr(CompiledEM, "begin", lambda *arguments: searched.append(arguments) or begin(*arguments))
    known = np.where(np.arange(len(X)) % 3 == 0, labels, -1)
    GaussianMixture(3, semi_supervised=True, random_state=0).fit(X, known)
    GaussianMixture(3, noise=True, random_state=0).fit(X)
    GaussianMixture(3, fixed={"weights": [1 / 3, 1 / 3, 1 / 3]}, random_state=0).fit(X)
    GaussianMixture(3, means_init=X[:3], random_state=0).fit(X)
    GaussianMixture(3, init_params="kmeans", random_state=0).fit(X)
    assert not searched
    GaussianMixture(3, random_state=0).fit(X)
    assert len(searched) == 1
    monkeypatch.setattr(problem, "is_small", lambda *shape: False)
    GaussianMixture(1, random_state=0).fit(X)
    assert len(searched) == 1
    GaussianMixture(3, random_state=0).fit(X)
    assert len(searched) == 2


def test_where_scikit_learn_is_replaced_its_default_start_is_ours():
    from sklearn import mixture

    with fastgmm.patch_sklearn():
        model = mixture.GaussianMixture(3)
        assert model.get_params()["init_params"] == "kmeans"
        assert model._chosen_start() == "auto"
        assert mixture.GaussianMixture(3, init_params="random")._chosen_start() == "random"
    assert GaussianMixture(3, init_params="kmeans")._chosen_start() == "kmeans"


def test_the_default_start_goes_to_scikit_learn_and_back(rows):
    model = GaussianMixture(3, random_state=0).fit(rows[0])
    theirs = model.to_sklearn()
    assert theirs.init_params == "kmeans"
    assert theirs.fit(rows[0]).converged_
    assert from_sklearn(model.to_sklearn()).init_params == "auto"
