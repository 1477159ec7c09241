"""What version 0.1.0 wrote still loads, says the same and goes on, wherever modules have moved since."""

from __future__ import annotations

import copy
import json
import os
import pickle
import pickletools
import subprocess
import sys
from importlib import import_module
from zipfile import ZipFile

import numpy as np
import pytest
import sklearn.exceptions
import sklearn.mixture
from sklearn.base import clone

import fastgmm
from fastgmm import engine, exceptions
from fastgmm.images import ImageGenerator
from fastgmm.representation import bits_per_dimension
from tests.conftest import ROOT
from tests.data.v0_1_0 import write

EXPECTED = json.loads((write.FOLDER / "expected.json").read_text())
MODELS = {name: (model, data) for name, model, data in write.models()}
STREAMS = {name: (model, pieces) for name, model, pieces in write.streams()}
FITS = {name: (model, data) for name, model, data, _ in write.fits()}
TRANSFORMS = {name: (transform, X) for name, transform, X in write.transforms()}
PICKLES = sorted(path.stem for path in write.FOLDER.glob("pickles/*"))
# Beside the names in our pickles: those that documentation spelled out, and those in pickles that are not kept here
# because they hold a figure of some version of matplotlib, or the place of a file.
OTHER_NAMES = {
    ("fastgmm.estimators._progress", "IterationInfo"),
    ("fastgmm.model.conjugate", "ConjugatePrior"),
    ("fastgmm.model.files", "FormatError"),
    ("fastgmm.optimization.acceleration", "AcceleratedIteration"),
    ("fastgmm.optimization.diagnostics", "FitDiagnostics"),
    ("fastgmm.optimization.gradient", "GradientOptions"),
    ("fastgmm.optimization.stepwise", "StepwiseOptions"),
    ("fastgmm.plot._marginal", "MarginalMixture"),
    ("fastgmm.plot.convergence", "ConvergenceDisplay"),
    ("fastgmm.plot.mixture", "MixtureDisplay"),
    ("fastgmm.plot.responsibilities", "ResponsibilitiesDisplay"),
    ("fastgmm.representation.arrow", "ParquetReader"),
    ("fastgmm.representation.bits", "bits_per_dimension"),
    ("fastgmm.representation.csv", "CsvReader"),
    ("fastgmm.representation.files", "NpyReader"),
    ("fastgmm.representation.open", "open_source"),
    ("fastgmm.representation.source", "ArraySource"),
    ("fastgmm.representation.streams", "Chained"),
    ("fastgmm.representation.streams", "StreamSource"),
}


def as_then(model, X):
    """The Bayesian mixture of version 0.1.0 took plain steps and compared `tol` with the bound per row.

    Gaussian mixtures began at k-means alone.
    """
    inner = getattr(model, "mixture", model)
    if str(getattr(inner, "init_params", None)) == "auto":
        inner.set_params(init_params="kmeans")
    if isinstance(inner, fastgmm.BayesianGaussianMixture):
        inner.set_params(acceleration=None, tol=inner.tol * len(X), max_iter=min(inner.max_iter, 100))
    return model


def pickle_of(name):
    return (write.FOLDER / "pickles" / f"{name}.pickle").read_bytes()


def unpickled(name):
    return pickle.loads(pickle_of(name))


def check(found, expected, name=""):
    """Equal to what JSON kept: floats to 1e-10, in single precision to 1e-5; everything else exactly."""
    tolerance = 1e-5 if "float32" in name else 1e-10
    for key, value in expected.items():
        ours = np.asarray(found[key])
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(
                ours, np.asarray(value, ours.dtype), rtol=tolerance, atol=tolerance, err_msg=key, strict=True
            )
        else:
            np.testing.assert_array_equal(ours, np.asarray(value), err_msg=key)


def check_answers(model, name):
    check(write.answers(model, MODELS[name][1][0]), EXPECTED["models"][name]["answers"], name)


def imported_by(content):
    """Module and name of everything of ours that a pickle imports."""
    strings, memo, found, before = [], [], set(), ""
    for code, argument, _ in pickletools.genops(content):
        if code.name.endswith("UNICODE"):
            strings.append(argument)
        elif code.name == "MEMOIZE":
            memo.append(strings[-1] if before.endswith("UNICODE") else None)
        elif code.name.endswith("BINGET"):
            strings.append(memo[argument])
        elif code.name == "STACK_GLOBAL" and strings[-2].startswith("fastgmm"):
            found.add((strings[-2], strings[-1]))
        before = code.name
    return found


PICKLED = sorted(set().union(*(imported_by(pickle_of(name)) for name in PICKLES)))


# ---- what there is ----


def test_every_file_is_looked_at():
    values = {f"value_{name}" for name in EXPECTED["values"]}
    assert set(PICKLES) == {*MODELS, *STREAMS, *TRANSFORMS, *values}
    assert set(MODELS) == set(EXPECTED["models"])
    names = {path.name for path in write.FOLDER.glob("models/*")}
    assert names == {f"{name}.{ending}" for name in write.IN_FILES for ending in ("json", "safetensors")}
    with ZipFile(write.FOLDER / "checkpoints.zip") as archive:
        assert set(archive.namelist()) == set(FITS) == set(EXPECTED["fits"])


def test_the_data_are_the_same_bits():
    assert write.digests() == EXPECTED["data"]


# ---- models ----


@pytest.mark.parametrize("name", MODELS)
def test_pickled_models_say_what_they_said(name):
    model = unpickled(name)
    assert type(model) is type(MODELS[name][0])
    assert type(model).__name__ == EXPECTED["models"][name]["class"]
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        check_answers(each, name)


def test_pickled_settings_are_those_of_the_time():
    model = unpickled("bayesian")
    assert (model.acceleration, model.prune) == (None, False)
    assert fastgmm.BayesianGaussianMixture().acceleration == "lbfgs"


@pytest.mark.parametrize("name", MODELS)
def test_clones_of_pickled_models_are_fitted_alike(name):
    """As well as then: their starts draw other random numbers now."""
    cloned = clone(unpickled(name))
    assert cloned.get_params().keys() == MODELS[name][0].get_params().keys()
    with pytest.raises(exceptions.NotFittedError):
        write.answers(cloned, MODELS[name][1][0])
    fitted = write.quietly(as_then(cloned, MODELS[name][1][0]).fit, *MODELS[name][1])
    X = MODELS[name][1][0]
    assert fitted.score(X) >= unpickled(name).score(X) - 1e-2


@pytest.mark.parametrize("name", ["full", "named", "noise", "prior", "missing", "diag_fixed", "bayesian", "factors"])
def test_pickled_fits_go_on(name):
    make, (X,) = MODELS[name]
    model, fresh = as_then(unpickled(name), X), write.quietly(as_then(clone(make), X).fit, X)
    if hasattr(model, "partial_fit"):
        streamed = copy.deepcopy(fresh).partial_fit(X)
        check(write.learned(copy.deepcopy(model).partial_fit(X)), write.learned(streamed))
    for each in (model, fresh):
        write.quietly(each.set_params(warm_start=True, max_iter=2, tol=0.0).fit, X)
    check(write.learned(model), write.learned(fresh))


def test_pickled_replacements_of_scikit_learns_classes_still_replace_them():
    assert isinstance(unpickled("patched"), sklearn.mixture.GaussianMixture)
    assert isinstance(unpickled("patched_bayesian"), sklearn.mixture.BayesianGaussianMixture)
    assert sklearn.mixture.GaussianMixture.__module__.startswith("sklearn")
    check_answers(unpickled("patched"), "full")


@pytest.mark.parametrize("name", write.IN_FILES)
def test_model_files_and_json_say_what_the_pickle_says(name):
    original = unpickled(name)
    path, text = (write.FOLDER / "models" / f"{name}.{ending}" for ending in ("safetensors", "json"))
    kind = type(original)
    for load in (fastgmm.load, kind.load):
        for model in (load(path), load(text), kind.from_json(text.read_text())):
            assert type(model) is kind
            check_answers(model, name)
            check_same_bits(model, original)


def check_same_bits(model, original):
    """Everything that a fit sets, but for what is computed from the rest."""
    if hasattr(original, "standardisation"):
        check_same_bits(model.standardisation, original.standardisation)
    for part in ("mixture", "mixture_"):
        if hasattr(original, part):
            check_same_bits(getattr(model, part), getattr(original, part))
    for key, value in vars(original).items():
        if key == "diagnostics_":
            assert repr(model.diagnostics_) == repr(value)
        elif key in ("precisions_", "class_prior_"):
            np.testing.assert_allclose(getattr(model, key), value, rtol=1e-5 if value.dtype == np.float32 else 1e-10)
        elif key.endswith("_") and key != "mixture_":
            np.testing.assert_array_equal(getattr(model, key), value, err_msg=key)


# ---- streams ----


@pytest.mark.parametrize("name", STREAMS)
def test_pickled_streams_learn_another_piece(name):
    (*_, last), expected = STREAMS[name][1], EXPECTED["streams"][name]
    model = unpickled(name)
    check(write.answers(model, last[0]), expected["answers"])
    copied = copy.deepcopy(model)
    for each in (model, pickle.loads(pickle.dumps(copied)), copied):
        check(write.learned(each.partial_fit(*last)), expected["after"])


@pytest.mark.parametrize("name", STREAMS)
def test_clones_of_pickled_streams_learn_alike(name):
    model = write.learn(name, clone(unpickled(name)), STREAMS[name][1])
    check(write.learned(model), EXPECTED["streams"][name]["after"])


# ---- checkpoints ----


@pytest.mark.parametrize("name", FITS)
def test_interrupted_fits_end_as_without_an_interruption(name, tmp_path):
    expected = dict(EXPECTED["fits"][name])
    with ZipFile(write.FOLDER / "checkpoints.zip") as archive:
        path = archive.extract(name, tmp_path)
    (model, data), seen = FITS[name], []
    model = as_then(clone(model), data[0]).set_params(checkpoint=path, resume=True, callback=seen.append)
    write.quietly(model.fit, *data)
    assert len(seen) == expected.pop("iterations_left")
    check(write.learned(model), expected, name)


# ---- everything else ----


@pytest.mark.parametrize("name", TRANSFORMS)
def test_pickled_transforms_map_rows_as_they_did(name):
    transform, X = unpickled(name), TRANSFORMS[name][1]
    assert type(transform) is type(TRANSFORMS[name][0])
    for each in (transform, copy.deepcopy(transform), copy.deepcopy(transform).fit(X)):
        check(write.transformed(each, X), EXPECTED["transforms"][name])


@pytest.mark.parametrize("name", EXPECTED["values"])
def test_other_pickled_objects_say_what_they_said(name):
    value, expected = unpickled(f"value_{name}"), EXPECTED["values"][name]
    assert type(value).__name__ == expected["class"]
    found = write.plain(write.facts(value))
    for key, fact in expected["facts"].items():
        assert found[key] == fact, key


def test_the_engine_goes_on_with_its_pickled_parameters_and_statistics():
    mixture, statistics = unpickled("value_mixture"), unpickled("value_statistics")
    assert isinstance(mixture, engine.MixtureParameters)
    assert isinstance(statistics, engine.SufficientStatistics)
    log_likelihood = engine.log_likelihood(write.rows(), mixture).sum()
    np.testing.assert_allclose(log_likelihood, statistics.log_likelihood, rtol=1e-10)
    updated = engine.m_step(statistics + engine.statistics(write.rows(), mixture))
    np.testing.assert_allclose(updated.means, unpickled("value_updated_mixture").means, rtol=1e-10)


def test_pickled_errors_are_those_that_are_caught():
    errors = unpickled("value_errors")
    names = [
        *("ConstantColumnWarning", "ConvergenceWarning", "EmptyComponentWarning", "FormatError"),
        *("InvalidParameterError", "NotFittedError", "RegularizationWarning", "SingularCovarianceError", "SourceError"),
    ]
    for name in names:
        assert sum(isinstance(error, getattr(exceptions, name)) for error in errors) >= 1, name
    assert isinstance(errors[0], exceptions.InvalidParameterError)
    assert isinstance(errors[1], sklearn.exceptions.NotFittedError)


# ---- old names ----


def test_old_names_are_those_of_the_same_objects():
    seen = []
    model = fastgmm.GaussianMixture(random_state=0, callback=seen.append).fit(write.rows())
    now = {
        "ArraySource": type(fastgmm.open_source(write.rows())),
        "FitDiagnostics": type(model.diagnostics_),
        "FormatError": exceptions.FormatError,
        "ImageGenerator": ImageGenerator,
        "IterationInfo": type(seen[0]),
        "MixtureParameters": engine.MixtureParameters,
        "SufficientStatistics": engine.SufficientStatistics,
        "bits_per_dimension": bits_per_dimension,
    }
    now |= {kind.__name__: kind for kind in (type(transform) for transform, _ in TRANSFORMS.values())}
    now |= {name: getattr(fastgmm, name) for name in fastgmm.__all__}
    checked = set()
    for module, name in {*PICKLED, *OTHER_NAMES}:
        if name in now:
            assert getattr(import_module(module), name) is now[name], f"{module}.{name}"
            checked.add(name)
    assert checked >= now.keys() - set(fastgmm.__all__)


ALONE = """
import importlib, json, os, sys
import numba, pandas, safetensors.numpy, scipy.linalg, scipy.special, sklearn.base
for module, name in json.loads(sys.stdin.read()):
    if os.fork() == 0:
        try:
            getattr(importlib.import_module(module), name)
            print(module, name, flush=True)
        except BaseException as error:
            print(module, name, repr(error), flush=True)
        os._exit(0)
    os.wait()
"""


def test_every_old_name_can_be_imported_before_anything_else_of_the_package():
    names = sorted({*PICKLED, *OTHER_NAMES})
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, input=json.dumps(names), env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [" ".join(name) for name in names]
