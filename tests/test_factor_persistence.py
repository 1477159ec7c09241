"""Files of factor analysers, and the memory their fits take."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgmm import GaussianMixture
from fastgmm import MixtureOfFactorAnalyzers as Mixture
from fastgmm.exceptions import FormatError
from tests.test_factor_reference import draw, random_parameters

MIB = 2**20
ATTRIBUTES = ("weights_", "means_", "loadings_", "noise_variance_")


@pytest.fixture(params=[np.float64, np.float32])
def fitted(request):
    X = draw(random_parameters(2, 6, 2), 100).astype(request.param)
    return Mixture(2, 2, shared_noise=True, noise_floor=1e-3, random_state=0, tol=0.1).fit(X), X


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    Mixture.from_parameters(*random_parameters(2, 4, 2)).save(path)
    return path


def test_a_round_trip_is_exact(fitted, tmp_path):
    model, X = fitted
    model.set_params(obs_noise=0.25)
    model.save(tmp_path / "model")
    loaded = Mixture.load(tmp_path / "model")
    for name in ATTRIBUTES:
        value, expected = getattr(loaded, name), getattr(model, name)
        assert value.dtype == expected.dtype == X.dtype
        np.testing.assert_array_equal(value, expected)
    for name in ("n_components", "n_factors", "noise_type", "shared_noise", "noise_floor", "obs_noise"):
        assert getattr(loaded, name) == getattr(model, name), name
    assert loaded.n_features_in_ == 6
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.bic(X) == model.bic(X)
    with safetensors.safe_open(tmp_path / "model", "numpy") as file:
        metadata = file.metadata()
    assert (metadata["covariance_type"], metadata["dtype"]) == ("low_rank", str(X.dtype))
    assert float(metadata["log_likelihood"]) == model.log_likelihood_


def test_files_of_the_other_kind_are_refused(saved, tmp_path):
    with pytest.raises(FormatError, match="holds a 'MixtureOfFactorAnalyzers', not a 'GaussianMixture'"):
        GaussianMixture.load(saved)
    other = tmp_path / "full"
    GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [np.eye(2)]).save(other)
    with pytest.raises(FormatError, match="holds a 'GaussianMixture', not a 'MixtureOfFactorAnalyzers'"):
        Mixture.load(other)


def entry(name, index, value):
    def change(tensors, metadata):
        tensors[name][index] = value

    return change


def tensor(name, value):
    def change(tensors, metadata):
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


def fact(name, value):
    def change(tensors, metadata):
        metadata[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (entry("means", (1, 2), np.nan), r"'means' is not finite at index \(1, 2\)"),
        (entry("loadings", (1, 2, 0), np.inf), r"'loadings' is not finite at index \(1, 2, 0\)"),
        (entry("loadings", (1, 2, 0), 1e180), "'loadings' is beyond any scale of its noise at component 1"),
        (entry("noise_variance", (0, 3), -1.0), r"'noise_variance' is not positive at index \(0, 3\)"),
        (entry("noise_variance", (0, 3), 0.0), r"'noise_variance' is not positive at index \(0, 3\)"),
        (entry("weights", 0, -0.1), "'weights' is negative at component 0"),
        (entry("weights", 0, 0.9), "'weights' must sum to 1"),
        (tensor("loadings", None), "must hold exactly the tensors"),
        (tensor("extra", np.ones(1)), "must hold exactly the tensors"),
        (tensor("loadings", np.ones((2, 4))), "'loadings' must have shape"),
        (tensor("loadings", np.ones((2, 4, 5))), "'loadings' must have shape .*n_factors <= 4"),
        (tensor("loadings", np.ones((2, 4, 0))), "'loadings' must have shape"),
        (tensor("means", np.ones((2, 0))), "'means' must have shape"),
        (tensor("means", np.ones(4)), "'means' must have shape"),
        (tensor("noise_variance", np.ones((2, 1))), r"'noise_variance' must have shape \(2, 4\)"),
        (tensor("weights", np.ones(1)), r"'weights' must have shape \(2,\)"),
        (tensor("means", np.ones((2, 4), np.float32)), "must be F64, got 'F32'"),
        (fact("covariance_type", "full"), "covariance_type must be 'low_rank', got 'full'"),
        (fact("format", "fastgmm/2"), "'format' must be 'fastgmm/1'"),
        (fact("dtype", "object"), "'dtype' must be one of"),
        (fact("noise_type", "full"), "'noise_type' must be 'diagonal' or 'isotropic'"),
        (fact("noise_floor", "small"), "'noise_floor' is not a number"),
        (fact("noise_floor", "nan"), "'noise_floor' must be finite"),
        (fact("obs_noise", "-1"), "'obs_noise' must be finite and not negative"),
    ],
)  # fmt: skip
def test_impossible_files_are_refused(saved, change, cause):
    with safetensors.safe_open(saved, "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name).copy() for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    change(tensors, metadata)
    saved.write_bytes(safetensors.numpy.save(tensors, metadata=metadata))
    with pytest.raises(FormatError, match=rf"model\.safetensors: .*{cause}"):
        Mixture.load(saved)


def test_save_refuses_what_would_not_load_and_keeps_the_old_file(saved):
    before = saved.read_bytes()
    model = Mixture.from_parameters(*random_parameters(2, 4, 2))
    model.noise_variance_[0, 0] = -1.0
    with pytest.raises(FormatError, match="'noise_variance' is not positive"):
        model.save(saved)
    assert saved.read_bytes() == before


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(FormatError, match="safetensors file"):
        Mixture.load(saved)


X = np.random.default_rng(0).normal(size=(5, 4))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_mutated_file_loads_as_a_mixture_that_scores_or_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    Mixture.from_parameters(*random_parameters(2, 4, 2)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = Mixture.load(path)
    except FormatError:
        return
    scores = loaded.score_samples(X)
    assert not np.isnan(scores).any()
    assert not np.isnan(loaded.predict_proba(X)).any()


PEAK = """
import resource, sys, warnings
import numpy as np
import fastgmm
warnings.simplefilter("ignore")
n, d, k = map(int, sys.argv[1:])
X = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
mixture = fastgmm.MixtureOfFactorAnalyzers(k, 2, max_iter=2, random_state=0, n_jobs=2)
small = X[: max(2 * k, 100)]
mixture.fit(small).predict(small)  # everything is compiled and loaded before the measurement
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
mixture.fit(X)
mixture.predict(X), mixture.score_samples(X)
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("shape", "forbidden"),
    [((500_000, 4, 64), 500_000 * 64 * 8), ((150, 20_000, 2), 20_000**2 * 8)],
    ids=["rows x components", "features x features"],
)
def test_neither_responsibilities_nor_covariances_are_held(shape, forbidden):
    """Labels and scores of the rows aside; the sample that the start is found from takes up to 19,200 rows."""
    command = [sys.executable, "-c", PEAK, *map(str, shape)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout
    assert int(out) < 64 * MIB < 0.5 * forbidden, f"{int(out) / MIB:.0f} MiB"
