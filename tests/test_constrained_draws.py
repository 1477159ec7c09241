"""Draws under constraints: they keep them, are distributed as rejection says, and any portion is one of the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastgmm import GaussianMixture, algebra
from fastgmm.algebra._arguments import components_of
from fastgmm.model.algebra import tilting
from fastgmm.model.algebra.shells import by_distance, on_spheres
from fastgmm.model.algebra.truncated import log_mass, truncated_normal
from fastgmm.threads import thread_limit
from tests import reference_algebra as reference
from tests.reference_algebra import Mix
from tests.test_algebra import model, parts, random_mix

N = 4000
CORRELATED = random_mix(7, 3, 3)
DIAGONAL = Mix(CORRELATED.weights, CORRELATED.means, np.eye(3) * CORRELATED.covariances)
DIRECTION = np.array([1.0, -0.5, 2.0])
TARGET = np.array([0.5, -0.5, 1.0])
LOW, HIGH = np.array([-1.0, -np.inf, 0.0]), np.array([2.0, 1.0, 3.0])
UNIT = np.array([1.0, 2.0, 0.5])


def in_box(X):
    return ((X >= LOW) & (X <= HIGH)).all(axis=1)


def distance(X):
    return np.sqrt((((X - TARGET) / UNIT) ** 2).sum(axis=1))


# name: (mixture, draw(mixture, n, seed, first), which of the mixture's rows are such)
KINDS = {
    "slab": (
        CORRELATED,
        lambda m, n, seed, first: algebra.sample_slab(m, DIRECTION, 1.0, 2.0, n, seed, first=first),
        lambda X: (X @ DIRECTION >= 1 - 1e-12) & (X @ DIRECTION <= 2 + 1e-12),
    ),
    "half-space": (
        CORRELATED,
        lambda m, n, seed, first: algebra.sample_slab(m, 1, low=0.5, n_samples=n, random_state=seed, first=first),
        lambda X: X[:, 1] >= 0.5,
    ),
    "box": (CORRELATED, lambda m, n, seed, first: algebra.sample_box(m, LOW, HIGH, n, seed, first=first), in_box),
    "diagonal box": (
        DIAGONAL,
        lambda m, n, seed, first: algebra.sample_box(m, LOW, HIGH, n, seed, first=first),
        in_box,
    ),
    "hdr": (
        CORRELATED,
        lambda m, n, seed, first: algebra.sample_hdr(m, 0.6, n, seed, first=first),
        lambda X: reference.density(X, CORRELATED) >= math.exp(algebra.hdr_level(model(CORRELATED), 0.6)) * (1 - 1e-9),
    ),
    "within": (
        CORRELATED,
        lambda m, n, seed, first: algebra.sample_within(m, TARGET, 1.5, n, seed, scale=UNIT, first=first),
        lambda X: distance(X) <= 1.5,
    ),
    "shell": (
        CORRELATED,
        lambda m, n, seed, first: algebra.sample_at_distance(m, TARGET, 2.0, 2.5, n, seed, scale=UNIT, first=first),
        lambda X: (distance(X) >= 2.0) & (distance(X) <= 2.5),
    ),
    "wide": (
        CORRELATED,
        lambda m, n, seed, first: algebra.sample_within(m, TARGET, 50.0, n, seed, first=first),
        lambda X: np.ones(len(X), bool),
    ),
    "ellipsoid": (CORRELATED, lambda m, n, seed, first: algebra.sample_ellipsoid(m, 0.5, n, seed, first=first), None),
    "near": (CORRELATED, lambda m, n, seed, first: algebra.sample_near(m, TARGET, UNIT, n, seed, first=first), None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_draws_keep_their_constraint_and_follow_the_distribution_that_rejection_gives(kind):
    mix, draw, accepts = KINDS[kind]
    X, labels = draw(model(mix), N, 0, 0)
    assert X.shape == (N, 3)
    assert labels.shape == (N,)
    if accepts is None:
        return
    assert accepts(X).all()
    candidates = reference.draw(mix, 400_000, 1)
    expected = candidates[accepts(candidates)]
    assert len(expected) > 2000
    for column in (*np.eye(3), DIRECTION, np.array([1.0, 1.0, -1.0])):
        assert stats.ks_2samp(X @ column, expected @ column).pvalue > 1e-3, column


@pytest.mark.parametrize("kind", KINDS)
def test_a_portion_holds_the_rows_of_the_whole_to_the_bit(kind):
    mix, draw, _ = KINDS[kind]
    whole, labels = draw(model(mix), 300, 5, 0)
    for first, last in ((0, 1), (17, 18), (50, 200), (130, 300)):
        X, y = draw(model(mix), last - first, 5, first)
        np.testing.assert_array_equal(X, whole[first:last])
        np.testing.assert_array_equal(y, labels[first:last])
    with thread_limit(2):
        np.testing.assert_array_equal(draw(model(mix), 300, 5, 0)[0], whole)
    assert not (draw(model(mix), 300, 6, 0)[0] == whole).any()


def test_components_of_constrained_rows_have_their_true_shares():
    """In a box where components are rare in different degrees, so that a wrong proportion of proposals would show."""
    mix = Mix(
        np.array([0.5, 0.5]),
        np.array([[0.0, 0.0], [3.0, 3.0]]),
        np.array([[[1, 0.8], [0.8, 1]], [[1, -0.6], [-0.6, 1]]]),
    )
    low, high = np.array([1.0, 1.5]), np.array([2.5, 4.0])
    X, labels = algebra.sample_box(model(mix), low, high, 20_000, 0)
    own = [
        algebra.box_probability(model(Mix(np.ones(1), mix.means[[k]], mix.covariances[[k]])), low, high).value
        for k in range(2)
    ]
    share = own[1] / sum(own)
    assert abs(labels.mean() - share) < 4 * math.sqrt(share * (1 - share) / 20_000)
    assert (np.clip(X, low, high) == X).all()


def test_improbable_slabs_are_drawn_without_rejection():
    """At 1000 standard deviations the excess over the bound is exponential, of mean 1 / 1000."""
    mixture = model(Mix(np.ones(1), np.full((1, 2), 1e4), np.array([[[1.0, 0.9], [0.9, 1.0]]])))
    X, _ = algebra.sample_slab(mixture, 0, low=1e4 + 1000, n_samples=N, random_state=0)
    excess = X[:, 0] - 1e4 - 1000
    assert (excess >= 0).all()
    assert stats.kstest(excess * 1000, "expon").pvalue > 1e-3
    assert stats.kstest(X[:, 1] - 1e4 - 0.9 * (X[:, 0] - 1e4), stats.norm(0, math.sqrt(0.19)).cdf).pvalue > 1e-3


def test_a_plane_gives_the_conditional_distribution():
    mixture = model(Mix(np.ones(1), np.array([[1.0, 2.0]]), np.array([[[1.0, 0.6], [0.6, 2.0]]])))
    X, _ = algebra.sample_slab(mixture, 0, 3.0, 3.0, N, 0)
    assert (X[:, 0] == 3.0).all()
    assert stats.kstest(X[:, 1], stats.norm(2 + 0.6 * 2, math.sqrt(2 - 0.36)).cdf).pvalue > 1e-3
    narrow, _ = algebra.sample_slab(mixture, 0, 3.0, 3.0 + 1e-9, N, 0)
    assert stats.kstest((narrow[:, 0] - 3.0) * 1e9, "uniform").pvalue > 1e-3


def test_a_box_far_in_the_tail_is_drawn():
    """Correlation -0.9 and both columns above 4: a probability of 1e-70."""
    mixture = model(Mix(np.ones(1), np.zeros((1, 2)), np.array([[[1.0, -0.9], [-0.9, 1.0]]])))
    assert 0 < algebra.box_probability(mixture, 4.0, np.inf).value < 1e-60
    X, _ = algebra.sample_box(mixture, 4.0, np.inf, 1000, 0)
    assert (X >= 4).all()
    # Of density exp(-4 (x + y - 8) / (1 - 0.9)) or so: excesses are exponential of mean 1/40.
    assert np.allclose((X - 4).mean(axis=0), 1 / 40, rtol=0.15)
    assert stats.ks_2samp(X[:, 0], X[:, 1]).pvalue > 1e-3


def test_without_a_saddle_point_draws_and_probabilities_are_the_same(monkeypatch):
    """The bound is then looser, and more is refused."""
    mixture = model(CORRELATED)
    expected, error = algebra.box_probability(mixture, LOW, HIGH)
    monkeypatch.setattr(tilting, "_saddle", lambda *arguments: None)
    value, larger = algebra.box_probability(mixture, LOW, HIGH)
    assert abs(value - expected) < 5 * (error + larger)
    X, _ = algebra.sample_box(mixture, LOW, HIGH, N, 0)
    candidates = reference.draw(CORRELATED, 400_000, 1)
    assert stats.ks_2samp(X @ DIRECTION, candidates[in_box(candidates)] @ DIRECTION).pvalue > 1e-3


@pytest.mark.parametrize("coverage", [0.5, (0.9, 1.0)])
def test_radii_of_ellipsoids_have_the_truncated_distribution(coverage):
    mixture = model(CORRELATED)
    X, labels = algebra.sample_ellipsoid(mixture, coverage, N, 0)
    z = np.linalg.solve(np.linalg.cholesky(mixture.covariances_)[labels], (X - mixture.means_[labels])[..., None])[
        ..., 0
    ]
    low, high = (0.0, coverage) if np.isscalar(coverage) else coverage
    rank = (stats.chi2.cdf((z**2).sum(axis=1), 3) - low) / (high - low)
    assert stats.kstest(rank, "uniform").pvalue > 1e-3
    direction = z / np.linalg.norm(z, axis=1, keepdims=True)
    for column in direction.T:  # coordinates of uniform directions in space are uniform
        assert stats.kstest((column + 1) / 2, "uniform").pvalue > 1e-3


def test_rows_near_a_target_are_those_of_the_product():
    mixture = model(CORRELATED)
    beside = model(Mix(np.ones(1), TARGET[None], np.diag(UNIT**2)[None]))
    product, _ = algebra.product(mixture, beside)
    X, _ = algebra.sample_near(mixture, TARGET, UNIT, N, 0)
    for direction in (*np.eye(3), DIRECTION):
        assert stats.kstest(algebra.cdf(product, X @ direction, direction), "uniform").pvalue > 1e-3


def test_a_column_of_a_target_may_be_left_open():
    mixture = model(Mix(np.ones(1), np.array([[1.0, 2.0]]), np.array([[[1.0, 0.6], [0.6, 2.0]]])))
    X, _ = algebra.sample_near(mixture, [3.0, np.nan], 1e-6, N, 0)
    assert stats.kstest(X[:, 1], stats.norm(2 + 0.6 * 2, math.sqrt(2 - 0.36)).cdf).pvalue > 1e-3
    X, _ = algebra.sample_within(mixture, [3.0, np.nan], 1e-6, 100, 0)
    assert (abs(X[:, 0] - 3) <= 1e-6).all()


def test_small_balls_in_many_dimensions_are_not_rarer_than_large_ones():
    rng = np.random.default_rng(0)
    mixture = model(Mix(np.full(3, 1 / 3), rng.normal(size=(3, 30)), np.tile(np.eye(30), (3, 1, 1))))
    X, _ = algebra.sample_within(mixture, np.zeros(30), 1e-3, 500, 0)
    radius = np.linalg.norm(X, axis=1) / 1e-3
    assert stats.kstest(radius**30, "uniform").pvalue > 1e-3


def test_rows_on_a_sphere_are_those_of_ever_thinner_shells():
    """In two dimensions by the angle, whose density is the mixture's on the circle."""
    mix = random_mix(11, 2, 3)
    mixture, centre = model(mix), np.array([0.5, -0.5])
    X, labels = algebra.sample_at_distance(mixture, centre, 2.0, 2.0, N, 0)
    np.testing.assert_allclose(np.linalg.norm(X - centre, axis=1), 2.0, rtol=1e-14)
    angles = np.linspace(-np.pi, np.pi, 20_001)
    circle = centre + 2 * np.column_stack([np.cos(angles), np.sin(angles)])
    rank = np.cumsum(reference.density(circle, mix))
    found = np.arctan2(*(X - centre).T[::-1])
    assert stats.kstest(np.interp(found, angles, rank / rank[-1]), "uniform").pvalue > 1e-3
    thin, _ = algebra.sample_at_distance(mixture, centre, 2.0, 2.0 + 1e-9, N, 1)
    assert stats.ks_2samp(np.arctan2(*(thin - centre).T[::-1]), found).pvalue > 1e-3
    share = mixture.predict_proba(circle).T @ reference.density(circle, mix)
    assert stats.chisquare(np.bincount(labels, minlength=3), N * share / share.sum()).pvalue > 1e-3


@pytest.mark.parametrize(("centre", "low"), [([9.0, 1.0], 3.0), ([0.0, 0.0], 6.0), ([1.0, 1.0], 0.5)])
def test_both_ways_to_fill_a_shell_agree(centre, low):
    mixture = components_of(model(random_mix(11, 2, 3)))
    target, unit = np.array(centre), np.array([1.0, 2.0])
    found = [way(mixture, target, unit, low, low + 0.4).rows([1], 0, 1000)[0] for way in (by_distance, on_spheres)]
    for column in np.eye(2):
        assert stats.ks_2samp(found[0] @ column, found[1] @ column).pvalue > 1e-3


@settings(max_examples=100)
@given(st.floats(-40, 40), st.floats(-9, 3), st.floats(0.001, 0.999))
def test_truncated_quantiles_lie_within_and_have_their_rank(low, log_width, u):
    high = low + 10.0**log_width
    z = truncated_normal(np.log(np.array([u])), np.log1p(-np.array([u])), np.array([low]), np.array([high]))
    assert low <= z[0] <= high
    rank = math.exp(float(log_mass(low, z[0])) - float(log_mass(low, high)))
    # A rounding of z moves the rank by the density there over the mass.
    rounding = 8 * np.spacing(abs(z[0])) * math.exp(-0.5 * z[0] ** 2 - float(log_mass(low, high)))
    assert abs(rank - u) < 1e-8 + rounding


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda m: algebra.sample_slab(m, 0, 2.0, 1.0), "low must not be above high"),
        (lambda m: algebra.sample_slab(m, 0, 1e200), "No component has any probability.*Widen the slab"),
        (lambda m: algebra.sample_slab(m, 5, 0.0), "direction 5 is no column"),
        (lambda m: algebra.sample_slab(m, 0, 0.0, n_samples=0), "n_samples must be an int of at least 1"),
        (lambda m: algebra.sample_slab(m, 0, 0.0, first=-1), "first must be an int of at least 0"),
        (lambda m: algebra.sample_box(m, 1.0, 0.0), "low must be below high"),
        (lambda m: algebra.sample_ellipsoid(m, (0.5, 0.2)), "coverage must be"),
        (lambda m: algebra.sample_hdr(m, 0.0), "coverage must lie in"),
        (lambda m: algebra.sample_near(m, [0.0, 0.0, 0.0], 0.0), "scale must be above 0"),
        (lambda m: algebra.sample_near(m, np.full(3, np.nan), 1.0), "a value in at least one column"),
        (lambda m: algebra.sample_within(m, TARGET, 0.0), "radius must be a finite number above 0"),
        (lambda m: algebra.sample_at_distance(m, TARGET, 2.0, 1.0), "not above high"),
        (lambda m: algebra.sample_at_distance(m, [0.0, 0.0, np.nan], 1.0, 1.0), "must be below high"),
        (
            lambda m: algebra.sample_at_distance(m, [0.0, 0.0, np.nan], 1.0, 1.0 + 1e-12),
            "10,000 attempts.*Widen the range",
        ),
    ],
)
def test_bad_input_is_named_with_the_remedy(action, words):
    with pytest.raises(ValueError, match=words):
        action(model(CORRELATED))


def test_noise_and_means_are_left_as_they_are():
    mixture = model(CORRELATED)
    before = parts(mixture)
    algebra.sample_box(mixture, LOW, HIGH, 10, 0)
    for one, other in zip(before, parts(mixture), strict=True):
        np.testing.assert_array_equal(one, other)
    assert isinstance(mixture, GaussianMixture)
