"""Whatever goes together gives what the slow reference gives, on random problems that are told random things at once.

The reference is held to its own definition first: its M-step is where the expected objective is level, and the slope of
the expected objective at the old parameters is that of the objective itself (Fisher's identity).
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.exceptions import ConvergenceWarning, RegularizationWarning
from tests import random_problems
from tests import reference_combinations as reference
from tests.reference import COVARIANCE_TYPES, Mixture, dense_covariances

# Rounding: eps is 2e-16, sums have at most sixty terms, condition numbers go up to 2e4, log-densities to some hundred
# nats. Their worst product is above 1e-10, but errors are random: 2e-13 was seen. Densities of float32 rows are float32
# with eps 1.2e-7, and so is what is fitted: 4e-6 was seen.
TOLERANCE = {np.float64: 1e-11, np.float32: 3e-5}
# A step raises the objective but for the rounding of a sum of sixty log-densities.
ROUNDING = {np.float64: 1e-13, np.float32: 2e-6}
SEEDS = {np.float64: 150, np.float32: 40}  # per covariance type


def fitted(case, **settings):
    """The fit from the start of a problem."""
    start = case.start
    model = GaussianMixture(
        len(start.weights), weights_init=start.weights, means_init=start.means,
        precisions_init=random_problems.precisions(start), random_state=0, **(case.settings | settings)
    )  # fmt: skip
    X, labels, weight = case.data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RegularizationWarning)
        return model.fit(X, labels, sample_weight=weight)


def fit_differences(case, model, state, bounds):
    """By attribute: how far a fit is from the reference, in units of the columns' spread, of nats and of weights."""
    unit, kind, told = case.unit, state.mixture.covariance_type, case.told
    scale = {"full": np.outer(unit, unit), "tied": np.outer(unit, unit), "diag": unit**2}.get(kind, np.mean(unit**2))
    present = told.sample_weight > 0
    own = reference.score_samples(told.X, state, told.bounds)[present]
    total = told.sample_weight[present] @ own
    return {
        "weights_": model.weights_ - state.mixture.weights,
        "noise_weight_": getattr(model, "noise_weight_", 0.0) - state.noise_weight,
        "means_": (model.means_ - state.mixture.means) / unit,
        "covariances_": (model.covariances_ - state.mixture.covariances) / scale,
        "lower_bounds_": (np.array(model.lower_bounds_) - bounds) / (1 + np.abs(bounds)),
        "lower_bound_": (model.lower_bound_ - bounds[-1]) / (1 + abs(bounds[-1])),
        "log_likelihood_": (model.log_likelihood_ - total) / (told.sample_weight[present] @ (1 + np.abs(own))),
    }


def score_differences(case, model, state):
    """By method: how far scores of fresh rows are from the reference's."""
    rows, bounds, n_components = case.fresh.astype(case.dtype), case.told.bounds, len(state.mixture.weights)
    score = reference.score_samples(case.fresh, state, bounds)
    resp = reference.predict_proba(case.fresh, state, bounds)
    first, second = np.sort(np.column_stack([resp, np.zeros(len(resp))]), axis=1)[:, :-3:-1].T
    label = np.where(resp.argmax(axis=1) < n_components, resp.argmax(axis=1), -1)
    return {
        "score_samples": (model.score_samples(rows) - score) / (1 + np.abs(score)),
        "predict_proba": model.predict_proba(rows) - resp[:, :-1],
        "predict": (model.predict(rows) != label) & (first - second > 1e-3),
    }


def complaints(case):
    """What is wrong with the fit of a problem, in sentences."""
    state, bounds = reference.em(case.told, case.state, case.n_iter)
    bounds = np.array(bounds)
    try:
        model = fitted(case, tol=0, max_iter=case.n_iter)
        differences = fit_differences(case, model, state, bounds) | score_differences(case, model, state)
    except Exception as error:
        return [f"raises {error!r}"]
    said = []
    for name, values in differences.items():
        largest = float(np.max(np.abs(values)))
        if not largest <= TOLERANCE[case.dtype]:
            said.append(f"{name} differs by {largest:.2g}")
    rises = np.diff([*model.lower_bounds_, reference.objective(case.told, state_of(model, case))])
    rises = rises[case.told.floor > 0 :]  # the start need not be above the floor
    if case.told.reg_covar == 0 or case.told.prior is not None:  # else the ridge is no part of the objective
        fall = float(np.max(-rises / (1 + np.abs(bounds[0])), initial=0.0))
        if fall > ROUNDING[case.dtype]:
            said.append(f"the objective falls by {fall:.2g}")
    return said


def state_of(model, case):
    """What was fitted, for the reference."""
    arrays = [np.asarray(array, np.float64) for array in (model.weights_, model.means_, model.covariances_)]
    return reference.State(Mixture(*arrays, case.start.covariance_type), getattr(model, "noise_weight_", 0.0))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fits_and_scores_are_those_of_the_reference(covariance_type, dtype):
    wrong = []
    for seed in range(SEEDS[dtype]):
        case = random_problems.draw(seed, covariance_type, dtype)
        wrong += [f"seed {seed}: {complaint}: {case}" for complaint in complaints(case)]
    assert not wrong, f"{len(wrong)} of {SEEDS[dtype]} problems:\n" + "\n".join(wrong)


def test_the_random_problems_have_every_pair_of_features():
    """Nothing is left to luck: every pair is met, and each kind of what a feature may be."""
    pairs, kinds = set(), set()
    for covariance_type in COVARIANCE_TYPES:
        for seed in range(SEEDS[np.float64]):
            case = random_problems.draw(seed, covariance_type)
            told = case.told
            pairs |= {(one, other) for one in case.told_names for other in case.told_names if one < other}
            nothing = np.isnan(told.X).all(axis=1)
            kinds |= {
                "equal weights" if told.equal_weights else "",
                "a labelled row without any value" if (nothing & (told.labels >= 0)).any() else "",
                "an unlabelled row without any value" if (nothing & (told.labels < 0)).any() else "",
                "all rows labelled" if (told.labels >= 0).all() else "",
                "a row without weight" if (told.sample_weight == 0).any() else "",
                "a prior that leaves means alone" if told.prior and told.prior.mean_precision == 0 else "",
                "default prior" if case.settings.get("prior") == "conjugate" else "",
                "one component with noise" if told.bounds is not None and len(case.start.weights) == 1 else "",
                "a ridge" if told.reg_covar > 0 and told.prior is None else "",
            }
    names = random_problems.FEATURES
    assert pairs == {(one, other) for one in names for other in names if one < other}
    assert len(kinds - {""}) == 9


# ---- the reference against its own definition ----


def expected_objective(told, state, resp, filled, spread):
    """What the M-step maximises: the objective if components, and squares of missing values, were as expected."""
    mixture = state.mixture
    total = resp[:, -1].sum() * np.log(state.noise_weight) if state.noise_weight > 0 else 0.0
    for k, covariance in enumerate(dense_covariances(mixture)):
        diff = filled[k] - mixture.means[k]
        scatter = (resp[:, k] * diff.T) @ diff + spread[k]
        log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
        total += resp[:, k].sum() * (np.log(mixture.weights[k]) - 0.5 * log_det)
        total -= 0.5 * np.trace(np.linalg.solve(covariance, scatter))
    if told.prior is not None:
        total += reference.log_prior(mixture, told.prior)
    return total / np.sum(told.sample_weight[told.speaks])


def moved(rng, told, state, unit):
    """A random line of allowed parameters through a state: t -> state."""
    mixture, kind = state.mixture, state.mixture.covariance_type
    k, d = mixture.means.shape
    tilt, shift = rng.normal(size=k + 1), rng.normal(size=(k, d)) * unit
    stretch = rng.normal(size=mixture.covariances.shape)

    def at(t):
        weights = np.append(mixture.weights, state.noise_weight) * np.exp(t * tilt)
        weights = reference.held_weights(told, weights)
        means = reference.held(mixture.means + t * shift, told.means)
        covariances = mixture.covariances
        if kind in ("full", "tied"):
            scale = np.outer(unit, 1 / unit)
            twist = np.eye(d) + t * stretch * scale
            covariances = twist @ covariances @ np.swapaxes(twist, -1, -2)
        else:
            covariances = covariances * np.exp(t * stretch)
        covariances = reference.held(covariances, told.covariances)
        return reference.State(Mixture(weights[:-1], means, covariances, kind), float(weights[-1]))

    return at


def slope(function, line, step=1e-3):
    """Of a function along a line at its middle: central differences, extrapolated (Richardson)."""
    wide, narrow = ((function(line(h)) - function(line(-h))) / (2 * h) for h in (step, step / 2))
    return (4 * narrow - wide) / 3


def slopes(rng, case):
    """Along random lines: the objective's and the expected one's, then the latter's at its top, after the M-step."""
    told, state = replace(case.told, reg_covar=0.0), case.state
    resp = reference.responsibilities(told, state)
    expected = (resp, *reference.moments(told, state, resp))
    new = reference.m_step(told, state, resp)

    def top(point):
        return expected_objective(told, point, *expected)

    line = moved(rng, told, state, case.unit)
    true = slope(lambda point: reference.objective(told, point), line)
    return true, slope(top, line), slope(top, moved(rng, told, new, case.unit)), abs(top(new))


def test_the_reference_does_what_its_objective_asks_for(covariance_type):
    rng, seen = np.random.default_rng(0), []
    features = [name for name in random_problems.FEATURES if name != "floor"]
    for seed in range(40):
        case = random_problems.draw(seed, covariance_type, features=features)
        for _ in range(3):
            true, expected, level, size = slopes(rng, case)
            assert abs(true - expected) < 1e-7 * (1 + abs(true)), f"seed {seed}: {case}"
            assert abs(level) < 1e-7 * (1 + size), f"seed {seed}: {case}"
            seen.append(abs(true))
    assert np.median(seen) > 0.1
