"""The scale of sample weights is free: weights of any size give the answers of the same weights scaled to about 1."""

import numpy as np
import pytest

from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture
from fastgmm.optimization.solvers import SOLVERS
from tests.reference import COVARIANCE_TYPES

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3)) + 3 * (np.arange(400)[:, None] % 2)
WEIGHT = np.where(np.arange(400) % 7 == 0, 0.0, RNG.exponential(size=400) + 0.1)
SMALLEST = float(np.ldexp(1.0, -1074))
POWERS = [2.0**-1000, 2.0**-300, 2.0**-20, 2.0**30, 2.0**400, 2.0**1015]
OTHERS = [1e-307, 1e-200, 1e-30, 1e30, 1e200, 3e307]
MODELS = {
    **{kind: lambda kind=kind: GaussianMixture(2, covariance_type=kind, random_state=0) for kind in COVARIANCE_TYPES},
    **{f"solver {s}": lambda s=s: GaussianMixture(2, solver=s, random_state=0, max_iter=20) for s in SOLVERS},
    "lbfgs": lambda: GaussianMixture(2, acceleration="lbfgs", random_state=0),
    "noise": lambda: GaussianMixture(2, noise=True, random_state=0),
    "random start": lambda: GaussianMixture(2, init_params="random", random_state=0),
    "re-seeding": lambda: GaussianMixture(2, on_singular="restart", random_state=0),
    "factors": lambda: MixtureOfFactorAnalyzers(2, 1, random_state=0),
    "standardised": lambda: StandardisedMixture(GaussianMixture(2, random_state=0)),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*did not converge")


def facts(model):
    mixture = getattr(model, "mixture", model)
    names = ("weights_", "means_", "covariances_", "loadings_", "noise_variance_")
    arrays = {name: getattr(mixture, name) for name in names if hasattr(mixture, name)}
    return arrays | {"bound": np.array(mixture.lower_bound_), "n_iter": np.array(mixture.n_iter_)}


@pytest.mark.parametrize("name", MODELS)
def test_the_scale_of_weights_changes_rounding_alone(name):
    expected = facts(MODELS[name]().fit(X, sample_weight=WEIGHT))
    for scale in POWERS + OTHERS:
        found = facts(MODELS[name]().fit(X, sample_weight=scale * (WEIGHT / 16)))
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-8, atol=1e-11, err_msg=f"{scale} {key}")


@pytest.mark.parametrize("scale", [SMALLEST, 1e-318, 1e308, 1.7e308])
def test_the_ends_of_the_range_are_weights_as_good_as_any(scale):
    """The smallest number, subnormal ones, and such whose sum is beyond the range; equal, as they cannot be divided."""
    expected = facts(GaussianMixture(2, random_state=0).fit(X))
    for weight in (np.full(400, scale), scale):
        found = GaussianMixture(2, random_state=0).fit(X, sample_weight=weight)
        assert found.converged_
        for key, value in facts(found).items():
            np.testing.assert_allclose(value, expected[key], rtol=1e-9, atol=1e-12, err_msg=key)
        assert found.score(X, sample_weight=np.full(400, scale)) == pytest.approx(found.score(X), rel=1e-12)


def test_tiny_weights_beside_huge_ones_are_no_rows():
    weight = np.where(np.arange(400) < 200, 1e300, 1e-300)
    alone = GaussianMixture(2, random_state=0).fit(X, sample_weight=np.where(weight > 1, 1.0, 0.0))
    start = {"weights_init": alone.weights_, "means_init": alone.means_, "precisions_init": alone.precisions_}
    found = GaussianMixture(2, random_state=0, **start).fit(X, sample_weight=weight)
    np.testing.assert_allclose(np.sort(found.means_, axis=0), np.sort(alone.means_, axis=0), rtol=1e-3)


def test_totals_are_those_of_the_weights_that_were_given():
    model = GaussianMixture(2, random_state=0).fit(X, sample_weight=WEIGHT)
    scaled = GaussianMixture(2, random_state=0).fit(X, sample_weight=2.0**-600 * WEIGHT)
    assert scaled.log_likelihood_ == 2.0**-600 * model.log_likelihood_
    assert scaled.aic(X, sample_weight=2.0**-600 * WEIGHT) == pytest.approx(2 * scaled._n_parameters())
    assert model.aic(X, WEIGHT) == pytest.approx(-2 * model.log_likelihood_ + 2 * model._n_parameters())
    small = scaled.bic(X, sample_weight=2.0**-600 * WEIGHT)
    assert small == pytest.approx(scaled._n_parameters() * (np.log(WEIGHT.sum()) - 600 * np.log(2)))


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_where_a_scale_has_a_meaning_extremes_are_refused(scale):
    """A prior counts in rows of weight 1, and streams add up."""
    weight = np.full(400, scale)
    for model in (
        GaussianMixture(2, prior="conjugate"),
        BayesianGaussianMixture(n_components=2),
        MixtureOfFactorAnalyzers(2, 1, noise_prior="auto"),
    ):
        with pytest.raises(ValueError, match=r"sample_weight is up to 1e.*Scale the weights"):
            model.fit(X, sample_weight=weight)
    with pytest.raises(ValueError, match="where batches are added up"):
        GaussianMixture(2).partial_fit(X, sample_weight=weight)
