"""Checkpoints written by somebody with a right checksum: each number of a state replaced, by all that JSON can hold."""

from __future__ import annotations

import copy
import json
import warnings

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers
from fastgmm.exceptions import FormatError, SingularCovarianceError
from fastgmm.optimization.checkpoint import CheckpointKeeper
from fastgmm.optimization.solvers import SOLVERS
from fastgmm.optimization.state_checks import CHECKS, check_state
from fastgmm.storage.checkpoint import _digest

X = np.random.default_rng(0).normal(size=(300, 3)) + 3 * np.random.default_rng(1).integers(3, size=(300, 1))
LABELS = np.where(np.arange(300) % 5 == 0, np.arange(300) % 3, -1)
GAPS = np.where(np.random.default_rng(2).random(X.shape) < 0.1, np.nan, X)
FITS = {
    **{solver: (GaussianMixture, {"solver": solver}, (X,)) for solver in SOLVERS},
    "lbfgs": (GaussianMixture, {"acceleration": "lbfgs", "covariance_type": "tied"}, (X,)),
    "labels": (GaussianMixture, {"semi_supervised": True, "covariance_type": "diag"}, (X, LABELS)),
    "gaps": (GaussianMixture, {"missing": "em"}, (GAPS,)),
    "noise": (GaussianMixture, {"noise": True, "n_init": 2}, (X,)),
    "re-seeded": (GaussianMixture, {"on_singular": "restart", "covariance_type": "spherical"}, (X,)),
    "bayes": (BayesianGaussianMixture, {}, (X,)),
    "plain bayes": (BayesianGaussianMixture, {"acceleration": None, "covariance_type": "tied"}, (X,)),
    "prune": (BayesianGaussianMixture, {"prune": True, "max_iter": 40}, (X,)),
    "factors": (MixtureOfFactorAnalyzers, {"n_factors": 1}, (X,)),
}
HOSTILE = (None, True, -1, 3, 10**18, -0.5, 1e300, "x", "", [], {}, {"list": []}, {"tensor": "0"}, "9" * 400)
FILLS = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300)


@pytest.fixture(scope="module", params=FITS)
def fit(request, tmp_path_factory):
    """A fit, its data, and the metadata, state and arrays of a checkpoint in the middle of it."""
    kind, settings, data = FITS[request.param]
    path = tmp_path_factory.mktemp("checkpoint") / "c"
    settings = {"n_components": 3, "random_state": 0, "tol": 0, "max_iter": 12, **settings}
    model = kind(checkpoint=path, checkpoint_every=1, **settings)
    write, states = CheckpointKeeper.write, []

    def keep(keeper):
        write(keeper)
        states.append(path.read_bytes())

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(CheckpointKeeper, "write", keep)
        model.fit(*data)
    path.with_name("middle").write_bytes(states[min(7, len(states) - 2)])
    with safetensors.safe_open(path.with_name("middle"), "numpy") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for old in (path, path.with_name("c.previous")):
        old.unlink(missing_ok=True)
    return model.set_params(resume=True, checkpoint=path), data, metadata, json.loads(metadata["state"]), tensors


def places(value, path=()):
    """Yield the paths of all values in JSON."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


def resumed(fit, state, tensors):
    """Go on from a state; the error that is documented, or None."""
    model, data, metadata, _, _ = fit
    found = {"format": metadata["format"], "fastgmm_version": metadata["fastgmm_version"]}
    found |= {"fingerprint": metadata["fingerprint"], "state": json.dumps(state)}
    found["sha256"] = _digest(found, tensors)
    model.checkpoint.write_bytes(safetensors.numpy.save(tensors, metadata=found))
    model.checkpoint.with_name("c.previous").unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(*data)
        except (FormatError, SingularCovarianceError) as error:
            return error
        except ValueError as error:
            if "belongs to another fit" not in str(error):
                raise
            return error
    assert np.isfinite(model.means_).all()
    return None


def mutations(fit, every):
    """Yield (what was done, state, tensors): each value replaced or removed, each array filled or reshaped."""
    _, _, _, state, tensors = fit
    paths = list(places(state))
    rng = np.random.default_rng(0)
    cases = [(path, value) for path in paths for value in (*HOSTILE, "remove")]
    chosen = range(len(cases)) if every else np.sort(rng.choice(len(cases), min(len(cases), 150), replace=False))
    for i in chosen:
        path, value = cases[i]
        changed = copy.deepcopy(state)
        place = changed
        for key in path[:-1]:
            place = place[key]
        if value == "remove":
            del place[path[-1]]
        else:
            place[path[-1]] = value
        yield (path, value), changed, tensors
    names = sorted(tensors)
    for name in names if every else names[:: max(1, len(names) // 12)]:
        for fill in FILLS:
            yield (name, fill), state, tensors | {name: np.full_like(tensors[name], fill)}
        for other in (np.ones(1), np.ones((2, 2)), np.ones((3, 300)), np.zeros(0), tensors[name].ravel()[:1]):
            yield (name, other.shape), state, tensors | {name: other}


def used(state, tensors):
    """The arrays that a state names: a file with others is refused for that alone."""
    text = json.dumps(state)
    return {name: array for name, array in tensors.items() if f'"tensor": "{name}"' in text}


def check(fit, every):
    assert resumed(fit, *fit[3:]) is None, "as it was written, it goes on"
    n_refused = 0
    for what, state, tensors in mutations(fit, every):
        try:
            error = resumed(fit, state, used(state, tensors))
        except Exception as error:
            raise AssertionError(f"{what}: {error!r:.300}") from error
        n_refused += error is not None
        assert error is None or len(str(error)) < 900
    assert n_refused > 50


def test_a_state_that_no_fit_wrote_is_a_format_error_and_nothing_else(fit):
    check(fit, every=False)


@pytest.mark.slow
def test_each_entry_of_a_state_may_be_anything(fit):
    check(fit, every=True)


def test_each_class_of_a_state_has_a_check():
    """What a checkpoint can hold is what CHECKS knows; a new class of a solver's state has to be added there."""
    for kind in CHECKS:
        empty = object.__new__(kind)
        with pytest.raises((ValueError, AttributeError)):
            check_state(empty, type("E", (), {"kind": kind, "n_components": 1, "n_features": 1})(), "x")


def test_states_nested_deeply_are_refused(fit):
    value = 1
    for _ in range(300):
        value = {"list": [value]}
    state = copy.deepcopy(fit[3])
    state["dict"]["parts"]["dict"]["monitor"]["dict"]["x"] = value
    assert isinstance(resumed(fit, state, fit[4]), FormatError)
