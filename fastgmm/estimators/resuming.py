"""Which fit a checkpoint belongs to: a fingerprint of settings and data, compared before a fit goes on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from os import fspath
from typing import Any

import numpy as np

from ..optimization.checkpoint import CheckpointKeeper, Resumed
from ..optimization.solvers import SOLVERS
from ..optimization.state_checks import Expected
from ..rows.summary import ColumnSummary
from ..storage.checkpoint import check_replaceable
from ..validation import check_random_state, is_int, is_real
from .saving import YOUNGER

# What may differ between a fit and the one that goes on from its checkpoint; max_iter has a rule of its own.
FREE = (
    "verbose", "verbose_interval", "n_jobs", "callback", "max_seconds", "checkpoint", "checkpoint_every", "resume",
    "warm_start", "obs_noise", "max_iter",
)  # fmt: skip
ROWS = 100  # at either end, of which a hash is kept
GROUPS = 64  # of columns, of which the sum of the means is kept
REACH = 1e12  # times the largest value of the rows; means of priors may be far, but not beyond all distances
SUM_TOLERANCE = 1e-9  # per column, of its range


def make_keeper(model: Any, problem: Any) -> CheckpointKeeper | None:
    """Return what writes the checkpoints of a fit, and knows where it goes on; None if there shall be none.

    Raises ValueError for a checkpoint of another fit, or a file that is none and would be replaced, and `FormatError`
    for a damaged one.
    """
    path, every, resume = (model._setting(name) for name in ("checkpoint", "checkpoint_every", "resume"))
    if path is None:
        if resume:
            raise ValueError("resume=True goes on from a checkpoint: name its file, checkpoint=PATH.")
        return None
    if model.warm_start:
        raise ValueError(
            "checkpoint and warm_start=True do not go together: a checkpoint does not hold the fit before; set "
            "warm_start=False."
        )
    every = int(every) if is_int(every) else float(every)
    fingerprint = _fingerprint(model, problem)
    keeper = CheckpointKeeper(path, every, fingerprint, check_random_state(model.random_state))
    found = keeper.read() if resume else None
    if found is None:
        check_replaceable(path)
        return keeper
    theirs, resumed = found
    _compare(fspath(path), theirs, fingerprint, resumed)
    sizes = problem.n_components, problem.source.n_features
    kinds = getattr(problem, "covariance_type", None), getattr(problem, "n_factors", None)
    columns = problem.columns
    largest = max(1.0, float(np.abs([columns.minimum, columns.maximum]).max()))
    resumed.check(Expected(problem.parameters_kind, *sizes, *kinds, reach=REACH * largest))
    keeper.resume(resumed)
    return keeper


def _fingerprint(model: Any, problem: Any) -> dict[str, Any]:
    source, columns = problem.source, problem.columns
    first = source.take(np.arange(min(ROWS, source.n_samples)))
    last = source.take(np.arange(max(0, source.n_samples - ROWS), source.n_samples))
    return {
        "estimator": type(model).__name__,
        "max_iter": int(model.max_iter),
        "settings": {name: _described(model._setting(name)) for name in model._constraints if name not in FREE},
        "data": {
            "n_samples": source.n_samples,
            "n_features": source.n_features,
            "dtype": str(source.dtype),
            "first rows": _hash(first),
            "last rows": _hash(last),
            "ranges of the columns": _hash(columns.minimum, columns.maximum),
            "sample_weight": None if problem.sample_weight is None else _hash(problem.sample_weight),
            "labels": None if getattr(problem, "labels", None) is None else _hash(problem.labels),
        },
        "means": _sums(columns),
    }


def _described(value: Any) -> Any:
    """A JSON value that is the same for the same setting, in any process."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.random.RandomState):
        return "RandomState"
    if isinstance(value, Mapping):
        return {str(key): _described(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _described(getattr(value, field.name)) for field in fields(value)}
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return repr(value)
    return f"array of shape {array.shape}, {_hash(array.astype(np.float64))}"


def _hash(*arrays: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _compare(path: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], resumed: Resumed) -> None:
    """Raise ValueError naming what differs between the fit of a checkpoint and this one."""
    ours = json.loads(json.dumps(ours))
    differences = []
    if theirs.get("estimator") != ours["estimator"]:
        differences.append(f"it is of a {theirs.get('estimator')}, not of a {ours['estimator']}")
    else:
        for group in ("settings", "data"):
            before = theirs.get(group)
            before = before if isinstance(before, dict) else {}
            for name, value in ours[group].items():
                if before.get(name, YOUNGER.get(name, "unknown")) != value:
                    differences.append(_difference(name, before.get(name), value))
        differences += _iterations(theirs.get("max_iter"), ours, resumed)
    if not differences and not _same_sums(theirs.get("means"), ours["means"], ours["data"]["n_features"]):
        differences.append("the means of the columns differ")
    if differences:
        raise ValueError(
            f"checkpoint {path} belongs to another fit: {'; '.join(differences)}. Restore these, or start anew with "
            "resume=False."
        )


def _iterations(before: Any, ours: Mapping[str, Any], resumed: Resumed) -> list[str]:
    """A single start goes on with another max_iter; where it decided how earlier ones ended, or a schedule, not."""
    now = ours["max_iter"]
    if before == now:
        return []
    solver = SOLVERS.get(ours["settings"].get("solver", ""))
    follows_max_iter = solver is not None and solver.follows_max_iter
    if resumed.init > 0 or follows_max_iter or resumed.n_iter > now:
        return [f"max_iter was {before} and is {now}, after start {resumed.init + 1}, iteration {resumed.n_iter}"]
    return []


def _difference(name: str, before: Any, now: Any) -> str:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (before, now)]
    if all(len(text) == 16 or "array of" in text for text in texts):
        return f"{name} differ"
    return f"{name} was {texts[0]} and is {texts[1]}"


def _sums(columns: ColumnSummary) -> list[float]:
    """Means of the columns between their least and largest value, summed in groups; small whatever the width."""
    ranges = columns.maximum - columns.minimum
    places = np.divide(columns.mean - columns.minimum, ranges, out=np.zeros_like(ranges), where=ranges > 0)
    return [float(places[first::GROUPS].sum()) for first in range(min(GROUPS, len(places)))]


def _same_sums(theirs: Any, ours: Any, n_features: int) -> bool:
    """Whether they are equal but for rounding, which depends on the machine."""
    if not isinstance(theirs, list) or len(theirs) != len(ours) or not all(map(is_real, theirs)):
        return False
    return bool(np.max(np.abs(np.subtract(theirs, ours))) <= SUM_TOLERANCE * n_features)
