"""What a fitted image generator is used for besides drawing: complete, reconstruct, rank, walk, classify, keep."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fastgmm import MixtureOfFactorAnalyzers
from fastgmm.datasets import load_digits
from fastgmm.exceptions import FormatError, InvalidParameterError, NotFittedError
from fastgmm.images import ImageGenerator, upscale
from fastgmm.images.upscaling import block_means
from tests import reference_conditioning as slow

HIDDEN = np.zeros((8, 8), bool)
HIDDEN[:, 4:] = True


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def generator(digits):
    return ImageGenerator(3, n_factors=4, tol=1, random_state=0).fit(digits[0], labels=digits[1])


@pytest.fixture(scope="module")
def single(digits):
    """One component: a Gaussian, of which everything is known."""
    return ImageGenerator(1, n_factors=4, noise_floor=1e-2, tol=1, random_state=0).fit(digits[0])


def conditional(single, images, obs_noise):
    """Mean and covariance of the hidden pixels given the visible ones, dense."""
    mixture, flat = single.mixture_, HIDDEN.ravel()
    covariance, mean = mixture.get_covariance(0), mixture.means_[0]
    seen = covariance[np.ix_(~flat, ~flat)] + obs_noise * np.eye((~flat).sum())
    slope = np.linalg.solve(seen, covariance[np.ix_(~flat, flat)]).T
    rows = images.reshape(len(images), -1)
    return mean[flat] + (rows[:, ~flat] - mean[~flat]) @ slope.T


@pytest.mark.parametrize("obs_noise", [0.0, 0.1])
def test_hidden_pixels_are_their_expectation(digits, single, obs_noise):
    images = digits[0][:20]
    expected = np.clip(conditional(single, images, obs_noise), 0, 1)
    completed = single.inpaint(images, HIDDEN, obs_noise=obs_noise)
    np.testing.assert_allclose(completed[:, HIDDEN], expected, atol=1e-9)
    np.testing.assert_array_equal(completed[:, ~HIDDEN], images[:, ~HIDDEN])
    # A mask for each image is as good as one for all, and hidden values do not matter.
    scrambled = np.where(HIDDEN, 0.7, images)
    masks = np.broadcast_to(HIDDEN, images.shape)
    np.testing.assert_array_equal(single.inpaint(scrambled, masks, obs_noise=obs_noise), completed)


def test_draws_scatter_about_the_expectation(digits):
    images = 0.4 + 0.2 * digits[0]  # far from 0 and 1: nothing to clip
    single = ImageGenerator(1, n_factors=4, noise_floor=1e-3, tol=1, random_state=0).fit(images)
    image = np.repeat(images[:1], 3000, axis=0)
    drawn = single.inpaint(image, HIDDEN, "sample", obs_noise=0.1, random_state=0)
    again = single.inpaint(image, HIDDEN, "sample", obs_noise=0.1, random_state=0)
    np.testing.assert_array_equal(drawn, again)
    assert not np.array_equal(drawn, single.inpaint(image, HIDDEN, "sample", obs_noise=0.1, random_state=1))
    inside = drawn[:, HIDDEN]
    assert inside.min() > 0
    assert inside.max() < 1
    error = np.abs(inside.mean(axis=0) - conditional(single, image[:1], 0.1)[0])
    assert np.all(error <= 5 * inside.std(axis=0) / np.sqrt(3000) + 1e-12)


def test_bytes_are_completed_in_their_own_scale(digits):
    counts = np.rint(digits[0][:300] * 255).astype(np.uint8)
    generator = ImageGenerator(2, tol=1, random_state=0).fit(counts)
    completed = generator.inpaint(counts[:5], HIDDEN)
    np.testing.assert_allclose(completed[:, ~HIDDEN], counts[:5][:, ~HIDDEN] / 255.0, rtol=1e-15)


def test_masked_scores_are_those_of_the_visible_pixels(digits, single):
    images, flat = digits[0][:20], ~HIDDEN.ravel()
    covariance, mean = single.mixture_.get_covariance(0), single.mixture_.means_[0]
    normal = multivariate_normal(mean[flat], covariance[np.ix_(flat, flat)])
    expected = normal.logpdf(images.reshape(20, -1)[:, flat])
    np.testing.assert_allclose(single.score_samples(images, HIDDEN), expected, rtol=1e-9)
    assert single.score(images, HIDDEN) == pytest.approx(expected.mean(), rel=1e-9)


def test_half_a_digit_is_often_enough_to_classify(digits, generator):
    images, labels = digits
    assert np.mean(generator.classify(images[:300]) == labels[:300]) > 0.95
    half = np.mean(generator.classify(images[:300], HIDDEN, obs_noise=0.02) == labels[:300])
    assert half > 0.9  # 0.96


def test_a_fit_learns_from_visible_pixels_only(digits):
    images = digits[0][:300]
    mask = np.random.default_rng(0).random(images.shape) < 0.3
    settings = {"n_factors": 2, "noise_floor": 1e-2, "max_iter": 20, "tol": 1, "random_state": 0}
    fits = [ImageGenerator(1, **settings).fit(np.where(mask, fill, images), mask=mask) for fill in (0.0, 1.0)]
    np.testing.assert_array_equal(fits[0].mixture_.means_, fits[1].mixture_.means_)
    whole = ImageGenerator(1, **settings).fit(images)
    assert np.abs(fits[0].mixture_.means_ - whole.mixture_.means_).max() < 0.15
    with pytest.raises(ValueError, match="mask needs model='mfa'"):
        ImageGenerator(1, model="full").fit(images, mask=mask)


def test_reconstructions_are_projections(digits, single):
    images = digits[0][:20]
    mixture = single.mixture_
    L, mean = mixture.loadings_[0], mixture.means_[0]
    rows = images.reshape(20, -1)
    factors = np.linalg.solve(mixture.get_covariance(0), L).T @ (rows - mean).T
    expected = np.clip(mean + (L @ factors).T, 0, 1).reshape(images.shape)
    np.testing.assert_allclose(single.reconstruct(images), expected, atol=1e-9)


def test_walks_begin_and_end_with_the_images_as_the_model_sees_them(digits, generator):
    a, b = digits[0][0], digits[0][11]
    walk = generator.interpolate(a, b, 7, obs_noise=0.02)
    assert walk.shape == (7, 8, 8)
    ends = generator.reconstruct(np.stack([a, b]), obs_noise=0.02)
    np.testing.assert_allclose(walk[[0, -1]], ends, atol=1e-12)
    with pytest.raises(ValueError, match="steps must be at least 2, got 1"):
        generator.interpolate(a, b, 1)


def test_the_most_unusual_images_are_those_of_least_density(digits, generator):
    images = digits[0][:200].copy()
    images[17] = np.random.default_rng(0).random((8, 8))
    ranked = generator.most_unusual(images, 200)
    assert ranked[0] == 17
    assert np.all(np.diff(generator.score_samples(images)[ranked]) >= 0)
    np.testing.assert_array_equal(generator.most_unusual(images, 3), ranked[:3])


def test_a_saved_generator_is_the_same_generator(tmp_path, digits, generator, single):
    for name, model in (("labels", generator), ("none", single)):
        path = tmp_path / f"{name}.safetensors"
        model.save(path)
        loaded = ImageGenerator.load(path)
        np.testing.assert_array_equal(loaded.generate(5, random_state=0), model.generate(5, random_state=0))
        np.testing.assert_array_equal(loaded.score_samples(digits[0][:9]), model.score_samples(digits[0][:9]))
        np.testing.assert_array_equal(loaded.classes_, model.classes_)
        np.testing.assert_allclose(loaded.class_prior_, model.class_prior_, rtol=1e-12)
        assert MixtureOfFactorAnalyzers.load(path).score(digits[0][:9].reshape(9, -1)) == pytest.approx(
            model.score(digits[0][:9]), rel=1e-12
        )
    strings = ImageGenerator(1, tol=1, random_state=0).fit(digits[0][:50], labels=np.repeat(["b", "a"], 25))
    strings.save(tmp_path / "strings.safetensors")
    assert ImageGenerator.load(tmp_path / "strings.safetensors").generate(2, label="b", random_state=0).shape == (
        2,
        8,
        8,
    )
    single.mixture_.save(tmp_path / "rows.safetensors")
    with pytest.raises(FormatError, match="holds a 'MixtureOfFactorAnalyzers', not a 'ImageGenerator'"):
        ImageGenerator.load(tmp_path / "rows.safetensors")


def test_small_images_are_enlarged_to_their_expectation(digits):
    """Beside the dense textbook formula, with and without a label."""
    images, labels = digits
    generator = ImageGenerator(2, n_factors=4, noise_floor=1e-2, random_state=0).fit(images, labels=labels)
    small = images[:6].reshape(6, 4, 2, 4, 2).mean(axis=(2, 4)) / 255
    A = block_means((4, 4), (8, 8))
    np.testing.assert_allclose(images[:6].reshape(6, -1) / 255 @ A.T, small.reshape(6, -1), rtol=1e-12)
    for label in (None, generator.classes_[1]):
        found = upscale(generator, small, label=label, obs_noise=0.01)
        p = generator._parameters(label)
        keep = p.weights > 0
        covariances = p.loadings @ p.loadings.transpose(0, 2, 1) + p.noise_variance[:, :, None] * np.eye(64)
        for one, image in zip(small, found, strict=True):
            weights, means, _ = slow.evidence(
                p.weights[keep], p.means[keep], covariances[keep], A, one.ravel(), 0.01 * np.eye(16), list(range(64))
            )
            np.testing.assert_allclose(image.ravel(), np.clip(weights @ means, 0, 1), atol=1e-8)
    with pytest.raises(ValueError, match="not made of whole blocks"):
        upscale(generator, np.zeros((1, 3, 4)))
    with pytest.raises(ValueError, match="obs_noise must be finite and above 0"):
        upscale(generator, small, obs_noise=0)
    with pytest.raises(ValueError, match="label must be one of"):
        upscale(generator, small, label="none")


def test_bad_requests_are_named(digits, generator):
    images = digits[0][:4]
    with pytest.raises(InvalidParameterError, match=r"model must be one of \['diag', 'full', 'mfa'\]"):
        ImageGenerator(model="vae").fit(images)
    for mask in (HIDDEN[:4], HIDDEN.astype(int)):
        with pytest.raises(ValueError, match="mask must be an array of bool of shape"):
            generator.inpaint(images, mask)
    with pytest.raises(ValueError, match="mode must be 'mean' or 'sample'"):
        generator.inpaint(images, HIDDEN, "median")
    with pytest.raises(ValueError, match=r"images have shape \(8, 4\), but fit saw \(8, 8\)"):
        generator.inpaint(images[:, :, :4], HIDDEN[:, :4])
    for temperature, first in ((-1.0, 0), (np.inf, 0), (np.nan, 0), (1.0, -1)):
        with pytest.raises(ValueError, match="temperature and first must be finite and at least 0"):
            generator.generate(1, temperature=temperature, first=first)
    for use in (
        lambda g: g.inpaint(images, HIDDEN),
        lambda g: g.classify(images),
        lambda g: g.reconstruct(images),
        lambda g: g.interpolate(images[0], images[1]),
        lambda g: g.most_unusual(images),
        lambda g: g.save("nowhere"),
    ):
        with pytest.raises(NotFittedError, match="not fitted"):
            use(ImageGenerator())
