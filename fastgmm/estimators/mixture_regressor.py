"""What regressors by mixtures share: rows of features and targets, and what is said of targets given features."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..rows.source import ArraySource, Source
from ..rows.wrappers import ChosenColumns
from ..validation import as_source, raise_nonfinite
from .conditioning import Conditional, check_probabilities, names_of
from .sklearn_base import BaseEstimator, RegressorMixin, check_is_fitted

KINDS = ("mean", "median", "mode")
Array = NDArray[np.float64]


class MixtureRegressor(RegressorMixin, BaseEstimator):
    """Regression by a mixture: a distribution of the targets for every row of features."""

    n_features_in_: int
    n_outputs_: int
    n_jobs: int | None
    random_state: Any
    _single: bool  # whether targets are one-dimensional
    _may_miss = False  # whether NaN among the features stands for a missing value

    def predict(self, X: Any, kind: str = "mean", return_std: bool = False) -> Any:
        """Predict the targets.

        Parameters
        ----------
        X : rows of the features
        kind : {'mean', 'median', 'mode'}, default='mean'
            The expectation, the median of each target, or where the density of the targets is highest.
        return_std : bool, default=False
            Also return the standard deviation.

        Returns
        -------
        ndarray of shape (n_samples,), or (n_samples, n_outputs) if `fit` got two dimensions; with `return_std` two
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
        source = self._rows(X)
        if kind == "median":
            found = self._ask(source, "quantiles", np.array([0.5]))[..., 0]
        else:
            found = self._ask(source, "mean" if kind == "mean" else "modes")
        found = self._shaped(found)
        return (found, self._shaped(self._ask(source, "std"))) if return_std else found

    def predict_quantiles(self, X: Any, probabilities: ArrayLike) -> Array:
        """Quantiles of each target, (n_samples[, n_outputs], n_probabilities); see `Conditional.quantile`."""
        return self._shaped(self._ask(self._rows(X), "quantiles", check_probabilities(probabilities)))

    def log_prob(self, X: Any, y: ArrayLike) -> Array:
        """Log-density of the targets given the features, in nats, (n_samples,)."""
        return self._conditional().log_prob(self._rows(X), np.asarray(y, np.float64))

    def sample(self, X: Any, n_samples: int = 1) -> Array:
        """Draw targets so many times for each row, (n_rows, n_samples[, n_outputs])."""
        drawn = self._conditional().sample(self._rows(X), n_samples)
        return drawn[:, :, 0] if self._single else drawn

    @abstractmethod
    def _conditional(self) -> Conditional:
        """The distribution of the targets for rows of features."""

    def _ask(self, source: Source, question: str, option: Any = None) -> Array:
        """What is said of the targets, (n_samples, n_outputs[, ...])."""
        return self._conditional()._ask(source, question, option, checked=True)

    def _setting(self, name: str) -> Any:
        return getattr(self, name)

    def _column_names(self) -> NDArray[Any] | None:
        return getattr(self, "feature_names_in_", None)

    def _remember(self, names: list[str] | None, n_features: int, n_outputs: int, single: bool) -> None:
        """What was fitted."""
        self.n_features_in_, self.n_outputs_, self._single = n_features, n_outputs, single
        self.__dict__.pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's description: several targets, NaN only where it stands for a missing value."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        tags.input_tags.allow_nan = self._may_miss
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Whether it is fitted."""
        return hasattr(self, "n_outputs_")

    def _check_is_fitted(self) -> None:
        check_is_fitted(self)

    def _joint(self, X: Any, y: Any) -> tuple[Any, list[str] | None, int, bool]:
        """Rows of features and targets, the features' names, how many targets, and whether y is flat."""
        source = as_source(X, type(self).__name__, 1)
        names = names_of(X, source)
        if isinstance(y, str | int) or (isinstance(y, list) and y and all(isinstance(name, str) for name in y)):
            wanted = [y] if isinstance(y, str | int) else y
            targets = np.array([_place(name, names, source.n_features) for name in wanted])
            features = np.setdiff1d(np.arange(source.n_features), targets)
            if not len(features):
                raise ValueError("y names all columns of X, and none is left to predict from.")
            chosen = ChosenColumns(source, np.concatenate([features, targets]))
            kept = None if names is None else [names[column] for column in features]
            return chosen, kept, len(targets), isinstance(y, str | int)
        if not isinstance(source, ArraySource):
            raise ValueError(
                "y must name the target's column among those of X where X is a file or another source of rows."
            )
        rows = np.asarray(source.X, source.dtype)
        raise_nonfinite(source, type(self).__name__, None if names is None else np.array(names), self._may_miss)
        target = np.asarray(y)
        if target.dtype.kind not in "fiub":
            target = target.astype(np.float64)
        single = target.ndim == 1
        target = target.reshape(len(target), -1) if target.ndim else target
        if target.ndim != 2 or len(target) != len(rows):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: [{len(rows)}, {np.shape(y)[:1]}]"
            )
        if not np.isfinite(target).all():
            raise ValueError("Input y contains NaN or infinity; a row without its target says nothing of it.")
        joint = np.concatenate([rows, target.astype(np.result_type(rows.dtype, np.float32))], axis=1)
        return joint, names, target.shape[1], single

    def _rows(self, X: Any) -> Source:
        """Rows of features, of whatever else a file holds the columns that are features."""
        self._check_is_fitted()
        source = as_source(X, type(self).__name__, 1, np.float64)
        known = getattr(self, "feature_names_in_", None)
        names = names_of(X, source)
        if names is not None and known is not None:
            missing = [name for name in known if name not in names]
            if missing:
                raise ValueError(
                    "The feature names should match those that were passed during fit.\nFeature names seen at fit "
                    f"time, yet now missing:\n- {missing[0]}\n"
                )
            if list(names) != list(known):
                if source.names is None:  # a frame: scikit-learn's rule
                    raise ValueError(
                        "The feature names should match those that were passed during fit.\nFeature names must be in "
                        "the same order as they were in fit.\n"
                    )
                return ChosenColumns(source, np.array([list(names).index(name) for name in known]))
        if source.n_features != self.n_features_in_:
            raise ValueError(
                f"X has {source.n_features} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input."
            )
        return source

    def _shaped(self, found: Array) -> Array:
        """One-dimensional targets as such."""
        return found[:, 0] if self._single else found


def _place(name: str | int, names: list[str] | None, n_features: int) -> int:
    """Number of a column; ValueError for one that there is not."""
    if isinstance(name, str):
        if names is None or name not in names:
            raise ValueError(f"y: X has no column {name!r}; its columns are {names or 'without names'}.")
        return names.index(name)
    if not -n_features <= name < n_features:
        raise ValueError(f"y: X has no column {name}; it has {n_features}, from 0 on.")
    return name % n_features


def required(estimator: Any, y: Any) -> None:
    """ValueError, in scikit-learn's words, where there is no target."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
