"""EM on growing samples before the first pass over all rows: fewer passes, the same quality, no collapse."""

import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.optimization import growing
from fastgmm.optimization.growing import sample_sizes
from fastgmm.rows.source import ArraySource
from tests.conftest import read_only

N = 210_000


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


def test_sizes_double_up_to_a_third_of_the_rows_and_32_mib():
    def sizes(n_samples, n_features=2, first=10_000):
        wide = np.lib.stride_tricks.as_strided(np.zeros(1), (n_samples, n_features), (0, 0))
        return sample_sizes(ArraySource(wide), first)

    assert sizes(59_999) == [10_000]
    assert sizes(60_000) == [10_000, 20_000]
    assert sizes(400_000, first=32_000) == [32_000, 64_000, 128_000]
    assert max(sizes(10**9)) == 1_280_000
    assert max(sizes(10**9, 64)) == 40_000


def test_costs_a_bounded_number_of_passes_and_nothing_where_the_start_is_wanted_alone(rows, monkeypatch):
    looked_at = []
    run_briefly = growing.run_briefly

    def noted(problem, parameters, drawn, *rest):
        run = run_briefly(problem, parameters, drawn, *rest)
        looked_at.append(run.n_steps * drawn.size)
        return run

    monkeypatch.setattr(growing, "run_briefly", noted)
    monkeypatch.setattr(growing, "TOL", 0.0)
    monkeypatch.setattr(growing, "MOST_STEPS", 1000)
    GaussianMixture(6, random_state=0, max_iter=0).fit(rows)
    assert looked_at == []
    GaussianMixture(6, random_state=0).fit(rows)
    assert (growing.PASSES - 0.2) * N < sum(looked_at) <= growing.PASSES * N


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
