"""By hand means checked at use: attributes that somebody has set are looked at whenever a model is asked."""

import copy

import numpy as np
import pytest

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture, engine
from tests.reference import COVARIANCE_TYPES

X = np.random.default_rng(0).normal(size=(200, 3)) + 4 * (np.arange(200)[:, None] % 2)
ASKED = ("predict", "predict_proba", "score_samples", "score", "sample")


@pytest.fixture(scope="module")
def models():
    kinds = {kind: GaussianMixture(2, covariance_type=kind, random_state=0) for kind in COVARIANCE_TYPES}
    kinds["bayes"] = BayesianGaussianMixture(n_components=2, random_state=0)
    kinds["factors"] = MixtureOfFactorAnalyzers(2, 1, random_state=0)
    kinds["standardised"] = StandardisedMixture(GaussianMixture(2, random_state=0))
    return {name: model.fit(X) for name, model in kinds.items()}


def ask(model, method):
    return model.sample(3) if method == "sample" else getattr(model, method)(X)


def nan(array):
    array = array.copy()
    array.flat[-1] = np.nan
    return array


WRONG = {
    "more means": ("means_", lambda a: np.zeros((5, 3)), "are of no mixture"),
    "fewer means": ("means_", lambda a: a[:1], "are of no mixture"),
    "flat means": ("means_", np.ravel, "are of no mixture"),
    "more weights": ("weights_", lambda a: np.full(50, 0.02), "are of no mixture"),
    "NaN in means": ("means_", nan, "means_ of component 1 is not finite"),
    "NaN in weights": ("weights_", nan, "weights_ must not be negative and sum to 1"),
    "negative weights": ("weights_", lambda a: np.array([-1.0, 2.0]), "must not be negative.*got -1"),
    "weights of another sum": ("weights_", lambda a: 3 * a, "a sum of 3"),
}
OF_COVARIANCES = {
    "one factor": ("precisions_cholesky_", lambda a: np.ones((1, 1, 1)), "precisions_cholesky_ must have shape"),
    "wide factors": ("precisions_cholesky_", lambda a: np.ones((2, 300, 300)), "precisions_cholesky_ must have shape"),
    "no factors": ("precisions_cholesky_", lambda a: a[:0], "precisions_cholesky_ must have shape"),
    "infinite factors": ("precisions_cholesky_", lambda a: a * np.inf, "precisions_cholesky_ of component 0 is not"),
    "negative factors": ("precisions_cholesky_", lambda a: -a, "precisions_cholesky_ of component 0 has a diagonal"),
    "one covariance": ("covariances_", lambda a: np.ones((1, 1, 1, 1)), "covariances_ must have shape"),
}
OF_FACTORS = {
    "flat loadings": ("loadings_", np.ravel, "loadings_ must have three dimensions"),
    "fewer loadings": ("loadings_", lambda a: a[:, :2], "loadings_ must have shape"),
    "no noise": ("noise_variance_", np.zeros_like, "noise_variance_ of component 0, feature 0 is not positive"),
    "NaN in noise": ("noise_variance_", nan, "noise_variance_ of component 1 is not finite"),
}


@pytest.mark.parametrize("method", ASKED)
@pytest.mark.parametrize("case", [*WRONG, *OF_COVARIANCES, *OF_FACTORS])
def test_what_no_fit_would_set_is_one_sentence_that_names_it(case, method, models):
    name, change, words = (WRONG | OF_COVARIANCES | OF_FACTORS)[case]
    asked = 0
    for model in models.values():
        changed = copy.deepcopy(model)
        inner = getattr(changed, "mixture", changed)
        if not hasattr(inner, name):
            continue
        with np.errstate(invalid="ignore"):
            setattr(inner, name, change(getattr(inner, name)))
        with pytest.raises(ValueError, match=words):
            ask(changed, method)
        asked += 1
    assert asked


@pytest.mark.parametrize("other", ["diag", "tied", "spherical"])
def test_another_covariance_type_is_not_what_was_fitted(other, models):
    model = copy.deepcopy(models["full"]).set_params(covariance_type=other)
    with pytest.raises(ValueError, match=f"precisions_cholesky_ must have shape .* for covariance_type='{other}'"):
        model.predict(X)


def test_arrays_set_in_place_and_of_other_kinds_are_taken(models):
    model = copy.deepcopy(models["full"])
    model.means_ += 1
    assert model.score(X + 1) == pytest.approx(models["full"].score(X))
    model.weights_ = np.float32(model.weights_)
    assert np.isfinite(model.score(X))


def test_the_engine_s_mixtures_are_checked_too():
    for parameters in (
        engine.MixtureParameters(np.ones(2) / 2, np.zeros((2, 3)), np.ones((1, 3)), "diag"),
        engine.MixtureParameters(np.ones(200) / 200, np.zeros((200, 3)), np.ones(1), "spherical"),
        engine.MixtureParameters(np.ones(2) / 2, np.zeros((2, 3)), np.ones((1, 1, 1)), "full"),
        engine.MixtureParameters(np.ones(2) / 2, np.zeros((200_000, 3)), np.ones((200_000, 3)), "diag"),
    ):
        for use in (engine.log_likelihood, engine.statistics, engine.responsibilities, engine.labels):
            with pytest.raises(ValueError, match=r"must have shape|are of no mixture"):
                use(X, parameters)


def test_images_of_a_generator_changed_by_hand():
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    generator = fastgmm.images.ImageGenerator(1, n_factors=1, random_state=0, tol=1e6, max_iter=2).fit(images)
    generator.mixture_.noise_variance_ = -generator.mixture_.noise_variance_
    with pytest.raises(ValueError, match="noise_variance_ of component 0"):
        generator.score(images)
