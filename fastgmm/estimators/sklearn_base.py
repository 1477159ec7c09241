"""The only module of the estimators that knows whether scikit-learn is installed: its base classes, or stand-ins."""

import inspect
from typing import Any

import numpy as np

from .. import exceptions

__all__ = [
    "BaseEstimator",
    "ConvergenceWarning",
    "DensityMixin",
    "InvalidParameterError",
    "NotFittedError",
    "OutlierMixin",
    "RegressorMixin",
    "check_feature_names",
    "check_is_fitted",
    "check_n_features",
    "compare_names",
]


def compare_names(estimator: Any, names: list[str], *, reset: bool) -> None:
    """Remember the names of the columns, or compare them with those of the fit."""
    if reset:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    elif names != list(getattr(estimator, "feature_names_in_", names)):
        raise ValueError(
            f"The feature names should match those that were passed during fit: {list(estimator.feature_names_in_)}. "
            f"Got {names}."
        )


try:
    from sklearn.base import BaseEstimator, DensityMixin, OutlierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning as _SklearnConvergenceWarning
    from sklearn.exceptions import NotFittedError as _SklearnNotFittedError
    from sklearn.utils._param_validation import InvalidParameterError as _SklearnInvalidParameterError
    from sklearn.utils.validation import _check_feature_names as check_feature_names
    from sklearn.utils.validation import _check_n_features as check_n_features
except ImportError:

    class DensityMixin:
        """Stands in for scikit-learn's marker class."""

    class OutlierMixin:
        """Stands in for scikit-learn's."""

        def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> Any:
            """Fit, and return -1 for anomalies and 1 for the others."""
            return self.fit(X, **kwargs).predict(X)  # type: ignore[attr-defined]

    class RegressorMixin:
        """Stands in for scikit-learn's: the coefficient of determination."""

        predict: Any

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """Return R^2 of `predict(X)`, the mean over outputs."""
            y = np.asarray(y, np.float64).reshape(len(y), -1)
            weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
            left = weight @ (y - np.asarray(self.predict(X)).reshape(y.shape)) ** 2
            whole = weight @ (y - np.average(y, axis=0, weights=weight)) ** 2
            return float(np.mean(1.0 - left / whole))

    class BaseEstimator:
        """Parameters as scikit-learn's base class handles them: read from the signature of `__init__`."""

        @classmethod
        def _get_param_names(cls) -> list[str]:
            return sorted(name for name in inspect.signature(cls.__init__).parameters if name != "self")

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the constructor's parameters by name; `deep` adds those of estimators among them, as a__b."""
            params = {name: getattr(self, name) for name in self._get_param_names()}
            parts = {name: value for name, value in params.items() if deep and isinstance(value, BaseEstimator)}
            return params | {
                f"{name}__{key}": v for name, part in parts.items() for key, v in part.get_params().items()
            }

        def set_params(self, **params: Any) -> "BaseEstimator":
            """Set parameters by name, a__b for one of an estimator among them; ValueError for an unknown one."""
            valid = self._get_param_names()
            for key, value in params.items():
                name, _, inner = key.partition("__")
                if name not in valid:
                    raise ValueError(
                        f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: {valid!r}."
                    )
                if inner:
                    getattr(self, name).set_params(**{inner: value})
                else:
                    setattr(self, name, value)
            return self

        def __repr__(self) -> str:
            defaults = inspect.signature(type(self).__init__).parameters
            shown = (
                f"{name}={value!r}"
                for name, value in self.get_params(deep=False).items()
                if not (value is defaults[name].default or np.array_equal(value, defaults[name].default))
            )
            return f"{type(self).__name__}({', '.join(shown)})"

    ConvergenceWarning = exceptions.ConvergenceWarning
    NotFittedError = exceptions.NotFittedError
    InvalidParameterError = exceptions.InvalidParameterError

    def check_n_features(estimator: Any, X: Any, *, reset: bool) -> None:
        """Remember the number of columns, or compare it with that of the fit."""
        n_features = X.shape[1]
        if reset:
            estimator.n_features_in_ = n_features
        elif hasattr(estimator, "n_features_in_") and n_features != estimator.n_features_in_:
            raise ValueError(
                f"X has {n_features} features, but {type(estimator).__name__} is expecting "
                f"{estimator.n_features_in_} features as input."
            )

    def check_feature_names(estimator: Any, X: Any, *, reset: bool) -> None:
        """`compare_names` for whatever may have columns."""
        columns = getattr(X, "columns", None)
        if reset:
            estimator.__dict__.pop("feature_names_in_", None)
        if columns is not None and all(isinstance(name, str) for name in columns):
            compare_names(estimator, list(columns), reset=reset)

else:

    class ConvergenceWarning(exceptions.ConvergenceWarning, _SklearnConvergenceWarning):
        """fastgmm's and scikit-learn's warning at once."""

    class NotFittedError(exceptions.NotFittedError, _SklearnNotFittedError):
        """fastgmm's and scikit-learn's error at once."""

    class InvalidParameterError(exceptions.InvalidParameterError, _SklearnInvalidParameterError):
        """fastgmm's and scikit-learn's error at once."""


def check_is_fitted(estimator: Any) -> None:
    """Raise NotFittedError, in scikit-learn's words, unless the estimator says that it is fitted."""
    if not estimator.__sklearn_is_fitted__():
        raise NotFittedError(
            f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
            "using this estimator."
        )
