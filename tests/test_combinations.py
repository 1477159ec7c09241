"""Every pair of features either fits or says in one sentence why not; the README's table is this one."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from fastgmm import ConjugatePrior, GaussianMixture
from fastgmm.exceptions import ConvergenceWarning
from tests.conftest import ROOT

MEANS = np.array([[2.0, 55.0], [np.nan, np.nan]])
# name in the README's table -> (settings, data, name in fastgmm.estimators._combinations)
FEATURES = {
    "weights": ({}, {"sample_weight"}, None),
    "prior": ({"prior": ConjugatePrior()}, set(), None),
    "missing": ({"missing": "em"}, {"gaps"}, "missing values"),
    "labels": ({"semi_supervised": True}, {"y"}, None),
    "fixed means": ({"fixed": {"means": MEANS}}, set(), "fixed means"),
    "fixed weights": ({"fixed": {"weights": [0.4, np.nan]}}, set(), "fixed weights"),
    "equal weights": ({"fixed": {"weights": "equal"}}, set(), None),
    "noise": ({"noise": True}, set(), "noise"),
    "floor": ({"covariance_floor": 1e-3}, set(), "covariance_floor"),
    "regularize": ({"on_singular": "regularize"}, set(), "on_singular='regularize'"),
    "restart": ({"on_singular": "restart"}, set(), "on_singular='restart'"),
    "lbfgs": ({"acceleration": "lbfgs"}, set(), "acceleration"),
    "hard": ({"solver": "hard"}, set(), "solver='hard'"),
    "annealed": ({"solver": "annealed"}, set(), "solver='annealed'"),
    "stepwise": ({"solver": "stepwise"}, set(), "solver='stepwise'"),
    "gradient": ({"solver": "gradient"}, set(), "solver='gradient'"),
}
PAIRS = [
    (one, other)
    for one, other in itertools.combinations(FEATURES, 2)
    if not any(set(FEATURES[one][0]) & set(FEATURES[other][0]) & {name} for name in ("solver", "on_singular", "fixed"))
]


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
    for covariance_type, dtype in itertools.product(("full", "tied", "diag", "spherical"), (np.float64, np.float32)):
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
    assert (reason is None) == (cell(one, other) == "yes")
    if reason is not None:
        first, second = (FEATURES[name][2] for name in (one, other))
        assert reason.startswith((f"{first} and {second} do not go together: ", f"{second} and {first} do not go"))
        assert reason.count(". ") == 0


@pytest.mark.parametrize("solver", ["em", "hard", "stepwise", "gradient"])
def test_weights_prior_gaps_labels_and_noise_go_together(solver, faithful, faithful_labels):
    """Five at once, for every solver that takes missing values: both kinds of eruption are found under their labels."""
    names = ["weights", "prior", "missing", "labels", "noise"] + ([] if solver == "em" else [solver])
    for covariance_type, dtype in itertools.product(("full", "tied", "diag", "spherical"), (np.float64, np.float32)):
        model, X = fit(names, covariance_type, dtype, faithful, faithful_labels)
        clear = ~np.isnan(X).any(axis=1)
        found = model.predict(X)[clear]
        agree = np.mean((found == faithful_labels[clear]) | (found == -1))
        assert agree > 0.9, (solver, covariance_type, dtype, agree)


def readme_table():
    text = (ROOT / "README.md").read_text()
    rows = text.split("<!-- combinations -->")[1].split("<!-- end of combinations -->")[0].strip().splitlines()
    head = [name.strip() for name in rows[0].strip("|").split("|")]
    return {
        (line[0], name): value
        for line in ([part.strip() for part in row.strip("|").split("|")] for row in rows[2:])
        for name, value in zip(head[1:], line[1:], strict=True)
    }


def cell(one, other):
    table = readme_table()
    return table.get((one, other)) or table.get((other, one))


def test_the_readme_has_a_cell_for_every_pair():
    table = readme_table()
    for one, other in PAIRS:
        assert (table.get((one, other)) or table.get((other, one))) in ("yes", "no"), (one, other)
