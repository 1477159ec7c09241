"""What every mixture estimator does alike."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model import sampling
from ..model.bridge import MixtureKernels, NonFiniteRowsError
from ..model.parameters import MixtureParameters
from ..rows.source import ArraySource, Source
from ..threads import thread_limit
from ..validation import as_source, check_random_state, check_sample_weight, raise_nonfinite
from .sklearn_base import DensityEstimator, NotFittedError, check_feature_names, check_n_features


class MixtureEstimator(DensityEstimator):
    """What every mixture estimator does alike: read rows, predict, score, sample."""

    weights_: NDArray[Any]
    means_: NDArray[Any]
    covariances_: NDArray[Any]
    precisions_cholesky_: NDArray[Any]
    covariance_type: str
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    _defining: ClassVar[tuple[str, ...]] = ("weights_", "means_", "precisions_cholesky_")  # what a model is made of

    def _read(self, X: Any, *, reset: bool, min_samples: int = 1, model_dtype: Any = None) -> Source:
        """Check X and its column names and return its rows; with `reset` remember width and names.

        With `model_dtype`, rows are read in the precision that X and the model promote to.
        """
        source = as_source(X, type(self).__name__, min_samples, model_dtype)
        if source.names is None:
            is_array = isinstance(source, ArraySource) and not isinstance(X, Source)
            check_feature_names(self, X if is_array else np.empty((0, source.n_features)), reset=reset)
        else:
            self._check_names(source.names, reset=reset)
        check_n_features(self, np.empty((0, source.n_features)), reset=reset)
        return source

    def _check_names(self, names: list[str], *, reset: bool) -> None:
        """Remember the names of a source's columns, or compare them with those of the fit."""
        if reset:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif names != list(getattr(self, "feature_names_in_", names)):
            raise ValueError(
                f"The feature names should match those that were passed during fit: {list(self.feature_names_in_)}. "
                f"Got {names}."
            )

    @contextmanager
    def _naming_nonfinite(self, source: Source) -> Iterator[None]:
        """Turn the kernels' word of NaN or infinity into the ValueError that names row and column."""
        try:
            yield
        except NonFiniteRowsError:
            raise_nonfinite(source, type(self).__name__, self._column_names())
            raise AssertionError("the kernels met a value that is not finite") from None

    def _column_names(self) -> NDArray[Any] | None:
        return getattr(self, "feature_names_in_", None)

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
                "using this estimator."
            )

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's description of what the estimator takes: NaN only where it stands for a missing value."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = getattr(self, "missing", "raise") == "em"
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the arrays that define a usable model are there, fitted or set by hand."""
        return all(hasattr(self, name) for name in self._defining)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the most probable component of each row, shape (n_samples,); needs no exponential."""
        source = self._score_input(X)
        labels = np.empty(source.n_samples, np.int64)
        self._score_rows(source, self._parameters(), labels=labels)
        return labels

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each component for each row, shape (n_samples, n_components)."""
        source = self._score_input(X)
        resp = np.empty((source.n_samples, len(self.weights_)), source.dtype)
        self._score_rows(source, self._parameters(), resp=resp)
        return resp

    def score_samples(self, X: Any) -> NDArray[Any]:
        """Return the log-density of each row in nats, shape (n_samples,)."""
        source = self._score_input(X)
        log_prob_norm = np.empty(source.n_samples, source.dtype)
        self._score_rows(source, self._parameters(), log_prob_norm=log_prob_norm)
        return log_prob_norm

    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the (weighted) mean log-density per row, in nats."""
        total, weight = self._log_likelihood(X, sample_weight)
        return total / weight

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows from the mixture.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features), float64, grouped by component
        y : ndarray of shape (n_samples,), int64
            The component of each row; multinomial counts. An int `random_state` gives the same sample at every call,
            the same bits for any `n_jobs`.
        """
        self._check_is_fitted()
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample.")
        rng = check_random_state(self.random_state)
        counts = sampling.component_counts(self.weights_, int(n_samples), rng)
        labels = np.repeat(np.arange(len(counts)), counts)
        seed = rng.randint(0, 2**32, size=4, dtype=np.uint32)
        means = np.asarray(self.means_, np.float64)
        covariances = np.asarray(self.covariances_, np.float64)
        with thread_limit(self.n_jobs):
            return sampling.sample_rows(means, covariances, self.covariance_type, labels, seed), labels

    def _parameters(self) -> Any:
        """The fitted arrays as they stand now, which may have been set by hand: nothing derived is kept."""
        return MixtureParameters(
            np.asarray(self.weights_, np.float64),
            np.asarray(self.means_, np.float64),
            np.asarray(self.precisions_cholesky_, np.float64),
            self.covariance_type,
        )

    def _score_input(self, X: Any) -> Source:
        """Check that the model is fitted, and the rows to score."""
        self._check_is_fitted()
        source = self._read(
            X, reset=False, model_dtype=np.result_type(*(getattr(self, name) for name in self._defining[1:]))
        )
        n_features = np.shape(self.means_)[1]
        if source.n_features != n_features:
            raise ValueError(
                f"X has {source.n_features} features, but {type(self).__name__} is expecting {n_features} features as "
                "input."
            )
        return source

    def _score_rows(self, source: Source, parameters: Any, **outputs: NDArray[Any]) -> None:
        """Fill `log_prob_norm`, `labels` or `resp`, one entry per row; ValueError naming the first NaN or infinity."""
        with thread_limit(self.n_jobs), self._naming_nonfinite(source):
            MixtureKernels(parameters, source.dtype).score(source.chunks(), **outputs)

    def _total_log_likelihood(
        self,
        source: Source,
        parameters: Any,
        sample_weight: NDArray[np.float64] | None,
        labels: NDArray[np.int64] | None = None,
    ) -> float:
        """Weighted total log-likelihood of rows in nats; `labels` are filled on the way."""
        with thread_limit(self.n_jobs), self._naming_nonfinite(source):
            totals, first = [], 0
            for total, found in source.map_parts(_log_likelihood, parameters, per_row=(sample_weight, labels)):
                totals.append(total)
                if labels is not None and found is not labels:
                    labels[first : first + len(found)] = found
                    first += len(found)
            return math.fsum(totals)

    def _total_of_scores(
        self,
        source: Source,
        parameters: Any,
        sample_weight: NDArray[np.float64] | None,
        labels: NDArray[np.int64] | None,
    ) -> float:
        """`_total_log_likelihood` from what `_score_rows` says of each row."""
        outputs: dict[str, NDArray[Any]] = {"log_prob_norm": np.empty(source.n_samples, source.dtype)}
        if labels is not None:
            outputs["labels"] = labels
        self._score_rows(source, parameters, **outputs)
        weight = np.ones(source.n_samples) if sample_weight is None else sample_weight
        present = weight > 0
        return float(np.sum(weight[present] * outputs["log_prob_norm"][present], dtype=np.float64))

    def _log_likelihood(self, X: Any, sample_weight: ArrayLike | None) -> tuple[float, float]:
        """Weighted total log-likelihood and total weight."""
        source = self._score_input(X)
        weight = check_sample_weight(sample_weight, source.n_samples)
        total = self._total_log_likelihood(source, self._parameters(), weight)
        return total, float(source.n_samples if weight is None else weight.sum())


def _log_likelihood(
    part: Source, parameters: Any, sample_weight: NDArray[np.float64] | None, labels: NDArray[np.int64] | None
) -> tuple[float, Any]:
    """Weighted total log-likelihood of the rows of a part in nats; `labels`, if given, filled."""
    return MixtureKernels(parameters, part.dtype).log_likelihood(part.chunks(), sample_weight, labels), labels


class InformationCriteria(MixtureEstimator):
    """Criteria that weigh the likelihood against the number of free parameters."""

    def aic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Akaike's information criterion on X: -2 log-likelihood + 2 n_parameters; smaller is better."""
        return -2 * self._log_likelihood(X, sample_weight)[0] + 2 * self._n_parameters()

    def bic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion on X: -2 log-likelihood + n_parameters log(total weight)."""
        total, weight = self._log_likelihood(X, sample_weight)
        return -2 * total + self._n_parameters() * math.log(weight)

    @abstractmethod
    def _n_parameters(self) -> int:
        """Number of free parameters."""
