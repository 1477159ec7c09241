"""How many digits log-densities have, against 60 digits: the law that the README states."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from fastgmm import GaussianMixture

EPS = 2.0**-52
MOST = 4  # roundings; 1.3 were seen


def random_mixture(rng, kind):
    """Weights, means and covariance matrices of a mixture of any condition, its means 1 to 1e12 apart."""
    d, k = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    matrices = []
    for _ in range(k):
        axes = np.eye(d) if kind == "diag" else np.linalg.qr(rng.normal(size=(d, d)))[0]
        variances = 10.0 ** rng.uniform(-4, 0, d)
        matrices.append((axes * (variances[0] if kind == "spherical" else variances)) @ axes.T)
    matrices = np.stack([matrices[0]] * k if kind == "tied" else matrices)
    matrices = 0.5 * (matrices + matrices.mT)
    weights = rng.dirichlet(np.full(k, 3.0))
    return weights, 10.0 ** rng.uniform(0, 12) * rng.normal(size=(k, d)), matrices


def exact_score(row, weights, means, matrices):
    """Log-density of a row, and the component that has most of it; every float64 is taken as it is."""
    parts = []
    for weight, mean, matrix in zip(weights, means, matrices, strict=True):
        lower = mpmath.cholesky(mpmath.matrix(matrix.tolist()))
        diff = mpmath.matrix(row.tolist()) - mpmath.matrix(mean.tolist())
        white = mpmath.lu_solve(lower, diff)
        log_det = sum(mpmath.log(lower[i, i]) for i in range(len(row)))
        square = mpmath.fsum(value**2 for value in white)
        parts.append(mpmath.log(weight) - log_det - 0.5 * (len(row) * mpmath.log(2 * mpmath.pi) + square))
    top = max(parts)
    return top + mpmath.log(mpmath.fsum(mpmath.exp(part - top) for part in parts)), parts.index(top)


def law(row, weights, means, matrix, k, score):
    """|log p| + r z + c (1 + z^2): see the README."""
    values, vectors = np.linalg.eigh(matrix)
    z = np.linalg.norm((vectors.T @ (row - means[k])) / np.sqrt(values))
    centre = weights @ means
    r = max(np.linalg.norm(row - centre), np.linalg.norm(means[k] - centre)) / np.sqrt(values[0])
    return 1 + abs(score) + r * z + values[-1] / values[0] * (1 + z**2)


@pytest.mark.parametrize("reach", [1.0, 1e3, 1e8])
def test_the_error_of_log_densities_follows_its_law(covariance_type, reach):
    worst = 0.0
    with mpmath.workdps(60):
        for seed in range(60):
            rng = np.random.default_rng([seed, int(reach)])
            weights, means, matrices = random_mixture(rng, covariance_type)
            covariances = {
                "full": matrices,
                "tied": matrices[0],
                "diag": np.diagonal(matrices, axis1=1, axis2=2),
                "spherical": matrices[:, 0, 0],
            }[covariance_type]
            model = GaussianMixture.from_parameters(weights, means, covariances, covariance_type)
            k = int(rng.integers(len(means)))
            row = means[k] + reach * rng.uniform(0.1, 3) * np.linalg.cholesky(matrices[k]) @ rng.normal(
                size=len(means[k])
            )
            expected, nearest = exact_score(row, weights, means, matrices)
            error = abs(float(mpmath.mpf(float(model.score_samples(row[None])[0])) - expected))
            bound = EPS * law(row, weights, means, matrices[nearest], nearest, float(expected))
            worst = max(worst, error / bound)
    assert worst < MOST, worst
    assert worst > 0.1  # the law is no wider than it must be
