"""Long fits: what a checkpoint holds is enough for the same bits, and nothing that goes wrong with one ends a fit."""

from __future__ import annotations

import copy
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

import fastgmm
from fastgmm import BayesianGaussianMixture, ConjugatePrior, GaussianMixture, MixtureOfFactorAnalyzers, cli
from fastgmm.distributed import distribute
from fastgmm.exceptions import ConvergenceWarning, FormatError
from fastgmm.model.expectation import StatisticsPass
from fastgmm.model.missing import MissingPass
from fastgmm.model.resumable import restore, state_of
from fastgmm.optimization import variational
from fastgmm.rows.source import ArraySource
from fastgmm.storage import checkpoint as checkpoints
from tests.conftest import ROOT
from tests.permissions import BOUND, read_only_folder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 3)) + np.repeat([[0, 0, 0], [2, 1, 0], [0, 2, 2]], 80, axis=0)
GAPPY = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
WEIGHT = RNG.uniform(0.5, 2.0, len(X))
LABELS = np.where(np.arange(len(X)) % 4 == 0, np.repeat(np.arange(3), 80), -1)
MOST = 7  # iterations


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class StoppedError(Exception):
    """Stands for whatever ends a fit before its time."""


def quietly(model, X=X, y=None, sample_weight=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, sample_weight)


def stopping_at(count):
    """A callback that ends the fit by an exception after so many iterations in all."""
    left = itertools.count(1)

    def stop(info):
        if next(left) == count:
            raise StoppedError

    return stop


def bits(model):
    """Everything a fit sets, to the bit and in the layout that sums depend on."""
    found = {}
    for name, value in vars(model).items():
        if not name.endswith("_") or name == "diagnostics_":
            continue
        parts = value if isinstance(value, tuple) else (value,)
        found[name] = [part.tobytes() if isinstance(part, np.ndarray) else repr(part) for part in parts]
    return found


def check_resumption(make, *data):
    """The same bits from a checkpoint of every iteration of every start."""
    whole = quietly(make(), *data)
    n_iterations = 0

    def count(info):
        nonlocal n_iterations
        n_iterations += 1

    quietly(make().set_params(callback=count), *data)
    for done in range(1, n_iterations + 1):
        first = make().set_params(checkpoint="c", checkpoint_every=3600.0, callback=stopping_at(done))
        with pytest.raises(StoppedError):
            quietly(first, *data)
        assert not hasattr(first, "means_")
        seen = []
        again = make().set_params(checkpoint="c", resume=True, callback=seen.append)
        assert bits(quietly(again, *data)) == bits(whole), f"after {done} of {n_iterations} iterations"
        assert len(seen) == n_iterations - done
        for path in ("c", "c.previous"):
            if os.path.exists(path):
                os.remove(path)
    return n_iterations


# ---- the same bits ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_plain_em_goes_on_to_the_same_bits_from_every_iteration(covariance_type, dtype):
    settings = {"covariance_type": covariance_type, "tol": 1e-3, "max_iter": MOST, "random_state": 0}
    check_resumption(lambda: GaussianMixture(3, **settings), X.astype(dtype))


@pytest.mark.parametrize("prior", ["dirichlet_process", "dirichlet_distribution"])
def test_variational_inference_goes_on_to_the_same_bits(covariance_type, prior):
    settings = {"covariance_type": covariance_type, "weight_concentration_prior_type": prior, "max_iter": 13}
    check_resumption(lambda: BayesianGaussianMixture(n_components=6, random_state=0, tol=0.0, **settings))


def test_variational_components_that_sit_passes_out_go_on_to_the_same_bits(covariance_type):
    rows = RNG.normal(size=(240, 2)) + 50 * (np.arange(240) >= 120)[:, None]
    settings = {"covariance_type": covariance_type, "weight_concentration_prior": 1e-3}
    settings["init_params"] = (np.arange(240) >= 120).astype(int)  # three of five components have no rows
    check_resumption(lambda: BayesianGaussianMixture(n_components=5, tol=0, max_iter=12, **settings), rows)


@pytest.mark.parametrize("done", [1, 9, 10, 11, 19])
def test_variational_components_sit_the_same_passes_out_as_without_an_interruption(done, monkeypatch):
    """The bits of the others do not tell: they do not notice who sits out."""
    taking_part = []
    subset = variational._subset
    monkeypatch.setattr(
        variational, "_subset", lambda p, alive, ridge: taking_part.append(alive.tolist()) or subset(p, alive, ridge)
    )
    rows = RNG.normal(size=(240, 2)) + 50 * (np.arange(240) >= 120)[:, None]
    start = (np.arange(240) >= 120).astype(int)
    settings = {"weight_concentration_prior": 1e-3, "init_params": start, "tol": 0.0, "max_iter": 22}
    settings["acceleration"] = None  # which goes on when nothing is gained any more
    quietly(BayesianGaussianMixture(n_components=5, **settings), rows)
    whole = taking_part.copy()
    assert [all(alive) for alive in whole] == [number % variational.FULL_PASS_EVERY == 0 for number in range(22)]
    first = BayesianGaussianMixture(n_components=5, checkpoint="c", callback=stopping_at(done), **settings)
    with pytest.raises(StoppedError):
        quietly(first, rows)
    taking_part.clear()
    quietly(BayesianGaussianMixture(n_components=5, checkpoint="c", resume=True, **settings), rows)
    assert taking_part == whole[done:]


@pytest.mark.parametrize("gone", ["_alive", "_passes"])
def test_a_checkpoint_that_does_not_tell_who_sits_out_is_a_format_error(gone):
    settings = {"n_components": 3, "random_state": 0, "max_iter": 5, "tol": 0.0, "checkpoint": "c"}
    with pytest.raises(StoppedError):
        quietly(BayesianGaussianMixture(callback=stopping_at(3), **settings))
    fingerprint, state = checkpoints.read_checkpoint("c", _kinds())
    del state["parts"]["iteration"][gone]
    checkpoints.write_checkpoint("c", fingerprint, state, keep=False)
    with pytest.raises(FormatError, match=rf"does not hold what this fit needs: KeyError\('{gone}'\)"):
        quietly(BayesianGaussianMixture(resume=True, **settings))


@pytest.mark.parametrize("shared_noise", [True, False])
@pytest.mark.parametrize("noise_type", ["diagonal", "isotropic"])
def test_factor_analysers_go_on_to_the_same_bits(noise_type, shared_noise):
    settings = {"noise_type": noise_type, "shared_noise": shared_noise, "max_iter": MOST, "tol": 0.0}
    check_resumption(lambda: MixtureOfFactorAnalyzers(3, 2, random_state=0, **settings))


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: GaussianMixture(3, init_params="random_from_data", **more),
        lambda **more: BayesianGaussianMixture(n_components=3, init_params="random_from_data", **more),
        lambda **more: MixtureOfFactorAnalyzers(3, 1, init_params="random", **more),
    ],
)
@pytest.mark.parametrize("seed", ["int", "RandomState"])
def test_the_remaining_starts_are_the_same_as_without_an_interruption(make, seed):
    state = {"int": lambda: 3, "RandomState": lambda: np.random.RandomState(3)}[seed]
    n_iterations = check_resumption(lambda: make(n_init=3, random_state=state(), max_iter=5, tol=1e-2))
    assert n_iterations > 5


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"acceleration": "lbfgs", "tol": 1e-9, "max_iter": 18}, (X,)),
        ({"acceleration": "lbfgs", "tol": 1e-9, "max_iter": 18, "covariance_type": "diag"}, (X,)),
        ({"solver": "hard", "solver_options": {"polish": True}, "tol": 1e-3, "max_iter": 40}, (X,)),
        ({"solver": "annealed", "solver_options": {"n_steps": 2}}, (X,)),
        ({"solver": "stepwise", "solver_options": {"batch_size": 40, "passes": 3}, "n_init": 2}, (X,)),
        ({"solver": "gradient", "solver_options": {"batch_size": 40}, "n_init": 2}, (X,)),
        ({"solver": "gradient", "solver_options": {"optimizer": "sgd"}, "covariance_type": "tied"}, (X,)),
        ({"missing": "em"}, (GAPPY,)),
        ({"missing": "em", "covariance_type": "tied"}, (GAPPY,)),
        ({"semi_supervised": True}, (X, LABELS)),
        ({"semi_supervised": True, "covariance_type": "tied", "noise": True}, (X, LABELS, WEIGHT)),
        ({"prior": ConjugatePrior(), "noise": 0.05}, (X, None, WEIGHT)),
        ({"fixed": {"means": [[0, 0, 0], [np.nan] * 3, [np.nan] * 3]}, "covariance_floor": 1e-2}, (X,)),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_everything_else_goes_on_to_the_same_bits(settings, data):
    check_resumption(lambda: GaussianMixture(3, **{"random_state": 0, "max_iter": MOST, "tol": 0.0} | settings), *data)


def test_reseeded_components_and_their_random_places_are_part_of_a_checkpoint():
    rows = np.concatenate([X, np.zeros((60, 3))])
    settings = {"on_singular": "restart", "reg_covar": 0.0, "init_params": "random_from_data", "random_state": 0}
    whole = quietly(GaussianMixture(5, n_init=2, max_iter=9, tol=0, **settings), rows)
    assert whole.diagnostics_.restarts
    check_resumption(lambda: GaussianMixture(5, n_init=2, max_iter=9, tol=0, **settings), rows)


def test_a_tied_fit_that_went_over_to_pairs_of_rows_and_components_stays_there():
    far = X + 1e7 * np.repeat(np.arange(3), 80)[:, None]
    check_resumption(lambda: GaussianMixture(3, covariance_type="tied", max_iter=4, tol=0, random_state=0), far)
    for rows in (X, GAPPY):  # where the next pass might find that the difference has digits again
        make = _pass_of(rows)
        before, after = make(), make()
        for each in getattr(before, "passes", [before]):
            each._pairwise = True
        restore(after, state_of(before))
        assert all(each._pairwise for each in getattr(after, "passes", [after]))


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_a_fit_goes_on_wherever_its_rows_lie_now(covariance_type, gaps, labelled):
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(900, 2)) + 3.0 * (np.arange(900) % 2)[:, None]
    rows[rng.random(rows.shape) < 0.1 * gaps] = np.nan
    y = np.where(np.arange(900) < 40, np.arange(900) % 2, -1) if labelled else None
    np.save("rows.npy", rows)
    settings = {"covariance_type": covariance_type, "missing": "em" if gaps else "raise", "semi_supervised": labelled}
    settings |= {"random_state": 0, "tol": 1e-7}
    expected = quietly(GaussianMixture(2, **settings), rows, y)
    assert expected.n_iter_ > 2
    with ThreadPoolExecutor(2) as pool:
        places = {"array": rows, "file": "rows.npy", "parts": distribute(rows, pool, rows=200)}
        for before, then in itertools.product(places, repeat=2):
            path = f"{before}-{then}"
            with pytest.raises(StoppedError):
                quietly(GaussianMixture(2, checkpoint=path, callback=stopping_at(2), **settings), places[before], y)
            model = quietly(GaussianMixture(2, checkpoint=path, resume=True, **settings), places[then], y)
            assert model.n_iter_ == expected.n_iter_
            np.testing.assert_allclose(model.means_, expected.means_, rtol=1e-10, err_msg=path)


def _pass_of(rows):
    if np.isnan(rows).any():
        return lambda: MissingPass([(0, rows)], np.float64, np.zeros(3))
    return lambda: StatisticsPass(ArraySource(rows), np.zeros(3))


def test_a_fit_that_had_ended_is_read_back_and_a_single_start_may_be_given_more_iterations():
    def make(max_iter):
        return GaussianMixture(3, random_state=0, tol=0, max_iter=max_iter, checkpoint="c", resume=True)

    few = quietly(make(3))
    assert bits(quietly(make(3).set_params(callback=stopping_at(1)))) == bits(few)  # no iteration is left
    more = quietly(make(6))
    assert bits(more) == bits(quietly(GaussianMixture(3, random_state=0, tol=0, max_iter=6)))
    with pytest.raises(ValueError, match="max_iter was 6 and is 2, after start 1, iteration 6"):
        make(2).fit(X)


def test_arrays_come_back_with_their_values_their_dtype_and_their_order_in_memory(tmp_path):
    base = np.arange(24.0).reshape(2, 3, 4) / 7
    arrays = [
        base, base.transpose(2, 0, 1), np.swapaxes(base, 1, 2), base[:, ::2], base[..., 0], np.array(0.1),
        np.broadcast_to(base[:1], (5, 3, 4)), np.broadcast_to(base[:, :, :1], base.shape), np.zeros((0, 3)),
        np.array([True, False]), np.arange(5, dtype=np.uint32), np.array([np.inf, np.nan, -0.0]), base[:1, :1],
    ]  # fmt: skip
    values = [None, True, 3, 0.1, -np.inf, "text", [0.1, 1 / 3], [], (1, [2.0, None]), {"a": {"b": 2**127}}]
    checkpoints.write_checkpoint("c", {}, {"arrays": arrays, "values": values, "scalar": np.float64(0.1)})
    state = checkpoints.read_checkpoint("c", [])[1]
    assert repr(state["values"]) == repr(values)
    assert type(state["scalar"]) is np.float64
    for found, array in zip(state["arrays"], arrays, strict=True):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)
        assert found.sum().tobytes() == array.sum().tobytes()
        rank = [sorted(range(a.ndim), key=lambda axis, a=a: -a.strides[axis]) for a in (found, array)]
        assert rank[0] == rank[1] or 0 in array.strides or 1 in array.shape


# ---- processes that are killed ----

KILLED = """
import os, signal, sys, numpy as np
from fastgmm import GaussianMixture
X = np.load("X.npy")
def kill(info):
    if info.n_iter == 7:
        os.kill(os.getpid(), signal.SIGKILL)
GaussianMixture(3, random_state=0, tol=0, max_iter=12, checkpoint="c", checkpoint_every=1, callback=kill).fit(X)
"""


def test_a_process_killed_after_iteration_7_is_resumed_to_the_same_bits():
    np.save("X.npy", X)
    done = subprocess.run([sys.executable, "-c", KILLED], env=_environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir()) == ["X.npy", "c", "c.previous"]
    seen = []
    settings = {"random_state": 0, "tol": 0, "max_iter": 12}
    record = {"callback": lambda info: seen.append(info.n_iter)}
    again = quietly(GaussianMixture(3, checkpoint="c", resume=True, **record, **settings))
    assert seen == [8, 9, 10, 11, 12]
    assert bits(again) == bits(quietly(GaussianMixture(3, **settings)))


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from fastgmm import GaussianMixture
X = np.random.default_rng(0).standard_normal((1_000_000, 4))
begun = []
def interrupt():
    time.sleep(0.25)
    begun.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
def note(info):
    if info.n_iter == 2:
        threading.Thread(target=interrupt).start()
model = GaussianMixture(32, init_params="random_from_data", random_state=0, tol=0, max_iter=1000, checkpoint="c")
try:
    model.set_params(callback=note).fit(X)
except KeyboardInterrupt:
    print(time.perf_counter() - begun[0], hasattr(model, "means_"), hasattr(model, "n_features_in_"))
"""


def test_an_interrupt_raises_soon_leaves_the_estimator_unfitted_and_writes_the_last_complete_iteration():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], env=_environment(), check=True, capture_output=True, text=True
    )
    seconds, *fitted = done.stdout.split()
    assert float(seconds) < 1.5
    assert fitted == ["False", "False"]
    state = checkpoints.read_checkpoint("c", _kinds())[1]
    assert state["n_iter"] >= 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_with_its_code_after_a_last_checkpoint(number, code):
    np.save("rows.npy", np.random.default_rng(0).standard_normal((200_000, 4)))
    options = {"-k": 16, "-o": "m.safetensors", "--seed": 0, "--tol": 0, "--max-iter": 10**6, "--checkpoint": "c"}
    options |= {"--init-params": "random_from_data", "--progress": "json"}
    command = [sys.executable, "-m", "fastgmm.cli", "fit", "rows.npy", *map(str, itertools.chain(*options.items()))]
    with subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            line = process.stderr.readline()
            assert json.loads(line)["n_iter"] >= 1
        process.send_signal(number)
        process.stderr.read()
        assert process.wait(10) == code
    assert checkpoints.read_checkpoint("c", _kinds())[1]["n_iter"] >= 3
    assert not os.path.exists("m.safetensors")


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _kinds():
    from fastgmm.optimization.state_checks import CHECKS

    return CHECKS


# ---- damaged files, full disks ----


def checkpoint_of(n_iter, **settings):
    model = GaussianMixture(3, **{"random_state": 0, "tol": 0, "max_iter": 9} | settings)
    with pytest.raises(StoppedError):
        quietly(model.set_params(checkpoint="c", checkpoint_every=1, callback=stopping_at(n_iter)))
    return GaussianMixture(3, checkpoint="c", resume=True, **{"random_state": 0, "tol": 0, "max_iter": 9} | settings)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "header"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_warning(damage):
    model = checkpoint_of(5)
    content = bytearray(Path("c").read_bytes())
    if damage == "cut":
        content = content[:-9]
    elif damage == "flipped":
        content[-20] ^= 1
    elif damage == "empty":
        content = b""
    else:
        content[100] ^= 255
    with open("c", "wb") as file:
        file.write(content)
    seen = []
    with pytest.warns(RuntimeWarning, match=r"model file c: .* The fit goes on from the one before, c\.previous"):
        quietly(model.set_params(callback=lambda info: seen.append(info.n_iter)))
    assert seen[0] == 5  # the one before is of iteration 4
    assert bits(model) == bits(quietly(GaussianMixture(3, random_state=0, tol=0, max_iter=9)))
    assert checkpoints.read_checkpoint("c.previous", _kinds())[1]["n_iter"] == 4  # not the damaged one


def test_without_a_whole_checkpoint_the_damage_is_an_error_and_without_any_the_fit_starts_anew():
    model = checkpoint_of(5)
    for path in ("c", "c.previous"):
        with open(path, "r+b") as file:
            file.truncate(100)
    with pytest.raises(FormatError, match="c: is not a safetensors file, or was cut short"):
        model.fit(X)
    os.remove("c")
    os.remove("c.previous")
    assert bits(quietly(model)) == bits(quietly(GaussianMixture(3, random_state=0, tol=0, max_iter=9)))


def test_a_crash_between_the_two_renames_leaves_the_one_before():
    model = checkpoint_of(5)
    os.remove("c")
    seen = []
    quietly(model.set_params(callback=lambda info: seen.append(info.n_iter)))
    assert seen[0] == 5
    assert bits(model) == bits(quietly(GaussianMixture(3, random_state=0, tol=0, max_iter=9)))


def test_mutated_checkpoints_raise_format_errors_only():
    checkpoint_of(3)
    os.remove("c.previous")
    content, rng = Path("c").read_bytes(), np.random.default_rng(0)
    end_of_header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(300):
        bad = bytearray(content)
        for place in rng.integers(0, end_of_header, rng.integers(1, 4)):
            bad[place] = rng.integers(256)
        if bad == content:
            continue
        with open("bad", "wb") as file:
            file.write(bad)
        with pytest.raises(FormatError):
            checkpoints.read_checkpoint("bad", _kinds())


@pytest.mark.parametrize("change", [{"parts": {}}, {"n_iter": -1}, {"n_iter": "3"}, {"rng": {}}, {"parts": None}])
def test_a_checkpoint_that_lacks_something_is_a_format_error(change):
    model = checkpoint_of(3)
    fingerprint, state = checkpoints.read_checkpoint("c", _kinds())
    os.remove("c.previous")
    checkpoints.write_checkpoint("c", fingerprint, state | change, keep=False)
    with pytest.raises(FormatError):
        model.fit(X)


def test_a_full_disk_warns_once_and_the_fit_goes_on(monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoints, "replace_atomically", full)
    model = GaussianMixture(3, random_state=0, tol=0, max_iter=6, checkpoint="c", checkpoint_every=1)
    with pytest.warns(RuntimeWarning, match=r"No checkpoint can be written to c: .*No space left on device") as caught:
        quietly(model)
    assert len(caught) == 1
    assert model.n_iter_ == 6
    assert os.listdir() == []


def test_a_disk_that_fills_up_while_writing_leaves_the_last_checkpoint(monkeypatch):
    model = checkpoint_of(5)
    before = Path("c").read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        quietly(model.set_params(checkpoint_every=1))
    assert Path("c").read_bytes() == before
    assert sorted(os.listdir()) == ["c", "c.previous"]


READ_ONLY = """
import numpy as np
from fastgmm import GaussianMixture
print(GaussianMixture(3, random_state=0, checkpoint="c", checkpoint_every=1).fit(np.load("X.npy")).converged_)
"""


def test_a_read_only_folder_warns_once_and_the_fit_goes_on(tmp_path):
    np.save("X.npy", X)
    with read_only_folder(tmp_path):
        code = BOUND + READ_ONLY
        environment = _environment() | {"PYTHONWARNINGS": "always"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert done.stderr.count("Warning") == done.stderr.count("c: [Errno 13] Permission denied") == 1


def test_a_folder_that_does_not_exist_warns_and_the_fit_goes_on():
    with pytest.warns(RuntimeWarning, match="nowhere/c: There is no folder nowhere"):
        GaussianMixture(3, random_state=0, checkpoint="nowhere/c").fit(X)


def test_a_file_that_is_no_checkpoint_is_not_replaced():
    GaussianMixture(3, random_state=0).fit(X).save("m.safetensors")
    before = Path("m.safetensors").read_bytes()
    for resume, error in ((False, ValueError), (True, FormatError)):
        with pytest.raises(error, match="is not a checkpoint"):
            GaussianMixture(3, checkpoint="m.safetensors", resume=resume).fit(X)
    assert Path("m.safetensors").read_bytes() == before


# ---- another fit ----


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tol": 1e-4}, "tol was 0 and is 0.0001"),
        ({"covariance_type": "diag"}, "covariance_type was full and is diag"),
        ({"random_state": 1}, "random_state was 0 and is 1"),
        ({"n_components": 4}, "n_components was 3 and is 4"),
        ({"means_init": np.zeros((3, 3))}, "means_init was null and is array of shape"),
        ({"prior": ConjugatePrior(mean_precision=2.0)}, "prior was null and is {"),
    ],
)
def test_changed_settings_are_refused_by_name(settings, words):
    model = checkpoint_of(3).set_params(**settings)
    with pytest.raises(ValueError, match="checkpoint c belongs to another fit: " + re.escape(words)):
        model.fit(X)


def test_changed_data_are_refused():
    model = checkpoint_of(3)
    changed = X.copy()
    changed[120, 1] += 1e-3
    for data, words in (
        ((X[:-1],), "n_samples was 240 and is 239"),
        ((X[:, :2],), "n_features was 3 and is 2"),
        ((X.astype(np.float32),), "dtype was float64 and is float32"),
        ((np.concatenate([X[:1] + 1e-9, X[1:]]),), "first rows differ"),
        ((np.concatenate([X[:-1], X[-1:] + 1e-9]),), "last rows differ"),
        ((changed,), "the means of the columns differ"),
        ((X, None, WEIGHT), "sample_weight"),
    ):
        with pytest.raises(ValueError, match=rf"another fit: .*{words}"):
            model.fit(*data)
    with pytest.raises(ValueError, match="it is of a GaussianMixture, not of a MixtureOfFactorAnalyzers"):
        MixtureOfFactorAnalyzers(3, 1, checkpoint="c", resume=True).fit(X)


def test_resume_needs_a_checkpoint_and_a_warm_start_has_none():
    with pytest.raises(ValueError, match="resume=True goes on from a checkpoint: name its file"):
        GaussianMixture(3, resume=True).fit(X)
    with pytest.raises(ValueError, match="checkpoint and warm_start=True do not go together"):
        GaussianMixture(3, checkpoint="c", warm_start=True).fit(X)
    for settings in ({"checkpoint_every": 0}, {"checkpoint_every": "1"}, {"checkpoint": 3}, {"max_seconds": -1.0}):
        with pytest.raises(ValueError, match=f"The '{next(iter(settings))}' parameter of GaussianMixture must be"):
            GaussianMixture(3, **settings).fit(X)


# ---- how often ----


def test_an_int_is_iterations_and_a_float_is_seconds(monkeypatch):
    written = []
    write = checkpoints.write_checkpoint
    monkeypatch.setattr(
        "fastgmm.optimization.checkpoint.write_checkpoint",
        lambda path, fingerprint, state, keep: written.append(state["n_iter"]) or write(path, fingerprint, state),
    )
    settings = {"random_state": 0, "tol": 0, "max_iter": 7, "checkpoint": "c"}
    quietly(GaussianMixture(3, checkpoint_every=3, **settings))
    assert written == [3, 6, 7]
    written.clear()
    quietly(GaussianMixture(3, checkpoint_every=3600.0, **settings))
    assert written == [7]
    written.clear()
    quietly(GaussianMixture(3, checkpoint_every=0.0, **settings))
    assert written == [1, 2, 3, 4, 5, 6, 7]


# ---- time limits and callbacks ----


@pytest.mark.parametrize(
    "model",
    [
        GaussianMixture(3, random_state=0, tol=0),
        GaussianMixture(3, random_state=0, tol=0, solver="gradient"),
        BayesianGaussianMixture(n_components=3, random_state=0, tol=0),
        MixtureOfFactorAnalyzers(3, 1, random_state=0, tol=0),
    ],
)
def test_max_seconds_stops_after_the_first_iteration_that_ends_later(model):
    with pytest.warns(ConvergenceWarning, match="reached max_seconds and gave up a start that had not converged"):
        model.set_params(max_seconds=0.0, max_iter=5).fit(X)
    assert (model.stop_reason_, model.n_iter_, model.converged_) == ("max_seconds", 1, False)
    model.set_params(max_seconds=None)


def test_max_seconds_leaves_later_starts_out_and_a_resumed_fit_makes_up_for_them():
    settings = {"random_state": 0, "n_init": 3, "init_params": "random_from_data", "tol": 1e-2, "checkpoint": "c"}
    slow = {"callback": lambda info: time.sleep(0.5 if info.init == 1 and info.n_iter == 1 else 0.0)}
    with pytest.warns(ConvergenceWarning, match="reached max_seconds"):
        model = GaussianMixture(3, max_seconds=0.4, **slow, **settings).fit(X)
    assert model.n_iter_ > 1  # the first start, which was complete
    assert (model.stop_reason_, model.converged_) == ("converged", True)
    again = GaussianMixture(3, resume=True, **settings).fit(X)
    assert bits(again) == bits(GaussianMixture(3, **settings | {"checkpoint": None}).fit(X))


def test_an_object_with_methods_is_told_of_begin_iterations_and_end():
    told = []

    class Listener:
        def begin(self, info):
            told.append(("begin", info))

        def iteration(self, info):
            told.append(("iteration", info))
            return info.n_iter == 3

        def end(self, info):
            told.append(("end", info))

    model = quietly(GaussianMixture(3, random_state=0, tol=0, callback=Listener(), n_init=2, max_seconds=60))
    assert [name for name, _ in told] == ["begin", *["iteration"] * 3, "end"]
    assert model.stop_reason_ == "callback"
    begin, *rows, end = (info for _, info in told)
    assert (begin.n_iter, begin.n_init, begin.max_iter, begin.tol, begin.stop_reason) == (0, 2, 100, 0.0, None)
    assert (end.n_iter, end.stop_reason, end.max_seconds) == (3, "callback", 60.0)
    assert [row.n_iter for row in rows] == [1, 2, 3]
    assert all(row.rows_per_second > 0 for row in rows)
    times = [info.elapsed for _, info in told]
    assert times == sorted(times)
    assert times[0] > 0


@pytest.mark.parametrize("method", ["begin", "iteration", "end"])
def test_each_method_is_optional_and_end_is_called_when_a_fit_fails(method):
    told = []
    quietly(GaussianMixture(3, max_iter=2, tol=0, callback=SimpleNamespace(**{method: told.append})))
    assert len(told) == (2 if method == "iteration" else 1)
    ended = []

    class Failing:
        def iteration(self, info):
            raise StoppedError

        def end(self, info):
            ended.append(info.stop_reason)

    with pytest.raises(StoppedError):
        GaussianMixture(3, callback=Failing()).fit(X)
    assert ended == [None]


# ---- progress ----


def test_json_lines_are_an_object_per_iteration(capsys):
    model = GaussianMixture(3, random_state=0, callback=fastgmm.progress("json")).fit(X)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().err.splitlines()]
    assert [line["n_iter"] for line in lines] == list(range(1, model.n_iter_ + 1))
    assert [line["lower_bound"] for line in lines] == [float(bound) for bound in model.lower_bounds_]
    assert lines[0]["change"] is None
    assert lines[0]["rows_per_second"] > 0


def test_plain_lines_say_how_long_it_takes_and_none_says_nothing(capsys):
    quietly(GaussianMixture(3, random_state=0, tol=1e-7, callback=fastgmm.progress("plain", every=0.0)))
    lines = capsys.readouterr().err.splitlines()
    pattern = r"iteration \d+/100  -\d+\.\d{6} nats/row  \d+\.\d\dM rows/s(  change \S+)?(  \d+:\d\d:\d\d left)?"
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert lines[3].endswith(" left")
    GaussianMixture(3, random_state=0, callback=fastgmm.progress("none")).fit(X)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="kind must be one of 'auto', 'plain', 'json', 'none'"):
        fastgmm.progress("loud")


def test_an_estimator_that_shows_its_progress_can_be_cloned():
    for kind in ("auto", "plain", "json", "none"):
        model = clone(GaussianMixture(3, callback=fastgmm.progress(kind)))
        assert copy.deepcopy(model).callback is model.callback


# ---- command line ----


@pytest.fixture
def run(capsys):
    def run_command(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        return stop.value.code, *capsys.readouterr()

    np.save("rows.npy", X)
    return run_command


FIT = ("fit", "rows.npy", "-k", 3, "--seed", 0, "--tol", 0)


def test_the_command_goes_on_from_a_checkpoint(run):
    long = ("--checkpoint", "c", "--checkpoint-every", "1", "--resume")
    assert run(*FIT, "-o", "a.safetensors", "--max-iter", 3, *long)[0] == 0
    code, _, err = run(*FIT, "-o", "b.safetensors", "--max-iter", 6, *long, "--progress", "json")
    assert code == 0
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["n_iter"] for line in lines[:3]] == [4, 5, 6]
    assert "did not converge" in lines[3]["warning"]
    assert run(*FIT, "-o", "whole.safetensors", "--max-iter", 6)[0] == 0
    found, whole = (fastgmm.load(path) for path in ("b.safetensors", "whole.safetensors"))
    assert found.lower_bounds_ == whole.lower_bounds_
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    code, _, err = run(*FIT, "-o", "d.safetensors", "--max-iter", 6, *long, "-k", 4)
    assert code == 1
    assert "n_components was 3 and is 4" in err


def test_a_checkpoint_that_cannot_be_written_is_no_failure_of_the_command(run):
    code, _, err = run(*FIT, "-o", "m.safetensors", "--tol", 0.1, "--checkpoint", "nowhere/c", "--strict")
    assert (code, err.count("No checkpoint can be written to nowhere/c")) == (0, 1)
    assert os.path.exists("m.safetensors")


def test_strict_exits_with_3_when_the_fit_did_not_converge(run):
    code, out, _ = run(*FIT, "-o", "m.safetensors", "--max-iter", 2, "--strict", "--progress", "none")
    assert code == 3
    assert "max_iter" in out
    assert os.path.exists("m.safetensors")
    assert run(*FIT, "-o", "n.safetensors", "--tol", 0.1, "--strict")[0] == 0
    code, out, err = run(*FIT, "-o", "o.safetensors", "--max-seconds", 0, "--strict")
    assert (code, "max_seconds" in out, "reached max_seconds" in err) == (3, True, True)


def test_options_that_do_not_go_together_are_wrong_usage(run):
    for options in (
        ("--resume",),
        ("--checkpoint", "m.safetensors"),
        ("--checkpoint", "c", "--checkpoint-every", "often"),
        ("--checkpoint", "c", "--checkpoint-every", "0"),
        ("--checkpoint", "c", "--checkpoint-every", "-1s"),
        ("--progress", "loud"),
        ("--max-seconds", "-1"),
    ):
        assert run(*FIT, "-o", "m.safetensors", *options)[0] == 2, options
    assert not os.path.exists("c")


def test_the_help_documents_the_exit_codes(run):
    code, out, _ = run("fit", "--help")
    assert code == 0
    text = " ".join(out.split())
    for words in ("0 done", "1 failed", "2 wrong usage", "3 not converged", "130", "143"):
        assert words in text
