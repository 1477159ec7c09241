"""The oracle of factor-analyser tests is held to what theory promises, and the NumPy yardstick to the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from benchmarks import numpy_factor_mixture
from tests.reference_factor_mixture import (
    NOISE_STRUCTURES,
    InverseGamma,
    Parameters,
    covariance,
    em_step,
    em_step_missing,
    expectations,
    expected_complete_log_likelihood,
    impute,
    log_likelihood,
    log_prior,
)

PRIOR = InverseGamma(shape=2.0, scale=0.5)


@pytest.fixture(params=NOISE_STRUCTURES)
def noise(request):
    return request.param


@pytest.fixture(params=[None, PRIOR], ids=["ml", "map"])
def prior(request):
    return request.param


def random_parameters(n_components, n_features, n_factors, noise="diag", seed=0):
    rng = np.random.default_rng(seed)
    variances = rng.uniform(0.3, 1.5, size=(n_components, n_features))
    if noise == "shared":
        variances[:] = variances[0]
    if noise == "isotropic":
        variances[:] = variances[:, :1]
    return Parameters(
        rng.dirichlet(np.full(n_components, 5.0)),
        2 * rng.standard_normal((n_components, n_features)),
        rng.standard_normal((n_components, n_features, n_factors)),
        variances,
    )


def draw(parameters, n, seed=1):
    return numpy_factor_mixture.FactorMixture(*parameters).sample(n, seed)


def hide(X, share=0.3, seed=2):
    hidden = X.copy()
    hidden[np.random.default_rng(seed).random(X.shape) < share] = np.nan
    return hidden


def objective(X, old, new, noise, prior, sample_weight=None):
    Q = expected_complete_log_likelihood(X, old, new, sample_weight)
    return Q if prior is None else Q + log_prior(new.noise, noise, prior)


def to_vector(parameters, noise):
    free = {"diag": parameters.noise, "shared": parameters.noise[0], "isotropic": parameters.noise[:, 0]}[noise]
    parts = (np.log(parameters.weights), parameters.means, parameters.loadings, np.log(free))
    return np.concatenate([part.ravel() for part in parts])


def from_vector(vector, like, noise):
    k, d, n_factors = like.loadings.shape
    logits, means, loadings, free = np.split(vector, np.cumsum([k, k * d, k * d * n_factors]))
    shape = {"diag": (k, d), "shared": (1, d), "isotropic": (k, 1)}[noise]
    variances = np.broadcast_to(np.exp(free).reshape(shape), (k, d))
    weights = np.exp(logits) / np.exp(logits).sum()
    return Parameters(weights, means.reshape(k, d), loadings.reshape(k, d, n_factors), variances)


@pytest.mark.parametrize("missing", [False, True])
def test_objective_never_falls(missing, noise, prior):
    X = draw(random_parameters(2, 5, 2), 60)
    X, step = (hide(X), em_step_missing) if missing else (X, em_step)
    parameters = random_parameters(2, 5, 2, noise, seed=3)
    values = []
    for _ in range(15):
        values.append(log_likelihood(X, parameters).sum())
        if prior is not None:
            values[-1] += log_prior(parameters.noise, noise, prior)
        parameters = step(X, parameters, noise=noise, prior=prior)
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize("missing", [False, True])
def test_m_step_is_where_the_gradient_vanishes(missing, noise, prior):
    X = draw(random_parameters(2, 4, 2), 30)
    X, step = (hide(X), em_step_missing) if missing else (X, em_step)
    sample_weight = np.random.default_rng(4).uniform(0.5, 2, size=len(X))
    old = random_parameters(2, 4, 2, noise, seed=3)
    best = to_vector(step(X, old, sample_weight, noise, prior=prior), noise)

    def value(vector):
        return objective(X, old, from_vector(vector, old, noise), noise, prior, sample_weight)

    h = 1e-5
    gradient = [(value(best + h * e) - value(best - h * e)) / (2 * h) for e in np.eye(len(best))]
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_m_step_is_the_brute_force_maximum(prior):
    X = draw(random_parameters(2, 3, 1), 20)
    old = random_parameters(2, 3, 1, seed=3)
    # The prior is a density of the variance, not of its logarithm: no Jacobian enters the optimisation.
    found = optimize.minimize(
        lambda vector: -objective(X, old, from_vector(vector, old, "diag"), "diag", prior), to_vector(old, "diag")
    )
    expected = em_step(X, old, prior=prior)
    for a, b in zip(from_vector(found.x, old, "diag"), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_floor_holds_and_only_where_it_binds():
    X = draw(random_parameters(2, 5, 2), 60)
    parameters = random_parameters(2, 5, 2, seed=3)
    free = em_step(X, parameters).noise
    floor = np.median(free)
    np.testing.assert_allclose(em_step(X, parameters, floor=floor).noise, np.maximum(free, floor))


def test_expected_complete_log_likelihood_bounds_the_log_likelihood():
    """With the entropy of the posterior added, the bound is tight at the parameters of the E-step."""
    X = hide(draw(random_parameters(2, 4, 2), 30))
    parameters = random_parameters(2, 4, 2, seed=3)
    resp, z, zz = expectations(X, parameters)
    centred = zz[..., :-1, :-1] - z[..., :-1, None] * z[..., None, :-1]
    normal_entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * centred)[1]
    entropy = np.sum(resp * (normal_entropy - np.log(resp)))
    bound = expected_complete_log_likelihood(X, parameters, parameters) + entropy
    assert bound == pytest.approx(log_likelihood(X, parameters).sum(), rel=1e-10)


def test_weights_of_rows_are_repetitions(noise):
    X = draw(random_parameters(2, 5, 2), 40)
    parameters = random_parameters(2, 5, 2, noise, seed=3)
    repeats = np.random.default_rng(5).integers(0, 4, size=len(X))
    weighted = em_step(X, parameters, repeats.astype(float), noise)
    repeated = em_step(np.repeat(X, repeats, axis=0), parameters, noise=noise)
    for a, b in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_nothing_missing_is_the_ordinary_step(noise, prior):
    X = draw(random_parameters(2, 5, 2), 40)
    parameters = random_parameters(2, 5, 2, noise, seed=3)
    steps = [step(X, parameters, noise=noise, prior=prior) for step in (em_step, em_step_missing)]
    for a, b in zip(*steps, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_a_pixel_never_seen_and_a_row_without_pixels_change_nothing():
    X = draw(random_parameters(2, 5, 2), 40)
    X[:, 3] = np.nan
    parameters = random_parameters(2, 5, 2, seed=3)
    with_empty_row = em_step_missing(np.vstack([X, np.full(5, np.nan)]), parameters)
    without = em_step_missing(X, parameters)
    for name in ("means", "loadings", "noise"):
        np.testing.assert_allclose(getattr(with_empty_row, name), getattr(without, name))
        np.testing.assert_array_equal(getattr(without, name)[:, 3], getattr(parameters, name)[:, 3])


def test_one_isotropic_component_converges_to_probabilistic_pca():
    """Tipping & Bishop 1999: the noise is the mean of the eigenvalues left out, the covariance follows."""
    X = draw(random_parameters(1, 6, 2), 200)
    parameters = random_parameters(1, 6, 2, "isotropic", seed=3)
    for _ in range(400):
        parameters = em_step(X, parameters, noise="isotropic")
    eigenvalues, vectors = np.linalg.eigh(np.cov(X, rowvar=False, bias=True))
    sigma2 = eigenvalues[:4].mean()
    closed_form = vectors[:, 4:] * (eigenvalues[4:] - sigma2) @ vectors[:, 4:].T + sigma2 * np.eye(6)
    np.testing.assert_allclose(parameters.means[0], X.mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(parameters.noise, sigma2, rtol=1e-8)
    np.testing.assert_allclose(covariance(parameters.loadings[0], parameters.noise[0]), closed_form, atol=1e-8)


def test_numpy_yardstick_takes_the_same_step(noise):
    truth = random_parameters(3, 20, 4, noise)
    X, parameters = draw(truth, 100), truth._replace(means=truth.means + 0.3)
    actual, mean_log_likelihood = numpy_factor_mixture.em_step(
        X, numpy_factor_mixture.FactorMixture(*parameters), floor=0.5, noise=noise
    )
    expected = em_step(X, parameters, noise=noise, floor=0.5)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)
    assert mean_log_likelihood == pytest.approx(log_likelihood(X, parameters).mean(), rel=1e-12)


def test_numpy_yardstick_scores_and_inpaints(noise):
    truth = random_parameters(3, 20, 4, noise)
    X, parameters = draw(truth, 100), truth._replace(means=truth.means + 0.3)
    mixture = numpy_factor_mixture.FactorMixture(*parameters)
    np.testing.assert_allclose(mixture.log_density(X), log_likelihood(X, parameters), rtol=1e-11)
    np.testing.assert_allclose(mixture.log_density(X.astype(np.float32)), log_likelihood(X, parameters), rtol=1e-5)
    hidden = np.arange(20) >= 12
    expected = impute(np.where(hidden, np.nan, X), parameters, obs_noise=0.1)
    np.testing.assert_allclose(mixture.inpaint(X, hidden, obs_noise=0.1), expected, rtol=1e-8)


def test_numpy_gaussian_is_a_mixture_of_one():
    X = draw(random_parameters(1, 8, 2), 100)
    parameters = random_parameters(1, 8, 2, seed=3)
    gaussian = numpy_factor_mixture.Gaussian(
        parameters.means[0], covariance(parameters.loadings[0], parameters.noise[0])
    )
    np.testing.assert_allclose(gaussian.log_density(X), log_likelihood(X, parameters), rtol=1e-11)
    hidden = np.arange(8) >= 5
    expected = impute(np.where(hidden, np.nan, X), parameters)
    np.testing.assert_allclose(gaussian.inpaint(X, hidden), expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_numpy_yardstick_finds_the_clusters(dtype, noise):
    truth = random_parameters(3, 30, 2, noise)._replace(weights=np.array([0.2, 0.3, 0.5]))
    X, held_out = draw(truth, 600).astype(dtype), draw(truth, 600, seed=6)
    mixture = numpy_factor_mixture.fit(X, 3, 2, n_iter=10, floor=1e-3, noise=noise)
    np.testing.assert_allclose(np.sort(mixture.weights), truth.weights, atol=0.05)
    assert mixture.log_density(held_out).mean() > log_likelihood(held_out, truth).mean() - 1
