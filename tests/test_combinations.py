"""Every pair of features either fits or says in one sentence why not; the README's table is this one."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.estimators.gaussian import combinations, problem
from fastgmm.exceptions import ConvergenceWarning
from fastgmm.model.covariance import STRUCTURES
from fastgmm.optimization.solvers import SOLVERS
from tests.combinations import FEATURES, PAIRS, conflict, parts_of_readme
from tests.combinations import text as generated


def fit(names, covariance_type, dtype, faithful, labels):
    settings, data = {}, set()
    for name in names:
        settings |= FEATURES[name][0]
        data |= FEATURES[name][1]
    X = faithful.astype(dtype)
    if "gaps" in data:
        X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    y = np.where(np.arange(len(X)) % 4 == 0, labels, -1) if "y" in data else None
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X)) if "sample_weight" in data else None
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0, max_iter=12, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, sample_weight=weight), X


def works(one, other, faithful, labels):
    """Whether a pair fits, on every covariance type and precision alike; what it says if not."""
    reasons = set()
    for covariance_type, dtype in itertools.product(STRUCTURES, (np.float64, np.float32)):
        try:
            model, X = fit((one, other), covariance_type, dtype, faithful, labels)
        except ValueError as error:
            reasons.add(str(error))
            continue
        reasons.add(None)
        assert model.means_.dtype == dtype
        assert np.isfinite(model.means_).all()
        assert np.isfinite(model.score_samples(X)).all()
        # Far from the overflow of a fit gone wrong: old faithful's two clusters have -4.2 nats per row.
        assert model.score(X) > -8, (one, other, covariance_type, dtype, model.score(X))
    assert len(reasons) == 1, (one, other, reasons)
    return reasons.pop()


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_pair_fits_or_says_why_not(one, other, faithful, faithful_labels):
    reason = works(one, other, faithful, faithful_labels)
    assert reason == conflict(one, other)
    assert reason is None or reason.count(". ") == 0


@pytest.mark.parametrize("solver", [name for name, s in SOLVERS.items() if "missing values" not in s.conflicts])
def test_weights_prior_gaps_labels_and_noise_go_together(solver, faithful, faithful_labels):
    """Five at once, for every solver that takes missing values: both kinds of eruption are found under their labels."""
    names = ["weights", "prior", "missing", "labels", "noise"] + ([solver] if solver in FEATURES else [])
    for covariance_type, dtype in itertools.product(STRUCTURES, (np.float64, np.float32)):
        model, X = fit(names, covariance_type, dtype, faithful, faithful_labels)
        clear = ~np.isnan(X).any(axis=1)
        found = model.predict(X)[clear]
        agree = np.mean((found == faithful_labels[clear]) | (found == -1))
        assert agree > 0.9, (solver, covariance_type, dtype, agree)


def test_the_readme_has_the_table_that_python_m_tests_combinations_writes():
    assert parts_of_readme()[1] == generated()


def test_a_fit_asks_for_every_conflict(monkeypatch, faithful):
    """A conflict under a name that no fit passes would never be found."""
    asked = set()
    monkeypatch.setattr(problem, "check_combinations", lambda active: asked.update(active))
    for on_singular, solver in itertools.product(("raise", "regularize", "restart"), SOLVERS):
        GaussianMixture(2, solver=solver, on_singular=on_singular, max_iter=0, random_state=0).fit(faithful)
    assert {name for one, other, _ in combinations.CONFLICTS for name in (one, other)} <= asked
