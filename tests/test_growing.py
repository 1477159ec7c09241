"""EM on growing samples before the first pass over all rows: fewer passes, the same quality, no collapse."""

import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.optimization import growing
from fastgmm.optimization.growing import sample_sizes
from fastgmm.rows.source import ArraySource
from tests.conftest import read_only

N = 210_000  # just enough for a start's 25,000 rows to be an eighth


@pytest.fixture(scope="module")
def rows():
    return read_only(make_mixture(N, 2, 6, separation=1.0, random_state=3).X)


def without_growing(monkeypatch):
    monkeypatch.setattr(growing, "MOST_STEPS", 0)


@pytest.mark.parametrize("weights", [None, "some"])
def test_fewer_passes_and_no_less_likely(rows, covariance_type, weights, monkeypatch):
    weight = None if weights is None else np.random.default_rng(0).integers(0, 3, N).astype(float)
    model = GaussianMixture(6, covariance_type=covariance_type, random_state=0, tol=1e-5, max_iter=1000)
    grown = model.fit(rows, sample_weight=weight).n_iter_, model.log_likelihood_
    without_growing(monkeypatch)
    plain = model.fit(rows, sample_weight=weight).n_iter_, model.log_likelihood_
    assert grown[0] < plain[0]
    assert grown[1] > plain[1] - 1e-3 * N


def test_sizes_grow_to_an_eighth_of_the_rows_and_32_mib():
    def sizes(n_samples, n_features=2, first=25_000):
        wide = np.lib.stride_tricks.as_strided(np.zeros(1), (n_samples, n_features), (0, 0))
        return sample_sizes(ArraySource(wide), first)

    assert sizes(199_999) == [25_000]
    assert sizes(799_999) == [25_000]
    assert sizes(800_000) == [25_000, 100_000]
    assert sizes(10**9) == [25_000, 100_000, 400_000, 1_600_000]
    assert sizes(10**9, 64) == [25_000]
    assert sizes(10**9, 32) == [25_000, 100_000]


def test_costs_at_most_two_passes_and_nothing_where_the_start_is_wanted_alone(rows, monkeypatch):
    looked_at = []
    fit_sample = growing._fit_sample

    def noted(problem, parameters, sample, most_steps):
        fit = fit_sample(problem, parameters, sample, most_steps)
        looked_at.append(fit.n_steps * sample.size)
        return fit

    monkeypatch.setattr(growing, "_fit_sample", noted)
    monkeypatch.setattr(growing, "TOL", 0.0)
    monkeypatch.setattr(growing, "MOST_STEPS", 1000)
    GaussianMixture(6, random_state=0, max_iter=0).fit(rows)
    assert looked_at == []
    GaussianMixture(6, random_state=0).fit(rows)
    assert 1.8 * N < sum(looked_at) <= 2 * N


def test_a_component_of_few_rows_is_left_to_the_passes_over_all():
    """40 of 250,000 rows: about four in a sample, on which a covariance would collapse."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((250_000, 3))
    X[:40] += 30.0
    rng.shuffle(X)
    expected = GaussianMixture(2, means_init=[[0, 0, 0], [30, 30, 30]], tol=1e-9, max_iter=1000).fit(X)
    model = GaussianMixture(2, random_state=0, tol=1e-9, max_iter=1000).fit(X)
    assert model.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-6)
    assert model.weights_.min() * len(X) == pytest.approx(40, abs=1e-3)


def test_other_starts_are_tried_where_iterations_are_long(rows, monkeypatch):
    fit_sample, bounds = growing._fit_sample, []

    def noted(*arguments):
        fit = fit_sample(*arguments)
        bounds.append((fit.bound, fit.parameters.means))
        return fit

    monkeypatch.setattr(growing, "_fit_sample", noted)
    monkeypatch.setattr(growing, "FEW_STEPS", 1)
    GaussianMixture(6, random_state=0).fit(rows)
    assert len(bounds) == 1
    bounds.clear()
    monkeypatch.setattr(growing, "LONG_ITERATION", 0.0)
    monkeypatch.setattr(growing, "sample_sizes", lambda source, first: [first])
    started = []
    monkeypatch.setattr(GaussianMixture, "_run", lambda self, problem, plan, *rest: started.append(plan.start()))
    with pytest.raises(TypeError):
        GaussianMixture(6, random_state=0).fit(rows)
    assert len(bounds) == 1 + growing.MORE_STARTS
    assert len({bound for bound, _ in bounds}) > 1
    np.testing.assert_array_equal(started[0].means, max(bounds, key=lambda each: each[0])[1])


def test_storage_changes_nothing(rows, tmp_path):
    np.save(tmp_path / "x.npy", rows)
    model = GaussianMixture(6, random_state=0, tol=1e-4)
    expected = model.fit(rows).means_
    np.testing.assert_allclose(model.fit(tmp_path / "x.npy").means_, expected, rtol=1e-12)


def test_values_may_be_missing(rows):
    X = np.where(np.random.default_rng(0).random(rows.shape) < 0.1, np.nan, rows)
    model = GaussianMixture(6, missing="em", random_state=0).fit(X)
    assert model.converged_
    complete = GaussianMixture(6, random_state=0).fit(rows)
    assert model.score(rows) == pytest.approx(complete.score(rows), abs=5e-3)
