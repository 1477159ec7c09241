"""The fit ends where two independent implementations end, to nine digits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastgmm import GaussianMixture
from tests.reference import CERTIFIED, Certified

# Smaller gains per row drown in the rounding of the bound; what is left to gain is below 1e-11 relative.
EXACT = {"reg_covar": 0.0, "tol": 1e-12, "max_iter": 1000}


@pytest.mark.parametrize("cell", CERTIFIED, ids=lambda cell: "-".join(map(str, cell[:4])))
def test_fit_reaches_the_certified_log_likelihood(cell: Certified, starts):
    X, labels = starts[cell.data, cell.start]
    model = GaussianMixture(cell.n_components, covariance_type=cell.covariance_type, init_params=labels, **EXACT).fit(X)
    assert model.converged_
    assert model.log_likelihood_ == pytest.approx(cell.log_likelihood, rel=1e-9)
    assert model.score(X) * len(X) == pytest.approx(cell.log_likelihood, rel=1e-9)
    assert model.lower_bound_ * len(X) == pytest.approx(cell.log_likelihood, rel=1e-9)
    p = cell.n_parameters
    assert model.aic(X) == pytest.approx(2 * p - 2 * cell.log_likelihood, rel=1e-9)
    assert model.bic(X) == pytest.approx(p * math.log(len(X)) - 2 * cell.log_likelihood, rel=1e-9)


@pytest.mark.parametrize(("column", "cuts"), [(0, (3.0, 4.4)), (1, (65.0, 80.0))])
def test_fit_reaches_the_robust_fixed_point_from_either_column(faithful, column, cuts):
    labels = np.digitize(faithful[:, column], cuts)
    model = GaussianMixture(3, covariance_type="tied", init_params=labels, **EXACT).fit(faithful)
    assert model.log_likelihood_ == pytest.approx(-1126.3159278234, rel=1e-9)
    # At a maximum the parameters have half the digits of the log-likelihood.
    np.testing.assert_allclose(sorted(model.weights_), [0.168606, 0.356378, 0.475016], atol=1e-5)


@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_a_common_offset_does_not_change_the_log_likelihood(covariance_type, offset, faithful, faithful_labels):
    certified = {cell.covariance_type: cell.log_likelihood for cell in CERTIFIED if cell.start == "eruptions > 3"}
    model = GaussianMixture(
        2, covariance_type=covariance_type, init_params=faithful_labels, reg_covar=0.0, tol=1e-10
    ).fit(faithful + offset)
    assert model.converged_
    assert model.log_likelihood_ == pytest.approx(certified[covariance_type], abs=1e-5)
    assert model.score(faithful + offset) * len(faithful) == pytest.approx(certified[covariance_type], abs=1e-5)


@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_a_common_offset_does_not_change_a_fit_with_default_settings(covariance_type, offset, faithful):
    near, far = (
        GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
        for X in (faithful, faithful + offset)
    )
    assert near.converged_
    assert far.converged_
    assert far.log_likelihood_ == pytest.approx(near.log_likelihood_, abs=1e-5)


def test_bic_chooses_the_published_model_of_old_faithful(faithful):
    # mclust 6.0.0, tied ("EEE"), 1 to 4 components; its EM stops up to 0.05 short of the fixed point.
    published = [2607.623, 2325.220, 2314.316, 2331.223]
    bic = [
        GaussianMixture(k, covariance_type="tied", n_init=5, tol=1e-8, max_iter=1000, random_state=0)
        .fit(faithful)
        .bic(faithful)
        for k in (1, 2, 3, 4)
    ]
    assert np.argmin(bic) == 2
    np.testing.assert_allclose(bic[:3], published[:3], atol=0.05)
    assert bic[3] <= published[3] + 0.05
