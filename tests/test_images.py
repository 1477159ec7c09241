"""The image generator: its density, its samples, its contact sheets, and what it refuses."""

import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from fastgmm.datasets import load_digits
from fastgmm.exceptions import ConvergenceWarning, FewRowsWarning, NotFittedError
from fastgmm.images import ImageGenerator, image_grid, save_grid
from fastgmm.images.pixels import to_rows
from fastgmm.representation import PCA


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def labelled(digits):
    return ImageGenerator(n_components=2, random_state=0).fit(digits[0], labels=digits[1])


@pytest.fixture(scope="module")
def unlabelled(digits):
    return ImageGenerator(random_state=0, model="diag").fit(digits[0], num_classes=3)


def dense_log_prob(generator, images):
    """The mixture written out over all pixels: one dense covariance per component, SciPy's normal density."""
    mixture = generator.mixture_
    terms = [
        np.log(weight) + multivariate_normal(mean, mixture.get_covariance(k)).logpdf(images.reshape(len(images), -1))
        for k, (weight, mean) in enumerate(zip(mixture.weights_, mixture.means_, strict=True))
    ]
    return logsumexp(terms, axis=0)


def projected_log_prob(images, labels, covariance_type):
    """What a generator with one component per label should score: PCA, a Gaussian per label, and isotropic noise."""
    pca = PCA(20).fit(images.reshape(len(images), -1))
    W = pca.components_.T
    noise = pca.noise_variance_ * (np.eye(len(W)) - W @ W.T)
    Z, terms = pca.transform(images.reshape(len(images), -1)), []
    for label in np.unique(labels):
        members = Z[labels == label]
        covariance = np.cov(members, rowvar=False, bias=True) + 3e-3 * np.eye(20)
        if covariance_type == "diag":
            covariance = np.diag(np.diag(covariance))
        normal = multivariate_normal(pca.mean_ + W @ members.mean(axis=0), W @ covariance @ W.T + noise)
        terms.append(np.log((labels == label).mean()) + normal.logpdf(images.reshape(len(images), -1)))
    return logsumexp(terms, axis=0)


@pytest.mark.parametrize("model", ["mfa", "full", "diag"])
def test_score_is_the_exact_density_of_the_pixels(digits, model):
    images, labels = digits
    generator = ImageGenerator(2, model=model, pca_components=20, tol=1, random_state=0)
    few = labels < 3
    for fitted in (generator.fit(images[few], labels=labels[few]), generator.fit(images[few])):
        np.testing.assert_allclose(fitted.score_samples(images[:50]), dense_log_prob(fitted, images[:50]), rtol=1e-9)


@pytest.mark.parametrize("model", ["full", "diag"])
def test_projected_models_become_the_same_density_of_pixels(digits, model):
    images, labels = digits[0][digits[1] < 3], digits[1][digits[1] < 3]
    generator = ImageGenerator(1, model=model, pca_components=20, random_state=0).fit(images, labels=labels)
    expected = projected_log_prob(images, labels, model)
    np.testing.assert_allclose(generator.score_samples(images), expected, rtol=1e-8)


def test_held_out_digits_score_better_than_under_one_gaussian(digits):
    images, labels = digits
    train, held_out = slice(0, 1400), slice(1400, None)
    single = ImageGenerator(n_components=1, random_state=0).fit(images[train])
    by_label = ImageGenerator(n_components=2, random_state=0).fit(images[train], labels=labels[train])
    assert by_label.score(images[held_out]) > single.score(images[held_out]) + 5


def test_generated_digits_are_recognised_as_the_asked_digit(digits, labelled):
    # The judge has seen real digits only and errs on about 1 % of new real ones.
    images, labels = digits
    generated = np.concatenate([labelled.generate(50, label=c, random_state=c) for c in range(10)])
    asked = np.repeat(np.arange(10), 50)
    distances = ((generated[:, np.newaxis] - images) ** 2).sum(axis=(2, 3))
    assert (labels[distances.argmin(axis=1)] == asked).mean() > 0.95


def test_generated_images_are_valid_and_follow_the_seed(labelled):
    images = labelled.generate(7, random_state=3)
    assert images.shape == (7, 8, 8)
    assert images.dtype == np.float64
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images, labelled.generate(7, random_state=3))
    assert not np.array_equal(images, labelled.generate(7, random_state=4))
    assert not np.array_equal(labelled.generate(7), labelled.generate(7))


def test_labels_are_drawn_by_their_frequency(digits):
    images, labels = digits
    few = np.flatnonzero((labels == 0) | (labels == 1))[:200]
    few = few[(labels[few] == 0) | (np.arange(len(few)) % 4 == 0)]
    names = np.array(["zero", "one"])[labels[few]]
    generator = ImageGenerator(1, random_state=0).fit(images[few], labels=names)
    assert generator.classes_.tolist() == ["one", "zero"]
    np.testing.assert_allclose(generator.class_prior_, [(names == "one").mean(), (names == "zero").mean()])
    centres = np.array([images[labels == c].mean(axis=0) for c in (0, 1)])
    drawn = generator.generate(1000, random_state=0)
    zeros = ((drawn[:, np.newaxis] - centres) ** 2).sum(axis=(2, 3)).argmin(axis=1) == 0
    share = (names == "zero").mean()
    assert abs(zeros.mean() - share) < 5 * np.sqrt(share * (1 - share) / 1000)
    # Random order: the first half looks like the second.
    assert abs(zeros[:500].mean() - zeros[500:].mean()) < 5 * np.sqrt(4 * share * (1 - share) / 1000)


def test_without_labels_a_label_is_a_component(unlabelled):
    assert unlabelled.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(unlabelled.class_prior_, unlabelled.mixture_.weights_)
    for label in range(3):
        centre = unlabelled.generate(200, label=label, random_state=0).reshape(200, -1).mean(axis=0)
        distances = np.linalg.norm(unlabelled.mixture_.means_ - centre, axis=1)
        assert distances.argmin() == label


@pytest.mark.parametrize("model", ["mfa", "full"])
def test_generated_images_have_the_moments_of_the_model(digits, model):
    images = 0.3 + 0.4 * digits[0]  # far from 0 and 1, so that little is clipped
    generator = ImageGenerator(1, model=model, pca_components=10, random_state=0).fit(images)
    mixture = generator.mixture_
    signal = mixture.loadings_[0] @ mixture.loadings_[0].T
    noise = np.diag(mixture.noise_variance_[0])
    for wanted, settings in (
        (signal + noise, {"noise": True}),
        (signal, {}),
        (0.25 * signal, {"temperature": 0.25}),
    ):
        rows = generator.generate(4000, random_state=0, **settings).reshape(4000, -1)
        # Five standard errors of a covariance of 4,000 normal rows, and a little for clipping.
        bound = 5 * np.sqrt(2 / 4000) * np.diag(wanted).max() + 1e-3 * np.diag(wanted).max()
        assert np.abs(np.cov(rows, rowvar=False) - wanted).max() < bound
    still = generator.generate(3, random_state=0, temperature=0).reshape(3, -1)
    np.testing.assert_allclose(still, np.broadcast_to(mixture.means_, still.shape), atol=1e-15)


def test_every_image_can_be_drawn_on_its_own(labelled):
    for settings in ({}, {"noise": True}, {"label": 3, "temperature": 0.5}):
        together = labelled.generate(300, random_state=3, **settings)
        for first, size in ((0, 1), (63, 2), (64, 64), (100, 137), (299, 1)):
            part = labelled.generate(size, random_state=3, first=first, **settings)
            np.testing.assert_array_equal(part, together[first : first + size])


def test_too_few_iterations_are_reported(digits):
    with pytest.warns(ConvergenceWarning, match="did not converge in 1 iterations"):
        ImageGenerator(2, max_iter=1, random_state=0).fit(digits[0])


def test_bytes_are_read_as_draws_from_their_cells(digits):
    counts = np.rint(digits[0][:300] * 255).astype(np.uint8)
    rows = to_rows(counts)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(np.floor(rows * 256), counts.reshape(300, -1))
    np.testing.assert_array_equal(rows, to_rows(counts))
    assert abs((rows * 256 - counts.reshape(300, -1)).mean() - 0.5) < 5 / np.sqrt(12 * rows.size)
    generator = ImageGenerator(2, random_state=0).fit(counts)
    spread = rows.reshape(counts.shape)
    np.testing.assert_array_equal(generator.score_samples(counts), generator.score_samples(spread))
    bits = 8 - generator.score(counts) / (64 * np.log(2))
    assert generator.bits_per_dim(counts) == pytest.approx(bits, rel=1e-12)


def test_colour_images_keep_their_shape(digits):
    colour = np.stack([digits[0], digits[0] ** 2, 1 - digits[0]], axis=3)[:300]
    generator = ImageGenerator(2, tol=0.1, random_state=0).fit(colour)
    assert generator.generate(4, random_state=0).shape == (4, 8, 8, 3)
    assert np.isfinite(generator.score(colour))


@pytest.mark.parametrize(
    ("change", "error", "cause"),
    [
        (lambda x: x[0], ValueError, r"must have shape .* got \(8, 8\)"),
        (lambda x: x[:0], ValueError, r"none of them 0, got \(0, 8, 8\)"),
        (lambda x: x * 16, ValueError, r"must lie in \[0, 1\], but image 0 holds .* pass uint8"),
        (lambda x: np.where(np.arange(50)[:, None, None] == 7, np.nan, x), ValueError, "image 7 holds nan"),
        (lambda x: (x * 16).astype(int), TypeError, "uint8 or floats in .* got int64; divide"),
        (lambda x: x.astype(str), TypeError, "uint8 or floats"),
    ],
)
def test_bad_images_are_named(digits, change, error, cause):
    with pytest.raises(error, match=cause):
        ImageGenerator(2).fit(change(digits[0][:50]))


def test_bad_labels_are_named(digits):
    images, labels = digits[0][:50], digits[1][:50]
    with pytest.raises(ValueError, match=r"labels must have shape \(50,\), one per image, got \(49,\)"):
        ImageGenerator(2).fit(images, labels=labels[:49])
    with pytest.raises(ValueError, match="2 images of label 77 are too few for 3 components"):
        ImageGenerator(3).fit(images, labels=np.where(np.arange(50) < 2, 77, 1))
    labels = np.where(np.arange(50) == 3, 77, 1)
    with pytest.raises(ValueError, match="one image of label 77 has no distribution to learn; give more images of it"):
        ImageGenerator(2).fit(images, labels=labels)
    with pytest.raises(ValueError, match="50 images are too few for 60 components"):
        ImageGenerator().fit(images, num_classes=60)


def test_too_few_images_are_said_to_be_learned_by_heart(digits):
    images, labels = digits[0][:40], np.repeat([1, 2], 20)
    for settings, words in (((2,), "20 images for each component"), ((1,), None)):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            ImageGenerator(*settings, n_factors=6, max_iter=2).fit(images)
        found = [str(w.message) for w in seen if w.category is FewRowsWarning]
        assert (len(found) == 1 and words in found[0] and "21 or more" in found[0]) if words else not found
    with pytest.warns(FewRowsWarning, match="20 images of label 1 for each component"):
        ImageGenerator(1, max_iter=2, tol=1e6).fit(images, labels=labels)


def test_bad_requests_are_named(labelled, digits):
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        labelled.generate(0)
    with pytest.raises(ValueError, match=r"label must be one of \[0, 1, .* got 11"):
        labelled.generate(1, label=11)
    with pytest.raises(ValueError, match=r"images have shape \(8, 4\), but fit saw \(8, 8\)"):
        labelled.score(digits[0][:, :, :4])
    for method in (lambda g: g.generate(1), lambda g: g.score(digits[0])):
        with pytest.raises(NotFittedError, match="not fitted"):
            method(ImageGenerator())


def test_grid_places_every_image():
    images = np.arange(5)[:, np.newaxis, np.newaxis] / 5 * np.ones((5, 2, 3))
    grid = image_grid(images, n_columns=2, padding=1, scale=2)
    assert grid.shape == (2 * (3 * 3 + 1), 2 * (2 * 4 + 1))
    assert grid.dtype == np.uint8
    for i, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]):
        top, left = 2 * (1 + 3 * row), 2 * (1 + 4 * column)
        assert (grid[top : top + 4, left : left + 6] == 51 * i).all()
    gap = grid[0, 0]
    assert (grid[:2] == gap).all()
    assert (grid[14:, 10:] == gap).all()


def test_grid_of_colour_images_is_a_colour_image():
    images = np.zeros((3, 2, 2, 3))
    images[..., 0] = 1
    grid = image_grid(images, padding=0, scale=1, n_columns=3)
    np.testing.assert_array_equal(grid, np.broadcast_to(np.array([255, 0, 0], np.uint8), (2, 6, 3)))
    np.testing.assert_array_equal(image_grid(images[..., :1]), image_grid(images[..., 0]))


def test_bad_grids_are_named():
    with pytest.raises(ValueError, match="1 or 3 channels to be shown, got 2"):
        image_grid(np.zeros((3, 2, 2, 2)))
    with pytest.raises(ValueError, match=r"must be at least 1, 1, 0, got 0, 4, 1"):
        image_grid(np.zeros((3, 2, 2)), n_columns=0)


def test_saved_grid_is_the_grid(tmp_path):
    images = np.random.default_rng(0).random((7, 4, 4))
    save_grid(tmp_path / "grid.png", images, n_columns=3)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), image_grid(images, n_columns=3))


def test_titled_grids_stand_side_by_side(tmp_path):
    images = np.random.default_rng(0).random((2, 4, 4))
    save_grid(tmp_path / "grid.png", {"one": images, "two": images[:1]}, scale=10)
    with Image.open(tmp_path / "grid.png") as picture:
        shown = np.asarray(picture)[..., 0]
    for part in (image_grid(images, scale=10), image_grid(images[:1], scale=10)):
        windows = np.lib.stride_tricks.sliding_window_view(shown, part.shape)
        assert (windows == part).all(axis=(2, 3)).sum() >= 1
    assert (shown[:24] < 128).any()  # the titles


def test_generator_writes_a_sheet_of_its_images(tmp_path, labelled):
    labelled.save_grid(tmp_path / "new.png", random_state=0)
    save_grid(tmp_path / "same.png", labelled.generate(100, random_state=0))
    assert (tmp_path / "new.png").read_bytes() == (tmp_path / "same.png").read_bytes()


def test_failed_picture_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_grid(tmp_path / "grid.png", np.zeros((1, 2, 2)))
    assert list(tmp_path.iterdir()) == []


def test_missing_pillow_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'fastgmm\[images\]'"):
        save_grid(tmp_path / "grid.png", np.zeros((1, 2, 2)))
