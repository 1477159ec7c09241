"""The engine API: densities, statistics and M-steps over arrays, against the oracle and a library it is made for."""

from __future__ import annotations

import numpy as np
import pytest

from fastgmm import GaussianMixture, engine
from fastgmm.exceptions import InvalidParameterError
from tests import reference


@pytest.fixture
def mixture(blobs, covariance_type):
    return reference.m_step(blobs[0], reference.one_hot(blobs[1]), covariance_type)


@pytest.fixture
def own(mixture):
    return engine.mixture(mixture.weights, mixture.means, mixture.covariances, covariance_type=mixture.covariance_type)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 2e-5)])
def test_everything_equals_the_oracle(blobs, mixture, own, dtype, rtol):
    X = blobs[0].astype(dtype)
    log_prob = reference.log_gaussian_prob(blobs[0], mixture)
    weighted = log_prob + np.log(mixture.weights)
    resp = reference.predict_proba(blobs[0], mixture)
    for value, expected in (
        (engine.log_densities(X, own), weighted),
        (engine.log_densities(X, own, weighted=False), log_prob),
        (engine.log_likelihood(X, own), reference.score_samples(blobs[0], mixture)),
        (engine.responsibilities(X, own), resp),
    ):
        assert value.dtype == dtype
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=10 * rtol)
    np.testing.assert_array_equal(engine.labels(X, own), weighted.argmax(axis=1))


def test_statistics_of_blocks_add_to_those_of_all_rows(blobs, own):
    X = blobs[0]
    weight = np.random.default_rng(0).random(len(X))
    whole = engine.statistics(X, own, sample_weight=weight)
    parts = [engine.statistics(X[rows], own, sample_weight=weight[rows]) for rows in (slice(0, 250), slice(250, None))]
    total = parts[0] + parts[1]
    for name in ("log_likelihood", "sum_resp", "sum_diff", "sum_outer"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-10, atol=1e-10, err_msg=name)


def test_an_m_step_from_statistics_is_the_oracles(blobs, mixture, own, covariance_type):
    weight = np.random.default_rng(0).random(len(blobs[0]))
    updated = engine.m_step(engine.statistics(blobs[0], own, sample_weight=weight), covariance_type, reg_covar=1e-3)
    expected = reference.em_step(blobs[0], mixture, 1e-3, weight)
    np.testing.assert_allclose(updated.weights, expected.weights, rtol=1e-11)
    np.testing.assert_allclose(updated.means, expected.means, rtol=1e-11)
    np.testing.assert_allclose(updated.covariances, expected.covariances, rtol=1e-10, atol=1e-12)


def test_given_responsibilities_replace_the_mixtures_own(blobs, own, covariance_type):
    resp = np.random.default_rng(1).dirichlet(np.ones(3), len(blobs[0]))
    updated = engine.m_step(engine.statistics(blobs[0], own, resp=resp), covariance_type, reg_covar=0)
    expected = reference.m_step(blobs[0], resp, covariance_type)
    np.testing.assert_allclose(updated.means, expected.means, rtol=1e-11)
    np.testing.assert_allclose(updated.covariances, expected.covariances, rtol=1e-10, atol=1e-12)


def test_out_is_written_to_whatever_the_threads(blobs, own):
    X = np.tile(blobs[0], (30, 1))
    for function, shape, dtype in (
        (engine.log_densities, (len(X), 3), np.float64),
        (engine.log_likelihood, (len(X),), np.float64),
        (engine.responsibilities, (len(X), 3), np.float64),
        (engine.labels, (len(X),), np.int64),
    ):
        out = np.full(shape, -7, dtype)
        assert function(X, own, out=out, n_threads=1) is out
        np.testing.assert_array_equal(out, function(X, own, n_threads=2))
        with pytest.raises(ValueError, match="out must be a writable C-contiguous"):
            function(X, own, out=out[:-1])


def test_far_rows_have_no_density_and_no_nan(own):
    X = np.full((3, 3), 1e200)
    assert np.isneginf(engine.log_densities(X, own)).all()
    np.testing.assert_allclose(engine.responsibilities(X, own).sum(axis=1), 1)


def test_a_component_without_weight_has_no_density(blobs, own):
    mixture = engine.mixture(
        [0.5, 0.5, 0.0],
        own.means,
        precisions_cholesky=own.precisions_cholesky,
        covariance_type=own.covariance_type,
    )
    log_densities = engine.log_densities(blobs[0], mixture)
    assert np.isneginf(log_densities[:, 2]).all()
    assert np.isfinite(log_densities[:, :2]).all()


def test_weights_of_float32_fits_sum_to_1_in_float64():
    weights = np.full(3, np.float32(1 / 3)).astype(np.float64)
    assert abs(weights.sum() - 1) > 1e-8
    arguments = ([[0.0], [1.0], [2.0]], [1.0, 1.0, 1.0])
    assert engine.mixture(weights, *arguments, covariance_type="spherical").weights.sum() == 1
    assert GaussianMixture.from_parameters(weights, *arguments, covariance_type="spherical").weights_.sum() == 1
    exact = np.array([0.2, 0.3, 0.5])
    np.testing.assert_array_equal(engine.mixture(exact, *arguments, covariance_type="spherical").weights, exact)
    with pytest.raises(ValueError, match="off by 2e-06: divide them by their sum"):
        engine.mixture([0.5, 0.25, 0.250002], *arguments, covariance_type="spherical")


def test_bad_input_says_what_is_wrong(blobs, own):
    X = blobs[0]
    bad = X.copy()
    bad[7, 1] = np.nan
    with pytest.raises(ValueError, match="row 7, column 1"):
        engine.log_likelihood(bad, own)
    with pytest.raises(ValueError, match="X has 2 features, but the mixture has 3"):
        engine.labels(X[:, :2], own)
    with pytest.raises(ValueError, match="shape of"):
        engine.statistics(X, own, resp=np.ones((2, 2)))
    with pytest.raises(ValueError, match="normalized"):
        engine.mixture([0.5, 0.6], [[0.0], [1.0]], [1.0, 1.0], covariance_type="spherical")
    with pytest.raises(InvalidParameterError, match="covariance_type must be one of"):
        engine.mixture([1.0], [[0.0]], [1.0], covariance_type="round")
    with pytest.raises(ValueError, match="either covariances or precisions_cholesky"):
        engine.mixture([1.0], [[0.0]])


def test_statistics_know_what_covariance_they_are_for(blobs):
    full = engine.mixture([1.0], [[0.0, 0, 0]], np.eye(3)[None])
    with pytest.raises(ValueError, match="covariance_type of the mixture they were made with"):
        engine.m_step(engine.statistics(blobs[0], full), "diag")


def test_hidden_markov_models_can_take_their_e_step_from_here(blobs):
    """The log-likelihoods and the weighted statistics that hmmlearn's GMMHMM computes itself."""
    hmmlearn = pytest.importorskip("hmmlearn.hmm")
    X = blobs[0]
    rng = np.random.default_rng(0)
    model = hmmlearn.GMMHMM(n_components=2, n_mix=3, covariance_type="diag", random_state=0)
    model._init(X)
    model.weights_ = rng.dirichlet(np.ones(3), 2)
    model.means_ = rng.normal(size=(2, 3, 3))
    model.covars_ = rng.uniform(1, 2, size=(2, 3, 3))
    states = [
        engine.mixture(w, m, c, covariance_type="diag")
        for w, m, c in zip(model.weights_, model.means_, model.covars_, strict=True)
    ]
    own = np.column_stack([engine.log_likelihood(X, state) for state in states])
    np.testing.assert_allclose(own, model._compute_log_likelihood(X), rtol=1e-11)
    posteriors = rng.dirichlet(np.ones(2), len(X))
    before, after = model._initialize_sufficient_statistics(), model._initialize_sufficient_statistics()
    model._accumulate_sufficient_statistics(after, X, own, posteriors, np.zeros((len(X), 2)), np.zeros((len(X), 2)))
    for i, state in enumerate(states):
        sums = engine.statistics(X, state, sample_weight=posteriors[:, i])
        gained = {name: (after[name] - before[name])[i] for name in ("post_mix_sum", "m_n", "c_n")}
        np.testing.assert_allclose(sums.sum_resp, gained["post_mix_sum"], rtol=1e-10)
        first = sums.sum_diff + sums.sum_resp[:, None] * state.means
        np.testing.assert_allclose(first, gained["m_n"], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(sums.sum_outer, gained["c_n"], rtol=1e-10)
