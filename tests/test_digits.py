"""What the image models must reach on real digits: 4,000 to learn from, 1,000 held out (benchmarks/README.md)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.ndimage import zoom

from benchmarks import numpy_factor_mixture as numpy_mixture
from fastgmm import MixtureOfFactorAnalyzers, metrics
from fastgmm.images import ImageGenerator, upscale
from fastgmm.images.pixels import to_rows

SETTINGS = {"max_iter": 12, "tol": 0, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::fastgmm.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def rows(mnist):
    return tuple(to_rows(images) for images, _ in mnist)


@pytest.fixture(scope="module")
def generator(mnist):
    """Many factors, which samples need to vary as digits do."""
    return ImageGenerator(40, n_factors=25, noise_floor=1e-4, **SETTINGS).fit(mnist[0][0])


@pytest.fixture(scope="module")
def by_class(mnist):
    return ImageGenerator(3, n_factors=15, noise_floor=5e-2, **SETTINGS).fit(mnist[0][0], labels=mnist[0][1])


def test_held_out_digits_are_no_less_likely_than_under_numpys_fit(rows):
    train, held_out = rows
    ours = [MixtureOfFactorAnalyzers(50, 6, noise_floor=1e-4, **SETTINGS | {"random_state": s}) for s in range(2)]
    theirs = [numpy_mixture.fit(train, 50, 6, n_iter=12, floor=1e-4, seed=seed) for seed in range(2)]
    score = np.mean([mixture.fit(train).score(held_out) for mixture in ours])
    expected = np.mean([mixture.log_density(held_out).mean() for mixture in theirs])
    assert score > expected - 40  # the spread of one start


def test_stacked_noise_levels_take_a_bit_per_pixel_off(rows):
    train, held_out = rows
    sharp = MixtureOfFactorAnalyzers(50, 6, noise_floor=1e-6, **SETTINGS).fit(train[:3200])
    stack = MixtureOfFactorAnalyzers.stack([sharp], train[3200:], (0.0, 1e-5, 1e-4, 1e-3, 1e-2))
    usual = MixtureOfFactorAnalyzers(50, 6, noise_floor=1e-5, noise_prior="auto", **SETTINGS).fit(train)
    bits = [metrics.bits_per_dimension(float(m.score(held_out)), 784) for m in (stack, usual)]
    assert bits[0] < 4.1  # 3.97; one Gaussian has 5.77
    assert bits[1] < 5.2  # 5.07


def test_generated_digits_vary_as_digits_do(generator, mnist):
    (train, _), (held_out, labels) = mnist
    drawn = generator.generate(4000, random_state=2)
    report = metrics.evaluate(drawn[:1000], train / 255.0, held_out / 255.0)
    assert report["recall"].value >= 0.45
    assert report["coverage"].value >= 0.95
    assert report["two_sample_accuracy"].value <= 0.70
    assert report["memorised_share"].value <= report["memorised_share"].baseline
    bins = metrics.Bins(50).fit(train / 255.0)
    divergence = metrics.jensen_shannon(bins, drawn, held_out / 255.0).value
    without = [metrics.jensen_shannon(bins, held_out[labels != c] / 255.0, held_out / 255.0).value for c in range(10)]
    assert divergence <= 0.5 * np.mean(without)


def test_the_hidden_half_is_completed_better_than_by_one_gaussian(mnist, rows):
    hidden = np.zeros((28, 28), bool)
    hidden[:, 14:] = True
    flat, (train, held_out) = hidden.ravel(), rows
    completer = ImageGenerator(20, n_factors=40, noise_floor=2e-2, **SETTINGS).fit(mnist[0][0])
    truth = held_out[:, flat]

    def error(completed):
        return float(np.square(np.clip(completed, 0, 1) - truth).mean())

    ours = error(completer.inpaint(mnist[1][0], hidden, obs_noise=0.2)[:, hidden])
    nearest = [np.square(train[:, ~flat] - x[~flat]).sum(axis=1).argmin() for x in held_out]
    assert ours < 0.7 * error(np.broadcast_to(train[:, flat].mean(axis=0), truth.shape))
    assert ours < 0.7 * error(train[nearest][:, flat])
    gaussians = [numpy_mixture.fit_gaussian(train.astype(np.float64), ridge) for ridge in (1e-3, 1e-2)]
    assert ours < 0.95 * min(error(gaussian.inpaint(held_out, flat)[:, flat]) for gaussian in gaussians)


def test_small_digits_are_enlarged_better_than_by_splines(mnist):
    """Held-out digits of 7 x 7 pixels: a mean squared error of at most 0.021, where bicubic splines have 0.035."""
    held_out = mnist[1][0][:500] / 255
    model = ImageGenerator(20, n_factors=40, noise_floor=0.01, **SETTINGS).fit(mnist[0][0])
    small = held_out.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))
    error = ((upscale(model, small) - held_out) ** 2).mean()
    bicubic = np.stack([zoom(image, 4, order=3, mode="grid-constant", grid_mode=True) for image in small])
    assert error <= 0.021
    assert ((np.clip(bicubic, 0, 1) - held_out) ** 2).mean() > 0.034


def test_digits_are_classified(by_class, mnist):
    (_, _), (held_out, labels) = mnist
    assert np.mean(by_class.classify(held_out) == labels) >= 0.955


def test_generated_digits_are_of_the_class_asked_for(by_class, mnist):
    from scipy.stats import multivariate_normal

    from fastgmm.representation import PCA

    (train, labels), _ = mnist
    pixels = (train / 255.0).reshape(len(train), -1)
    pca = PCA(50).fit(pixels)
    Z, judges = pca.transform(pixels), []
    for c in range(10):
        covariance = np.cov(Z[labels == c], rowvar=False)
        ridge = 0.01 * np.trace(covariance) / 50 * np.eye(50)
        judges.append(multivariate_normal(Z[labels == c].mean(axis=0), covariance + ridge))
    drawn = np.concatenate([by_class.generate(50, label=c, random_state=c) for c in range(10)])
    scores = [judge.logpdf(pca.transform(drawn.reshape(500, -1))) for judge in judges]
    assert np.mean(np.argmax(scores, axis=0) == np.repeat(np.arange(10), 50)) >= 0.95


def test_half_of_the_pixels_are_enough_to_learn_from(rows):
    train, held_out = rows[0][::3], rows[1]  # all of them take 78 s with 20 components
    gaps = np.where(np.random.default_rng(0).random(train.shape) < 0.5, np.nan, train).astype(np.float32)
    settings = {"noise_floor": 1e-3, "noise_prior": "auto", **SETTINGS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        full = MixtureOfFactorAnalyzers(8, 6, **settings).fit(train).score(held_out)
        half = MixtureOfFactorAnalyzers(8, 6, missing="em", **settings).fit(gaps).score(held_out)
    assert half > 0.85 * full
