"""The compiled loops against the slow reference: elementary functions, every covariance type, both precisions."""

import os
import subprocess
import sys

import mpmath
import numba
import numpy as np
import pytest

from fastgmm import engine
from fastgmm.kernels import backend, elementary, passes, triangular
from fastgmm.kernels._compile import FASTMATH
from fastgmm.kernels.calls import ALIGNMENT, aligned_bytes, array_at, python_array_at
from fastgmm.kernels.tiled import exponential, simd
from fastgmm.model.bridge import MixtureKernels
from fastgmm.model.covariance import STRUCTURES
from fastgmm.model.expectation import StatisticsPass
from fastgmm.model.parameters import MixtureParameters
from fastgmm.rows.source import ArraySource
from tests import reference

TYPES = tuple(STRUCTURES)
# A pair costs a few dozen roundings: products over up to 19 features, exp, log and the division by the row's total.
RTOL = {np.float64: 1e-11, np.float32: 2e-4}


needs_tiles = pytest.mark.skipif(not backend.LANE_BYTES, reason="this processor runs the portable kernels")


@numba.njit(fastmath=set(FASTMATH))
def _map_exp(x, out):
    for i in range(x.shape[0]):
        out[i] = elementary.exp(x[i])


@numba.njit
def _map_exp_of_tiles(x, out):
    for p in range(0, x.shape[0], simd.LANE_BYTES // x.itemsize):
        simd.store(exponential.exp(simd.load(x, 0, p, 1, 1)), out, 0, p)


def _aligned(n_rows, block, like):
    memory, start = aligned_bytes(n_rows * block * like.itemsize)
    return python_array_at(memory[start - memory.ctypes.data :], 0, (n_rows, block), like)


@numba.njit
def _fill_rows(workspace, offset, out):
    array_at(workspace, offset, out.shape, out)[:] = out


@numba.njit(fastmath=set(FASTMATH))
def _map_log(x, out):
    for i in range(x.shape[0]):
        out[i] = elementary.log(x[i])


def mapped(kernel, x):
    padded = np.zeros(-(-len(x) // 16) * 16, x.dtype)
    padded[: len(x)] = x
    source, out = (_aligned(1, len(padded), np.empty((1, 1), x.dtype))[0] for _ in range(2))
    source[:] = padded
    kernel(source, out)
    return out[: len(x)]


EXPONENTIALS = [_map_exp, pytest.param(_map_exp_of_tiles, marks=needs_tiles)]


@pytest.mark.parametrize("map_exp", EXPONENTIALS)
@pytest.mark.parametrize(("dtype", "lowest", "ulps"), [(np.float64, -707.0, 1.5), (np.float32, -86.0, 1.5)])
def test_exp_is_as_exact_as_its_docstring_says(map_exp, dtype, lowest, ulps):
    x = np.concatenate([np.linspace(lowest, 0, 4001), -np.logspace(-20, 0, 500)]).astype(dtype)
    exact = np.array([float(mpmath.exp(mpmath.mpf(float(v)))) for v in x])
    error = np.abs(mapped(map_exp, x).astype(np.float64) - exact) / exact
    assert error.max() <= ulps * np.finfo(dtype).eps


@pytest.mark.parametrize("map_exp", EXPONENTIALS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exp_of_what_no_float_holds_is_zero(map_exp, dtype):
    x = np.array([-1e4, elementary.LOG_FLOOR[np.dtype(dtype)], -np.inf], dtype)
    np.testing.assert_array_equal(mapped(map_exp, x), 0)


@pytest.mark.parametrize(("dtype", "ulps"), [(np.float64, 1.5), (np.float32, 2.5)])
def test_log_is_as_exact_as_its_docstring_says(dtype, ulps):
    x = np.concatenate([np.linspace(0.5, 3, 4001), np.logspace(-30, 30, 1001)]).astype(dtype)
    exact = np.array([float(mpmath.log(mpmath.mpf(float(v)))) for v in x])
    error = np.abs(mapped(_map_log, x).astype(np.float64) - exact)
    assert (error <= ulps * np.finfo(dtype).eps * np.maximum(np.abs(exact), 1e-3)).all()


def random_mixture(covariance_type, n_components, n_features, seed=0):
    rng = np.random.default_rng(seed)
    structure = STRUCTURES[covariance_type]
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = 2 * rng.normal(size=(n_components, n_features))
    if structure.is_matrix:
        factors = rng.normal(size=(n_components, n_features, n_features + 2)) / np.sqrt(n_features)
        covariances = factors @ factors.swapaxes(1, 2) + 0.1 * np.eye(n_features)
        covariances = covariances if covariance_type == "full" else covariances[0]
    else:
        covariances = rng.uniform(0.3, 2.0, structure.shape(n_components, n_features))
    return MixtureParameters(weights, means, structure.cholesky(covariances), covariance_type, covariances)


def as_reference(parameters):
    return reference.Mixture(parameters.weights, parameters.means, parameters.covariances, parameters.covariance_type)


def rows(n_samples, n_features, seed=1):
    return 2 * np.random.default_rng(seed).normal(size=(n_samples, n_features))


SHAPES = [(1, 1, 1), (37, 1, 3), (200, 2, 2), (500, 4, 5), (333, 5, 1), (1000, 19, 4)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_scores_equal_the_reference(covariance_type, dtype):
    for n_samples, n_features, n_components in SHAPES:
        parameters = random_mixture(covariance_type, n_components, n_features)
        X = rows(n_samples, n_features).astype(dtype)
        kernels = MixtureKernels(parameters, dtype)
        log_prob, labels = np.empty(n_samples, dtype), np.empty(n_samples, np.int64)
        resp = np.empty((n_samples, n_components), dtype)
        kernels.score([(0, X)], log_prob_norm=log_prob, labels=labels, resp=resp)
        expected = reference.predict_proba(X.astype(np.float64), as_reference(parameters))
        np.testing.assert_allclose(
            log_prob, reference.score_samples(X.astype(np.float64), as_reference(parameters)), rtol=RTOL[dtype]
        )
        np.testing.assert_allclose(resp, expected, atol=RTOL[dtype])
        clear = np.sort(expected, axis=1)[:, -1] - np.sort(expected, axis=1)[:, -2:].min(axis=1) > 10 * RTOL[dtype]
        clear |= n_components == 1
        np.testing.assert_array_equal(labels[clear], expected.argmax(axis=1)[clear])
        assert clear.mean() > 0.9


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_statistics_equal_the_reference(covariance_type, dtype):
    for n_samples, n_features, n_components in SHAPES:
        parameters = random_mixture(covariance_type, n_components, n_features)
        X = rows(n_samples, n_features).astype(dtype)
        weight = np.random.default_rng(2).uniform(0, 2, n_samples)
        statistics = StatisticsPass(ArraySource(X), X.mean(axis=0, dtype=np.float64), weight)(parameters)
        X = X.astype(np.float64)
        resp = weight[:, None] * reference.predict_proba(X, as_reference(parameters))
        diff = X[:, None, :] - statistics.means
        outer = np.einsum("nk,nkd,nke->kde", resp, diff, diff)
        expected = {
            "full": outer,
            "tied": outer.sum(axis=0),
            "diag": np.einsum("kdd->kd", outer),
            "spherical": np.einsum("kdd->k", outer),
        }[covariance_type]
        size = np.abs(expected).max() + np.abs(statistics.means).max() ** 2 * weight.sum()
        np.testing.assert_allclose(statistics.sum_resp, resp.sum(axis=0), atol=RTOL[dtype] * weight.sum())
        np.testing.assert_allclose(statistics.sum_diff, np.einsum("nk,nkd->kd", resp, diff), atol=RTOL[dtype] * size)
        np.testing.assert_allclose(statistics.sum_outer, expected, atol=RTOL[dtype] * size)
        log_likelihood = reference.log_likelihood(X, as_reference(parameters), weight)
        np.testing.assert_allclose(statistics.log_likelihood, log_likelihood, rtol=RTOL[dtype])


def test_statistics_of_disjoint_rows_add_up():
    parameters = random_mixture("full", 3, 4)
    X = rows(300, 4)
    shift = X.mean(axis=0)

    def statistics(part):
        return StatisticsPass(ArraySource(part), shift)(parameters)

    total, whole = statistics(X[:100]) + statistics(X[100:]), statistics(X)
    for name in ("sum_resp", "sum_diff", "sum_outer", "log_likelihood"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("scale", [1e-7, 1e-3])
def test_second_moments_keep_their_digits_however_far_components_are_apart(covariance_type, scale):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 400)
    noise = scale * rng.normal(size=(800, 3))
    noise -= np.stack([noise[labels == k].mean(axis=0) for k in (0, 1)])[labels]
    centres = np.array([[-1.0, -0.5, 1.0], [1.0, 0.5, -1.0]])
    X = centres[labels] + noise
    structure = STRUCTURES[covariance_type]
    covariances = scale**2 * structure.identity(2, 3)
    parameters = MixtureParameters(
        np.full(2, 0.5), centres, structure.cholesky(covariances), covariance_type, covariances
    )
    statistics = StatisticsPass(ArraySource(X), X.mean(axis=0))(parameters)
    diff = (X - centres[labels]).reshape(2, 400, 3)
    outer = np.einsum("knd,kne->kde", diff, diff)
    exact = {
        "full": outer,
        "tied": outer.sum(axis=0),
        "diag": np.einsum("kdd->kd", outer),
        "spherical": np.einsum("kdd->k", outer),
    }[covariance_type]
    # The rows themselves carry a rounding of 1e-16 against a width of 1e-7: nine digits are there to keep.
    np.testing.assert_allclose(statistics.sum_outer, exact, rtol=0, atol=1e-8 * np.abs(exact).max())


def test_every_kernel_compiles_once_per_precision():
    """Read-only, writable, strided and converted input must not multiply specialisations."""
    parameters = random_mixture("diag", 2, 3)
    X = rows(100, 3)
    read_only = X.copy()
    read_only.flags.writeable = False
    for array in (X, read_only, X[:50], X.astype(np.float32)):
        kernels = MixtureKernels(parameters, array.dtype)
        kernels.accumulate([(0, array)])
        for writeable in (True, False):
            weight, resp = np.ones(len(array)), np.full((len(array), 2), 0.5)
            weight.flags.writeable = resp.flags.writeable = writeable
            kernels.accumulate([(0, array)], weight, resp)
        kernels.score([(0, array)], labels=np.empty(len(array), np.int64))
        kernels.score([(0, array)], resp=np.empty((len(array), 2), array.dtype))
    module = STRUCTURES["diag"].kernels
    assert len(passes.run_slot.signatures) == 2
    assert len(module.compute_resp.signatures) == len(module.accumulate_block.signatures) == 2


def test_rows_of_a_workspace_are_aligned_and_where_they_should_be():
    for dtype in (np.float64, np.float32, np.int64):
        rows = np.arange(30, dtype=dtype).reshape(5, 6)
        memory, start = aligned_bytes(512)
        assert start % ALIGNMENT == 0
        assert 0 <= start - memory.ctypes.data < ALIGNMENT
        _fill_rows(start, 128, rows)
        np.testing.assert_array_equal(python_array_at(memory[start - memory.ctypes.data :], 128, (5, 6), rows), rows)


RESULTS_OF_EVERY_TYPE = """
import numpy as np, sys
from fastgmm.model.covariance import STRUCTURES
from fastgmm.model.bridge import MixtureKernels
from fastgmm.model.expectation import StatisticsPass
from fastgmm.model.parameters import MixtureParameters
from fastgmm.rows.source import ArraySource
for name in sys.argv[1:]:
    shapes = [(37, 1, 3), (300, 2, 2), (700, 4, 5), (333, 5, 1), (1000, 19, 4), (9000, 9, 6)]
    for n_samples, n_features, n_components in shapes:
        rng = np.random.default_rng(0)
        s = STRUCTURES[name]
        means = 2 * rng.normal(size=(n_components, n_features))
        factor = rng.normal(size=(n_components, n_features, 2 * n_features)) / np.sqrt(n_features)
        covariances = factor @ factor.swapaxes(1, 2)
        if not s.is_matrix:
            covariances = rng.uniform(0.3, 2.0, s.shape(n_components, n_features))
        elif s.pools_components:
            covariances = covariances[0]
        weights = rng.dirichlet(np.full(n_components, 5.0))
        parameters = MixtureParameters(weights, means, s.cholesky(covariances), name, covariances)
        for dtype in (np.float64, np.float32):
            X = 2 * rng.normal(size=(n_samples, n_features)).astype(dtype)
            weight = rng.uniform(size=n_samples)
            t = StatisticsPass(ArraySource(X), np.zeros(n_features), weight)(parameters)
            resp, labels = np.empty((n_samples, n_components), dtype), np.empty(n_samples, np.int64)
            norm = np.empty(n_samples, dtype)
            MixtureKernels(parameters, dtype).score([(0, X)], norm, labels, resp)
            arrays = [[t.log_likelihood], t.sum_resp, t.sum_diff, t.sum_outer, resp, labels, norm]
            print(name, np.dtype(dtype), *(float(v) for a in arrays for v in np.ravel(a)))
"""


def results_of_types(*names, **environment):
    environment = {**os.environ, **environment}
    command = [sys.executable, "-c", RESULTS_OF_EVERY_TYPE, *names]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    lines = [line.split() for line in out.splitlines()]
    return [(name, dtype, np.array(values, dtype=float)) for name, dtype, *values in lines]


@needs_tiles
def test_portable_kernels_and_tiles_agree():
    tiles, portable = results_of_types(*TYPES), results_of_types(*TYPES, FASTGMM_SIMD="0")
    assert len(tiles) == len(portable) == 48
    for (name, dtype, ours), (_, _, theirs) in zip(tiles, portable, strict=True):
        rtol = RTOL[np.dtype(dtype).type]
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(), err_msg=f"{name} {dtype}")


def test_types_compiled_in_different_processes_do_not_mix(tmp_path):
    """Machine code from the cache is linked by name: equal names of different functions would swap them."""
    alone = [results_of_types(name, FASTGMM_CACHE=str(tmp_path)) for name in ("full", "diag")]
    together = results_of_types("full", "diag", FASTGMM_CACHE=str(tmp_path))
    for (_, _, expected), (_, _, values) in zip([*alone[0], *alone[1]], together, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_kernels_run_uncompiled_with_the_same_results():
    code = """
import numpy as np
from fastgmm import GaussianMixture
X = np.concatenate([np.random.default_rng(0).normal(size=(20, 3)), np.random.default_rng(1).normal(5, 1, (15, 3))])
for t in ("full", "tied", "diag", "spherical"):
    m = GaussianMixture(2, covariance_type=t, random_state=0, max_iter=3, tol=1e-9)
    import warnings
    warnings.simplefilter("ignore")
    m.fit(X)
    print(t, *np.concatenate([m.weights_, m.means_.ravel(), m.covariances_.ravel(), m.score_samples(X)]).tolist())
"""

    def run(**environment):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
        ).stdout
        return {line.split()[0]: [float(v) for v in line.split()[1:]] for line in out.splitlines()}

    compiled, interpreted = run(), run(NUMBA_DISABLE_JIT="1")
    assert compiled.keys() == set(TYPES)
    for covariance_type, values in compiled.items():
        np.testing.assert_allclose(values, interpreted[covariance_type], rtol=1e-9, atol=1e-12)


# ---- triangular matrices ----


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 20, 67])
def test_the_inverse_of_triangular_matrices_is_lapack_s(n):
    rng = np.random.default_rng(n)
    upper = np.triu(rng.normal(size=(3, n, n)) / np.sqrt(n)) + 2 * np.eye(n)
    found = np.full_like(upper, np.nan)
    triangular.invert_upper(upper, found)
    np.testing.assert_allclose(found, np.linalg.inv(upper), rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(found, np.triu(found))


@pytest.mark.parametrize("order", ["as they come", "by component", "weights from small to large"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_what_sums_leave_out_is_in_no_digit(covariance_type, dtype, order):
    """The moments of components apart, most of whose responsibilities are skipped, are those of all rows."""
    rng = np.random.default_rng(7)
    n_samples, n_components, n_features = 3000, 24, 5
    means = 6 * rng.normal(size=(n_components, n_features))
    label = rng.integers(n_components, size=n_samples)
    X = (means[label] + rng.normal(size=(n_samples, n_features))).astype(dtype)
    weight = np.ones(n_samples)
    if order == "by component":
        X = X[np.argsort(label, kind="stable")]
    elif order == "weights from small to large":
        weight = np.geomspace(1e-12, 1.0, n_samples)
    covariances = reference_covariances(covariance_type, n_components, n_features)
    weights = np.full(n_components, 1 / n_components)
    mixture = engine.mixture(weights, means, covariances, covariance_type=covariance_type)
    found = engine.statistics(X, mixture, sample_weight=weight)
    exact = X.astype(np.float64)
    resp = weight[:, None] * reference.predict_proba(
        exact, reference.Mixture(mixture.weights, means, covariances, covariance_type)
    )
    diff = exact[:, None] - means
    first = np.einsum("nk,nkd->kd", resp, diff)
    second = np.einsum("nk,nkd,nke->kde", resp, diff, diff)
    if covariance_type == "diag":
        second = np.einsum("kdd->kd", second)
    rtol, size = RTOL[dtype], np.einsum("nk,nkd->kd", resp, diff**2)
    np.testing.assert_allclose(found.sum_resp, resp.sum(axis=0), rtol=rtol)
    assert (np.abs(found.sum_diff - first) <= rtol * np.sqrt(size * resp.sum(axis=0)[:, None])).all()
    spread = np.sqrt(size[:, :, None] * size[:, None]) if covariance_type == "full" else size
    assert (np.abs(found.sum_outer - second) <= 10 * rtol * spread).all()


def reference_covariances(covariance_type, n_components, n_features):
    if covariance_type == "diag":
        return np.full((n_components, n_features), 0.9)
    return np.tile(0.9 * np.eye(n_features) + 0.1, (n_components, 1, 1))
