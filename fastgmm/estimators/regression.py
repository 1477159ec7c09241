"""Regression by a joint mixture: the distribution of the targets given the features, not only its mean."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..distributed.sources import distribute_if_asked
from ..exceptions import InvalidParameterError
from ..model.conditioning import answered_by_gaps
from ..rows.source import ArraySource, Source
from ..rows.wrappers import ChosenColumns
from ..threads import thread_limit
from ..validation import as_source, check_parameters, raise_nonfinite
from .base import MixtureEstimator
from .conditioning import Conditional
from .gaussian_mixture import GaussianMixture
from .sklearn_base import BaseEstimator, NotFittedError, RegressorMixin
from .standardised import StandardisedMixture

KINDS = ("mean", "median", "mode")
SETTINGS = ("n_components", "covariance_type", "reg_covar", "n_init", "missing")  # those of the joint mixture
Array = NDArray[np.float64]


class GaussianMixtureRegressor(RegressorMixin, BaseEstimator):
    """Regression by a Gaussian mixture of features and targets together.

    Given the features, the targets follow a mixture whose components and their probabilities depend on these: it may
    have several peaks, be skewed, and spread more here than there. With one component it is linear regression.

    Parameters
    ----------
    n_components : int, default=1
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        Of the joint mixture, on standardised columns.
    reg_covar : float, default=1e-6
        Added to the variances of the standardised columns.
    n_init : int, default=1
    missing : {'raise', 'em'}, default='raise'
        With 'em', NaN among the features is a value that is not known, in `fit` and in predictions.
    mixture : estimator, default=None
        An unfitted mixture of any kind for the joint rows, features before targets, instead of the standardised
        `GaussianMixture` that the settings above describe.
    random_state : int, RandomState or None, default=None
    n_jobs : int or None, default=None
        Threads; None: all that the process may use.

    Attributes
    ----------
    mixture_ : the fitted joint mixture, whose last columns are the targets
        `mixture_.save` keeps it in a file, `from_mixture` makes a regressor of it.
    n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X has names.

    References
    ----------
    Z. Ghahramani and M. I. Jordan (1994), Supervised learning from incomplete data via an EM approach, NIPS 6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixtureRegressor
    >>> x = np.random.default_rng(0).uniform(-3, 3, size=(3000, 1))
    >>> y = np.abs(x[:, 0]) + np.random.default_rng(1).normal(0, 0.1, size=3000)
    >>> model = GaussianMixtureRegressor(4, random_state=0).fit(x, y)
    >>> model.predict([[-2.0], [2.0]]).round(1).tolist()
    [2.0, 2.0]
    >>> model.predict_quantiles([[2.0]], [0.1, 0.9]).round(1).tolist()
    [[1.9, 2.1]]
    """

    mixture_: Any
    n_features_in_: int
    n_outputs_: int

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        reg_covar: float = 1e-6,
        n_init: int = 1,
        missing: str = "raise",
        mixture: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.n_init = n_init
        self.missing = missing
        self.mixture = mixture
        self.random_state = random_state
        self.n_jobs = n_jobs

    @classmethod
    def from_mixture(cls, mixture: Any, n_outputs: int = 1) -> Self:
        """Return a regressor that predicts the last `n_outputs` columns of a fitted mixture from the others."""
        mixture._check_is_fitted()
        n_features = mixture.means_.shape[1]
        if not 1 <= n_outputs < n_features:
            raise ValueError(f"n_outputs must be from 1 to {n_features - 1}, got {n_outputs}.")
        self = cls(len(mixture.means_), mixture=mixture, random_state=mixture.random_state, n_jobs=mixture.n_jobs)
        self.mixture_, self.n_outputs_, self.n_features_in_ = mixture, n_outputs, n_features - n_outputs
        self._single = n_outputs == 1
        names = mixture._column_names()
        if names is not None:
            self.feature_names_in_ = names[:-n_outputs]
        return self

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, executor: Any = None) -> Self:
        """Fit the joint mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), a frame, or rows from files or elsewhere (`open_source`)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs); for rows from files or elsewhere, and for
            frames, the name or number of the column among those of X that is the target, or a list of them
        sample_weight : array-like of shape (n_samples,), default=None
        executor : executor or Dask client, default=None
            On whose workers the rows are; see `GaussianMixture.fit`.
        """
        settings = {name: getattr(self, name) for name in SETTINGS}
        constraints = {name: GaussianMixture._constraints[name] for name in SETTINGS}
        check_parameters(type(self).__name__, settings, constraints, InvalidParameterError)
        if y is None:
            raise ValueError(
                "This GaussianMixtureRegressor estimator requires y to be passed, but the target y is None."
            )
        joint, names, n_outputs, single = self._joint(X, y)
        mixture = self._joint_mixture()
        mixture.fit(distribute_if_asked(joint, executor), None, sample_weight)
        self.mixture_, self.n_outputs_, self._single = mixture, n_outputs, single
        self.n_features_in_ = mixture.n_features_in_ - n_outputs
        self.__dict__.pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        return self

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
        asked = np.atleast_1d(np.asarray(probabilities, np.float64))
        if asked.ndim != 1 or not ((asked >= 0) & (asked <= 1)).all():
            raise ValueError(f"probabilities must lie between 0 and 1, got {probabilities!r}.")
        return self._shaped(self._ask(self._rows(X), "quantiles", asked))

    def log_prob(self, X: Any, y: ArrayLike) -> Array:
        """Log-density of the targets given the features, in nats, (n_samples,)."""
        return self._conditional().log_prob(self._complete(X), np.asarray(y, np.float64))

    def sample(self, X: Any, n_samples: int = 1) -> Array:
        """Draw targets so many times for each row, (n_rows, n_samples[, n_outputs])."""
        drawn = self._conditional().sample(self._complete(X), n_samples)
        return drawn[:, :, 0] if self._single else drawn

    def conditional(self, X: Any) -> Any:
        """Return the mixture of the targets for one row of features, (n_features,) or (1, n_features)."""
        values = np.asarray(X, np.float64).reshape(-1)
        self._check_is_fitted()
        return self.mixture_.condition(np.arange(self.n_features_in_), values)

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's description: several targets, NaN only where it stands for a missing value."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        tags.input_tags.allow_nan = self.missing == "em"
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a joint mixture."""
        return hasattr(self, "mixture_")

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
                "using this estimator."
            )

    def _joint_mixture(self) -> Any:
        """An unfitted mixture for the joint rows."""
        if self.mixture is not None:
            if not isinstance(self.mixture, MixtureEstimator):
                raise TypeError(f"mixture must be a mixture of fastgmm, got a {type(self.mixture).__name__}.")
            made = type(self.mixture)(**self.mixture.get_params(deep=False))
            if isinstance(made, StandardisedMixture):
                made.mixture = type(made.mixture)(**made.mixture.get_params(deep=False))
            return made
        return StandardisedMixture(
            GaussianMixture(
                self.n_components,
                covariance_type=self.covariance_type,
                reg_covar=self.reg_covar,
                n_init=self.n_init,
                missing=self.missing,
                random_state=self.random_state,
                n_jobs=self.n_jobs,
            )
        )

    def _joint(self, X: Any, y: Any) -> tuple[Any, list[str] | None, int, bool]:
        """Rows of features and targets, names of the features, the number of targets, and whether y is flat."""
        source = as_source(X, type(self).__name__, 1)
        names = source.names if source.names is not None else _frame_names(X)
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
        rows = np.concatenate([block for _, block in source.chunks()])
        raise_nonfinite(source, type(self).__name__, None if names is None else np.array(names), self.missing == "em")
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
        names = source.names if source.names is not None else _frame_names(X)
        if names is not None and known is not None:
            missing = [name for name in known if name not in names]
            if missing:
                raise ValueError(
                    "The feature names should match those that were passed during fit.\nFeature names seen at fit time, "
                    f"yet now missing:\n- {missing[0]}\n"
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

    def _complete(self, X: Any) -> Source:
        return self._rows(X)

    def _conditional(self) -> Conditional:
        self._check_is_fitted()
        n_features = self.n_features_in_
        given, wanted = np.arange(n_features), np.arange(n_features, n_features + self.n_outputs_)
        return Conditional(self.mixture_, self.mixture_._density().conditionals(given, wanted), given, wanted)

    def _ask(self, source: Source, question: str, option: Any = None) -> Array:
        """What the mixture says of the targets, (n_samples, n_outputs[, ...])."""
        conditional = self._conditional()
        if not self.mixture_._may_miss:
            return conditional._ask(source, question, option)
        joint = WithUnknown(source, self.n_outputs_)
        with thread_limit(self.n_jobs):
            numbers = range(source.n_samples)
            parts = joint.map_parts(
                answered_by_gaps, self.mixture_._density(), question, option, per_row=(numbers, None)
            )
            return np.concatenate(list(parts))[:, self.n_features_in_ :]

    def _shaped(self, found: Array) -> Array:
        """One-dimensional targets as such."""
        return found[:, 0] if self._single else found


class WithUnknown(ChosenColumns):
    """Rows with columns of NaN behind them."""

    def __init__(self, source: Source, n_unknown: int) -> None:
        super().__init__(source, np.arange(source.n_features))
        self.n_features, self._n_unknown = source.n_features + n_unknown, n_unknown
        self.names = None

    def read_as(self, dtype: Any) -> "WithUnknown":
        """Return the same rows in this precision."""
        return WithUnknown(self._source.read_as(dtype), self._n_unknown)

    def _made_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([rows, np.full((len(rows), self._n_unknown), np.nan, rows.dtype)], axis=1)


def _frame_names(X: Any) -> list[str] | None:
    """Names of the columns of a frame, if all are texts."""
    columns = getattr(X, "columns", None)
    names = [] if columns is None else list(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def _place(name: str | int, names: list[str] | None, n_features: int) -> int:
    """Number of a column; ValueError for one that there is not."""
    if isinstance(name, str):
        if names is None or name not in names:
            raise ValueError(f"y: X has no column {name!r}; its columns are {names or 'without names'}.")
        return names.index(name)
    if not -n_features <= name < n_features:
        raise ValueError(f"y: X has no column {name}; it has {n_features}, from 0 on.")
    return name % n_features
