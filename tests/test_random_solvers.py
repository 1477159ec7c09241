"""Whatever a fit is told, other solvers end where EM ends; gradients are those of the slow reference's objective."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from fastgmm import ConjugatePrior, GaussianMixture
from fastgmm.exceptions import ConvergenceWarning
from fastgmm.model.covariance import STRUCTURES
from fastgmm.model.parameters import MixtureParameters
from fastgmm.optimization.gradient import Chart
from fastgmm.rows.source import ArraySource
from tests import random_problems
from tests import reference_combinations as reference
from tests.reference import Mixture
from tests.test_random_combinations import fitted, slope, state_of

UNBOUNDED = tuple(name for name in random_problems.FEATURES if name != "floor")  # solvers that know of no floor, too
LONG = {"tol": 1e-10, "max_iter": 3000}
# name -> settings, and what of a problem they do not go together with, or lead to another maximum
SOLVERS = {
    "lbfgs": ({"acceleration": "lbfgs"}, {"noise", "fixed weights"}),
    "hard": ({"solver": "hard", "solver_options": {"polish": True}}, {"noise"}),  # other rows are noise to hard EM
    "annealed": ({"solver": "annealed"}, {"gaps"}),
    "stepwise": ({"solver": "stepwise", "solver_options": {"batch_size": 50, "passes": 3}}, set()),
    "sgd": (
        {
            "solver": "gradient",
            "solver_options": {"optimizer": "sgd", "learning_rate": 0.01, "relative_tol": 0, "batch_size": 10**6},
        },
        set(),
    ),
}
SEEDS = 20  # per covariance type


def separated(seed, covariance_type):
    """A problem whose clusters everybody finds, without a ridge, which is no part of the objective."""
    case = random_problems.draw(seed, covariance_type, features=UNBOUNDED, separated=True)
    settings = case.settings | {"reg_covar": 0.0, "on_singular": "raise"}
    return replace(case, told=replace(case.told, reg_covar=0.0), settings=settings)


def kinds(case):
    """What `SOLVERS` says of problems."""
    return {*case.told_names} | ({"fixed weights"} if case.told.weights is not None else set())


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_ends_where_em_ends(covariance_type, name):
    settings, avoided = SOLVERS[name]
    wrong, n_problems = [], 0
    for seed in range(SEEDS):
        case = separated(seed, covariance_type)
        if kinds(case) & avoided:
            continue
        n_problems += 1
        model = fitted(case, warm_start=True, **LONG)
        best = reference.objective(case.told, state_of(model, case))
        if name == "sgd":  # it is no way to a maximum of ten digits, but must know one when it stands there
            X, labels, weight = case.data()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.set_params(max_iter=10, **settings).fit(X, labels, sample_weight=weight)
        else:
            model = fitted(case, **LONG, **settings)
        end = reference.objective(case.told, state_of(model, case))
        if not end >= best - 1e-6:
            wrong.append(f"seed {seed}: {best - end:.2g} nats per row below EM: {settings}: {case}")
    assert not wrong, "\n".join(wrong)
    assert n_problems >= 5


def chart_of(case):
    """Unconstrained coordinates of a problem, where its fit begins, and the objective's gradient there."""
    X, labels, weight = case.data()
    start, kind = case.start, case.start.covariance_type
    problem = GaussianMixture(len(start.weights), **case.settings | {"reg_covar": 0.0})._problem(
        ArraySource(X), labels, weight
    )
    chart = Chart(problem.maximise, problem.columns.mean, np.sqrt(problem.columns.variance), problem.total_weight)
    factors = STRUCTURES[kind].cholesky(start.covariances)
    begin = problem.begun(MixtureParameters(start.weights, start.means, factors, kind, start.covariances))
    return chart, chart.point(begin), chart.gradient(begin, problem.expectation()(begin))


def test_gradients_are_those_of_the_objective(covariance_type):
    seen = []
    for seed in range(40):
        case = random_problems.draw(seed, covariance_type, features=UNBOUNDED)
        told, rng = replace(case.told, reg_covar=0.0), np.random.default_rng(seed)
        chart, point, gradient = chart_of(case)
        direction = point.map(lambda x, rng=rng: rng.normal(size=x.shape))
        if direction.upper.ndim > 1:
            direction = replace(direction, upper=np.triu(direction.upper, 1))
        if told.equal_weights:  # the logit of the noise alone is free
            direction.logits[: len(case.start.weights)] = 0.0

        def objective(t, told=told, chart=chart, point=point, direction=direction):
            moved = chart.mixture(point.map(lambda x, step: x + t * step, direction))
            mixture = Mixture(moved.weights, moved.means, moved.covariances, moved.covariance_type)
            noise_weight = 0.0 if moved.noise is None else moved.noise.weight
            return reference.objective(told, reference.State(mixture, noise_weight))

        numerical = slope(objective, lambda t: t)
        parts = gradient.map(np.multiply, direction)
        ours = sum(float(np.sum(part)) for part in vars(parts).values())
        assert abs(numerical - ours) < 1e-6 * (1 + abs(numerical)), f"seed {seed}: {numerical} {ours}: {case}"
        seen.append(abs(numerical))
    assert np.median(seen) > 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {"max_iter": 10},
        {"acceleration": "lbfgs", "max_iter": 10},
        {"solver": "hard", "max_iter": 10},
        {"solver": "stepwise", "max_iter": 10, "solver_options": {"polish": False, "passes": 10, "batch_size": 2000}},
        {"solver": "gradient", "max_iter": 10, "solver_options": {"relative_tol": 0, "batch_size": 2000}},
    ],
)
def test_rows_without_any_value_count_nowhere(covariance_type, settings):
    """Of nine rows in ten nothing is known: a prior weighs against the others alone, and so do bounds and sizes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) + np.where(np.arange(200)[:, None] < 80, 6.0, 0.0)
    X[rng.random(X.shape) < 0.2] = np.nan
    known = np.sum(~np.isnan(X).all(axis=1))
    weight = rng.uniform(0.5, 2, len(X))
    empty = np.full((1800, 2), np.nan)
    prior = ConjugatePrior(
        2.0, 1.0, [0.0, 0.0], 10.0, 20.0 if covariance_type in ("diag", "spherical") else 20 * np.eye(2)
    )
    start = {
        "weights_init": [0.5, 0.5], "means_init": [[0, 0], [6, 6]],
        "precisions_init": {"full": [np.eye(2)] * 2, "tied": np.eye(2), "diag": np.ones((2, 2))}.get(
            covariance_type, np.ones(2)
        ),
    }  # fmt: skip
    for given in (None, weight):
        fits = []
        for rows, weights in (
            (X, given),
            (np.concatenate([X, empty]), given if given is None else [*given, *[3.0] * 1800]),
        ):
            model = GaussianMixture(2, covariance_type=covariance_type, prior=prior, missing="em", tol=0, **start)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                fits.append(model.set_params(random_state=0, **settings).fit(rows, sample_weight=weights))
        for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
            ours, theirs = getattr(fits[1], name), getattr(fits[0], name)
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=name)
        present = weight[~np.isnan(X).all(axis=1)].sum() if given is not None else known
        for model in fits:
            assert model.diagnostics_.effective_sizes.sum() == pytest.approx(present)
