"""Working with scikit-learn: its classes replaced by ours, and models of one turned into models of the other."""

import copy
import inspect
import logging
import sys
from abc import ABCMeta
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType
from typing import Any, Self

from ..optimization.diagnostics import FitDiagnostics
from . import bayesian_gaussian_mixture, gaussian_mixture
from .sklearn_conversion import KEPT, parameter_names, sklearn_class, sklearn_mixture, with_fitted
from .subclass_settings import given_settings, settings_methods

logger = logging.getLogger("fastgmm")

# Not by their names in this module, where the replacements have these.
OWN_CLASSES: dict[str, type[Any]] = {
    "GaussianMixture": gaussian_mixture.GaussianMixture,
    "BayesianGaussianMixture": bayesian_gaussian_mixture.BayesianGaussianMixture,
}
# What a subclass of scikit-learn's classes may override to change how it fits and scores.
FIT_HOOKS = (
    *("_check_parameters", "_initialize_parameters", "_initialize", "_e_step", "_m_step", "_compute_lower_bound"),
    *("_get_parameters", "_set_parameters", "_estimate_log_prob_resp"),
    *("_print_verbose_msg_init_beg", "_print_verbose_msg_iter_end", "_print_verbose_msg_init_end"),
)
SCORE_HOOKS = ("_estimate_weighted_log_prob", "_estimate_log_weights", "_estimate_log_prob")
# Which methods scikit-learn's call: where a subclass overrides one of these, its own is called as scikit-learn does.
CALLED = {
    "fit": ("fit_predict",),
    "score": ("score_samples",),
    "aic": ("score", "score_samples", "_n_parameters"),
    "bic": ("score", "score_samples", "_n_parameters"),
}
# Fitted attributes that scikit-learn's lack: a subclass that has its own of that name is fitted by scikit-learn.
NOISE_FACTS = {"noise_weight_", "noise_bounds_"}
OWN_FACTS = {"stop_reason_", "log_likelihood_", "diagnostics_", "lower_bounds_"} | NOISE_FACTS
ORIGINAL = "_fastgmm_replaces"  # of a replacement, and no subclass of it: scikit-learn's class
_compatible: ContextVar[bool] = ContextVar("sklearn_compatibility", default=False)


def _fallback_reason(estimator: Any, replacement: type[Any], X: Any, hooks: tuple[str, ...]) -> str | None:
    """Why a call has to be scikit-learn's; None if it can be ours."""
    _, original = replacement.__bases__
    if _compatible.get():
        return "sklearn_compatibility() is active"
    for hook in hooks:
        if getattr(type(estimator), hook, None) is not getattr(original, hook, None):
            return f"{type(estimator).__name__} overrides {hook}"
    taken = _taken_names(estimator, replacement)
    if taken:
        return f"{type(estimator).__name__} has its own {', '.join(sorted(taken))}"
    from sklearn import get_config

    if get_config()["array_api_dispatch"] and not type(X).__module__.startswith(("numpy", "builtins", "pandas")):
        return f"array_api_dispatch is on and X is a {type(X).__module__}.{type(X).__name__}"
    return None


def _taken_names(estimator: Any, replacement: Any) -> set[str]:
    """Names of ours, and not scikit-learn's, by which a subclass means something else."""
    if type(estimator) is replacement:
        return set()
    private = _added_names(replacement, "_")
    kinds = type(estimator).__mro__
    of_class = {name for kind in kinds[: kinds.index(replacement)] for name in vars(kind)} & (private | OWN_FACTS)
    facts = set() if "noise" in given_settings(estimator) else NOISE_FACTS
    return of_class | (vars(estimator).keys() & (private | facts))


@cache
def _added_names(replacement: Hashable, prefix: str = "") -> set[str]:
    """Attributes of our class that scikit-learn's lacks."""
    own, original = replacement.__bases__  # type: ignore[attr-defined]
    added = set(dir(own)) - set(dir(original))
    return {name for name in added if name.startswith(prefix) and not name.endswith("__")}


def _make_replacement(original: type[Any], own: type[Any]) -> type[Any]:
    """A class that is both: our methods first, and scikit-learn's for what ours do not support.

    Being a subclass of scikit-learn's class, its instances pass `isinstance` checks, and its private hooks work.
    """

    def dispatch(name: str, hooks: tuple[str, ...]) -> Any:
        ours, theirs = getattr(own, name), getattr(original, name, None)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            reason = _fallback_reason(self, replacement, args[0] if args else kwargs.get("X"), hooks)
            if reason is None and theirs is not None:
                called = CALLED.get(name, ())
                if any(getattr(type(self), other) is not getattr(replacement, other) for other in called):
                    return theirs(self, *args, **kwargs)
            if reason is None or theirs is None:
                return ours(self, *args, **kwargs)
            logger.info("%s.%s falls back to scikit-learn: %s", original.__name__, name, reason)
            return theirs(self, *args, **kwargs)

        method.__name__, method.__doc__ = name, ours.__doc__
        method.__signature__ = inspect.signature(ours)  # type: ignore[attr-defined]
        return method

    body: dict[str, Any] = {name: dispatch(name, FIT_HOOKS + SCORE_HOOKS) for name in ("fit", "fit_predict")}
    for name in ("predict", "predict_proba", "score_samples", "score", "aic", "bic"):
        if hasattr(own, name):
            body[name] = dispatch(name, SCORE_HOOKS)
    body["sample"] = dispatch("sample", ())
    extra = dict.fromkeys(set(own._constraints) - set(original._parameter_constraints), "no_validation")  # done by ours
    body["_parameter_constraints"] = original._parameter_constraints | extra

    def keep_bases(cls: Any, /, **kwargs: Any) -> None:
        """What other bases of a subclass have is not hidden by what only our class has."""
        super(replacement, cls).__init_subclass__(**kwargs)
        others = [kind for kind in cls.__mro__[1:] if kind not in replacement.__mro__]
        for name in _added_names(replacement):
            theirs = next((vars(kind)[name] for kind in others if name in vars(kind)), None)
            found, ours = (inspect.getattr_static(kind, name) for kind in (cls, replacement))
            if theirs is not None and found is ours:
                setattr(cls, name, theirs)

    def tags(self: Any) -> Any:
        return (original if _taken_names(self, replacement) else own).__sklearn_tags__(self)

    def is_fitted(self: Any) -> bool:
        if _taken_names(self, replacement):  # as scikit-learn finds it out
            return any(name.endswith("_") and not name.startswith("__") for name in vars(self))
        return bool(own.__sklearn_is_fitted__(self))

    def chosen_start(self: Any) -> Any:
        """'kmeans' is scikit-learn's default: whoever has it there has not asked for it."""
        by_default = isinstance(self.init_params, str) and self.init_params == "kmeans"
        return "auto" if by_default else self.init_params

    body |= {"__sklearn_tags__": tags, "__sklearn_is_fitted__": is_fitted, "_chosen_start": chosen_start}
    body |= settings_methods(own, original) | {"__doc__": own.__doc__, "__module__": __name__}
    body |= {"__init_subclass__": classmethod(keep_bases), ORIGINAL: original}
    replacement: Any = _Replacing(original.__name__, (own, original), body)
    made: type[Any] = replacement
    return made


class _Replacing(ABCMeta):
    """The class of the replacements: what scikit-learn's own class made is an instance of them too.

    They equal scikit-learn's classes, so that tables of converters and the like, which ask for the exact type of a
    model, know both by either, whichever was there when they were made.
    """

    def __eq__(cls, other: object) -> bool:
        return cls is other or (other is not None and vars(cls).get(ORIGINAL) is other)

    def __hash__(cls) -> int:
        return type.__hash__(vars(cls).get(ORIGINAL, cls))

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or _is_original(cls, type(instance))

    def __subclasscheck__(cls, subclass: Any) -> bool:
        return super().__subclasscheck__(subclass) or _is_original(cls, subclass)


def _is_original(cls: Any, kind: Any) -> bool:
    """Whether `cls` is a replacement, not a subclass of one, and `kind` scikit-learn's class or a subclass of it."""
    name = cls.__name__
    is_replacement = globals().get(name) is cls
    return is_replacement and isinstance(kind, type) and sklearn_class(name) in kind.__mro__


def __getattr__(name: str) -> Any:
    """The replacements, made at first use and then kept: pickles name them as fastgmm.estimators.interop.<class>.

    As Patched<class>, too, as pickles of version 0.1.0 do.
    """
    known = name.removeprefix("Patched")
    if known not in OWN_CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if known not in globals():
        globals()[known] = _make_replacement(sklearn_class(known), OWN_CLASSES[known])
    return globals()[known]


class SklearnPatch:
    """The handle of `patch_sklearn`: a context manager that unpatches at its end.

    Attributes
    ----------
    not_replaced : list of str
        Names bound to scikit-learn's classes before the patch, such as 'pyod.models.gmm.GaussianMixture': they keep
        them. Import those modules after `patch_sklearn`.
    """

    def __init__(self, not_replaced: list[str]) -> None:
        self.not_replaced = not_replaced

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        unpatch_sklearn()


def patch_sklearn() -> SklearnPatch:
    """Put fastgmm's classes in the place of `sklearn.mixture.GaussianMixture` and `BayesianGaussianMixture`.

    Whoever imports or looks these names up afterwards gets classes that take the same parameters, give the same
    attributes and are subclasses of scikit-learn's. Subclasses that override private methods of scikit-learn's,
    arrays of other libraries under `array_api_dispatch`, and everything within `sklearn_compatibility` are fitted by
    scikit-learn as before; the logger "fastgmm" tells the reason at level INFO, and warns of names that were imported
    before and keep the old classes.

    Returns
    -------
    SklearnPatch
        Usable in a `with` statement; `unpatch_sklearn()` ends the patch as well. Patching twice changes nothing.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    mixture = sklearn_mixture()
    originals = {id(sklearn_class(name)) for name in OWN_CLASSES}
    not_replaced = sorted(
        f"{module_name}.{name}"
        for module_name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and not module_name.startswith(("sklearn.mixture", "fastgmm."))
        for name, value in list(vars(module).items())
        if id(value) in originals
    )
    if not_replaced:
        logger.warning(
            "imported before patch_sklearn and therefore still scikit-learn's: %s. Import them after it.",
            ", ".join(not_replaced),
        )
    for name in OWN_CLASSES:
        setattr(mixture, name, getattr(sys.modules[__name__], name))
    return SklearnPatch(not_replaced)


@contextmanager
def sklearn_compatibility() -> Iterator[None]:
    """Within it, patched classes run scikit-learn's own code: its numbers to the last bit, its defects included.

    For finding out whether a change of results comes from fastgmm; the README lists the differences. It holds for the
    thread or task that entered it, not for worker processes.
    """
    token = _compatible.set(True)
    try:
        yield
    finally:
        _compatible.reset(token)


def unpatch_sklearn() -> None:
    """Put scikit-learn's classes back; objects made meanwhile go on working."""
    mixture = sklearn_mixture()
    for name in OWN_CLASSES:
        setattr(mixture, name, sklearn_class(name))


def from_sklearn(estimator: Any) -> Any:
    """Return our estimator of the same name, with the parameters and fitted attributes of scikit-learn's.

    Raises TypeError for anything else.
    """
    for name, own in OWN_CLASSES.items():
        if isinstance(estimator, sklearn_class(name)):
            params = {key: getattr(estimator, key) for key in parameter_names(sklearn_class(name))}
            kept = dict(getattr(estimator, KEPT, {}))
            diagnostics = kept.pop("diagnostics_", None)
            ours = with_fitted(own(**copy.deepcopy(params | kept)), estimator)
            if diagnostics is not None:
                ours.diagnostics_ = FitDiagnostics(**copy.deepcopy(diagnostics))
            return ours
    raise TypeError(
        f"from_sklearn takes a sklearn.mixture.GaussianMixture or BayesianGaussianMixture. Got {type(estimator)!r}."
    )
