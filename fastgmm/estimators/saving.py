"""Saving and loading of estimators: what every model file says besides the arrays of its mixture."""

import inspect
import json
from abc import abstractmethod
from dataclasses import asdict, fields
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np

from ..exceptions import InvalidParameterError
from ..model.map_prior import ConjugatePrior
from ..optimization.diagnostics import FitDiagnostics
from ..rows.atomic import StrPath, replace_atomically
from ..storage import container as files
from ..storage import text as dictionary
from ..storage.container import FloatArray, ModelReader, fail
from ..validation import Constraint, check_parameters, is_int, is_real
from .sklearn_base import BaseEstimator, DensityMixin

YOUNGER = {"acceleration": None, "prune": False}  # what fits did before these were settings
FACTS = ("converged_", "n_iter_", "lower_bound_", "log_likelihood_", "stop_reason_")
# Said by the arrays and their metadata, or a matter of the machine and of who watches.
NOT_SETTINGS = {
    *("n_components", "n_factors", "covariance_type", "weight_concentration_prior_type"),
    *("n_jobs", "verbose", "verbose_interval", "callback", "max_seconds", "checkpoint", "checkpoint_every", "resume"),
}
# Settings that may be arrays; those of starts are left out.
ARRAYS = {"fixed", "noise", "noise_prior", "prior", "mean_prior", "covariance_prior", "solver_options"}
MAX_SETTING = 100_000  # characters of one setting
MAX_HISTORY = 10_000

Constraints = dict[str, list[Constraint]]
Packed = tuple[dict[str, FloatArray], dict[str, str]]


class Saveable(DensityMixin, BaseEstimator):
    """An estimator of a density among scikit-learn's, to be written to a file or a dictionary and read back, exactly.

    Kept are all fitted arrays, the settings, names of features, and what is known of the fit. Left out are `n_jobs`,
    `verbose`, `callback`, time limits and checkpoints, a `random_state` that is no number, arrays to start from,
    settings of more than 100,000 characters, all but the last 10,000 of `lower_bounds_`, and the running statistics of
    `partial_fit`, which begins anew after loading.
    """

    _models: ClassVar[tuple[str, ...]]  # what files say that `load` reads; the first is what `save` writes

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a pickle's state; settings that are younger than it say what was done before them."""
        super().__setstate__(state) if hasattr(super(), "__setstate__") else self.__dict__.update(state)
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name not in self.__dict__ and parameter.default is not parameter.empty:
                self.__dict__[name] = YOUNGER.get(name, parameter.default)

    def _setting(self, name: str) -> Any:
        """A setting as fits and scores mean it; other than the attribute only where that is none of ours."""
        return getattr(self, name)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted model to a file, atomically; see `Saveable` for what is left out.

        JSON if the name ends in .json, for models of up to 1,000,000 numbers, else safetensors. Raises FormatError if
        the arrays, perhaps set by hand, are not those of a mixture.
        """
        if str(path).lower().endswith(".json"):
            text = self.to_json() + "\n"
            with replace_atomically(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        else:
            files.write_model(path, *self._pack(path))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a model written by `save`, or its JSON, validated; `FormatError` says what is wrong with a bad file."""
        with dictionary.open_model(path) as reader:
            return cls._read_checked(reader)

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted model as lists, numbers and strings; FormatError if it has more than 1,000,000 numbers."""
        return dictionary.to_dict(*self._pack(dictionary.OWN))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the model that `to_dict` described, validated as `load` does."""
        return cls._read_checked(dictionary.DictReader(data))

    def to_json(self) -> str:
        """Return `to_dict` as JSON; numbers are exact."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the model that `to_json` described, validated as `load` does."""
        return cls.from_dict(dictionary.parse_text(text))

    @classmethod
    def _read_checked(cls, reader: ModelReader) -> Self:
        held = files.held_model(reader.metadata)
        if held not in cls._models:
            own = cls._models[0]
            fail(reader.path, f"holds a {held[:100]!r}, not a {own!r}; that class or fastgmm.load reads it")
        return cls._unpack(reader)

    @abstractmethod
    def _pack(self, path: StrPath) -> Packed:
        """Return checked tensors and header; `path` is for messages."""

    @classmethod
    @abstractmethod
    def _unpack(cls, reader: ModelReader) -> Self:
        """Return the model, checked."""


def pack_facts(estimator: Any) -> dict[str, str]:
    """The metadata of an estimator."""
    metadata = {"model": estimator._models[0], "dtype": str(estimator.means_.dtype)}
    for name in FACTS:
        if hasattr(estimator, name):
            metadata[name.rstrip("_")] = str(getattr(estimator, name))
    if hasattr(estimator, "lower_bounds_"):
        metadata["lower_bounds"] = json.dumps([float(bound) for bound in estimator.lower_bounds_[-MAX_HISTORY:]])
    if hasattr(estimator, "feature_names_in_"):
        metadata["feature_names"] = json.dumps([str(name) for name in estimator.feature_names_in_], ensure_ascii=False)
    if hasattr(estimator, "diagnostics_"):
        metadata["diagnostics"] = json.dumps(asdict(estimator.diagnostics_), default=lambda value: value.tolist())
    metadata["settings"] = json.dumps(pack_settings(estimator, set(estimator._constraints) - NOT_SETTINGS))
    return metadata


def pack_settings(estimator: Any, names: set[str]) -> dict[str, Any]:
    """Settings as JSON takes them; what it does not take is left out."""
    settings = {}
    for name in sorted(names):
        value = estimator._setting(name)
        if isinstance(value, ConjugatePrior):
            value = {field.name: getattr(value, field.name) for field in fields(value)}
        is_plain = value is None or isinstance(value, bool | int | float | str | np.generic)
        if not is_plain and name not in ARRAYS:
            continue
        try:
            text = json.dumps(value, default=lambda part: np.asarray(part).tolist())
        except (TypeError, ValueError):  # not of numbers; `fit` has refused it, or will
            continue
        if len(text) <= MAX_SETTING:
            settings[name] = json.loads(text)
    return settings


def unpack_settings(reader: ModelReader, constraints: Constraints) -> dict[str, Any]:
    """Settings of an estimator's file, checked; files of the first release have none."""
    if "settings" not in reader.metadata:
        return {}
    settings = files.parse_metadata(reader.path, reader.metadata, "settings", dict)
    return check_settings(reader.path, settings, {k: v for k, v in constraints.items() if k not in NOT_SETTINGS})


def check_settings(path: StrPath, settings: dict[str, Any], constraints: Constraints) -> dict[str, Any]:
    """Return settings as constructors take them, each as `constraints` say."""
    unknown = sorted(set(settings) - set(constraints))
    if unknown:
        fail(path, f"has a setting {unknown[0][:100]!r} unknown to this version; was it written by a newer one?")
    settings = {k: _arrays(path, k, v) if isinstance(v, list | dict) else v for k, v in settings.items()}
    try:
        check_parameters("the file", settings, {name: constraints[name] for name in settings})
    except InvalidParameterError as error:
        fail(path, str(error))
    return settings


def _arrays(path: StrPath, name: str, value: Any) -> Any:
    """A setting that holds numbers: an array, a dictionary of them, or a prior."""
    try:
        if isinstance(value, list):
            numbers = np.array(value, np.float64)
            return tuple(numbers.tolist()) if name == "noise_prior" else numbers
        if name == "prior":
            return ConjugatePrior(**{key: _part(part) for key, part in value.items()})
        if name in ("fixed", "solver_options"):
            return {key: part if isinstance(part, str | bool) else _part(part) for key, part in value.items()}
    except (TypeError, ValueError, OverflowError):
        pass
    fail(path, f"setting {name!r} is not made of numbers")


def _part(value: Any) -> Any:
    return value if value is None or is_real(value) else np.array(value, np.float64)


def unpack_facts(estimator: Any, reader: ModelReader) -> None:
    """Set what is known of the fit, and the names of the features, on an estimator that has its arrays."""
    path, metadata, number = reader.path, reader.metadata, estimator.means_.dtype.type
    n_components, estimator.n_features_in_ = estimator.means_.shape
    facts: dict[str, Any] = {}
    try:
        for name, read in zip(FACTS, (_boolean, _count, number, float, _word), strict=True):
            if name.rstrip("_") in metadata:
                facts[name] = read(metadata[name.rstrip("_")])
    except ValueError:
        fail(path, f"metadata {name.rstrip('_')!r} is not what a fit says: {metadata[name.rstrip('_')][:100]!r}")
    if "lower_bounds" in metadata:
        bounds = files.parse_metadata(path, metadata, "lower_bounds", list)
        if not all(type(bound) is float for bound in bounds):
            fail(path, "metadata 'lower_bounds' must hold floats only")
        facts["lower_bounds_"] = [number(bound) for bound in bounds]
    if "feature_names" in metadata:
        names = files.parse_metadata(path, metadata, "feature_names", list)
        if len(names) != estimator.n_features_in_ or not all(map(_is_text, names)):
            fail(path, f"metadata 'feature_names' must hold {estimator.n_features_in_} strings")
        facts["feature_names_in_"] = np.array(names, dtype=object)
    if "diagnostics" in metadata:
        facts["diagnostics_"] = _unpack_diagnostics(reader, n_components)
    estimator.__dict__.update(facts)


def _unpack_diagnostics(reader: ModelReader, n_components: int) -> FitDiagnostics:
    given = files.parse_metadata(reader.path, reader.metadata, "diagnostics", dict)
    try:
        sizes, conditions = (np.array(given[name], np.float64) for name in ("effective_sizes", "condition_numbers"))
        boundary = {int(k): [str(reason) for reason in reasons] for k, reasons in given["boundary"].items()}
        restarts, gain = list(given["restarts"]), float(given["remaining_gain"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        fail(reader.path, "metadata 'diagnostics' are not those of a fit")
    if (
        set(given) != {field.name for field in fields(FitDiagnostics)}
        or sizes.shape != (n_components,)
        or conditions.shape not in ((n_components,), (1,))
        or not (np.isfinite(sizes).all() and sizes.min() >= 0)
        or not all(is_int(k) and -1 <= k < n_components for k in (*boundary, *restarts))
    ):
        fail(reader.path, "metadata 'diagnostics' are not those of this mixture")
    return FitDiagnostics(sizes, conditions, boundary, restarts, gain)


def _is_text(name: Any) -> bool:
    """Whether it is a string that can be written: one half of a surrogate pair cannot."""
    try:
        return isinstance(name, str) and name.encode() is not None
    except UnicodeEncodeError:
        return False


def _boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError
    return text == "True"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError
    return int(text)


def _word(text: str) -> str:
    if not text.isidentifier() or len(text) > 100:
        raise ValueError
    return text
