"""What the estimators share, and the only module that knows whether scikit-learn is installed."""

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import exceptions
from ..representation.source import ArraySource
from ._validation import as_matrix, check_finite

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.exceptions import ConvergenceWarning as _SklearnConvergenceWarning
    from sklearn.exceptions import NotFittedError as _SklearnNotFittedError
    from sklearn.utils._param_validation import InvalidParameterError as _SklearnInvalidParameterError
    from sklearn.utils.validation import _check_feature_names, _check_n_features
except ImportError:

    class DensityMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's marker class."""

    class BaseEstimator:  # type: ignore[no-redef]
        """Parameters as scikit-learn's base class handles them: read from the signature of `__init__`."""

        @classmethod
        def _get_param_names(cls) -> list[str]:
            return sorted(name for name in inspect.signature(cls.__init__).parameters if name != "self")

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the constructor's parameters by name."""
            return {name: getattr(self, name) for name in self._get_param_names()}

        def set_params(self, **params: Any) -> "BaseEstimator":
            """Set parameters by name; ValueError for an unknown one."""
            valid = self._get_param_names()
            for name, value in params.items():
                if name not in valid:
                    raise ValueError(
                        f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: {valid!r}."
                    )
                setattr(self, name, value)
            return self

        def __repr__(self) -> str:
            defaults = inspect.signature(type(self).__init__).parameters
            shown = (
                f"{name}={value!r}"
                for name, value in self.get_params().items()
                if not (value is defaults[name].default or np.array_equal(value, defaults[name].default))
            )
            return f"{type(self).__name__}({', '.join(shown)})"

    ConvergenceWarning = exceptions.ConvergenceWarning
    NotFittedError = exceptions.NotFittedError
    InvalidParameterError = exceptions.InvalidParameterError

    def _check_n_features(estimator: Any, X: Any, *, reset: bool) -> None:
        n_features = X.shape[1]
        if reset:
            estimator.n_features_in_ = n_features
        elif hasattr(estimator, "n_features_in_") and n_features != estimator.n_features_in_:
            raise ValueError(
                f"X has {n_features} features, but {type(estimator).__name__} is expecting "
                f"{estimator.n_features_in_} features as input."
            )

    def _check_feature_names(estimator: Any, X: Any, *, reset: bool) -> None:
        columns = getattr(X, "columns", None)
        named = columns is not None and all(isinstance(name, str) for name in columns)
        names = np.asarray(list(columns), dtype=object) if named else None
        if reset:
            estimator.__dict__.pop("feature_names_in_", None)
            if names is not None:
                estimator.feature_names_in_ = names
        elif names is not None and hasattr(estimator, "feature_names_in_"):
            if list(names) != list(estimator.feature_names_in_):
                raise ValueError(
                    f"The feature names should match those that were passed during fit: "
                    f"{list(estimator.feature_names_in_)}. Got {list(names)}."
                )

else:

    class ConvergenceWarning(exceptions.ConvergenceWarning, _SklearnConvergenceWarning):  # type: ignore[no-redef]
        """fastgmm's and scikit-learn's warning at once."""

    class NotFittedError(exceptions.NotFittedError, _SklearnNotFittedError):  # type: ignore[no-redef]
        """fastgmm's and scikit-learn's error at once."""

    class InvalidParameterError(exceptions.InvalidParameterError, _SklearnInvalidParameterError):  # type: ignore[no-redef]
        """fastgmm's and scikit-learn's error at once."""


class MixtureEstimator(DensityMixin, BaseEstimator):
    """Input handling that every mixture estimator shares."""

    def _read(self, X: Any, *, reset: bool, min_samples: int = 1, dtype: Any = None, finite: bool = True) -> ArraySource:
        """Check X and its column names and return its rows; with `reset` remember width and names."""
        owner = type(self).__name__
        array = as_matrix(X, owner, min_samples)
        _check_feature_names(self, X, reset=reset)
        _check_n_features(self, array, reset=reset)
        source = ArraySource(array, dtype)
        if finite:
            check_finite(source, owner, self._column_names())
        return source

    def _column_names(self) -> NDArray[Any] | None:
        return getattr(self, "feature_names_in_", None)

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
                "using this estimator."
            )

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the arrays that define a usable model are there, fitted or set by hand."""
        return all(hasattr(self, name) for name in ("weights_", "means_", "precisions_cholesky_"))
