"""PCA: the directions, the exact change of variables, and degenerate columns."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fastgmm.representation import PCA
from fastgmm.representation import transform as transform_module


@pytest.fixture(name="X")
def make_rows():
    rng = np.random.default_rng(0)
    return 50 + rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6)) * [5, 3, 2, 1, 0.5, 0.1]


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [1, 4, 6])
def test_density_of_the_rows_is_that_of_a_dense_normal(X, n_components, whiten):
    pca = PCA(n_components, whiten=whiten).fit(X)
    Z = pca.transform(X)
    latent = multivariate_normal(Z.mean(axis=0), np.cov(Z.T, bias=True))
    log_prob = latent.logpdf(Z) + pca.log_abs_det(X)

    eigenvalues, eigenvectors = np.linalg.eigh(np.cov(X.T, bias=True))
    if n_components < 6:
        eigenvalues[: 6 - n_components] = eigenvalues[: 6 - n_components].mean()
    dense = multivariate_normal(X.mean(axis=0), eigenvectors * eigenvalues @ eigenvectors.T)
    np.testing.assert_allclose(log_prob, dense.logpdf(X), rtol=1e-10)


@pytest.mark.parametrize("whiten", [False, True])
def test_all_directions_kept_means_an_exact_inverse(X, whiten):
    pca = PCA(6, whiten=whiten).fit(X)
    np.testing.assert_allclose(pca.inverse_transform(pca.transform(X)), X, rtol=1e-12)
    assert pca.noise_variance_ == 0


def test_reconstruction_error_is_the_discarded_variance(X):
    pca = PCA(2).fit(X)
    residual = X - pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose((residual**2).sum(axis=1).mean(), 4 * pca.noise_variance_, rtol=1e-10)


def test_whitened_coordinates_have_unit_covariance(X):
    Z = PCA(4, whiten=True).fit(X).transform(X)
    np.testing.assert_allclose(np.cov(Z.T, bias=True), np.eye(4), atol=1e-12)


def test_directions_are_orthonormal_with_a_fixed_sign(X):
    components = PCA(4).fit(X).components_
    np.testing.assert_allclose(components @ components.T, np.eye(4), atol=1e-14)
    assert (components[np.arange(4), np.abs(components).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_share_of_variance_keeps_the_fewest_directions_that_reach_it(X, share):
    pca = PCA(share).fit(X)
    variances = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    reached = np.cumsum(variances) / variances.sum()
    assert pca.n_components_ == np.flatnonzero(reached >= share)[0] + 1


def test_blocks_do_not_change_the_result(X, monkeypatch):
    whole = PCA(3, whiten=True).fit(X)
    monkeypatch.setattr(transform_module, "BLOCK_BYTES", 7 * 6 * 8)
    blocked = PCA(3, whiten=True).fit(X)
    np.testing.assert_allclose(blocked.transform(X), whole.transform(X), rtol=1e-9)
    np.testing.assert_allclose(blocked.log_abs_det(X), whole.log_abs_det(X), rtol=1e-9)


def test_common_offset_does_not_change_the_directions(X):
    shifted = PCA(3).fit(X + 1e8)
    np.testing.assert_allclose(shifted.components_, PCA(3).fit(X).components_, atol=1e-6)
    np.testing.assert_allclose(shifted.explained_variance_, PCA(3).fit(X).explained_variance_, rtol=1e-6)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [4, 6, 7])
def test_constant_columns_leave_the_density_finite(X, n_components, whiten):
    X = np.column_stack([X, np.full((len(X), 2), 0.1)])
    pca = PCA(n_components, whiten=whiten).fit(X)
    floor = 1e-6 * X.var(axis=0).mean()
    assert pca.noise_variance_ >= floor * (1 - 1e-12)
    assert pca.explained_variance_.min() >= floor * (1 - 1e-12)
    assert np.isfinite(pca.log_abs_det(X)).all()
    assert np.isfinite(pca.transform(X)).all()


def test_integers_are_read_as_numbers(X):
    counts = np.rint(X - X.min()).astype(np.uint8)
    np.testing.assert_array_equal(PCA(2).fit(counts).transform(counts), PCA(2).fit(counts * 1.0).transform(counts))


@pytest.mark.parametrize("n_components", [0, 7, -1, 0.0, 1.0, 1.5, True, "all"])
def test_bad_n_components_is_named(X, n_components):
    with pytest.raises(ValueError, match=r"n_components must be an int from 1 to .* = 6 or a share"):
        PCA(n_components).fit(X)


def test_bad_rows_are_named(X):
    with pytest.raises(ValueError, match=r"shape \(n_samples, n_features\), got \(6,\)"):
        PCA(2).fit(X[0])
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        PCA(1).fit(X[:1])
    with pytest.raises(ValueError, match="every column of X is constant"):
        PCA(1).fit(np.full((1000, 3), 0.1))
    with pytest.raises(ValueError, match="X has 5 features, but PCA was fitted with 6"):
        PCA(2).fit(X).transform(X[:, :5])
    X[17, 3] = np.nan
    with pytest.raises(ValueError, match="not finite in row 17, column 3"):
        PCA(2).fit(X)
