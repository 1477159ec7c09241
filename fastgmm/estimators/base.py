"""What every mixture estimator does alike."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.far import NonFiniteRowsError
from ..model.scoring import Density, filled, scored, totalled
from ..model.wrapped import KeptBad
from ..rows.frames import has_equal_names
from ..rows.source import ArraySource, Source
from ..threads import thread_limit
from ..validation import as_source, check_random_state, check_sample_weight, in_units, raise_nonfinite, weight_unit
from .conditioning import Askable
from .saving import Saveable
from .sklearn_base import NotFittedError, check_feature_names, check_n_features, compare_names

FILLS = ("mean", "sample")


class MixtureEstimator(Askable, Saveable):
    """What every mixture estimator does alike: read rows, predict, score, sample, impute.

    What is asked of rows is asked of the fitted `Density`, part by part, wherever the rows are.
    """

    weights_: NDArray[Any]
    means_: NDArray[Any]
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    _defining: ClassVar[tuple[str, ...]]  # the arrays that a model is made of

    def _read(
        self, X: Any, *, reset: bool, min_samples: int = 1, model_dtype: Any = None, may_keep: bool = False
    ) -> Source:
        """Check X and its column names and return its rows; with `reset` remember width and names.

        With `model_dtype`, rows are read in the precision that X and the model promote to.
        """
        source = as_source(X, type(self).__name__, min_samples, model_dtype)
        if source.keeps_bad and not may_keep:
            raise ValueError(
                "These rows are open with on_bad='keep', which only predict, predict_proba and score_samples take: "
                "open them with 'skip' or 'raise'."
            )
        if source.names is None:
            if type(X) is np.ndarray and (reset or self._column_names() is None):  # to ask others took 20 us
                self.__dict__.pop("feature_names_in_", None)
            else:
                is_array = isinstance(source, ArraySource) and not isinstance(X, Source) and not has_equal_names(X)
                check_feature_names(self, X if is_array else np.empty((0, source.n_features)), reset=reset)
        else:
            compare_names(self, source.names, reset=reset)
        check_n_features(self, np.empty((0, source.n_features)), reset=reset)
        return source

    @contextmanager
    def _naming_nonfinite(self, source: Source, may_miss: bool) -> Iterator[None]:
        """Turn the kernels' word of NaN or infinity into the ValueError that names row and column."""
        try:
            yield
        except NonFiniteRowsError:
            raise_nonfinite(source, type(self).__name__, self._column_names(), may_miss)
            raise AssertionError("the kernels met a value that is not finite") from None

    def _column_names(self) -> NDArray[Any] | None:
        return getattr(self, "feature_names_in_", None)

    @property
    def _may_miss(self) -> bool:
        """Whether NaN stands for a missing value."""
        return "missing" in self._constraints and self._setting("missing") == "em"

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
                "using this estimator."
            )

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's description of what the estimator takes: NaN only where it stands for a missing value."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._may_miss
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the arrays that define a usable model are there, fitted or set by hand."""
        return all(hasattr(self, name) for name in self._defining)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the most probable component of each row, shape (n_samples,), -1 for noise; needs no exponential."""
        return self._scored(self._score_input(X, may_keep=True), "labels")

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each component for each row, shape (n_samples, n_components).

        Rows sum to 1; with a noise component to less, and what is left is the probability that the row is noise.
        """
        return self._scored(self._score_input(X, may_keep=True), "resp")

    def score_samples(self, X: Any) -> NDArray[Any]:
        """Return the log-density of each row in nats, shape (n_samples,)."""
        return self._scored(self._score_input(X, may_keep=True), "log_prob_norm")

    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the (weighted) mean log-density per row, in nats."""
        total, weight, _ = self._log_likelihood(X, sample_weight)
        return total / weight

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows from the mixture.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features), float64, grouped by component
        y : ndarray of shape (n_samples,), int64
            The component of each row, -1 for noise; multinomial counts. An int `random_state` gives the same sample at
            every call, the same bits for any `n_jobs`.
        """
        return self._sampled(n_samples)

    def impute(self, X: Any, mode: str = "mean") -> NDArray[Any]:
        """Return a copy of X with its missing values, NaN, filled in from the other values of their row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `fit` takes
        mode : {'mean', 'sample'}, default='mean'
            The conditional mean given the row's other values, or a draw from their conditional distribution (an int
            `random_state` gives the same draw at every call). Uniform noise and `obs_noise` are left out of both.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32 if X and the model are, else float64
        """
        return self._filled(X, mode, "imputer")

    @abstractmethod
    def _density(self) -> Density:
        """The fitted arrays as they stand now, which may have been set by hand: nothing derived is kept."""

    def _score_input(self, X: Any, may_keep: bool = False) -> Source:
        """Check that the model is fitted, and the rows to score."""
        self._check_is_fitted()
        source = self._read(
            X,
            reset=False,
            model_dtype=np.result_type(*(getattr(self, name) for name in self._defining[1:])),
            may_keep=may_keep,
        )
        if np.ndim(self.means_) != 2:
            raise ValueError(
                f"weights_ and means_ of shape {np.shape(self.means_)} are of no mixture: means_ must be "
                "(n_components, n_features)."
            )
        n_features = np.shape(self.means_)[1]
        if source.n_features != n_features:
            raise ValueError(
                f"X has {source.n_features} features, but {type(self).__name__} is expecting {n_features} features as "
                "input."
            )
        return source

    def _scored(self, source: Source, output: str) -> NDArray[Any]:
        """An output of `Density.score` for all rows."""
        with thread_limit(self._setting("n_jobs")), self._naming_nonfinite(source, self._may_miss):
            return gathered(source.map_parts(scored, self._density_for(source), output), source.n_samples)

    def _scored_blocks(self, source: Source, output: str, n_rows: int) -> Iterator[NDArray[Any]]:
        """Yield what `_scored` gives, at most so many rows at a time where this process reads them."""
        with thread_limit(self._setting("n_jobs")), self._naming_nonfinite(source, self._may_miss):
            yield from source.map_blocks(scored, self._density_for(source), output, n_rows=n_rows)

    def _density_for(self, source: Source) -> Density:
        return KeptBad(self._density(), self._may_miss) if source.keeps_bad else self._density()

    def _sampled(self, n_samples: int, **options: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        self._check_is_fitted()
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample.")
        with thread_limit(self._setting("n_jobs")):
            return self._density().sample(int(n_samples), check_random_state(self.random_state), **options)

    def _filled(self, X: Any, mode: str, filler: str) -> NDArray[Any]:
        """The rows as the filler of this name of the density completes them."""
        source = self._score_input(X)
        if mode not in FILLS:
            raise ValueError(f"mode must be 'mean' or 'sample'. Got {mode!r}.")
        seed = None
        if mode == "sample":
            seed = check_random_state(self.random_state).randint(0, 2**31 - 1, size=4).tolist()
        numbers = range(source.n_samples)
        with thread_limit(self._setting("n_jobs")), self._naming_nonfinite(source, may_miss=True):
            parts = source.map_parts(filled, self._density(), filler, seed, per_row=(numbers,))
            return gathered(parts, source.n_samples)

    def _log_likelihood(self, X: Any, sample_weight: ArrayLike | None) -> tuple[float, float, float]:
        """Weighted total log-likelihood and total weight, both in the unit of weight that comes third."""
        source = self._score_input(X)
        weight = check_sample_weight(sample_weight, source.n_samples)
        unit = weight_unit(weight)
        weight = in_units(weight, unit)
        total, _ = self._total(source, self._density(), weight)
        return total, float(source.n_samples if weight is None else weight.sum()), unit

    def _total(
        self, source: Source, density: Density, sample_weight: NDArray[np.float64] | None, with_labels: bool = False
    ) -> tuple[float, NDArray[np.int64] | None]:
        """Weighted total log-likelihood of rows in nats, and their labels if wanted."""
        with thread_limit(self._setting("n_jobs")), self._naming_nonfinite(source, self._may_miss):
            totals, labels = zip(
                *source.map_parts(totalled, density, with_labels, per_row=(sample_weight,)), strict=True
            )
        return math.fsum(totals), gathered(iter(labels), source.n_samples) if with_labels else None


def labelled(source: Source, density: Density) -> NDArray[np.int64]:
    """The most probable component of each row."""
    return gathered(iter(source.map_parts(scored, density, "labels")), source.n_samples)


def gathered(parts: Iterator[NDArray[Any]], n_rows: int) -> NDArray[Any]:
    """What was found for each part of the rows, as one array; of a single part itself."""
    first = next(parts)
    if len(first) == n_rows:
        return first
    out = np.empty((n_rows, *first.shape[1:]), first.dtype)
    done = 0
    for part in chain([first], parts):
        out[done : done + len(part)] = part
        done += len(part)
    return out


class InformationCriteria(MixtureEstimator):
    """Criteria that weigh the likelihood against the number of free parameters."""

    def aic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Akaike's information criterion on X: -2 log-likelihood + 2 n_parameters; smaller is better."""
        total, _, unit = self._log_likelihood(X, sample_weight)
        return -2 * total * unit + 2 * self._n_parameters()

    def bic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion on X: -2 log-likelihood + n_parameters log(total weight)."""
        total, weight, unit = self._log_likelihood(X, sample_weight)
        return -2 * total * unit + self._n_parameters() * (math.log(weight) + math.log(unit))

    @abstractmethod
    def _n_parameters(self) -> int:
        """Number of free parameters."""
