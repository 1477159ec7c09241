"""Our mixtures as scikit-learn's: the same parameters and fitted attributes in its classes."""

import copy
import inspect
import sys
from dataclasses import asdict
from types import ModuleType
from typing import Any

HOMES = {"GaussianMixture": "_gaussian_mixture", "BayesianGaussianMixture": "_bayesian_mixture"}  # in sklearn.mixture
KEPT = "_fastgmm_params"  # on a scikit-learn estimator: our parameters that it has no place for


def sklearn_mixture() -> ModuleType:
    """Return `sklearn.mixture`; ImportError with the way to install it."""
    try:
        import sklearn.mixture
    except ImportError as error:
        raise ImportError("scikit-learn is not installed; pip install 'fastgmm[sklearn]' brings it.") from error
    module: ModuleType = sklearn.mixture
    return module


def sklearn_class(name: str) -> type[Any]:
    """scikit-learn's own class, whether or not its public name is patched."""
    sklearn_mixture()
    original: type[Any] = getattr(sys.modules[f"sklearn.mixture.{HOMES[name]}"], name)
    return original


def to_sklearn(estimator: Any) -> Any:
    """Return scikit-learn's estimator with the parameters and fitted attributes of ours.

    Parameters that scikit-learn does not have (n_jobs, fixed, ...) are kept on it for `from_sklearn`, if they are made
    of numbers and text, and have no effect there: pickles of it load where fastgmm is not installed. ValueError if
    `init_params` is not a name, or for a mixture with uniform noise;
    TypeError for an estimator that scikit-learn does not have.
    """
    known = getattr(estimator, "_models", ("",))[0]
    if known not in HOMES:
        raise TypeError(f"scikit-learn has no counterpart of {type(estimator).__name__}.")
    original = sklearn_class(known)
    if not isinstance(estimator.init_params, str):
        raise ValueError(
            "scikit-learn's init_params takes names only: set it to 'kmeans' or another name before to_sklearn."
        )
    if hasattr(estimator, "noise_weight_"):
        raise ValueError("scikit-learn's mixtures have no uniform noise: fit with noise=None before to_sklearn.")
    if estimator.reg_covar == "auto":
        raise ValueError("scikit-learn's reg_covar is a number: set one before to_sklearn.")
    names = parameter_names(original)
    theirs = {name: copy.deepcopy(getattr(estimator, name)) for name in names}
    if theirs["init_params"] == "auto":
        theirs["init_params"] = "kmeans"  # the start of scikit-learn's that it has in it
    other = original(**theirs)
    own = next(kind for kind in type(estimator).__mro__ if "_models" in vars(kind))
    defaults = inspect.signature(own).parameters
    params = {name: estimator._setting(name) for name in estimator._constraints}
    kept = {
        name: value
        for name, value in params.items()
        if name not in names and value is not defaults[name].default and _is_plain(value)
    }
    if estimator.init_params == "auto":
        kept["init_params"] = "auto"
    if hasattr(estimator, "diagnostics_"):
        kept["diagnostics_"] = asdict(estimator.diagnostics_)
    if kept:
        setattr(other, KEPT, kept)
    return with_fitted(other, estimator)


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, text and arrays: pickles of it load where fastgmm is not installed."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value).__module__ in ("builtins", "numpy") and not callable(value)


def parameter_names(original: type[Any]) -> list[str]:
    """Names of the parameters that a class of scikit-learn's takes."""
    names: list[str] = original._get_param_names()
    return names


def with_fitted(target: Any, source: Any) -> Any:
    """Copy the fitted attributes, whose names end with an underscore; none that needs fastgmm to be unpickled."""
    for name, value in vars(source).items():
        if name.endswith("_") and not name.startswith("_") and _is_plain(value):
            setattr(target, name, copy.deepcopy(value))
    return target
