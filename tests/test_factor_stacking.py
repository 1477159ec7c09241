"""Stacked mixtures, and the noise prior that comes from the data."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from fastgmm import MixtureOfFactorAnalyzers as Mixture
from fastgmm.model.factors.stacking import stacking_weights
from tests.reference_factor_mixture import log_likelihood
from tests.test_factor_reference import draw, random_parameters

LEVELS = (0.0, 0.5, 20.0)


@pytest.fixture(scope="module")
def parts():
    return [random_parameters(2, 6, 1), random_parameters(3, 6, 2)]


@pytest.fixture(scope="module")
def rows(parts):
    """Rows of the first mixture, and some far from both."""
    outliers = np.random.default_rng(1).normal(0, 6, (20, 6))
    return np.vstack([draw(parts[0], 100), draw(parts[1], 60), outliers])


def test_a_stack_is_the_weighted_sum_of_its_parts(parts, rows):
    stack = Mixture.stack([Mixture.from_parameters(*part) for part in parts], rows, LEVELS)
    densities = np.column_stack(
        [log_likelihood(rows, part._replace(noise=part.noise + level)) for part in parts for level in LEVELS]
    )
    expected = logsumexp(densities + np.log(stacking_weights(densities)), axis=1)
    # Parts of a weight below 1e-8 are left out.
    np.testing.assert_allclose(stack.score_samples(rows), expected, atol=1e-6)
    assert stack.loadings_.shape[2] == 2
    assert stack.weights_.sum() == pytest.approx(1, abs=1e-12)


def test_stacking_weights_are_the_maximum():
    densities = np.random.default_rng(0).normal(0, 3, (200, 3))

    def loss(logits):
        return -logsumexp(densities + logits - logsumexp(logits), axis=1).mean()

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    weights = stacking_weights(densities)
    assert -loss(np.log(weights)) == pytest.approx(-best.fun, abs=1e-8)
    np.testing.assert_allclose(weights, np.exp(best.x - logsumexp(best.x)), atol=1e-3)


def test_a_stack_is_no_worse_than_its_best_part(parts, rows):
    mixtures = [Mixture.from_parameters(*part) for part in parts]
    stack = Mixture.stack(mixtures, rows, LEVELS)
    alone = [log_likelihood(rows, part._replace(noise=part.noise + level)).mean() for part in parts for level in LEVELS]
    assert stack.score(rows) > max(alone)


def test_bad_stacks_are_named(parts, rows):
    mixture = Mixture.from_parameters(*parts[0])
    for mixtures, levels in (([], (0.0,)), ([mixture], ()), ([mixture], (-1.0,)), ([mixture], (np.nan,))):
        with pytest.raises(ValueError, match="at least one mixture and finite noise levels"):
            Mixture.stack(mixtures, rows, levels)
    other = Mixture.from_parameters(*random_parameters(2, 5, 1))
    with pytest.raises(ValueError, match="mixture 1 has 5 features, but X has 6"):
        Mixture.stack([mixture, other], rows)
    with pytest.raises(ValueError, match="NaN"):
        Mixture.stack([mixture], np.where(rows == rows[0, 0], np.nan, rows))


@pytest.mark.parametrize("noise_type", ["diagonal", "isotropic"])
def test_the_automatic_prior_weighs_two_rows_of_the_columns_variance(parts, noise_type):
    X = draw(parts[0], 80) * np.array([1, 1, 1, 1, 1, 10.0])
    settings = {"noise_type": noise_type, "max_iter": 1, "tol": 0, "random_state": 0}
    scale = 0.3 * (X.var(axis=0).mean() if noise_type == "isotropic" else X.var(axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that stops after one iteration
        automatic = Mixture(2, 1, noise_prior="auto", **settings).fit(X)
        plain = Mixture(2, 1, **settings).fit(X)
    counts = plain.weights_[:, None] * len(X) * (6 if noise_type == "isotropic" else 1)
    expected = (plain.noise_variance_ * counts + 2 * scale) / (counts + 2)
    np.testing.assert_allclose(automatic.noise_variance_, expected, rtol=1e-9)
