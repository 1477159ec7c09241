"""Files and JSON of every estimator: complete, exact, readable for ever, and refused when anything is wrong."""

import builtins
import contextlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import fastgmm
from fastgmm import (
    BayesianGaussianMixture,
    ConjugatePrior,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    StandardisedMixture,
)
from fastgmm.exceptions import FormatError
from fastgmm.images import ImageGenerator
from fastgmm.storage import container as files
from fastgmm.storage import text as dictionary
from tests.data.models import write

X = write.rows()
CLASSES = {
    kind.__name__: kind
    for kind in (
        *(BayesianGaussianMixture, GaussianMixture, ImageGenerator, MixtureOfFactorAnalyzers),
        StandardisedMixture,
    )
}
FIXTURES = sorted(write.FOLDER.glob("*/*.safetensors"))
NAMES = [path.stem for path in FIXTURES if path.parent.name == "1.1"]
NOT_KEPT = {"n_jobs", "verbose", "verbose_interval", "callback"}


@pytest.fixture(scope="module")
def models():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(write.models())


def by_file(model, folder):
    model.save(folder / "m.safetensors")
    return fastgmm.load(folder / "m.safetensors")


def by_json(model, folder):
    return type(model).from_json(model.to_json())


def edit(path, change):
    """Change tensors and metadata of a file, past the checks of `save`."""
    with safetensors.safe_open(path, "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name).copy() for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    change(tensors, metadata)
    path.write_bytes(safetensors.numpy.save(tensors, metadata=metadata))


def fitted(model):
    """Attributes of a fit, by name."""
    return {name: value for name, value in vars(model).items() if name.endswith("_") and not name.startswith("_")}


# ---- old files ----


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_files_of_every_version_load_and_score_as_they_did(path):
    expected = json.loads((path.parent / "scores.json").read_text())[path.stem]
    for model in (fastgmm.load(path), CLASSES[expected["class"]].load(path)):
        assert type(model).__name__ == expected["class"]
        tolerance = 1e-5 if path.stem in ("gaussian_float32", "images") else 1e-10
        np.testing.assert_allclose(write.scores(model), expected["scores"], rtol=tolerance)


def test_every_version_has_its_files():
    assert {path.parent.name for path in FIXTURES} == {"1.0", "1.1"}
    assert {path.stem for path in FIXTURES} == set(NAMES)
    for version in ("1.0", "1.1"):
        listed = json.loads((write.FOLDER / version / "scores.json").read_text())
        assert set(listed) == {path.stem for path in FIXTURES if path.parent.name == version}


def test_first_files_bring_their_facts_with_them():
    model = fastgmm.load(write.FOLDER / "1.0" / "gaussian_noise.safetensors")
    assert (model.converged_, model.stop_reason_) == (True, "converged")
    assert model.n_iter_ > 1
    np.testing.assert_array_equal(model.noise, model.noise_bounds_)


# ---- round trips ----


def test_equal_models_are_equal_files(models, tmp_path):
    for name, model in models.items():
        files = [tmp_path / f"{name}{i}.safetensors" for i in range(4)]
        for file in files:
            model.save(file)
        assert len({file.read_bytes() for file in files}) == 1, name


@pytest.mark.parametrize("way", [by_file, by_json])
@pytest.mark.parametrize("name", NAMES)
def test_round_trips_are_exact(models, name, way, tmp_path):
    model = models[name]
    loaded = way(model, tmp_path)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(write.scores(loaded), write.scores(model))
    if isinstance(model, StandardisedMixture):
        np.testing.assert_array_equal(loaded.standardisation.mean_, model.standardisation.mean_)
        np.testing.assert_array_equal(loaded.standardisation.scale_, model.standardisation.scale_)
        model, loaded = model.mixture, loaded.mixture
    inexact = {"mixture_", "class_prior_"} | ({"precisions_"} if name == "gaussian_float32" else set())
    assert set(fitted(loaded)) == set(fitted(model))
    for key in set(fitted(model)) - inexact:
        one, other = fitted(model)[key], fitted(loaded)[key]
        if key == "diagnostics_":
            assert repr(other) == repr(one)
            continue
        assert type(other) is type(one), key
        assert getattr(other, "dtype", None) == getattr(one, "dtype", None), key
        np.testing.assert_array_equal(other, one, err_msg=key)
    for key in inexact & set(fitted(model)) - {"mixture_"}:
        np.testing.assert_allclose(fitted(loaded)[key], fitted(model)[key], rtol=1e-5)
    names = vars(model).keys() - fitted(model).keys() - NOT_KEPT
    assert {key: getattr(loaded, key) for key in names if key != "noise"} == {
        key: getattr(model, key) for key in names if key != "noise"
    }


@pytest.mark.parametrize("way", [by_file, by_json])
def test_settings_are_kept(way, tmp_path):
    mixture = GaussianMixture(
        2, tol=1e-4, reg_covar="auto", max_iter=200, n_init=2, init_params="random_from_data", random_state=3,
        prior=ConjugatePrior(mean_precision=0.5, mean=np.zeros(3)), missing="em", fixed={"weights": "equal"},
        noise=np.array([[-20.0] * 3, [20.0] * 3]), on_singular="regularize", covariance_floor=1e-8,
        n_jobs=1, verbose=0, callback=lambda info: False, means_init=None,
    ).fit(X)  # fmt: skip
    loaded = way(mixture, tmp_path)
    for name in ("tol", "reg_covar", "max_iter", "n_init", "init_params", "random_state", "missing", "fixed"):
        assert getattr(loaded, name) == getattr(mixture, name), name
    np.testing.assert_array_equal(loaded.noise, mixture.noise)
    assert loaded.prior.mean_precision == 0.5
    np.testing.assert_array_equal(loaded.prior.mean, np.zeros(3))
    assert (loaded.n_jobs, loaded.callback) == (None, None)
    gaps = np.where(np.arange(3) == 1, np.nan, X)
    np.testing.assert_array_equal(loaded.score_samples(gaps), mixture.score_samples(gaps))
    assert loaded.bic(X) == mixture.bic(X)  # counts what is fixed
    np.testing.assert_array_equal(loaded.fit(X).means_, mixture.fit(X).means_)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", [by_file, by_json])
def test_fixed_and_prior_arrays_are_kept(way, tmp_path):
    held = np.array([[0.0, 0.0, 0.0], [np.nan] * 3])
    mixture = GaussianMixture(2, fixed={"means": held}, random_state=0).fit(X)
    loaded = way(mixture, tmp_path)
    np.testing.assert_array_equal(loaded.fixed["means"], held)
    assert loaded.aic(X) == mixture.aic(X)
    mixture = BayesianGaussianMixture(n_components=2, mean_prior=np.ones(3), covariance_prior=np.eye(3), random_state=0)
    mixture.fit(X)
    loaded = way(mixture, tmp_path)
    np.testing.assert_array_equal(loaded.covariance_prior, np.eye(3))
    np.testing.assert_array_equal(loaded.fit(X).means_, mixture.fit(X).means_)
    mixture = MixtureOfFactorAnalyzers(1, 1, noise_prior=(2.0, 0.5), missing="em", random_state=0).fit(X)
    loaded = way(mixture, tmp_path)
    assert (loaded.noise_prior, loaded.missing) == ((2.0, 0.5), "em")


def test_what_is_no_number_is_left_out(tmp_path):
    mixture = GaussianMixture(
        2,
        random_state=np.random.RandomState(0),
        init_params=lambda X, k, state: np.arange(len(X)) % k,
        weights_init=[0.5, 0.5],
    ).fit(X)
    loaded = by_file(mixture, tmp_path)
    assert (loaded.random_state, loaded.init_params, loaded.weights_init) == (None, "auto", None)
    large = GaussianMixture(2, random_state=0).fit(X)
    large.fixed = {"means": np.zeros((2, 30_000)) + 0.1}
    assert by_file(large, tmp_path).fixed is None


def test_names_of_features_are_kept_and_checked(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["länge", "b", "c"])
    for way in (by_file, by_json):
        for model in (GaussianMixture(1), BayesianGaussianMixture(), MixtureOfFactorAnalyzers(1, 1)):
            loaded = way(model.fit(frame), tmp_path)
            assert loaded.feature_names_in_.tolist() == ["länge", "b", "c"]
            assert loaded.score(frame) == model.score(frame)
            with pytest.raises(ValueError, match="feature names should match"):
                loaded.score(frame[["b", "c", "länge"]])


def test_more_names_than_a_header_holds_are_refused_before_writing(tmp_path):
    model = MixtureOfFactorAnalyzers.from_parameters([1.0], np.zeros((1, 1000)), np.zeros((1, 1000, 1)), 1.0)
    model.feature_names_in_ = np.array([f"{i:02000}" for i in range(1000)], dtype=object)
    with pytest.raises(FormatError, match="would have a header of"):
        model.save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_fit_goes_on_after_loading(tmp_path):
    mixture = GaussianMixture(2, random_state=0, max_iter=2, tol=0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = by_file(mixture.fit(X), tmp_path)
        np.testing.assert_array_equal(loaded.fit(X).means_, mixture.fit(X).means_)
    fresh = GaussianMixture(2, random_state=0).fit(X)
    loaded = by_file(fresh, tmp_path)
    np.testing.assert_array_equal(loaded.partial_fit(X).means_, fresh.partial_fit(X).means_)


def test_old_bounds_of_a_long_history_are_left_out(tmp_path):
    mixture = GaussianMixture(1).fit(X)
    mixture.lower_bounds_ = list(map(float, range(10_005)))
    assert by_file(mixture, tmp_path).lower_bounds_ == mixture.lower_bounds_[5:]


def test_mixtures_without_a_fit_are_saved_too(tmp_path):
    mixture = GaussianMixture.from_parameters([1.0], [[0.0]], [[[2.0]]])
    for way in (by_file, by_json):
        assert not hasattr(way(mixture, tmp_path), "converged_")
    for model in (GaussianMixture(), BayesianGaussianMixture(), MixtureOfFactorAnalyzers(), ImageGenerator()):
        for write_it in (model.to_dict, lambda model=model: model.save(tmp_path / "none")):
            with pytest.raises(fastgmm.exceptions.NotFittedError):
                write_it()
    with pytest.raises(TypeError, match="mixture must be one of"):
        StandardisedMixture(object()).to_dict()


def test_a_standardised_mixture_lives_in_the_units_of_its_rows():
    scale = np.array([1e6, 1.0, 1e-6])
    plain = GaussianMixture(2, random_state=0, reg_covar=0, tol=1e-8).fit(X)
    model = StandardisedMixture(GaussianMixture(2, random_state=0, reg_covar=0, tol=1e-8)).fit(X * scale)
    expected = plain.score_samples(X) - np.log(scale).sum()
    np.testing.assert_allclose(model.score_samples(X * scale), expected, atol=1e-3)
    assert model.score(X * scale) == pytest.approx(model.score_samples(X * scale).mean())
    np.testing.assert_array_equal(model.predict(X * scale), model.predict_proba(X * scale).argmax(axis=1))
    np.testing.assert_allclose(model.sample(20_000)[0].std(axis=0), (X * scale).std(axis=0), rtol=0.1)
    for mixture in (BayesianGaussianMixture(n_components=2), MixtureOfFactorAnalyzers(2, 1, tol=0.1)):
        model = StandardisedMixture(mixture).fit(X)
        np.testing.assert_array_equal(by_json(model, None).score_samples(X), model.score_samples(X))


# ---- the wrong class ----


@pytest.mark.parametrize("path", [path for path in FIXTURES if path.parent.name == "1.1"], ids=lambda path: path.stem)
def test_the_wrong_class_names_the_right_one(path):
    right = type(fastgmm.load(path))
    data = fastgmm.load(path).to_dict()
    for wrong in set(CLASSES.values()) - {right}:
        if (right, wrong) == (ImageGenerator, MixtureOfFactorAnalyzers):  # which are its pixels
            assert wrong.load(path).means_.shape[1] == 12
            continue
        cause = f"holds a '{right.__name__}', not a '{wrong.__name__}'; that class or fastgmm.load reads it"
        with pytest.raises(FormatError, match=cause):
            wrong.load(path)
        with pytest.raises(FormatError, match=cause):
            wrong.from_dict(data)


def test_models_of_a_newer_version_are_told(tmp_path):
    path = tmp_path / "m.safetensors"
    GaussianMixture(1).fit(X).save(path)
    edit(path, lambda tensors, metadata: metadata.update(model="MixtureOfWishes"))
    with pytest.raises(FormatError, match="'MixtureOfWishes', unknown to this version"):
        fastgmm.load(path)


# ---- what is refused ----


def fact(key, value):
    return lambda tensors, metadata: metadata.update({key: value})


def entry(name, index, value):
    def change(tensors, metadata):
        tensors[name][index] = value

    return change


DEEP = "[" * 100_000
DAMAGES = [
    ("gaussian_full", fact("settings", "[]"), "'settings' must be a dict"),
    ("gaussian_full", fact("settings", DEEP), "'settings' is not valid JSON"),
    ("gaussian_full", fact("settings", '{"tol": 1, "tol": 2}'), "a key is repeated"),
    ("gaussian_full", fact("settings", '{"tol": -1}'), "'tol' parameter of the file must be a float in the range"),
    ("gaussian_full", fact("settings", '{"tol": "0"}'), "'tol' parameter"),
    ("gaussian_full", fact("settings", '{"missing": "ignore"}'), "'missing' parameter"),
    ("gaussian_full", fact("settings", '{"callback": "os.system"}'), "a setting 'callback' unknown to this version"),
    ("gaussian_full", fact("settings", '{"n_jobs": 100000}'), "a setting 'n_jobs' unknown"),
    ("gaussian_full", fact("settings", '{"__class__": 1}'), "a setting '__class__' unknown"),
    ("gaussian_full", fact("settings", '{"noise": ["a"]}'), "setting 'noise' is not made of numbers"),
    ("gaussian_full", fact("settings", '{"prior": {"mean": "x"}}'), "setting 'prior' is not made of numbers"),
    ("gaussian_full", fact("settings", '{"prior": {"code": 1}}'), "setting 'prior' is not made of numbers"),
    ("gaussian_full", fact("settings", '{"fixed": {"means": [[1, 2]]}}'), "should have the shape of"),
    ("gaussian_full", fact("settings", '{"fixed": {"all": [1]}}'), "fixed may hold"),
    ("gaussian_full", fact("converged", "yes"), "'converged' is not what a fit says"),
    ("gaussian_full", fact("n_iter", "-1"), "'n_iter' is not what a fit says"),
    ("gaussian_full", fact("n_iter", "9" * 5000), "'n_iter' is not what a fit says"),
    ("gaussian_full", fact("lower_bound", "high"), "'lower_bound' is not what a fit says"),
    ("gaussian_full", fact("stop_reason", "\x1b[2J"), "'stop_reason' is not what a fit says"),
    ("gaussian_full", fact("lower_bounds", '["1"]'), "'lower_bounds' must hold floats only"),
    ("gaussian_full", fact("feature_names", '["a"]'), "'feature_names' must hold 3 strings"),
    ("gaussian_full", fact("feature_names", "[1, 2, 3]"), "'feature_names' must hold 3 strings"),
    ("gaussian_full", fact("diagnostics", "{}"), "'diagnostics' are not those of a fit"),
    ("gaussian_noise", fact("noise", DEEP), "noise is not a weight and bounds"),
    ("gaussian_noise", fact("noise", "[]"), "noise is not a weight and bounds"),
    ("gaussian_noise", fact("noise", '{"weight": 2, "bounds": [[0,0,0],[1,1,1]]}'), "noise has a weight of 2"),
    ("gaussian_noise", fact("noise", '{"weight": 0.1, "bounds": [[0,0,0],[1,1,-1]]}'), "bounds without volume"),
    ("gaussian_noise", fact("noise", '{"weight": 0.1, "bounds": [[-1e308,0,0],[1e308,1,1]]}'), "without volume"),
    (
        "gaussian_noise",
        fact("noise", '{"weight": 0.1, "bounds": [[0,0,0],[1,1,1]], "weights": [0.5, 0.5]}'),
        "weights that are not those of the file",
    ),
    ("gaussian_full", entry("means", (0, 0), np.nan), "'means' is not finite"),
    ("gaussian_full", entry("weights", 0, -0.1), "'weights' is negative"),
    ("gaussian_full", entry("covariances", 0, -np.eye(3)), "variance that is not positive"),
    ("gaussian_full", entry("covariances", 0, np.ones((3, 3)) + np.eye(3) * [0.0, 0, -0.5]), "not positive definite"),
    ("gaussian_float32", entry("means", (0, 0), 1e300), "'means' is not finite"),  # as float32
    ("bayesian_full", entry("covariances", (0, 0, 0), -1.0), "variance that is not positive"),
    ("bayesian_full", entry("weights", 0, np.nan), "'weights' is not finite"),
    ("bayesian_full", entry("weight_concentration", (0, 0), np.nan), "'weight_concentration' is not finite"),
    ("bayesian_full", entry("weight_concentration", (1, 2), 0.0), r"'weight_concentration' is not above 0 at index"),
    ("bayesian_full", entry("mean_precision", 1, -1.0), r"'mean_precision' is not above 0 at index \(1,\)"),
    ("bayesian_full", entry("degrees_of_freedom", 1, 2.0), r"'degrees_of_freedom' is not above 2"),
    ("bayesian_tied", entry("degrees_of_freedom", (), 1.0), r"'degrees_of_freedom' is not above 2"),
    ("bayesian_full", entry("degrees_of_freedom_prior", (), 1.0), "'degrees_of_freedom_prior' is not above 2"),
    ("bayesian_full", entry("weight_concentration_prior", (), 0.0), "'weight_concentration_prior' is not above 0"),
    ("bayesian_full", entry("covariance_prior", (0, 0), -1.0), "'covariance_prior' is not positive definite"),
    ("bayesian_diag", entry("covariance_prior", 0, -1.0), "'covariance_prior' is not positive definite"),
    ("bayesian_distribution", entry("mean_precision", 0, 5e-324), "component 0 has no expected weight"),
    ("bayesian_full", lambda t, m: t.pop("mean_prior"), "must hold the tensors"),
    ("bayesian_full", lambda t, m: t.update(extra=np.ones(1)), "must hold exactly the tensors"),
    ("bayesian_full", lambda t, m: t.update(mean_prior=np.ones(2)), r"'mean_prior' must have shape \(3,\)"),
    ("bayesian_full", fact("weight_concentration_prior_type", "uniform"), "must be one of"),
    ("bayesian_full", fact("weight_concentration_prior_type", "dirichlet_distribution"), "'weight_concentration' must"),
    ("images", fact("images", DEEP), "'images' is not valid JSON"),
    ("images", lambda t, m: m.pop("images"), "does not describe an image generator"),
    ("images", fact("images", '{"shape": [-4, -3], "classes": [0], "component_classes": [0, 0]}'), "does not describe"),
    ("standardised", fact("mixture", "StandardisedMixture"), "'mixture' must be one of"),
    ("standardised", fact("mixture", "os.system"), "'mixture' must be one of"),
    ("standardised", entry("standardisation_scale", 1, 0.0), "'standardisation_scale' is not positive at index"),
    ("standardised", entry("standardisation_mean", 1, np.inf), "'standardisation_mean' is not finite"),
    ("standardised", lambda t, m: t.update(standardisation_mean=np.ones((1, 1))), "'standardisation_mean' must have"),
    ("standardised", lambda t, m: t.pop("standardisation_mean"), "must hold the tensors"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "cause"), DAMAGES)
def test_damaged_models_are_refused(name, change, cause, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes((write.FOLDER / "1.1" / f"{name}.safetensors").read_bytes())
    edit(path, change)
    with pytest.raises(FormatError, match=rf"model file .*m\.safetensors.* {cause}"):
        fastgmm.load(path)
    own = type(fastgmm.load(write.FOLDER / "1.1" / f"{name}.safetensors"))
    with safetensors.safe_open(path, "numpy") as file:
        tensors = {key: file.get_tensor(key).tolist() for key in file.keys()}  # noqa: SIM118
        data = {"metadata": file.metadata(), "tensors": tensors}
    with pytest.raises(FormatError, match=f"<dict>.* {cause}"):
        own.from_dict(data)
    with pytest.raises(FormatError, match=f"<dict>.* {cause}"):
        own.from_json(json.dumps(data))


def test_save_refuses_posteriors_that_would_not_load(tmp_path):
    mixture = BayesianGaussianMixture(n_components=2, random_state=0).fit(X)
    mixture.mean_precision_[0] = -1.0
    with pytest.raises(FormatError, match="'mean_precision' is not above 0"):
        mixture.save(tmp_path / "m")
    del mixture.mean_prior_
    with pytest.raises(FormatError, match="the mixture has no mean_prior_"):
        mixture.to_dict()
    assert list(tmp_path.iterdir()) == []


GOOD = {
    "metadata": {"format": "fastgmm/1", "fastgmm_version": "0", "covariance_type": "spherical", "dtype": "float64"},
    "tensors": {"weights": [1.0], "means": [[0.0]], "covariances": [4], "precisions_cholesky": [0.5]},
}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"means": [["0"]]}, "'means' holds a str where a number must be"),
        ({"means": [[True]]}, "'means' holds a bool"),
        ({"means": [[None]]}, "'means' holds a NoneType"),
        ({"means": [[10**400]]}, "an integer beyond any float"),
        ({"means": [[[[[0.0]]]]]}, "more than 3 dimensions"),
        ({"means": [[0.0], [0.0, 1.0]], "weights": [0.5, 0.5]}, "shape"),
        ({"means": []}, "'means' must have shape"),
        ({"means": [[]]}, "'means' must have shape"),
        ({"means": 0.0}, "'means' must have shape"),
        ({"means": [[float("nan")]]}, "'means' is not finite"),
        ({"means": (0.0,)}, "'means' must have shape"),
        ({"extra": [1.0]}, "exactly the tensors"),
    ],
)
def test_bad_lists_are_refused(change, cause):
    assert GaussianMixture.from_dict(GOOD).score([[0.0]]) == pytest.approx(-np.log(2 * np.pi * 4) / 2)
    with pytest.raises(FormatError, match=cause):
        GaussianMixture.from_dict({**GOOD, "tensors": GOOD["tensors"] | change})


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"metadata": {}}, GOOD | {"code": "x"}, GOOD | {"tensors": []}, GOOD | {"tensors": {1: []}}],
)
def test_other_dictionaries_are_refused(data):
    with pytest.raises(FormatError, match="<dict>"):
        GaussianMixture.from_dict(data)


@pytest.mark.parametrize("text", ["", "[]", DEEP, '{"metadata": {}, "metadata": {}}', "\ud800", None, b"{}"])
def test_other_texts_are_refused(text):
    with pytest.raises(FormatError, match="<dict>"):
        GaussianMixture.from_json(text)


def test_large_models_are_no_json(monkeypatch):
    mixture = GaussianMixture.from_parameters([1.0], [[0.0]], [[[2.0]]])
    text = mixture.to_json()
    monkeypatch.setattr(dictionary, "MAX_NUMBERS", 3)
    with pytest.raises(FormatError, match="4 numbers are more than 3, the most for lists; `save` writes any number"):
        mixture.to_dict()
    with pytest.raises(FormatError, match="more than 3 numbers"):
        GaussianMixture.from_json(text)
    monkeypatch.setattr(dictionary, "MAX_TEXT", 100)
    with pytest.raises(FormatError, match="characters, more than 100"):
        GaussianMixture.from_json(text)


# ---- hostile files ----


def fuzz(first, count):
    command = [sys.executable, "-m", "tests.fuzz_model_files", str(first), str(count)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["refused"] + found["loaded"] == count
    assert found["loaded"] > count / 100
    assert found["peak_mib"] < 64
    return found


def test_mutated_files_and_texts_raise_nothing_but_format_error():
    fuzz(0, 1_500)


@pytest.mark.slow
def test_ten_thousand_mutated_files_and_texts_raise_nothing_but_format_error():
    fuzz(1_500, 10_000)


@pytest.mark.parametrize("load", [fastgmm.load, *(kind.load for kind in CLASSES.values())])
def test_pickles_are_refused_and_not_run(load, tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path / "executed").touch, ()

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "m.safetensors").write_bytes(pickle.dumps(Attack(), protocol))
        with pytest.raises(FormatError):
            load(tmp_path / "m.safetensors")
    with io.BytesIO() as stream:
        np.savez(stream, weights=np.ones(3))
        (tmp_path / "m.safetensors").write_bytes(stream.getvalue())
    with pytest.raises(FormatError):
        load(tmp_path / "m.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def bytes_read(monkeypatch):
    """How many bytes the reader took from files."""
    read = []

    class Counted(io.FileIO):
        def read(self, size=-1):
            content = super().read(size)
            read.append(len(content))
            return content

    monkeypatch.setattr(files, "open", lambda path, mode: Counted(path, mode.strip("b")), raising=False)
    return read


def sparse(path, header, size):
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, size)  # takes no room on the disk


def test_huge_files_headers_and_arrays_are_refused_unread(tmp_path, bytes_read):
    path = tmp_path / "m.safetensors"
    path.write_bytes((write.FOLDER / "1.1" / "gaussian_full.safetensors").read_bytes())
    fastgmm.load(path)
    assert sum(bytes_read) == path.stat().st_size  # the count counts
    metadata = json.dumps({"__metadata__": GOOD["metadata"]}).encode()[:-1]
    huge = b', "%s": {"dtype": "F64", "shape": [%s], "data_offsets": [0, 8]}'
    shapes = {"weights": "1000000000000", "means": "1000000000000, 1", "covariances": "1000000000000"}
    shapes["precisions_cholesky"] = shapes["covariances"]
    arrays = b"".join(huge % (name.encode(), shape.encode()) for name, shape in shapes.items())
    for header, size, cause in (
        (b"", files.MAX_FILE_BYTES + 1, "more than max_bytes"),
        (b"{}", 2**31, "metadata 'format'"),
        (metadata + b', "weights": {}}', 2**31, "exactly the tensors"),
        (metadata + arrays + b"}", 2**31, "do not hold 4000000000000 numbers"),
    ):
        sparse(path, header, size)
        bytes_read.clear()
        with pytest.raises(FormatError, match=cause):
            fastgmm.load(path)
        assert sum(bytes_read) <= len(header) + 8
    path.write_bytes(struct.pack("<Q", 100 * 2**20))
    os.truncate(path, 2**30)
    bytes_read.clear()
    with pytest.raises(FormatError, match="has a header of 104857600 bytes"):
        fastgmm.load(path)
    assert sum(bytes_read) == 8


def test_paths_within_files_are_not_followed(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("nobody reads this")
    path = tmp_path / "m.safetensors"
    opened = []
    real = builtins.open
    monkeypatch.setattr(builtins, "open", lambda file, *args, **kw: opened.append(str(file)) or real(file, *args, **kw))
    for name in ("gaussian_full", "images", "standardised"):
        path.write_bytes((write.FOLDER / "1.1" / f"{name}.safetensors").read_bytes())
        edit(path, lambda tensors, metadata: metadata.update(path=str(secret), include=f"file://{secret}"))
        fastgmm.load(path)
        for key in ("model", "mixture", "images", "settings", "feature_names", "noise", "dtype", "stop_reason"):
            path.write_bytes((write.FOLDER / "1.1" / f"{name}.safetensors").read_bytes())
            edit(path, fact(key, str(secret)))
            with contextlib.suppress(FormatError):  # a key that is none of this class's is not read
                fastgmm.load(path)
    assert str(secret) not in opened
    assert str(path) in opened


def test_files_that_are_none_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)  # so that opening does not wait
    try:
        with pytest.raises(FormatError, match="is not a regular file"):
            fastgmm.load(tmp_path / "pipe")
    finally:
        os.close(writer)
    for missing in (tmp_path, tmp_path / "missing"):
        with pytest.raises(OSError, match="directory"):
            fastgmm.load(missing)
