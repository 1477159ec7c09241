"""Every transform: exact inverses, log-determinants, densities of the original rows, and errors with their place."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fastgmm.exceptions import NotFittedError
from fastgmm.representation import (
    PCA,
    Chain,
    Dequantisation,
    OpponentColour,
    Scaling,
    Standardisation,
    bits_per_dimension,
)
from fastgmm.representation import transform as transform_module


def make_bijections():
    """Transforms without loss of rows of six columns in [0, 255]."""
    return {
        "scaling": Scaling(),
        "scaling of a given range": Scaling(-10, 300),
        "standardisation": Standardisation(),
        "pca": PCA(6),
        "whitening": PCA(6, whiten=True),
        "colour": OpponentColour(),
        "chain": Chain([Scaling(), OpponentColour(), Standardisation(), PCA(6, whiten=True)]),
    }


@pytest.fixture(name="X")
def make_rows():
    rng = np.random.default_rng(0)
    return np.clip(120 + 30 * rng.standard_normal((300, 6)) @ rng.uniform(-0.5, 0.5, (6, 6)), 0, 255)


@pytest.fixture(name="pixels")
def make_pixels():
    return np.random.default_rng(1).integers(256, size=(200, 6)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", make_bijections())
def test_inverse_gives_the_rows_back_in_their_dtype(X, name, dtype):
    X = X.astype(dtype)
    transform = make_bijections()[name].fit(X)
    Z = transform.transform(X)
    back = transform.inverse_transform(Z)
    assert Z.dtype == back.dtype == dtype
    assert transform.log_abs_det(X).dtype == np.float64
    np.testing.assert_allclose(back, X, rtol=0, atol=255 * 8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", make_bijections())
def test_log_abs_det_is_that_of_the_jacobian(X, name):
    transform = make_bijections()[name].fit(X)
    for x, log_abs_det in zip(X[:3], transform.log_abs_det(X[:3]), strict=True):
        step = 0.5 * np.eye(6)
        jacobian = transform.transform(x + step) - transform.transform(x - step)
        assert log_abs_det == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-9)


@pytest.mark.parametrize("name", make_bijections())
def test_neither_blocks_nor_memory_layout_change_the_result(X, name, monkeypatch):
    transform = make_bijections()[name].fit(X)
    Z, log_abs_det, back = transform.transform(X), transform.log_abs_det(X), transform.inverse_transform(X)
    monkeypatch.setattr(transform_module, "BLOCK_BYTES", 7 * 6 * 8)
    for rows in (X, np.asfortranarray(X)):
        np.testing.assert_allclose(transform.transform(rows), Z, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(transform.log_abs_det(rows), log_abs_det, rtol=1e-12)
        np.testing.assert_allclose(transform.inverse_transform(rows), back, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [1, 4, 6])
def test_normal_density_through_a_chain_is_the_normal_density_of_the_rows(X, n_components, whiten):
    chain = Chain([Scaling(), OpponentColour(), PCA(n_components, whiten=whiten)]).fit(X)
    Z = chain.transform(X)
    log_prob = multivariate_normal(Z.mean(axis=0), np.cov(Z.T, bias=True)).logpdf(Z) + chain.log_abs_det(X)

    # Scaling and rotation stretch all directions alike, so the model is probabilistic PCA of the rows themselves.
    eigenvalues, eigenvectors = np.linalg.eigh(np.cov(X.T, bias=True))
    if n_components < 6:
        eigenvalues[: 6 - n_components] = eigenvalues[: 6 - n_components].mean()
    dense = multivariate_normal(X.mean(axis=0), eigenvectors * eigenvalues @ eigenvectors.T)
    np.testing.assert_allclose(log_prob, dense.logpdf(X), rtol=1e-10)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [1, 2])
def test_density_of_the_rows_integrates_to_one(n_components, whiten):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((500, 2)) @ [[3.0, 1.0], [0.0, 0.5]] + [4.0, -2.0]
    chain = Chain([Standardisation(), PCA(n_components, whiten=whiten)]).fit(X)
    axes = [np.linspace(m - 9 * s, m + 9 * s, 400) for m, s in zip(X.mean(axis=0), X.std(axis=0), strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    log_prob = multivariate_normal(np.full(n_components, 0.3), 0.5).logpdf(chain.transform(grid))
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(log_prob + chain.log_abs_det(grid)).sum() * cell == pytest.approx(1, rel=1e-6)


def test_constant_column_is_only_shifted():
    X = np.column_stack([np.arange(5.0), np.full(5, 0.1)])
    standardisation = Standardisation().fit(X)
    Z = standardisation.transform(X)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(Z.std(axis=0), [1, 0], rtol=1e-15)
    np.testing.assert_array_equal(standardisation.scale_, [np.sqrt(2), 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("levels", [2, 10, 255, 256])
def test_every_pixel_value_survives_dequantisation(levels, dtype):
    pixels = np.tile(np.arange(levels, dtype=dtype), (1000, 1))
    dequantisation = Dequantisation(levels, random_state=0).fit(pixels)
    Z = dequantisation.transform(pixels)
    assert Z.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert Z.min() > 0
    assert Z.max() < 1
    back = dequantisation.inverse_transform(Z)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [3, 255, 1000])
def test_noise_next_to_the_edge_of_a_cell_does_not_cross_it(levels, dtype, monkeypatch):
    class Edges:
        def integers(self, high):
            return 0

        def uniform(self, low, high, shape):
            return np.where(np.arange(shape[0])[:, None] == 0, low, high) * np.ones(shape)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Edges())
    pixels = np.tile(np.arange(levels, dtype=dtype), (2, 1))
    dequantisation = Dequantisation(levels).fit(pixels)
    np.testing.assert_array_equal(dequantisation.inverse_transform(dequantisation.transform(pixels)), pixels)


def test_more_levels_than_a_byte_holds(pixels):
    wide = pixels.astype(np.int64) * 257
    dequantisation = Dequantisation(65536, random_state=0).fit(wide)
    back = dequantisation.inverse_transform(dequantisation.transform(wide))
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, wide)
    with pytest.raises(ValueError, match="float32 is too coarse for 1000000 levels; pass integers or float64"):
        Dequantisation(10**6).fit(wide).transform(wide.astype(np.float32))


def test_noise_is_uniform_within_the_cells():
    Z = Dequantisation(4, random_state=0).fit(np.zeros((1, 1))).transform(np.full((100_000, 1), 2))
    u = np.sort(4 * Z[:, 0] - 2)
    assert np.abs(u - (np.arange(100_000) + 0.5) / 100_000).max() < 1.63 / np.sqrt(100_000)  # Kolmogorov, 1 %


def test_same_seed_gives_the_same_noise(pixels, monkeypatch):
    first, second = (Dequantisation(random_state=3).fit(pixels).transform(pixels) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (Dequantisation(random_state=4).fit(pixels).transform(pixels) != first).any()
    monkeypatch.setattr(transform_module, "BLOCK_BYTES", 7 * 6 * 8)
    np.testing.assert_array_equal(Dequantisation(random_state=3).fit(pixels).transform(pixels), first)


def test_unseeded_noise_changes_with_fit_only(pixels):
    """Or the density of a chain would be assembled from two different draws of the same row."""
    dequantisation = Dequantisation()
    first = dequantisation.fit(pixels).transform(pixels)
    np.testing.assert_array_equal(dequantisation.transform(pixels), first)
    assert (dequantisation.fit(pixels).transform(pixels) != first).any()

    chain = Chain([dequantisation, PCA(2)]).fit(pixels)
    by_hand = dequantisation.log_abs_det(pixels) + chain.transforms[1].log_abs_det(dequantisation.transform(pixels))
    np.testing.assert_array_equal(chain.log_abs_det(pixels), by_hand)


def test_generator_as_seed_moves_on(pixels):
    rng = np.random.default_rng(5)
    first, second = (Dequantisation(random_state=rng).fit(pixels).transform(pixels) for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("levels", [2, 10, 256])
def test_uniform_density_of_uniform_pixels_takes_log2_levels_bits(levels):
    pixels = np.random.default_rng(0).integers(levels, size=(50, 7))
    log_prob = np.zeros(50)  # the uniform density on the unit cube
    np.testing.assert_array_equal(bits_per_dimension(log_prob, 7, levels), np.full(50, np.log2(levels)))
    of_pixels = log_prob + Dequantisation(levels).fit(pixels).log_abs_det(pixels)
    np.testing.assert_allclose(bits_per_dimension(of_pixels, 7, levels=1), np.log2(levels), rtol=1e-15)


def test_density_constant_in_each_cell_takes_the_entropy():
    probability = np.array([0.5, 0.25, 0.125, 0.125])
    pixels = np.repeat([0, 1, 2, 3], [4, 2, 1, 1])[:, np.newaxis]  # in just these proportions: 1.75 bits
    dequantisation = Dequantisation(4, random_state=0).fit(pixels)
    Z = dequantisation.transform(pixels)
    log_prob = np.log(4 * probability[dequantisation.inverse_transform(Z)[:, 0]])
    np.testing.assert_allclose(log_prob + dequantisation.log_abs_det(pixels), np.log(probability[pixels[:, 0]]))
    assert bits_per_dimension(log_prob.mean(), 1, levels=4) == pytest.approx(1.75, rel=1e-14)


def test_bits_of_a_number_are_a_number():
    assert type(bits_per_dimension(np.float32(10.0), 4)) is float
    assert bits_per_dimension([[1.0, 2.0]], 4).shape == (1, 2)
    assert bits_per_dimension(784 * np.log(2), 784) == pytest.approx(7)
    for arguments in ((0.0, 0), (0.0, 4, 0)):
        with pytest.raises(ValueError, match="must be at least 1, got"):
            bits_per_dimension(*arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_images_and_rows_turn_the_same_way(dtype):
    images = np.random.default_rng(0).integers(256, size=(4, 5, 3, 3)).astype(dtype)
    rows = images.reshape(4, 45)
    colour = OpponentColour().fit(images)
    Z = colour.transform(images)
    assert Z.shape == images.shape
    np.testing.assert_array_equal(Z.reshape(4, 45), colour.transform(rows))
    np.testing.assert_allclose(Z[..., 0], images.sum(axis=3, dtype=float) / np.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose(colour.inverse_transform(Z), images, atol=1e-4)
    np.testing.assert_array_equal(colour.log_abs_det(images), np.zeros(4))


def test_grey_has_no_colour():
    Z = OpponentColour().fit(np.ones((1, 3))).transform([[0.2, 0.2, 0.2], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(Z[0], [0.2 * np.sqrt(3), 0, 0], atol=1e-16)
    np.testing.assert_allclose(Z[1], 1 / np.sqrt([3, 2, 6]), rtol=1e-15)


def test_draws_outside_the_range_become_the_nearest_pixel():
    dequantisation = Dequantisation(10).fit([[0]])
    np.testing.assert_array_equal(dequantisation.inverse_transform([[-0.5], [1.0], [np.inf]]), [[0], [9], [9]])
    assert Scaling().fit([[0]]).inverse_transform([[1.2]]) == pytest.approx(306)
    with pytest.raises(ValueError, match="Z is NaN in row 1, column 0"):
        dequantisation.inverse_transform([[0.5], [np.nan]])


@pytest.mark.parametrize("make", [Scaling, Standardisation, Dequantisation, lambda: PCA(2), OpponentColour])
def test_misuse_is_named(X, make):
    transform = make()
    name = type(transform).__name__
    for method in (transform.transform, transform.inverse_transform, transform.log_abs_det):
        with pytest.raises(NotFittedError, match=rf"{name} is not fitted yet; call fit\(X\) first"):
            method(X)
    with pytest.raises(ValueError, match=r"X must have shape .*, got \(6,\)"):
        transform.fit(X[0])
    with pytest.raises(TypeError, match="X must hold real numbers, got dtype complex128; convert it"):
        transform.fit(X * 1j)
    transform.fit(X)
    for method in (transform.transform, transform.log_abs_det):
        with pytest.raises(ValueError, match=f"X has 3 features, but {name} was fitted with 6"):
            method(X[:, :3])
    with pytest.raises(ValueError, match=f"Z has 3 features, but {name}.transform gives [26]"):
        transform.inverse_transform(X[:, :3])


def test_values_out_of_range_are_named(X, pixels, monkeypatch):
    monkeypatch.setattr(transform_module, "BLOCK_BYTES", 7 * 6 * 8)
    for value, shown in ((255.5, "255.5"), (-1, "-1"), (np.nan, "nan")):
        wrong = X.copy()
        wrong[17, 3] = value
        with pytest.raises(ValueError, match=f"from 0 to 255, but row 17, column 3 holds {shown}; correct"):
            Scaling().fit(X).transform(wrong)
        with pytest.raises(ValueError, match=r"from 0 to 9, but row 0, column \d holds \d+; pass the original pixels"):
            Dequantisation(10).fit(pixels).transform(pixels)
    wrong = pixels / 2
    wrong[:17] = 1
    wrong[17] = [1, 1, 0.5, 0.5, 1, 1]
    with pytest.raises(ValueError, match=r"whole numbers, but row 17, column 2 holds 0\.5; pass the original"):
        Dequantisation().fit(wrong).transform(wrong)
    X[17, 3] = np.inf
    with pytest.raises(ValueError, match="X is not finite in row 17, column 3; remove or impute it"):
        Standardisation().fit(X)


def test_bad_parameters_are_named(X):
    with pytest.raises(ValueError, match="low must be below high, both finite, got 1 and 1"):
        Scaling(1, 1).fit(X)
    for levels in (1, 2.5, None):
        with pytest.raises(ValueError, match=f"levels must be an int of at least 2, got {levels}"):
            Dequantisation(levels).fit(X)
    with pytest.raises(ValueError, match="a Chain needs at least one"):
        Chain([])
    with pytest.raises(ValueError, match="3 channels for each pixel, got 5 columns"):
        OpponentColour().fit(X[:, :5])
    with pytest.raises(ValueError, match="X has no rows; fit needs at least 1"):
        Standardisation().fit(X[:0])
