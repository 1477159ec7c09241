"""Any array-like, any layout, any frame; with scikit-learn installed or not; and a light import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from fastgmm import GaussianMixture

ROOT = Path(__file__).parents[1]
PARAMETERS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")

LAYOUTS = {
    "read-only": lambda X: X,
    "Fortran order": np.asfortranarray,
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "rows reversed": lambda X: X[::-1],
    "big-endian": lambda X: X.astype(">f8"),
    "Fortran float32": lambda X: np.asfortranarray(X.astype(np.float32)),
    "float16": lambda X: X.astype(np.float16),
    "long double": lambda X: X.astype(np.longdouble),
    "integers": lambda X: (10 * X).astype(np.int32),
    "unsigned bytes": lambda X: (10 * np.abs(X)).astype(np.uint8),
    "objects": lambda X: X.astype(object),
    "list": lambda X: X.tolist(),
    "pandas": pd.DataFrame,
    "polars": lambda X: pl.DataFrame(X.copy(), schema=["a", "b", "c"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_bits_of_the_contiguous_float_array(layout, blobs):
    X, labels = blobs
    data = LAYOUTS[layout](X)
    dtype = np.float32 if "float32" in layout else np.float64
    before = np.array(data, dtype=dtype)
    model = GaussianMixture(3, init_params=labels).fit(data)
    expected = GaussianMixture(3, init_params=labels).fit(before)
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(model, name), getattr(expected, name), err_msg=name, strict=True)
    for reader in ("predict", "predict_proba", "score_samples"):
        np.testing.assert_array_equal(getattr(model, reader)(data), getattr(expected, reader)(before))
    np.testing.assert_array_equal(np.array(data, dtype=dtype), before)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_memory_map_opened_read_only_is_fitted_as_it_is(dtype, blobs, tmp_path):
    X, labels = blobs[0].astype(dtype), blobs[1]
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    model, expected = (GaussianMixture(3, init_params=labels).fit(data) for data in (mapped, X))
    assert model.means_.dtype == dtype
    np.testing.assert_array_equal(model.means_, expected.means_)
    np.testing.assert_array_equal(model.predict_proba(mapped), expected.predict_proba(X))


FRAMES = {
    "pandas": lambda X, names: pd.DataFrame(X.copy(), columns=names),
    "polars": lambda X, names: pl.DataFrame(X.copy(), schema=names),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_column_names_are_kept_and_checked_as_scikit_learn_does(frame, blobs, same_error):
    X, labels = blobs
    named, reordered = frame(X, ["a", "b", "c"]), frame(X, ["c", "a", "b"])
    model = GaussianMixture(3, init_params=labels).fit(named)
    peer = SklearnGaussianMixture(3, random_state=0).fit(named)
    np.testing.assert_array_equal(model.feature_names_in_, peer.feature_names_in_, strict=True)
    assert model.n_features_in_ == 3
    np.testing.assert_array_equal(model.predict(named), GaussianMixture(3, init_params=labels).fit(X).predict(X))
    for fitted_with, rows in ((named, X), (X, named)):
        texts = []
        for estimator in (GaussianMixture, SklearnGaussianMixture):
            fitted = estimator(random_state=0).fit(fitted_with)
            with pytest.warns(UserWarning, match="feature names") as caught:
                fitted.predict(rows)
            texts.append([str(warning.message) for warning in caught])
        assert texts[0] == texts[1]
    same_error(lambda estimator: estimator(random_state=0).fit(named).predict(reordered))


def test_columns_without_names_and_a_later_fit_without_them_leave_no_names(blobs):
    X, labels = blobs
    model = GaussianMixture(3, init_params=labels)
    assert not hasattr(model.fit(pd.DataFrame(X)), "feature_names_in_")
    model.fit(pd.DataFrame(X, columns=["a", "b", "c"]))
    assert not hasattr(model.fit(X), "feature_names_in_")


def test_weights_may_be_a_list_or_a_series(blobs):
    X, labels = blobs
    weights = np.linspace(0.5, 2, len(X))
    kinds = (
        weights,
        weights.tolist(),
        pd.Series(weights),
        pl.Series(weights),
        weights.astype(np.float32).astype(float),
    )
    first, *others = (GaussianMixture(3, init_params=labels).fit(X, sample_weight=kind) for kind in kinds)
    for other in others[:-1]:
        np.testing.assert_array_equal(other.means_, first.means_)
    assert not np.array_equal(others[-1].means_, first.means_)


def run_python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter with warnings as errors; return what it prints."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


WITHOUT_SCIKIT_LEARN = """
import json, pickle, sys
import numpy as np

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from fastgmm import GaussianMixture
from fastgmm.exceptions import ConvergenceWarning, NotFittedError

X = np.load(sys.argv[1])
model = GaussianMixture(3, random_state=0).fit(X)
assert isinstance(GaussianMixture().fit_predict(X), np.ndarray)

def message(action, expected):
    try:
        action()
    except expected as error:
        return str(error)

watched = {"sklearn", "joblib", "pandas", "polars"}
imported = sorted(watched & {name.partition(".")[0] for name in sys.modules})
import pandas as pd

frame = pd.DataFrame(X, columns=["a", "b", "c"])
params = model.get_params()
copied = GaussianMixture(**params)
copied.set_params(tol=0.5)
print(json.dumps({
    "means": model.means_.tolist(),
    "probabilities": model.predict_proba(X).tolist(),
    "score": model.score(X),
    "bic": model.bic(X),
    "sample": model.sample(5)[0].tolist(),
    "params": sorted(params),
    "tol": copied.tol,
    "repr": repr(model),
    "pickled": pickle.loads(pickle.dumps(model)).score(X),
    "not fitted": message(lambda: GaussianMixture().predict(X), NotFittedError),
    "bad parameter": message(lambda: GaussianMixture(0).fit(X), ValueError),
    "bad dtype": message(lambda: GaussianMixture(tol="a").fit(X), TypeError),
    "few rows": message(lambda: GaussianMixture(7).fit(X[:6]), ValueError),
    "one row": message(lambda: GaussianMixture().fit(X[:1]), ValueError),
    "one axis": message(lambda: GaussianMixture().fit(X[0]), ValueError),
    "width": message(lambda: model.predict(X[:, :2]), ValueError),
    "complex": message(lambda: GaussianMixture().fit(X + 1j), ValueError),
    "one iteration": message(lambda: GaussianMixture(3, max_iter=1).fit(X), ConvergenceWarning),
    "names": list(GaussianMixture().fit(frame).feature_names_in_),
    "imported": imported,
}))
"""


def test_without_scikit_learn_everything_is_the_same(blobs, tmp_path):
    X, _ = blobs
    np.save(tmp_path / "rows.npy", X)
    found = json.loads(run_python(WITHOUT_SCIKIT_LEARN, str(tmp_path / "rows.npy")))

    model = GaussianMixture(3, random_state=0).fit(X)
    np.testing.assert_array_equal(found["means"], model.means_)
    np.testing.assert_array_equal(found["probabilities"], model.predict_proba(X))
    np.testing.assert_array_equal(found["sample"], model.sample(5)[0])
    assert found["score"] == found["pickled"] == model.score(X)
    assert found["bic"] == model.bic(X)
    assert found["params"] == sorted(model.get_params())
    assert found["tol"] == 0.5
    assert found["repr"].startswith("GaussianMixture(")
    assert found["names"] == ["a", "b", "c"]
    assert found["imported"] == []

    def scikit_learns_message(action, expected=ValueError):
        with pytest.raises(expected) as caught:
            action()
        return str(caught.value)

    peer = SklearnGaussianMixture
    actions = {
        "not fitted": lambda: peer().predict(X),
        "bad parameter": lambda: peer(0).fit(X),
        "bad dtype": lambda: peer(tol="a").fit(X),
        "few rows": lambda: peer(7).fit(X[:6]),
        "one row": lambda: peer().fit(X[:1]),
        "one axis": lambda: peer().fit(X[0]),
        "width": lambda: peer().fit(X).predict(X[:, :2]),
        "complex": lambda: peer().fit(X + 1j),
    }
    for name, action in actions.items():
        assert found[name] == scikit_learns_message(action), name
    assert found["one iteration"].startswith("Best performing initialization did not converge.")


IMPORT = """
import sys, time
start = time.perf_counter()
import fastgmm
print(time.perf_counter() - start, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_import_is_light():
    runs = [run_python(IMPORT).split() for _ in range(3)]
    optional = {
        "numba",
        "llvmlite",
        "sklearn",
        "PIL",
        "matplotlib",
        "rich",
        "typer",
        "pandas",
        "polars",
        "dask",
    }
    assert not optional & set(runs[0])
    assert min(float(run[0]) for run in runs) <= 0.5
