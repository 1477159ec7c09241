"""Every warning points at the line outside of fastgmm that led to it, from wherever within it comes."""

import ast
import itertools
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet
import pytest
import sklearn.mixture

import fastgmm
from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    MixtureOfLinearRegressions,
    StandardisedMixture,
    exceptions,
)
from fastgmm.images import ImageGenerator, read_images
from fastgmm.kernels import _compile
from tests.conftest import read_only

PACKAGE = Path(fastgmm.__file__).parent
UNPLACED = {"cli/image_inputs.py"}  # a command prints its warnings without a place


@pytest.fixture
def rows():
    return read_only(np.random.default_rng(0).normal(size=(300, 2)) + 6.0 * (np.arange(300) % 2)[:, None])


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_only_this_package_and_numba_itself_stand_between_a_warning_and_its_line():
    import numba

    inner = [exceptions.__file__, str(Path(fastgmm.__file__).parent / "rows" / "open.py"), numba.__file__]
    assert all(exceptions._is_inner(file) for file in inner)
    users = ["/home/me/numba/project.py", "/home/me/fastgmm/project.py", "<string>", str(Path(__file__))]
    assert not any(exceptions._is_inner(file) for file in users)


def damaged_checkpoint(rows):
    model = GaussianMixture(2, random_state=0, tol=0, max_iter=4, checkpoint="c", checkpoint_every=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows)
    Path("c").write_bytes(Path("c").read_bytes()[:-9])
    return model.set_params(resume=True, max_iter=5)


def shallow_picture():
    Path("shallow").mkdir()
    PIL.Image.fromarray(np.full((4, 4), 4095, np.uint16)).save("shallow/a.png")


def unreadable_picture():
    os.mkdir("in")
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save("in/a.png")
    Path("in/b.png").write_bytes(b"no picture")


def far_start(rows):
    """The second component is where no row is."""
    fixed = {"means": [[0.0, 0.0], [1e6, 1e6]]}
    return GaussianMixture(2, fixed=fixed, means_init=fixed["means"], weights_init=[0.5, 0.5], max_iter=50)


def lowered(rows):
    """A ridge as large as the variances lets the likelihood fall."""
    return GaussianMixture(2, reg_covar=10.0, tol=1e-12, random_state=0, max_iter=3)


# What is done first, what then warns, of which kind; each `then` is a line of this file.
CASES = {
    "constant column": (None, lambda X: GaussianMixture(1).fit(np.c_[X, np.ones(300)]), "ConstantColumnWarning"),
    "constant, Bayes": (
        None,
        lambda X: BayesianGaussianMixture().fit(np.c_[X, np.ones(300)]),
        "ConstantColumnWarning",
    ),
    "unfinished regressions": (
        None,
        lambda X: MixtureOfLinearRegressions(2, max_iter=1, n_init=1, random_state=0).fit(X[:, :1], X[:, 1]),
        "ConvergenceWarning",
    ),
    "constant, factors": (
        None,
        lambda X: MixtureOfFactorAnalyzers(1, 1).fit(np.c_[X, np.ones(300)]),
        "ConstantColumnWarning",
    ),
    "standardised": (
        None,
        lambda X: StandardisedMixture(GaussianMixture(1)).fit(np.c_[X, np.ones(300)]),
        "ConstantColumnWarning",
    ),
    "large ridge": (None, lambda X: GaussianMixture(1, reg_covar=1.0).fit(X), "RegularizationWarning"),
    "large ridge, partial_fit": (
        None,
        lambda X: GaussianMixture(1, reg_covar=1.0).partial_fit(X),
        "RegularizationWarning",
    ),
    "ignored labels": (None, lambda X: GaussianMixture(2).fit(X, np.repeat([0, -1], 150)), "UserWarning"),
    "ignored labels, fit_predict": (
        None,
        lambda X: GaussianMixture(2).fit_predict(X, np.repeat([0, -1], 150)),
        "UserWarning",
    ),
    "empty component": (far_start, lambda X, model: model.fit(X), "EmptyComponentWarning"),
    "time": (None, lambda X: GaussianMixture(2, tol=0, max_seconds=0.0).fit(X), "ConvergenceWarning"),
    "objective fell": (lowered, lambda X, model: model.fit(X), "ConvergenceWarning"),
    "not converged": (None, lambda X: GaussianMixture(2, tol=0, max_iter=1).fit_predict(X), "ConvergenceWarning"),
    "not converged, patched": (
        lambda X: fastgmm.patch_sklearn(),
        lambda X, patch: sklearn.mixture.GaussianMixture(2, tol=0, max_iter=1).fit(X),
        "ConvergenceWarning",
    ),
    "damaged checkpoint": (damaged_checkpoint, lambda X, model: model.fit(X), "RuntimeWarning"),
    "no place for a checkpoint": (
        None,
        lambda X: GaussianMixture(2, checkpoint="nowhere/c", checkpoint_every=1).fit(X),
        "RuntimeWarning",
    ),
    "no place at the end of a fit": (
        None,
        lambda X: GaussianMixture(2, checkpoint="nowhere/c").fit(X),
        "RuntimeWarning",
    ),
    "unreadable picture": (
        lambda X: unreadable_picture(),
        lambda X, _: read_images("in", skip_unreadable=True),
        "UserWarning",
    ),
    "shallow picture": (
        lambda X: shallow_picture(),
        lambda X, _: read_images("shallow"),
        "UserWarning",
    ),
    "guess about a table": (
        lambda X: Path("guess.csv").write_text("a,b\n1,x\n2,y\n"),
        lambda X, _: fastgmm.open_source("guess.csv"),
        "GuessWarning",
    ),
    "guess about the cells of a table": (
        lambda X: Path("guess.csv").write_text("a;b\n1'000;2\n3'000;4\n"),
        lambda X, _: fastgmm.open_source("guess.csv"),
        "GuessWarning",
    ),
    "text in a Parquet file": (
        lambda X: pa.parquet.write_table(pa.table({"a": [1.0, 2.0], "b": ["x", "y"]}), "guess.parquet"),
        lambda X, _: fastgmm.open_source("guess.parquet"),
        "GuessWarning",
    ),
    "few images": (
        None,
        lambda X: ImageGenerator(1, n_factors=20, random_state=0).fit(X[:256].reshape(32, 4, 4) % 1.0),
        "FewRowsWarning",
    ),
    "images": (
        None,
        lambda X: ImageGenerator(2, max_iter=1, random_state=0).fit(X[:256].reshape(32, 4, 4) % 1.0),
        "ConvergenceWarning",
    ),
    "cache": (None, lambda X: _compile._warn_not_kept(Path("nowhere"), "for this test"), "RuntimeWarning"),
}


def sites():
    """Where the package warns: (file, line) of every call of `warn`."""
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name == "warn" and file not in {"exceptions.py", *UNPLACED}:
                    yield file, node.lineno


class Noted:
    """Stands for the module `warnings` where `warn` uses it, and notes who calls that."""

    def __init__(self):
        self.sites = set()

    def warn(self, message, category, stacklevel):
        caller = sys._getframe(2)
        self.sites.add((Path(caller.f_code.co_filename).relative_to(PACKAGE).as_posix(), caller.f_lineno))
        warnings.warn(message, category, stacklevel=stacklevel + 1)


def test_every_warning_points_at_the_callers_line(rows, monkeypatch):
    noted = Noted()
    monkeypatch.setattr(exceptions, "warnings", noted)
    for name, (first, then, kind) in CASES.items():
        prepared = () if first is None else (first(rows),)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            then(rows, *prepared)
        fastgmm.unpatch_sklearn()
        assert kind in {type.__name__ for warning in seen for type in warning.category.__mro__}, name
        lines = range(then.__code__.co_firstlineno, then.__code__.co_firstlineno + 8)
        for warning in seen:
            assert (warning.filename, warning.lineno in lines) == (__file__, True), f"{name}: {warning}"
    assert noted.sites == set(sites())


def test_nobody_counts_frames():
    """`warn` is the only place that tells the `warnings` module how deep it is."""
    for path in itertools.chain(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "stacklevel":
                assert path.name == "exceptions.py", path
            if isinstance(node, ast.Attribute) and node.attr == "warn" and isinstance(node.value, ast.Name):
                assert (node.value.id, path.name) in {("warnings", "exceptions.py")}, path
