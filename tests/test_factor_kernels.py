"""Scores and EM steps of factor analysers in factor space against dense covariances, in both precisions."""

from __future__ import annotations

import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from scipy import optimize

from fastgmm import open_source
from fastgmm.kernels import backend, low_rank, parallel
from fastgmm.model.bridge import MixtureKernels
from fastgmm.model.factors.expectation import FactorPass
from fastgmm.model.factors.maximisation import FactorMaximiser, NoisePrior
from fastgmm.model.factors.missing import VisibleSums
from fastgmm.model.factors.parameters import FactorParameters
from fastgmm.model.factors.statistics import FactorStatistics
from fastgmm.model.far import NonFiniteRowsError
from fastgmm.rows.source import ArraySource
from tests.conftest import ROOT
from tests.reference_factor_mixture import (
    InverseGamma,
    Parameters,
    covariance,
    em_step,
    em_step_missing,
    log_likelihood,
    log_prior,
    noise_variances,
    responsibilities,
)
from tests.test_factor_reference import draw, from_vector, hide, objective, random_parameters, to_vector
from tests.test_sources import Chunks

DTYPES = (np.float64, np.float32)
# Scores: sums of up to 70 squares and a dense factorisation cost dozens of roundings of 1e-16 (float32: 6e-8).
RTOL = {np.float64: 1e-9, np.float32: 1e-4}
# EM steps: responsibilities carry the absolute error of log-densities of about 100 nats, 1e-13 (float32: 1e-5), and
# the normal equations multiply it by their condition, up to 1e3 here, in float64; float32 sums are not so exact.
STEP = {np.float64: 1e-9, np.float32: 2e-3}
PRIOR = InverseGamma(shape=2.0, scale=0.5)
STRUCTURES = ("diag", "shared", "isotropic", "shared isotropic")
SIZES = [(d, q, k) for d in (1, 7, 33, 65) for q in (1, 2, 5, 7) for k in (1, 2, 3, 11) if q <= d]


def kernel_scores(X, parameters):
    """Log-densities, labels and responsibilities of the compiled kernels."""
    norm, labels = np.empty(len(X), X.dtype), np.empty(len(X), np.int64)
    resp = np.empty((len(X), len(parameters.weights)), X.dtype)
    kernels = MixtureKernels(FactorParameters(*parameters), X.dtype)
    kernels.score([(0, X)], norm, labels, resp)
    alone = np.empty(len(X), np.int64)
    kernels.score([(0, X)], labels=alone)  # a path without exponentials
    np.testing.assert_array_equal(alone, labels)
    return norm, labels, resp


def step(X, parameters, noise="diag", floor=0.0, prior=None, weight=None, missing=False):
    """One pass and M-step of ours, as the reference's `em_step` names its arguments."""
    maximise = FactorMaximiser(
        "isotropic" in noise, "shared" in noise, floor, None if prior is None else NoisePrior(*prior)
    )
    return maximise(sums_of(X, parameters, weight, missing))


def sums_of(X, parameters, weight=None, missing=False, shift=None):
    """The statistics of rows, with `missing` as rows of which every one may have gaps."""
    if missing:
        sums = VisibleSums(FactorParameters(*parameters))
        sums.add(X, weight)
        return sums.statistics()
    shift = X.mean(axis=0, dtype=np.float64) if shift is None else shift
    return FactorPass(ArraySource(X), weight, shift)(FactorParameters(*parameters))


def reference_step(X, parameters, noise="diag", floor=0.0, prior=None, weight=None, missing=False):
    exact = em_step_missing if missing else em_step
    if noise != "shared isotropic":
        return exact(X, parameters, weight, noise, floor, prior)
    # The reference has no such structure: pool what it finds per component and feature, each with its rows.
    expected = exact(X, parameters, weight)
    resp = responsibilities(X, parameters) * (1.0 if weight is None else weight[:, None])
    counts = resp.T @ ~np.isnan(X)
    total = noise_variances(
        (expected.noise * counts).sum(keepdims=True), counts.sum(keepdims=True), "diag", floor, prior
    )
    return expected._replace(noise=np.full(counts.shape, total.item()))


def assert_same_step(ours, expected, tolerance):
    # Loadings are unique here: one EM step from given loadings leaves no freedom of rotation.
    for value, wanted in zip((ours.weights, ours.means, ours.loadings, ours.noise_variance), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=tolerance, atol=tolerance)


# ---- scores ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_those_of_dense_gaussians_in_every_size(dtype):
    for n_features, n_factors, n_components in [(20, 4, 3), *SIZES]:
        parameters = random_parameters(n_components, n_features, n_factors)
        X = np.vstack([draw(parameters, 40), np.random.default_rng(2).normal(size=(9, n_features))]).astype(dtype)
        norm, labels, resp = kernel_scores(X, parameters)
        size = f"{n_features} features, {n_factors} factors, {n_components} components"
        exact = X.astype(np.float64)
        np.testing.assert_allclose(norm, log_likelihood(exact, parameters), rtol=RTOL[dtype], err_msg=size)
        expected = responsibilities(exact, parameters)
        # The error of a probability is that of a difference of log-densities of some 100 nats.
        np.testing.assert_allclose(resp, expected, atol=10 * RTOL[dtype], err_msg=size)
        second = np.sort(expected, axis=1)[:, -2] if n_components > 1 else np.zeros(len(X))
        clear = expected.max(axis=1) - second > 20 * RTOL[dtype]
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(labels[clear], expected.argmax(axis=1)[clear], err_msg=size)


def test_a_common_offset_costs_no_digits():
    parameters = random_parameters(3, 20, 4)
    far = parameters._replace(means=parameters.means + 1e6)
    X = draw(parameters, 100) + 1e6
    # Rows and means are rounded to 1e-10 once, against noise of 0.3.
    np.testing.assert_allclose(kernel_scores(X, far)[0], log_likelihood(X, far), rtol=1e-9)
    ours, expected = step(X, far), em_step(X - 1e6, far._replace(means=far.means - 1e6))
    assert_same_step(ours, expected._replace(means=expected.means + 1e6), 1e-8)


def exact_score(x, parameters):
    """The log-density of a row in 50 digits."""
    with mpmath.workdps(50):
        total = mpmath.mpf(0)
        for weight, mean, loadings, noise in zip(*parameters, strict=True):
            L = mpmath.matrix(loadings.tolist())
            dense = L * L.T + mpmath.diag([mpmath.mpf(v) for v in noise])
            diff = mpmath.matrix(x.astype(np.float64).tolist()) - mpmath.matrix(mean.tolist())
            distance = (diff.T * mpmath.lu_solve(dense, diff))[0]
            log_norm = len(x) * mpmath.log(2 * mpmath.pi) + mpmath.log(mpmath.det(dense))
            total += mpmath.mpf(weight) * mpmath.exp(-(distance + log_norm) / 2)
        return float(mpmath.log(total))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_noise_under_large_loadings_cancels_no_more_than_it_must(dtype):
    parameters = random_parameters(2, 20, 2)
    parameters = parameters._replace(loadings=3 * parameters.loadings, noise=np.full((2, 20), 1e-6))
    X = draw(parameters, 12).astype(dtype)
    expected = np.array([exact_score(x, parameters) for x in X])
    white = ((X[:, None] - parameters.means) ** 2).sum(axis=2).min(axis=1) / 1e-6  # |u|^2, about 1e8
    # |u|^2 and |A u|^2 agree in their first 7 digits: float32 has none left, so that float64 computes and rounds.
    error = np.abs(kernel_scores(X, parameters)[0] - expected)
    assert np.all(error <= 8 * np.finfo(np.float64).eps * white + np.finfo(dtype).eps * np.abs(expected))
    blurred = parameters._replace(noise=np.full((2, 20), 0.02))  # |W|^2 is a few 10^4: float32 does it alone
    assert MixtureKernels(FactorParameters(*blurred), dtype).dtype == dtype
    np.testing.assert_allclose(kernel_scores(X, blurred)[0], log_likelihood(X.astype(float), blurred), atol=0.05)


def test_parallel_loadings_beyond_all_digits_are_one_loading():
    """I + W^T W is singular in float64; the covariance is that of one loading sqrt(2) times as long, and of none."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(1, 8, 1))
    twice = Parameters(np.ones(1), np.zeros((1, 8)), 1e9 * np.repeat(direction, 2, axis=2), np.ones((1, 8)))
    once = twice._replace(loadings=np.concatenate([1e9 * np.sqrt(2) * direction, np.zeros((1, 8, 1))], axis=2))
    X = rng.normal(size=(30, 8))
    np.testing.assert_allclose(kernel_scores(X, twice)[0], kernel_scores(X, once)[0], rtol=1e-6)
    gaps = hide(X)
    ours, expected = (sums_of(gaps, p, missing=True) for p in (twice, once))
    # Pivots of about 1 carry the rounding of 1e18: two nats a row, where NaN was.
    assert abs(ours.log_likelihood - expected.log_likelihood) < 2 * len(X)
    assert np.isfinite(ours.latent).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [0.3, 0.55, 0.9])
def test_rows_far_out_keep_their_nearest_component(dtype, exponent):
    """Distances lose their digits, then their range: never NaN, and the component that reaches out is the nearest."""
    reach = float(np.finfo(dtype).max) ** exponent
    loadings = np.zeros((3, 7, 2))
    loadings[1, :, 0] = 1.0  # along (1, ..., 1)
    loadings[2, :, 1] = np.array([1, -1, 1, -1, 1, -1, 1])
    parameters = Parameters(np.full(3, 1 / 3), np.arange(21.0).reshape(3, 7), loadings, np.ones((3, 7)))
    X = (reach * np.stack([loadings[1, :, 0], loadings[2, :, 1]])).astype(dtype)
    norm, labels, resp = kernel_scores(X, parameters)
    np.testing.assert_array_equal(labels, [1, 2])
    np.testing.assert_allclose(resp, np.eye(3)[[1, 2]], atol=1e-6)
    assert np.all(norm < -(reach**0.5))
    # The same for means far out: how large they are says nothing of how sharp a component is.
    moved = parameters._replace(means=parameters.means + 1e-2 * reach)
    norm, labels, _ = kernel_scores(X, moved)
    np.testing.assert_array_equal(labels, [1, 2])
    assert np.all(norm < -(reach**0.5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_that_is_not_finite_is_noticed(dtype, value):
    X = draw(random_parameters(2, 7, 2), 100).astype(dtype)
    X[73, 3] = value
    with pytest.raises(NonFiniteRowsError):
        kernel_scores(X, random_parameters(2, 7, 2))


def test_a_component_of_weight_zero_gets_no_rows():
    parameters = random_parameters(3, 7, 2)
    X = draw(parameters, 50)
    absent = parameters._replace(weights=np.array([0.0, 0.4, 0.6]))
    present = Parameters(*(value[1:] for value in absent))
    norm, labels, resp = kernel_scores(X, absent)
    np.testing.assert_allclose(norm, log_likelihood(X, present), rtol=RTOL[np.float64])
    np.testing.assert_allclose(resp[:, 1:], responsibilities(X, present), atol=1e-10)
    assert labels.min() == 1
    assert not resp[:, 0].any()


# ---- EM steps ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["ml", "map"])
@pytest.mark.parametrize("noise", STRUCTURES)
def test_an_em_step_is_the_dense_one(noise, prior, dtype):
    truth = random_parameters(3, 20, 4)
    X = draw(truth, 200).astype(dtype)
    weight = np.random.default_rng(3).uniform(0, 2, len(X))
    weight[::7] = 0.0
    parameters = truth._replace(means=truth.means + 0.3)
    for given in (None, weight):
        expected = reference_step(X.astype(np.float64), parameters, noise, 0.5, prior, given)
        assert_same_step(step(X, parameters, noise, 0.5, prior, given), expected, STEP[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_em_step_is_the_dense_one_in_every_size(dtype):
    for n_features, n_factors, n_components in SIZES[:: -3 if dtype == np.float32 else 3]:
        parameters = random_parameters(n_components, n_features, n_factors)
        # Rows enough that no component's normal equations are nearly singular.
        X = draw(parameters, 50 * n_components + 11).astype(dtype)
        expected = em_step(X.astype(np.float64), parameters)
        assert_same_step(step(X, parameters), expected, 10 * STEP[dtype])


@pytest.mark.parametrize("scale", [0.0, 0.1, 30.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_left_out_of_a_component_change_no_digit(dtype, scale):
    """Means together: every row counts in every component; far apart: one row in n_components does."""
    truth = random_parameters(11, 7, 2)
    truth = truth._replace(means=scale * truth.means)
    X = draw(truth, 700).astype(dtype)
    resp = responsibilities(X.astype(np.float64), truth)
    assert (resp > 1e-30).mean() > 0.9 if scale < 1 else (resp > 1e-30).mean() < 0.2
    assert_same_step(step(X, truth), em_step(X.astype(np.float64), truth), 3 * STEP[dtype])


def test_many_calls_of_many_blocks_add_up(monkeypatch):
    truth = random_parameters(3, 7, 2)
    X = draw(truth, 9001)
    weight = np.random.default_rng(3).uniform(0, 2, len(X))
    whole = step(X, truth, weight=weight)
    monkeypatch.setattr(parallel, "FLOPS_PER_CALL", 1.0)  # 4096 rows a call, the least there are
    parts = FactorPass(open_source(Chunks([X[:5000], X[5000:]])), weight, X.mean(axis=0))
    expected = em_step(X, truth, weight)
    for ours in (whole, FactorMaximiser()(parts(FactorParameters(*truth)))):
        assert_same_step(ours, expected, 1e-9)


def test_statistics_of_disjoint_rows_add_up():
    truth = random_parameters(3, 7, 2)
    X = draw(truth, 300)

    def statistics(rows):
        return FactorPass(ArraySource(rows), None, X.mean(axis=0))(FactorParameters(*truth))

    total, whole = statistics(X[:100]) + statistics(X[100:]), statistics(X)
    for name in ("log_likelihood", "sum_resp", "latent", "cross", "second"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-11, atol=1e-9)
    assert whole.log_likelihood == pytest.approx(log_likelihood(X, truth).sum(), rel=1e-12)


@pytest.mark.parametrize("missing", [False, True])
def test_rows_of_weight_zero_are_absent_wherever_they_lie(missing):
    truth = random_parameters(3, 7, 2)
    X = draw(truth, 100)
    far = np.full((3, 7), 1e200)
    if missing:
        X, far = hide(X), np.where(np.arange(7) == 2, np.nan, far)
    weight = np.repeat([1.5, 0.0], [100, 3])
    statistics = sums_of(np.vstack([X, far]), truth, weight, missing, truth.means[0])
    assert statistics.n_far == 0
    assert statistics.log_likelihood == pytest.approx(1.5 * log_likelihood(X, truth).sum(), rel=1e-11)
    assert_same_step(FactorMaximiser()(statistics), reference_step(X, truth, missing=missing), 1e-8)
    assert sums_of(np.vstack([X, far]), truth, np.ones(103), missing, truth.means[0]).n_far == 3


@pytest.mark.parametrize("noise", ["diag", "shared", "isotropic"])
def test_the_map_step_is_the_brute_force_maximum(noise):
    X = draw(random_parameters(2, 3, 1), 20)
    old = random_parameters(2, 3, 1, noise, seed=3)

    def minus_objective(vector):
        return -objective(X, old, from_vector(vector, old, noise), noise, PRIOR)

    # Stopped at gradients of 1e-5, against curvatures of about 1.
    found = optimize.minimize(minus_objective, to_vector(old, noise))
    ours = step(X, old, noise, prior=PRIOR)
    assert_same_step(ours, from_vector(found.x, old, noise), 1e-4)


@pytest.mark.parametrize("noise", ["diag", "shared", "isotropic"])
def test_the_log_prior_is_scipys_but_for_a_constant(noise):
    maximise = FactorMaximiser("isotropic" in noise, "shared" in noise, 0.0, NoisePrior(*PRIOR))
    one, other = (random_parameters(2, 5, 2, noise, seed=seed) for seed in (1, 2))
    ours = maximise.log_prior(FactorParameters(*one)) - maximise.log_prior(FactorParameters(*other))
    assert ours == pytest.approx(log_prior(one.noise, noise, PRIOR) - log_prior(other.noise, noise, PRIOR), rel=1e-12)


def test_a_dead_component_takes_half_of_the_largest():
    truth = random_parameters(3, 7, 2)
    X = draw(truth._replace(weights=np.array([0.3, 0.7, 0.0])), 200)
    parameters = truth._replace(means=np.vstack([truth.means[:2], np.full((1, 7), 1e4)]))
    maximise = FactorMaximiser()
    new = maximise(sums_of(X, parameters))
    assert maximise.restarts == [2]
    assert new.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert new.weights[1] == new.weights[2] > 0.2
    middle = 0.5 * (new.means[1] + new.means[2])
    alive = em_step(X, Parameters(*(value[:2] for value in truth)))
    np.testing.assert_allclose(middle, alive.means[1], rtol=1e-6, atol=1e-6)
    assert np.linalg.norm(new.means[1] - new.means[2]) > 0.1
    assert np.all(np.isfinite(new.loadings))


def test_expected_factors_that_are_parallel_leave_a_solution():
    """Exactly singular normal equations: any loadings along the direction without digits will do."""
    rng = np.random.default_rng(0)
    z = np.column_stack([np.repeat(rng.normal(size=(50, 1)), 2, axis=1), np.ones(50)])
    old = random_parameters(1, 4, 2)
    diff = z @ rng.normal(size=(3, 4)) + 0.1 * rng.normal(size=(50, 4))
    latent, cross = (z.T @ z)[None, None], (diff.T @ z)[None]
    for copies in (1, 4):  # one E for all features, or one for each
        sums = np.repeat(latent, copies, axis=1)
        statistics = FactorStatistics(
            0.0, np.full(1, 50.0), sums, cross, (diff**2).sum(axis=0)[None], FactorParameters(*old)
        )
        new = FactorMaximiser()(statistics)
        solution = np.column_stack([new.loadings[0], new.means[0] - old.means[0]])
        residual = diff - z @ np.linalg.lstsq(z, diff, rcond=None)[0]
        # Normal equations square a condition that is 1e6 even with what is added.
        np.testing.assert_allclose(solution @ latent[0, 0], cross[0], atol=1e-3)
        np.testing.assert_allclose(new.noise_variance[0], (residual**2).mean(axis=0), rtol=1e-3)


# ---- rows with gaps ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["ml", "map"])
@pytest.mark.parametrize("noise", STRUCTURES)
def test_an_em_step_with_gaps_is_the_dense_one(noise, prior, dtype):
    truth = random_parameters(2, 7, 2)
    X = hide(draw(truth, 120)).astype(dtype)
    X[5] = np.nan
    weight = np.random.default_rng(3).uniform(0, 2, len(X))
    for given in (None, weight):
        expected = reference_step(X.astype(np.float64), truth, noise, 0.1, prior, given, missing=True)
        # float32 rows are computed with in float64. Feature by feature the equations are worse conditioned: 1e4.
        assert_same_step(step(X, truth, noise, 0.1, prior, given, missing=True), expected, 1e-8)


def test_a_feature_that_no_row_shows_keeps_its_parameters():
    truth = random_parameters(2, 5, 2)
    X = draw(truth, 60)
    X[:, 3] = np.nan
    assert_same_step(step(X, truth, missing=True), em_step_missing(X, truth), 1e-8)


# ---- one machine code, and none ----


def test_every_kernel_compiles_once_per_precision():
    """Read-only, writable and weighted input must not multiply specialisations."""
    for dtype in DTYPES:
        for n_components, n_factors in ((1, 1), (3, 2), (9, 7)):
            parameters = random_parameters(n_components, 7, n_factors)
            X = draw(parameters, 50).astype(dtype)
            kernel_scores(X, parameters)
            for writeable in (True, False):
                X.flags.writeable = writeable
                for weight in (None, np.ones(50)):
                    step(X, parameters, weight=weight)
    assert len(low_rank.accumulate_slot.signatures) == 2
    assert len(backend.module("low_rank").compute_resp.signatures) == 2


RESULTS = """
import numpy as np
from tests.test_factor_kernels import DTYPES, draw, kernel_scores, random_parameters, sums_of
for shape in ((1, 1, 1), (2, 7, 5), (3, 33, 2), (11, 65, 7)):
    parameters = random_parameters(*shape)
    for dtype in DTYPES:
        X = draw(parameters, 1500).astype(dtype)
        weight = np.random.default_rng(0).uniform(size=len(X))
        s = sums_of(X, parameters, weight)
        arrays = (s.log_likelihood, s.sum_resp, s.latent, s.cross, s.second, *kernel_scores(X, parameters))
        for name, a in zip(("total", "sum_resp", "latent", "cross", "second", "norm", "labels", "resp"), arrays):
            print(np.dtype(dtype), name, *np.ravel(a)[:4000].tolist())
"""


@pytest.mark.skipif(not backend.LANE_BYTES, reason="this processor runs the portable kernels")
def test_portable_kernels_and_tiles_agree():
    def run(**environment):
        command = [sys.executable, "-c", RESULTS]
        environment = {**os.environ, **environment}
        out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout
        return [(dtype, name, np.array(values, float)) for dtype, name, *values in map(str.split, out.splitlines())]

    tiles, portable = run(), run(FASTGMM_SIMD="0")
    assert len(tiles) == len(portable) == 4 * 2 * 8
    for (dtype, name, ours), (_, _, theirs) in zip(tiles, portable, strict=True):
        if name == "labels":
            assert np.mean(ours != theirs) < 0.002  # two components may tie to rounding
            continue
        rtol = {"float64": 1e-10, "float32": 2e-4}[dtype]
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(), err_msg=f"{name} {dtype}")


def test_covariances_are_what_the_kernels_factorise():
    parameters = random_parameters(3, 20, 4)
    ours = FactorParameters(*parameters)
    for k in range(3):
        dense = covariance(parameters.loadings[k], parameters.noise[k])
        scale = np.sqrt(parameters.noise[k])
        precision = (np.eye(20) - ours.projection[k] @ ours.projection[k].T) / np.outer(scale, scale)
        np.testing.assert_allclose(precision @ dense, np.eye(20), atol=1e-12)
        assert -2 * ours.half_log_det_precision[k] == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
