"""Writes what a user of version 0.1.0 may have on disk: `python -m tests.data.v0_1_0.write`, run once, with 0.1.0.

Into its own folder: pickles of every public class, model files and JSON of every estimator, checkpoints of interrupted
fits, and in expected.json what 0.1.0 said with them: densities, labels and samples of models, streams after another
piece, fits that were not interrupted. Files once committed are never written again: tests/test_version_0_1_0.py loads
each of them, for ever, and makes the same rows with the functions below.
"""

import hashlib
import itertools
import json
import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pandas as pd
from sklearn import mixture

import fastgmm
from fastgmm import (
    BayesianGaussianMixture,
    ConjugatePrior,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    StandardisedMixture,
    batch,
    engine,
    exceptions,
    metrics,
)
from fastgmm.datasets import load_digits, make_mixture
from fastgmm.images import ImageGenerator
from fastgmm.representation import PCA, Chain, Dequantisation, OpponentColour, Scaling, Standardisation

FOLDER = Path(__file__).parent
CENTRES = np.array([[0.0, 0, 0], [2, 1, 0], [0, 2, 2]])
N = 150
FREE = [np.nan] * 3
BOX = np.array([[-9.0] * 3, [9.0] * 3])
IN_FILES = (  # models that are saved as well
    *("full", "tied", "diag_fixed", "noise", "prior", "missing", "named", "float32"),
    *("bayesian", "bayesian_distribution", "factors", "factors_missing", "images", "projected_images"),
    *("standardised", "standardised_bayesian", "standardised_factors"),
)


# ---- data: of uniform numbers, which are the same bits with every NumPy and on every machine ----


def uniform(seed, *shape):
    return np.random.RandomState(seed).random_sample(shape)


def rows():
    u = uniform(0, 3, N, 3)
    return 2.0 * (u[0] + u[1] + u[2] - 1.5) + CENTRES[np.arange(N) % 3]


def gappy():
    return np.where(uniform(1, N, 3) < 0.1, np.nan, rows())


def weights():
    return 0.5 + uniform(2, N)


def labels():
    return np.where(np.arange(N) % 4 == 0, np.arange(N) % 3, -1)


def frame():
    return pd.DataFrame(rows(), columns=["a", "b", "ü"])


def images():
    """The middle of 60 digits, 0 and 1."""
    pixels, digits = load_digits()
    chosen = np.flatnonzero(digits < 2)[:60]
    return pixels[chosen, 2:6, 2:6], np.where(digits[chosen] == 1, "one", "nought")


def pixels():
    return np.floor(256 * uniform(3, 40, 6)).astype(np.uint8)


def digests():
    """Of the bits of all data, to tell other data from other results."""
    data = {f.__name__: f() for f in (rows, gappy, weights, labels, pixels)} | {"images": images()[0]}
    return {name: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for name, array in data.items()}


# ---- models: a name, an estimator, and what it is fitted to ----


def models():
    X = (rows(),)
    yield "full", GaussianMixture(3, random_state=0), X
    yield "tied", GaussianMixture(3, covariance_type="tied", random_state=0), X
    yield "spherical", GaussianMixture(3, covariance_type="spherical", random_state=0), X
    yield "float32", GaussianMixture(3, random_state=0), (rows().astype(np.float32),)
    prior = ConjugatePrior(mean_precision=0.1, mean=np.ones(3))
    yield "prior", GaussianMixture(3, random_state=0, prior=prior), X
    yield "noise", GaussianMixture(3, random_state=0, noise=True), X
    yield "missing", GaussianMixture(3, random_state=0, missing="em"), (gappy(),)
    fixed = {"means": [CENTRES[0].tolist(), FREE, FREE], "weights": "equal"}
    yield "diag_fixed", GaussianMixture(3, covariance_type="diag", random_state=0, fixed=fixed), X
    yield "named", GaussianMixture(3, random_state=0), (frame(),)
    many = GaussianMixture(
        3, random_state=0, max_iter=5, semi_supervised=True, noise=BOX, n_init=2,
        on_singular="restart", covariance_floor=1e-4, solver_options={}, callback=fastgmm.progress("none"),
        means_init=CENTRES, init_params="random_from_data", reg_covar="auto", max_seconds=3600.0, n_jobs=1,
    )  # fmt: skip
    yield "many_settings", many, (rows(), labels(), weights())
    yield "bayesian", BayesianGaussianMixture(n_components=5, random_state=0, tol=1e-2), X
    settings = {"covariance_type": "tied", "weight_concentration_prior_type": "dirichlet_distribution"}
    yield "bayesian_distribution", BayesianGaussianMixture(n_components=3, random_state=0, tol=1e-2, **settings), X
    yield "factors", MixtureOfFactorAnalyzers(3, 1, random_state=0), X
    settings = {"noise_type": "isotropic", "shared_noise": True, "noise_prior": "auto", "obs_noise": 0.1}
    yield "factors_missing", MixtureOfFactorAnalyzers(2, 1, random_state=0, missing="em", **settings), (gappy(),)
    yield "standardised", StandardisedMixture(GaussianMixture(3, random_state=0)), X
    yield "standardised_bayesian", StandardisedMixture(BayesianGaussianMixture(n_components=3, random_state=0)), X
    yield "standardised_factors", StandardisedMixture(MixtureOfFactorAnalyzers(3, 1, random_state=0)), X
    yield "images", ImageGenerator(2, n_factors=2, random_state=0), (images()[0], None, images()[1])
    yield "projected_images", ImageGenerator(2, model="full", random_state=0, pca_components=4), (images()[0],)
    with fastgmm.patch_sklearn():
        patched, patched_bayesian = mixture.GaussianMixture, mixture.BayesianGaussianMixture
    yield "patched", patched(3, random_state=0), X
    yield "patched_bayesian", patched_bayesian(n_components=3, random_state=0, tol=1e-2), X


def quietly(method, *arguments, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(*arguments, **named)


def answers(model, X):
    """What a model says of some of the rows (images) that it was fitted to, and draws."""
    X = X[::15]
    if isinstance(model, ImageGenerator):
        said = {"classes": model.classify(X), "sample": model.generate(3, random_state=0)}
    else:
        sample, components = model.sample(5)
        said = {"labels": model.predict(X), "sample": sample, "components": components}
    return {"log_density": model.score_samples(X)} | said


# ---- streams: a name, an estimator, and the pieces that it learns one after the other; the last after loading ----


def streams():
    def cut(*data, size=N // 2):
        return [tuple(each[first : first + size] for each in data) for first in range(0, N, size)]

    def make(**settings):
        return GaussianMixture(3, random_state=0, **settings)

    yield "stream", make(), cut(rows())
    yield "stream_tied_prior", make(covariance_type="tied", prior="conjugate"), cut(rows())
    yield "stream_spherical_noise", make(covariance_type="spherical", noise=BOX), cut(rows())
    yield "stream_missing", make(missing="em", reg_covar="auto"), cut(gappy())
    fixed = {"covariances": [[1.0] * 3, FREE, FREE]}
    yield "stream_diag_fixed", make(covariance_type="diag", fixed=fixed, covariance_floor=1e-4), cut(rows())
    settings = {"semi_supervised": True, "on_singular": "regularize", "solver": "stepwise"}
    yield "stream_labels", make(**settings, solver_options={"batch_size": 30}), cut(rows(), labels(), weights())
    yield "stream_named", make(), cut(frame())
    yield "stream_after_fit", make(), cut(rows(), size=N // 3)


def learn(name, model, pieces):
    """Learn all pieces, the first one by `fit` if the name says so."""
    for number, piece in enumerate(pieces):
        quietly(model.fit if (name, number) == ("stream_after_fit", 0) else model.partial_fit, *piece)
    return model


def learned(model):
    """The state of a fit, in numbers."""
    names = ("weights_", "means_", "covariances_", "loadings_", "noise_variance_", "noise_weight_", "lower_bounds_")
    return {name: getattr(model, name) for name in (*names, "n_iter_", "stop_reason_") if hasattr(model, name)}


# ---- interrupted fits: a name, an estimator, what it is fitted to, and after how many iterations it stops ----


def fits():
    X, start = (rows(),), {"init_params": "random_from_data", "random_state": 0}
    settings = start | {"max_iter": 9, "tol": 0.0}
    yield "em", GaussianMixture(3, **settings, n_init=2), X, 13
    yield "em_float32", GaussianMixture(3, **settings, covariance_type="diag"), (rows().astype(np.float32),), 4
    yield "lbfgs", GaussianMixture(2, **start, acceleration="lbfgs", tol=1e-9, max_iter=14), X, 9
    polished = {"solver": "hard", "solver_options": {"polish": True}, "tol": 1e-3, "max_iter": 30}
    yield "hard", GaussianMixture(3, **start, **polished), X, 4
    yield "annealed", GaussianMixture(3, **settings, solver="annealed", solver_options={"n_steps": 2}), X, 4
    stepwise = {"solver": "stepwise", "solver_options": {"batch_size": 40, "passes": 3}}
    yield "stepwise", GaussianMixture(3, **settings, n_init=2, **stepwise), X, 11
    gradient = {"solver": "gradient", "solver_options": {"batch_size": 40}}
    yield "gradient", GaussianMixture(3, **settings, **gradient), X, 4
    descent = {"solver": "gradient", "solver_options": {"optimizer": "sgd"}, "covariance_type": "tied"}
    yield "gradient_sgd", GaussianMixture(3, **settings, **descent), X, 4
    yield "missing", GaussianMixture(3, **settings, missing="em"), (gappy(),), 4
    known = GaussianMixture(3, **settings, semi_supervised=True, noise=True)
    yield "labels_and_noise", known, (rows(), labels(), weights()), 4
    singular = np.concatenate([rows(), np.zeros((60, 3))])
    yield "restart", GaussianMixture(5, **settings, on_singular="restart", reg_covar=0.0), (singular,), 6
    two = {"init_params": np.arange(N) % 3 // 2, "weight_concentration_prior": 1e-3}  # of five components
    yield "bayesian", BayesianGaussianMixture(n_components=5, max_iter=24, tol=0.0, **two), X, 13
    factors = {"tol": 0.0, "max_iter": 9, "random_state": 0, "init_params": "random"}
    yield "factors", MixtureOfFactorAnalyzers(3, 1, **factors, n_init=2), X, 13
    yield "factors_missing", MixtureOfFactorAnalyzers(3, 1, **factors, missing="em"), (gappy(),), 4


class StoppedError(Exception):
    """Ends a fit before its time."""


def stopping_at(count):
    left = itertools.count(1)

    def stop(info):
        if next(left) == count:
            raise StoppedError

    return stop


# ---- transforms: a name, a transform, and what it is fitted to ----


def transforms():
    yield "standardisation", Standardisation(), rows()
    yield "scaling", Scaling(-9.0, 9.0), rows()
    yield "pca", PCA(2, whiten=True), rows()
    yield "dequantisation", Dequantisation(random_state=0), pixels()
    yield "opponent_colour", OpponentColour(), pixels()
    yield "chain", Chain([Dequantisation(random_state=0), OpponentColour(), PCA(0.8)]), pixels()


def transformed(transform, X):
    Z = transform.transform(X[:4])
    return {"rows": Z, "back": transform.inverse_transform(Z), "log_abs_det": transform.log_abs_det(X[:4])}


# ---- everything else that is public and that a pickle may hold ----


def values():
    X, seen = rows(), []
    model = quietly(GaussianMixture(3, random_state=0, callback=seen.append).fit, X)
    yield "prior", ConjugatePrior(mean_precision=0.5, mean=np.zeros(3))
    yield "diagnostics", model.diagnostics_
    yield "iteration", seen[-1]
    covariances = [np.diag([1.0, 2.0, 3.0])] * 3
    parameters = engine.mixture([0.5, 0.25, 0.25], CENTRES, covariances)
    statistics = engine.statistics(X, parameters)
    yield "mixture", parameters
    yield "statistics", statistics
    yield "updated_mixture", engine.m_step(statistics)
    yield "synthetic", make_mixture(6, 2, 2, random_state=0)
    sets = X[:50], X[50:100], X[100:]
    yield "measured", metrics.sliced_wasserstein(*sets, n_directions=5)
    yield "precision_recall", metrics.precision_recall_density_coverage(*sets)
    yield "memorisation", metrics.memorisation(*sets)
    yield "report", metrics.evaluate(*sets, n_bins=3, n_directions=5)
    yield "bins", metrics.Bins(3).fit(X)
    yield "scores", batch.score_samples(model, X, None)
    yield "source", fastgmm.open_source(frame()[:5])
    yield "progress", fastgmm.progress("none")
    yield "errors", [*raised(), *(getattr(exceptions, name)("text") for name in (*exceptions.__all__, "WorkerError"))]


def raised():
    """Errors and warnings of estimators, as worker processes send them."""
    X = rows()
    for action in (
        lambda: GaussianMixture(0).fit(X),
        lambda: GaussianMixture().predict(X),
        lambda: GaussianMixture(reg_covar=0.0).fit(X[:, [0, 0]]),
        lambda: GaussianMixture(3, max_iter=1, tol=0.0).fit(X),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                action()
            except (ValueError, UserWarning) as error:
                yield error


def facts(value):
    """What a value says, by name; a later version may say more."""
    if isinstance(value, metrics.Bins):
        return {"shares": value.shares(rows()), "centers_": value.centers_}
    if isinstance(value, metrics.Report):
        return value.to_dict() | {"n_rows": value.n_rows}
    if isinstance(value, BaseException):
        return {"class": type(value).__name__, "text": str(value)} | vars(value)
    if isinstance(value, list):
        return {str(i): facts(entry) for i, entry in enumerate(value)}
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return value._asdict()
    if hasattr(value, "take"):
        return {"rows": value.take(np.arange(value.n_samples)), "names": value.names}
    return {}


# ---- writing ----


def plain(value):
    """As JSON takes it; numbers that it does not know as text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if is_dataclass(value) or hasattr(value, "_asdict"):
        value = facts(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_pickle(name, value):
    (FOLDER / "pickles" / f"{name}.pickle").write_bytes(pickle.dumps(value, protocol=4))


def write_models():
    for name, model, data in models():
        quietly(model.fit, *data)
        write_pickle(name, model)
        if name in IN_FILES:
            model.save(FOLDER / "models" / f"{name}.safetensors")
            (FOLDER / "models" / f"{name}.json").write_text(model.to_json())
        yield name, {"class": type(model).__name__, "answers": answers(model, data[0])}


def write_streams():
    for name, model, (*first, last) in streams():
        write_pickle(name, learn(name, model, first))
        before = answers(model, last[0])
        yield name, {"answers": before, "after": learned(model.partial_fit(*last))}


def write_checkpoints():
    """In an archive, since most of a checkpoint is the state of the random generator."""
    with TemporaryDirectory() as folder, ZipFile(FOLDER / "checkpoints.zip", "w", ZIP_DEFLATED) as archive:
        for name, model, data, count in fits():
            seen = []
            quietly(model.set_params(callback=seen.append).fit, *data)
            found = learned(model) | {"iterations_left": len(seen) - count}
            path = Path(folder, name)
            again = model.set_params(checkpoint=path, checkpoint_every=3600.0, callback=stopping_at(count))
            try:
                quietly(again.fit, *data)
            except StoppedError:
                archive.write(path, name)
                yield name, found


def write_transforms():
    for name, transform, X in transforms():
        write_pickle(name, transform.fit(X))
        yield name, transformed(transform, X)


def write_values():
    for name, value in values():
        write_pickle(f"value_{name}", value)
        yield name, {"class": type(value).__name__, "facts": facts(value)}


def write():
    if fastgmm.__version__ != "0.1.0":
        raise RuntimeError(f"These are the files of version 0.1.0, not of {fastgmm.__version__}.")
    for folder in ("pickles", "models"):
        (FOLDER / folder).mkdir()
    parts = {
        "data": digests(),
        "models": dict(write_models()),
        "streams": dict(write_streams()),
        "fits": dict(write_checkpoints()),
        "transforms": dict(write_transforms()),
        "values": dict(write_values()),
    }
    lines = []
    for part, entries in parts.items():
        entry_lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(plain(e))}" for name, e in entries.items())
        lines.append(f" {json.dumps(part)}: {{\n{entry_lines}\n }}")
    (FOLDER / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()
