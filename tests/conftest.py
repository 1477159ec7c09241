"""The data sets the tests share, and the settings every test runs under."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import fastgmm
from fastgmm.datasets import load_mnist
from tests.reference import COVARIANCE_TYPES

ROOT = Path(__file__).parents[1]

# The same examples in every run: a red test is then the change's doing, not the draw's.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def read_only(array: np.ndarray) -> np.ndarray:
    """Shared data must survive every test: a library that writes into its input raises here."""
    array.flags.writeable = False
    return array


def read_csv(name: str) -> np.ndarray:
    """A data set of tests/data; iris and wine (UCI repository, CC BY 4.0) have the class in the last column."""
    return read_only(np.loadtxt(ROOT / "tests" / "data" / f"{name}.csv", delimiter=",", skiprows=1))


@pytest.fixture(params=COVARIANCE_TYPES)
def covariance_type(request):
    return request.param


@pytest.fixture(scope="session")
def same_error():
    """Function that runs an action with our class and with scikit-learn's, and compares what they raise."""

    from sklearn.mixture import GaussianMixture as SklearnGaussianMixture  # some tests run without scikit-learn

    def run(action):
        errors = []
        for estimator in (fastgmm.GaussianMixture, SklearnGaussianMixture):
            with pytest.raises(Exception) as caught:
                action(estimator)
            errors.append(caught.value)
        ours, theirs = errors
        assert isinstance(ours, type(theirs))
        assert _sorted_options(str(ours)) == _sorted_options(str(theirs))
        return ours

    return run


def _sorted_options(message: str) -> str:
    """scikit-learn prints allowed strings in the order of a set, which changes between processes."""
    return re.sub(r"\{.*?\}", lambda options: str(sorted(options[0].strip("{}").split(", "))), message)


@pytest.fixture(scope="session")
def faithful():
    """Old Faithful: 272 eruptions, duration and waiting time in minutes."""
    return read_csv("faithful")


@pytest.fixture(scope="session")
def starts(faithful):
    """(data, start) -> (X, labels): every start named in the certified table."""
    iris, wine = read_csv("iris"), read_csv("wine")
    X = {name: read_only(data[:, :-1].copy()) for name, data in (("iris", iris), ("wine", wine))} | {
        "faithful": faithful
    }
    labels = {
        ("faithful", "eruptions > 3"): (faithful[:, 0] > 3).astype(np.int64),
        ("iris", "setosa or not"): (iris[:, -1] > 0).astype(np.int64),
        ("iris", "species"): iris[:, -1].astype(np.int64),
        ("wine", "cultivar"): wine[:, -1].astype(np.int64),
    }
    one_component = {(name, "one component"): np.zeros(len(data), np.int64) for name, data in X.items()}
    return {key: (X[key[0]], start) for key, start in (labels | one_component).items()}


@pytest.fixture(scope="session")
def faithful_labels(starts):
    return starts["faithful", "eruptions > 3"][1]


@pytest.fixture(scope="session")
def blobs():
    """600 rows, 3 features, 3 correlated Gaussians that overlap a little; and a rough partition of them."""
    rng = np.random.default_rng(20)
    components = [
        rng.multivariate_normal([0, 0, 0], [[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.5]], size=300),
        rng.multivariate_normal([4, 1, -1], [[0.5, -0.2, 0.1], [-0.2, 0.8, 0.0], [0.1, 0.0, 1.2]], size=200),
        rng.multivariate_normal([-1, 5, 2], [[1.5, 0.0, 0.4], [0.0, 0.6, 0.1], [0.4, 0.1, 0.9]], size=100),
    ]
    X = rng.permutation(np.vstack(components))
    labels = np.select([X[:, 1] > 3, X[:, 0] > 2], [2, 1], default=0)
    return read_only(X), read_only(labels)


@pytest.fixture(scope="session")
def mnist():
    """Two pairs of images (uint8) and labels: 4,000 training and 1,000 held-out MNIST digits."""
    images, labels = load_mnist()
    order = np.random.default_rng(0).permutation(len(images))
    parts = order[:4000], order[4000:]
    return tuple((read_only(images[part]), read_only(labels[part])) for part in parts)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Function that runs the command in a temporary folder and returns (exit code, stdout, stderr)."""
    from fastgmm import cli  # some tests run without its library

    monkeypatch.chdir(tmp_path)

    def run_command(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        return stop.value.code or 0, *capsys.readouterr()

    return run_command


@pytest.fixture
def run_facts(capsys):
    """Run a command; return its exit code, the facts it printed, and what it said on stderr."""

    from fastgmm import cli

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code or 0, json.loads(out) if out.startswith("{") else out, err

    return run
