"""The algebra of mixtures: certified values, the laws it obeys, and what it refuses."""

from __future__ import annotations

import json
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture, algebra
from fastgmm.exceptions import InvalidParameterError, NotFittedError, SingularCovarianceError
from tests import reference_algebra as reference
from tests.conftest import ROOT
from tests.reference_algebra import Mix

EPS = np.finfo(np.float64).eps
SEEDS = st.integers(0, 10**6)
few = settings(max_examples=25)


def random_mix(seed: int, n_features: int | None = None, n_components: int | None = None) -> Mix:
    """Weights, means and covariances of condition up to some hundreds."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 4)) if n_features is None else n_features
    k = int(rng.integers(1, 5)) if n_components is None else n_components
    factors = rng.normal(size=(k, d, d)) + 0.3 * np.eye(d)
    covariances = factors @ factors.swapaxes(1, 2) + 0.1 * np.eye(d)
    return Mix(rng.dirichlet(np.full(k, 3.0)), 2 * rng.normal(size=(k, d)), covariances)


def model(mix: Mix) -> GaussianMixture:
    return GaussianMixture.from_parameters(*mix)


def parts(mixture: GaussianMixture) -> Mix:
    return Mix(mixture.weights_, mixture.means_, mixture.covariances_)


def ordered(mix: Mix) -> Mix:
    order = np.lexsort(mix.means.T.round(6))
    return Mix(*(array[order] for array in mix))


def assert_same(a: Mix, b: Mix, rtol: float = 1e-9) -> None:
    for one, other in zip(ordered(a), ordered(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


def certified(name: str) -> dict:
    return json.loads((ROOT / "tests" / "data" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def acidity():
    values = certified("acidity")["acidity"]
    means, variances = np.array(values["means"])[:, None], np.array(values["variances"])[:, None, None]
    return values, model(Mix(np.array(values["weights"]), means, variances))


# --- certified values ---


def test_the_squared_transport_distance_is_the_certified_one():
    """POT 0.9.7, ot.gmm.gmm_ot_loss."""
    data = certified("mw2")
    a, b = (model(Mix(np.full(10, 0.1), np.array(data[f"means{i}"]), np.array(data[f"cov{i}"]))) for i in (1, 2))
    way = algebra.transport(a, b)
    assert way.distance**2 == pytest.approx(data["pot_gmm_ot_loss"], rel=1e-12)
    assert way.distance**2 == pytest.approx(13.0042834031, rel=1e-10)
    assert algebra.transport(a, a).distance < 1e-13


def test_quantiles_are_the_certified_ones(acidity):
    values, mixture = acidity
    np.testing.assert_allclose(algebra.quantile(mixture, values["p"]), values["quantiles"], rtol=1e-13)
    np.testing.assert_allclose(algebra.cdf(mixture, values["quantiles"]), values["p"], rtol=1e-12)


def test_levels_of_regions_of_highest_density_are_those_of_a_fine_grid(acidity):
    """R's hdrlevels takes quantiles over the data, so that its values are of another thing."""
    _, mixture = acidity
    coverage = [0.25, 0.5, 0.75, 0.95]
    expected = [reference.hdr_level(c, parts(mixture)) for c in coverage]
    np.testing.assert_allclose(algebra.hdr_level(mixture, coverage), expected, atol=2e-4)


def test_the_probability_of_a_box_is_the_certified_one():
    """R's tmvtnorm, which integrates numerically: right to some 1e-5."""
    data = certified("acidity")["truncated"]
    mixture = model(Mix(np.ones(1), np.array([data["mean"]]), np.array([data["cov"]])))
    value, error = algebra.box_probability(mixture, data["lower"], data["upper"])
    assert value == pytest.approx(data["prob"], abs=1e-5)
    assert 0 < error < 1e-5


# --- maps ---


@few
@given(SEEDS)
def test_an_affine_map_and_its_inverse_change_nothing(seed):
    mix = random_mix(seed)
    rng = np.random.default_rng(seed)
    d = mix.means.shape[1]
    matrix, offset = rng.normal(size=(d, d)) + 2 * np.eye(d), rng.normal(size=d)
    inverse = np.linalg.inv(matrix)
    there = algebra.affine(model(mix), matrix, offset)
    back = algebra.affine(there, inverse, -inverse @ offset)
    np.testing.assert_allclose(back.means_, mix.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back.covariances_, mix.covariances, rtol=1e-8, atol=1e-8)


def test_the_density_of_an_affine_image_is_that_of_the_rows_over_the_determinant():
    mix, matrix = random_mix(3, 2), np.array([[2.0, 1.0], [0.0, -3.0]])
    X = np.random.default_rng(0).normal(size=(50, 2))
    image = algebra.affine(model(mix), matrix, [1.0, 2.0])
    expected = reference.density(X, mix) / abs(np.linalg.det(matrix))
    np.testing.assert_allclose(np.exp(image.score_samples(X @ matrix.T + [1.0, 2.0])), expected, rtol=1e-11)


@few
@given(SEEDS)
def test_moments_of_a_sum_add(seed):
    p = random_mix(seed)
    q = random_mix(seed + 1, p.means.shape[1])
    total = parts(algebra.sum_of(model(p), model(q)))
    for found, one, other in zip(reference.moments(total), reference.moments(p), reference.moments(q), strict=True):
        np.testing.assert_allclose(found, one + other, rtol=1e-10, atol=1e-10)


@few
@given(SEEDS)
def test_a_product_is_the_product_of_the_densities(seed):
    p = random_mix(seed)
    q = random_mix(seed + 1, p.means.shape[1])
    both, log_constant = algebra.product(model(p), model(q))
    X = np.random.default_rng(seed).normal(size=(20, p.means.shape[1]))
    expected = np.log(reference.density(X, p)) + np.log(reference.density(X, q))
    np.testing.assert_allclose(both.score_samples(X) + log_constant, expected, rtol=1e-9, atol=1e-9)


def test_a_product_of_densities_far_apart_and_far_from_the_origin_keeps_its_digits():
    p = model(Mix(np.ones(1), np.full((1, 2), 1e8), np.eye(2)[None]))
    q = model(Mix(np.ones(1), np.full((1, 2), 1e8 + 1000.0), 1e-6 * np.eye(2)[None]))
    both, log_constant = algebra.product(p, q)
    np.testing.assert_allclose(both.means_ - 1e8, 1000 - 1000 * 1e-6 / (1 + 1e-6), rtol=1e-10)
    np.testing.assert_allclose(both.covariances_[0].diagonal(), 1e-6 / (1 + 1e-6), rtol=1e-12)
    expected = -(1000**2) / (1 + 1e-6) - math.log(2 * math.pi * (1 + 1e-6))
    assert log_constant == pytest.approx(expected, rel=1e-12)


# --- reduction ---


@few
@given(SEEDS)
def test_a_reduction_keeps_mean_and_covariance_and_its_promise(seed):
    mix = random_mix(seed, n_components=7)
    small, bound = algebra.reduce(model(mix), 3, return_bound=True)
    assert len(small.weights_) == 3
    for found, expected in zip(reference.moments(parts(small)), reference.moments(mix), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert bound <= reference.runnalls(mix, 3)[1] + 1e-12
    value, error = algebra.kl_divergence(model(mix), small, n_samples=2000, random_state=0)
    assert value - 5 * error <= bound


@pytest.mark.parametrize("seed", range(5))
def test_merging_is_that_of_the_slow_statement(seed):
    """To one component fewer there is nothing to regroup that was not merged."""
    mix = random_mix(seed, 2, 6)
    small, bound = algebra.reduce(model(mix), 5, return_bound=True)
    expected, cost = reference.runnalls(mix, 5)
    assert bound <= cost + 1e-13
    if bound > cost - 1e-12:
        assert_same(parts(small), expected)


@few
@given(SEEDS, st.floats(1e-4, 2.0))
def test_max_kl_is_kept_and_one_component_fewer_would_be_no_promise(seed, max_kl):
    mix = random_mix(seed, n_components=6)
    small, bound = algebra.reduce(model(mix), max_kl=max_kl, return_bound=True)
    assert bound <= max_kl
    if len(small.weights_) > 1:
        assert reference.runnalls(mix, len(small.weights_) - 1)[1] > max_kl * (1 - 1e-9)


def test_nothing_is_merged_for_free_and_equal_components_are():
    mix = random_mix(1, 2, 3)
    assert len(algebra.reduce(model(mix), max_kl=0.0).weights_) == 3
    twice = Mix(np.tile(mix.weights / 2, 2), np.tile(mix.means, (2, 1)), np.tile(mix.covariances, (2, 1, 1)))
    assert_same(parts(algebra.reduce(model(twice), max_kl=1e-12)), mix)


# --- divergences ---


@pytest.mark.parametrize("seed", range(4))
def test_divergences_in_one_dimension_are_those_of_a_fine_grid(seed):
    p, q = random_mix(seed, 1), random_mix(seed + 10, 1)
    kl, l2, cauchy_schwarz = reference.integrals(p, q)
    value, error = algebra.kl_divergence(model(p), model(q), random_state=0)
    assert abs(value - kl) < 4.5 * error
    assert error < 0.02 * (1 + kl)
    assert algebra.l2_distance(model(p), model(q)) == pytest.approx(l2, rel=1e-9)
    assert algebra.cauchy_schwarz_divergence(model(p), model(q)) == pytest.approx(cauchy_schwarz, rel=1e-9)


@few
@given(SEEDS)
def test_the_variational_approximation_is_its_formula_and_exact_for_single_gaussians(seed):
    p = random_mix(seed)
    q = random_mix(seed + 1, p.means.shape[1])
    value, error = algebra.kl_divergence(model(p), model(q), method="variational")
    assert value == pytest.approx(reference.variational_kl(p, q), rel=1e-8, abs=1e-8)
    assert math.isnan(error)
    single = [Mix(np.ones(1), m.means[:1], m.covariances[:1]) for m in (p, q)]
    exact = reference.kl_gaussians(
        single[0].means[0], single[0].covariances[0], single[1].means[0], single[1].covariances[0]
    )
    found = algebra.kl_divergence(*map(model, single), method="variational").value
    assert found == pytest.approx(exact, rel=1e-9, abs=1e-9)


@few
@given(SEEDS)
def test_divergences_of_equal_mixtures_are_0_and_distances_symmetric(seed):
    p = random_mix(seed)
    a, b = model(p), model(random_mix(seed + 1, p.means.shape[1]))
    assert algebra.kl_divergence(a, a, n_samples=100, random_state=0) == (0.0, 0.0)
    assert algebra.kl_divergence(a, a, method="variational").value == 0.0
    assert algebra.l2_distance(a, a) == 0.0
    assert algebra.cauchy_schwarz_divergence(a, a) == 0.0
    for distance in (algebra.l2_distance, algebra.cauchy_schwarz_divergence):
        assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-12)


def test_distances_do_not_underflow():
    d = 200
    a = model(Mix(np.ones(1), np.zeros((1, d)), 1e-4 * np.eye(d)[None]))
    b = algebra.affine(a, 1.0, 0.02)
    assert algebra.cauchy_schwarz_divergence(a, b) == pytest.approx(d * 0.02**2 / 4e-4, rel=1e-12)
    log_norm = -0.5 * d * math.log(4 * math.pi * 1e-4)  # of the square
    assert math.log(algebra.l2_distance(a, b)) == pytest.approx(0.5 * (log_norm + math.log(2)), rel=1e-12)


# --- transport ---


@few
@given(SEEDS)
def test_the_transport_distance_is_a_metric(seed):
    p = random_mix(seed)
    d = p.means.shape[1]
    a, b, c = (model(m) for m in (p, random_mix(seed + 1, d), random_mix(seed + 2, d)))
    ab, bc, ac = (algebra.transport(*pair).distance for pair in ((a, b), (b, c), (a, c)))
    assert ab == pytest.approx(algebra.transport(b, a).distance, rel=1e-8)
    assert ac <= ab + bc + 1e-9
    assert ab > 0
    assert algebra.transport(a, a).distance < 1e-7
    assert ab == pytest.approx(reference.mw2(p, parts(b)), rel=1e-6)


@few
@given(SEEDS)
def test_a_translation_costs_its_length(seed):
    mix = random_mix(seed)
    offset = np.random.default_rng(seed).normal(size=mix.means.shape[1])
    way = algebra.transport(model(mix), algebra.affine(model(mix), 1.0, offset))
    assert way.distance == pytest.approx(np.linalg.norm(offset), rel=1e-10)


def test_a_single_gaussian_is_moved_by_the_optimal_map():
    """Its slope is S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2, symmetric, and turns S into T."""
    p, q = random_mix(5, 3, 1), random_mix(6, 3, 1)
    way = algebra.transport(model(p), model(q))
    slope = way.map(p.means + np.eye(3)) - q.means
    np.testing.assert_allclose(slope, slope.T, atol=1e-12)
    assert np.linalg.eigvalsh(slope).min() > 0
    np.testing.assert_allclose(slope @ p.covariances[0] @ slope, q.covariances[0], rtol=1e-10, atol=1e-10)
    assert way.distance**2 == pytest.approx(
        ((p.means - q.means) ** 2).sum() + reference.bures(p.covariances[0], q.covariances[0]), rel=1e-10
    )


@few
@given(SEEDS, st.floats(0.05, 0.95))
def test_the_geodesic_has_constant_speed_and_leads_from_one_to_the_other(seed, t):
    p = random_mix(seed)
    a, b = model(p), model(random_mix(seed + 1, p.means.shape[1]))
    way = algebra.transport(a, b)
    np.testing.assert_allclose(way.plan.sum(axis=1), a.weights_, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(way.plan.sum(axis=0), b.weights_, rtol=1e-12, atol=1e-14)
    for end, mixture in ((0.0, a), (1.0, b)):
        assert algebra.l2_distance(way.geodesic(end), mixture) < 1e-6
    between = way.geodesic(t)
    assert algebra.transport(a, between).distance == pytest.approx(t * way.distance, rel=1e-6)
    assert algebra.transport(between, b).distance == pytest.approx((1 - t) * way.distance, rel=1e-6)


def test_rows_mapped_at_random_are_rows_of_the_other_mixture():
    p, q = random_mix(1, 2, 3), random_mix(2, 2, 2)
    X = reference.draw(p, 4000, 0)
    way = algebra.transport(model(p), model(q))
    moved = way.map(X, random_state=0, random=True)
    for direction in ([1.0, 0.0], [0.6, -0.8]):
        ranks = algebra.cdf(model(q), moved @ direction, direction)
        assert stats.kstest(ranks, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(way.map(X[:100], random_state=0, random=True), moved[:100])
    cost = ((moved - X) ** 2).sum(axis=1).mean()
    assert cost == pytest.approx(way.distance**2, rel=0.1)


def test_small_weights_keep_their_digits_in_the_plan():
    a = model(Mix(np.array([1 - 1e-9, 1e-9]), np.array([[0.0], [5.0]]), np.ones((2, 1, 1))))
    b = model(Mix(np.array([0.5, 0.5]), np.array([[0.0], [1.0]]), np.ones((2, 1, 1))))
    plan = algebra.transport(a, b).plan
    np.testing.assert_allclose(plan.sum(axis=1), a.weights_, rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), b.weights_, rtol=1e-12)


@few
@given(SEEDS, st.floats(0.1, 0.9))
def test_the_barycentre_of_two_is_a_point_of_the_geodesic(seed, t):
    p = random_mix(seed, n_components=2)
    a, b = model(p), model(random_mix(seed + 1, p.means.shape[1], 3))
    middle = algebra.barycenter([a, b], [1 - t, t])
    assert algebra.transport(middle, algebra.transport(a, b).geodesic(t)).distance < 1e-6


def test_no_other_mixture_is_nearer_than_the_barycentre():
    mixtures = [model(random_mix(seed, 2, 2)) for seed in range(3)]
    shares = np.array([0.2, 0.3, 0.5])
    middle = algebra.barycenter(mixtures, shares)

    def cost(mixture):
        return sum(w * algebra.transport(mixture, m).distance ** 2 for w, m in zip(shares, mixtures, strict=True))

    least = cost(middle)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        other = algebra.affine(middle, np.eye(2) + 0.05 * rng.normal(size=(2, 2)), 0.05 * rng.normal(size=2))
        assert cost(other) > least


# --- shape ---


@few
@given(SEEDS)
def test_gradient_and_hessian_are_the_derivatives(seed):
    mix = random_mix(seed)
    d = mix.means.shape[1]
    X = np.random.default_rng(seed).normal(size=(4, d))
    gradient, hessian = algebra.gradient(model(mix), X), algebra.hessian(model(mix), X)
    np.testing.assert_allclose(gradient, [reference.gradient(x, mix) for x in X], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(hessian, [reference.hessian(x, mix) for x in X], rtol=1e-5, atol=1e-5)
    p = reference.density(X, mix)[:, None]
    np.testing.assert_allclose(algebra.gradient(model(mix), X, log=False), p * gradient, rtol=1e-9)
    outer = gradient[:, :, None] * gradient[:, None]
    expected = p[..., None] * (hessian + outer)
    np.testing.assert_allclose(algebra.hessian(model(mix), X, log=False), expected, rtol=1e-8, atol=1e-10)


@few
@given(SEEDS)
def test_modes_are_maxima_and_none_of_one_dimension_is_missed(seed):
    mix = random_mix(seed, 1)
    found = algebra.modes(model(mix))
    x, step = reference.grid(mix)
    p = reference.density(x, mix)
    peaks = x[1:-1, 0][(p[1:-1] > p[:-2]) & (p[1:-1] > p[2:])]
    np.testing.assert_allclose(np.sort(found[:, 0]), peaks, atol=2 * step)
    assert abs(algebra.gradient(model(mix), found)).max() < 1e-9
    assert (np.diff(reference.density(found, mix)) <= 1e-12).all()


def test_modes_of_components_far_from_the_origin_and_between_them():
    """Three ridges that cross between the means: a fourth mode, which no mean leads to."""
    angles = np.deg2rad([90, 210, 330])
    covariances = []
    for angle in angles:
        axis = np.array([np.cos(angle), np.sin(angle)])
        covariances.append(0.9 * np.outer(axis, axis) + 0.05 * np.eye(2))
    means = np.column_stack([np.cos(angles), np.sin(angles)])
    mixture = model(Mix(np.full(3, 1 / 3), means, np.array(covariances)))
    found = algebra.modes(mixture)
    far = algebra.modes(algebra.affine(mixture, 1.0, 1e8)) - 1e8
    assert len(far) == len(found) == 4
    apart = np.linalg.norm(far[:, None] - found, axis=2)  # three are equally high, in any order
    assert apart.min(axis=1).max() < 1e-7
    assert np.linalg.norm(found, axis=1).min() < 1e-8


def test_where_two_modes_become_one_it_is_found():
    """At two standard deviations the second derivative vanishes there, and steps towards it shrink without end."""
    mixture = model(Mix(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.ones((2, 1, 1))))
    found = algebra.modes(mixture)
    assert found.shape == (1, 1)
    assert abs(found[0, 0]) < 1e-3


# --- one dimension ---


@few
@given(SEEDS, st.lists(st.floats(-300, -0.31), min_size=1, max_size=5))
def test_the_distribution_function_of_a_quantile_is_its_probability(seed, exponents):
    mixture = model(random_mix(seed))
    direction = np.random.default_rng(seed).normal(size=mixture.means_.shape[1])
    p = 10.0 ** np.array(exponents)
    for upper in (False, True):
        x = algebra.quantile(mixture, p, direction, upper=upper)
        np.testing.assert_allclose(algebra.cdf(mixture, x, direction, upper=upper), p, rtol=1e-12)
    np.testing.assert_allclose(algebra.cdf(mixture, algebra.quantile(mixture, 1 - p, direction), direction), 1 - p)


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_along_a_direction_are_those_of_bisection(seed):
    mix, direction = random_mix(seed, 3), np.array([1.0, -2.0, 0.5])
    p = np.array([1e-6, 0.2, 0.5, 0.9, 1 - 1e-6])
    expected = [reference.quantile(q, mix, direction) for q in p]
    np.testing.assert_allclose(algebra.quantile(model(mix), p, direction), expected, rtol=1e-8, atol=1e-8)


def test_extreme_tails_are_those_of_fifty_digits():
    mixture = model(Mix(np.array([0.3, 0.7]), np.array([[0.0], [1.0]]), np.array([[[1.0]], [[4.0]]])))
    with mpmath.workdps(50):
        for x in (-60.0, -30.0, 5.0):
            ends = [mpmath.ncdf(mpmath.mpf(x)), mpmath.ncdf((mpmath.mpf(x) - 1) / 2)]
            expected = float(mpmath.mpf(0.3) * ends[0] + mpmath.mpf(0.7) * ends[1])
            assert algebra.cdf(mixture, x) == pytest.approx(expected, rel=1e-12)
    assert algebra.quantile(mixture, [0.0, 1.0]).tolist() == [-math.inf, math.inf]
    assert algebra.cdf(mixture, [-math.inf, math.inf]).tolist() == [0.0, 1.0]


def test_quantiles_between_components_far_apart_and_far_from_the_origin():
    mixture = model(Mix(np.array([0.25, 0.75]), np.array([[1e8], [2e8]]), np.full((2, 1, 1), 1e-6)))
    x = algebra.quantile(mixture, [0.1, 0.25, 0.5])
    np.testing.assert_allclose(algebra.cdf(mixture, x), [0.1, 0.25, 0.5], rtol=1e-4)  # 1e-3 is 67,000 roundings
    assert 1e8 < x[1] < 2e8


# --- regions ---


@few
@given(SEEDS)
def test_the_probability_of_a_box_is_that_of_an_integral(seed):
    mix = random_mix(seed)
    d = mix.means.shape[1]
    low, high = np.full(d, -1.5), np.full(d, 2.0)
    value, error = algebra.box_probability(model(mix), low, high)
    pieces = [stats.multivariate_normal.cdf(high, m, S, lower_limit=low) for m, S in zip(*mix[1:], strict=True)]
    assert value == pytest.approx(mix.weights @ pieces, abs=2e-5)
    assert error <= 2e-5


def test_a_box_in_the_tail_keeps_its_digits():
    """Of independent columns that are turned: x + y and x - y of normal x and y."""
    turn = np.array([[1.0, 1.0], [1.0, -1.0]])
    mixture = algebra.affine(model(Mix(np.ones(1), np.zeros((1, 2)), np.diag([1.0, 4.0])[None])), turn)
    orthant = algebra.box_probability(mixture, 0.0, np.inf).value
    assert orthant == pytest.approx(0.25 + math.asin(-0.6) / (2 * math.pi), rel=1e-9)
    assert algebra.box_probability(mixture, 1e6, np.inf) == (0.0, 0.0)
    far = algebra.box_probability(mixture, [40.0, -np.inf], np.inf).value
    assert far == pytest.approx(stats.norm.sf(40 / math.sqrt(5)), rel=1e-9)


@pytest.mark.parametrize("n_features", [1, 2, 4])
def test_regions_of_highest_density_cover_what_they_say(n_features):
    mixture = model(random_mix(n_features, n_features, 3))
    X = reference.draw(parts(mixture), 200_000, 1)
    for coverage in (0.3, 0.9):
        share = algebra.in_hdr(mixture, X, coverage).mean()
        error = math.sqrt(coverage * (1 - coverage) * (1 / 200_000 + 1 / 100_000))
        assert abs(share - coverage) < 4 * error


# --- what goes in ---


def test_every_kind_of_mixture_goes_in(blobs):
    X = blobs[0]
    mixtures = [
        GaussianMixture(3, covariance_type=c, random_state=0).fit(X) for c in ("full", "tied", "diag", "spherical")
    ]
    mixtures.append(BayesianGaussianMixture(n_components=3, random_state=0).fit(X))
    mixtures.append(StandardisedMixture(GaussianMixture(3, random_state=0)).fit(X))
    mixtures.append(MixtureOfFactorAnalyzers(3, n_factors=1, random_state=0).fit(X))
    mixtures.append(GaussianMixture(3, random_state=0).fit(X.astype(np.float32)))
    for mixture in mixtures:
        same = algebra.affine(mixture, 1.0)
        assert same.means_.dtype == np.float64
        assert algebra.transport(mixture, same).distance < 1e-6
        assert algebra.kl_divergence(mixture, same, n_samples=100, random_state=0).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_common_offset_of_all_means_costs_no_digits(seed):
    """Means are multiples of 2^-10 and the offset is 2^27, so that adding it rounds nothing."""
    p, q = (
        m._replace(means=np.round(m.means * 1024) / 1024) for m in (random_mix(seed, 2, 4), random_mix(seed + 5, 2, 3))
    )
    offset = 2.0**27
    near = model(p), model(q)
    far = tuple(model(m._replace(means=m.means + offset)) for m in (p, q))
    for measure in (
        algebra.l2_distance,
        algebra.cauchy_schwarz_divergence,
        lambda a, b: algebra.transport(a, b).distance,
        lambda a, b: algebra.product(a, b)[1],
        lambda a, b: algebra.kl_divergence(a, b, method="variational").value,
        lambda a, b: algebra.reduce(a, 2, return_bound=True)[1],
        lambda a, b: algebra.barycenter([a, b]).covariances_.sum(),
        lambda a, b: algebra.box_probability(a, a.means_.min(axis=0), a.means_.max(axis=0)).value,
        lambda a, b: algebra.hessian(a, b.means_).sum(),
        lambda a, b: algebra.cdf(a, b.means_[0, 0], 0),
    ):
        assert measure(*far) == pytest.approx(measure(*near), rel=1e-7)


def test_a_singular_covariance_is_named():
    mixture = model(random_mix(1, 2, 2))
    mixture.covariances_[1] = [[1.0, 1.0], [1.0, 1.0]]
    with pytest.raises(SingularCovarianceError, match=r"component 1 of a is singular.*reg_covar") as caught:
        algebra.transport(mixture, model(random_mix(1, 2, 2)))
    assert caught.value.component == 1


def test_modes_of_many_components_are_maxima():
    """More pairs than are looked between."""
    mixture = model(random_mix(2, 2, 40))
    found = algebra.modes(mixture)
    assert len(found) >= 1
    assert abs(algebra.gradient(mixture, found)).max() < 1e-8
    assert np.linalg.eigvalsh(algebra.hessian(mixture, found)).max() < 0


def test_components_without_weight_play_no_part():
    mix = random_mix(1, 2, 2)
    more = Mix(np.append(mix.weights, 0.0), np.vstack([mix.means, [[50.0, 50.0]]]), mix.covariances[[0, 1, 0]])
    assert len(algebra.modes(model(more))) == len(algebra.modes(model(mix)))
    assert algebra.quantile(model(more), 1 - 1e-9, 0) == algebra.quantile(model(mix), 1 - 1e-9, 0)
    assert algebra.l2_distance(model(more), model(mix)) == 0.0


def test_uniform_noise_counts_where_it_can_and_is_refused_elsewhere():
    X = np.random.default_rng(0).normal(size=(500, 2))
    X[:25] = np.random.default_rng(1).uniform(-20, 20, size=(25, 2))
    mixture = GaussianMixture(1, noise=True, random_state=0).fit(X)
    weight, bounds = float(mixture.noise_weight_), mixture.noise_bounds_
    assert 0 < weight < 0.5
    assert algebra.cdf(mixture, bounds[1, 0] + 1, 0) == pytest.approx(1.0)
    p = np.array([1e-3, 0.3, 0.999])
    np.testing.assert_allclose(algebra.cdf(mixture, algebra.quantile(mixture, p, 1), 1), p, rtol=1e-12)
    assert algebra.box_probability(mixture, bounds[0], bounds[1]).value == pytest.approx(1.0, abs=1e-9)
    assert algebra.kl_divergence(mixture, mixture, n_samples=100, random_state=0) == (0.0, 0.0)
    rows = mixture.sample(2000)[0]
    assert stats.kstest(algebra.cdf(mixture, rows[:, 0], 0), "uniform").pvalue > 1e-3
    assert algebra.box_probability(mixture, [1.0, -3.0], [8.0, 2.0]).value == pytest.approx(
        ((rows > [1, -3]) & (rows < [8, 2])).all(axis=1).mean(), abs=0.04
    )
    np.testing.assert_allclose(algebra.gradient(mixture, [[15.0, 15.0]]), 0.0, atol=1e-12)
    _, labels = algebra.sample_hdr(mixture, 0.999, 500, 0)
    assert (labels == -1).any()
    for action in (
        lambda: algebra.affine(mixture, 2.0),
        lambda: algebra.transport(mixture, mixture),
        lambda: algebra.sample_slab(mixture, 0, 1.0),
    ):
        with pytest.raises(ValueError, match=r"uniform noise component.*Leave it out"):
            action()
    with pytest.raises(ValueError, match="along columns"):
        algebra.cdf(mixture, 0.0, [1.0, 1.0])


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (lambda m: algebra.affine([1], 2.0), TypeError, "mixture must be a fitted mixture.*from_parameters"),
        (lambda m: algebra.affine(GaussianMixture(), 2.0), NotFittedError, "not fitted yet"),
        (lambda m: algebra.affine(m, np.ones((2, 2))), ValueError, "full row rank"),
        (lambda m: algebra.affine(m, np.ones((2, 3))), ValueError, r"matrix must have the shape \(n_out, 2\)"),
        (lambda m: algebra.affine(m, np.full((2, 2), np.nan)), ValueError, "matrix must be finite"),
        (lambda m: algebra.affine(m, np.eye(2), [1.0, 2.0, 3.0]), ValueError, "offset must be a number or"),
        (lambda m: algebra.sum_of(m, model(random_mix(0, 3))), ValueError, "a has 2 features, but b has 3"),
        (lambda m: algebra.reduce(m), ValueError, "Give n_components, max_kl or both"),
        (lambda m: algebra.reduce(m, 0), InvalidParameterError, "n_components must be an int of at least 1"),
        (lambda m: algebra.reduce(m, max_kl=-1.0), ValueError, "max_kl must be at least 0"),
        (lambda m: algebra.kl_divergence(m, m, method="exact"), ValueError, "method must be"),
        (lambda m: algebra.kl_divergence(m, m, n_samples=1), InvalidParameterError, "n_samples must be an int of at"),
        (lambda m: algebra.transport(m, m).geodesic(1.5), ValueError, r"t must lie in \[0, 1\]"),
        (lambda m: algebra.transport(m, m).map(np.ones(2)), ValueError, r"X must have the shape \(n_samples, 2\)"),
        (lambda m: algebra.transport(m, m).map([[1.0, np.nan]]), ValueError, "X is not finite at row 0, column 1"),
        (lambda m: algebra.barycenter([]), ValueError, "at least one mixture"),
        (lambda m: algebra.barycenter([m, m], [1.0]), ValueError, "weights must be 2 numbers"),
        (lambda m: algebra.barycenter([m] * 10), ValueError, "tuples of components.*reduce"),
        (lambda m: algebra.cdf(m, 0.0), ValueError, "direction must be given, as the mixture has 2 features"),
        (lambda m: algebra.cdf(m, np.nan, 0), ValueError, "x must not be NaN"),
        (lambda m: algebra.cdf(m, 0.0, 2), ValueError, "direction 2 is no column"),
        (lambda m: algebra.cdf(m, 0.0, [0.0, 0.0]), ValueError, "other than 0"),
        (lambda m: algebra.quantile(m, 1.5, 0), ValueError, r"p must lie in \[0, 1\], got 1.5"),
        (lambda m: algebra.hdr_level(m, 1.0), ValueError, r"coverage must lie in \(0, 1\)"),
        (lambda m: algebra.box_probability(m, 1.0, [2.0, 1.0]), ValueError, "low must be below high.*column 1"),
        (lambda m: algebra.box_probability(m, np.nan, 1.0), ValueError, "low must be finite"),
    ],
)
def test_bad_input_is_named_with_the_remedy(action, error, words):
    with pytest.raises(error, match=words):
        action(model(random_mix(4, 2, 3)))
