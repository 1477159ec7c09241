"""What every mixture estimator does alike."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
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
from .conditioning import Columns, Conditional, conditional_of, conditioned_model, marginal_model, model_given
from .reasons import Reasons, reasons_of, verdicts
from .saving import Saveable
from .sklearn_base import check_feature_names, check_is_fitted, check_n_features, compare_names

FILLS = ("mean", "sample")


class MixtureEstimator(Saveable):
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
        check_is_fitted(self)

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

    def marginal(self, columns: Columns) -> Any:
        """Return the mixture of these columns alone, in the order in which they are given.

        Parameters
        ----------
        columns : sequence of int or str
        """
        return marginal_model(self, columns)

    def condition(self, columns: Columns | Mapping[Any, Any], values: ArrayLike | None = None) -> Any:
        """Return the mixture of the other columns where these have the given values.

        Parameters
        ----------
        columns : sequence of int or str, or a mapping of them to values
        values : array-like of shape (n_given,), float
            Finite; without a mapping.

        Returns
        -------
        mixture of the other columns, in their order
            Of the same covariance type; of factor analysers one of factor analysers. A noise component stays one, more
            or less probable, or impossible outside its box. The components' probabilities are exact wherever the values
            lie.

        Examples
        --------
        >>> from fastgmm import GaussianMixture
        >>> line = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.8], [0.8, 1.0]]])
        >>> line.condition([0], [2.0]).means_.round(1).tolist()
        [[1.6]]
        """
        return conditioned_model(self, columns, values)

    def given(
        self, matrix: ArrayLike, values: ArrayLike, noise: ArrayLike | None = None, columns: Columns | None = None
    ) -> Any:
        """Return the mixture given linear evidence, matrix x + e = values with e ~ N(0, noise).

        Sums, differences, averages and projections of columns are evidence, exact or measured with an error.

        Parameters
        ----------
        matrix : array-like of shape (n_evidence, n_features)
        values : array-like of shape (n_evidence,)
        noise : float or array-like of shape (n_evidence,) or (n_evidence, n_evidence), default=None
            Variance of the error, one for all, one each, or their covariance; None for exact evidence.
        columns : sequence of int or str, default=None
            Those wanted, all by default. Exact evidence determines some of all columns, which then have no density: ask
            for fewer.

        Returns
        -------
        mixture of the wanted columns
            With covariances that are matrices, shared if they were.

        Raises
        ------
        ValueError
            If the evidence repeats itself or leaves nothing of a column that is wanted, which is named.

        Examples
        --------
        Two columns of mean 0 and variance 1 whose sum is 3:

        >>> from fastgmm import GaussianMixture
        >>> plane = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
        >>> half = plane.given([[1, 1]], [3.0], columns=[0])
        >>> half.means_.round(2).tolist(), half.covariances_.round(2).tolist()
        ([[1.5]], [[[0.5]]])
        """
        return model_given(self, matrix, values, noise, columns)

    def conditional(self, columns: Columns | None = None, wanted: Columns | None = None) -> Conditional:
        """Return what answers for many rows: the other columns given these, a mixture for every row.

        Parameters
        ----------
        columns : sequence of int or str, default=None
            Those that rows give. None: rows of all columns are given, and each wants those in which it has NaN.
        wanted : sequence of int or str, default=None
            All others by default.

        Returns
        -------
        Conditional
            With `mean`, `std`, `covariance`, `quantile`, `mode`, `log_prob`, `sample`. A noise component is left out.
        """
        return conditional_of(self, columns, wanted)

    def anomalies(
        self, X: Any, *, contamination: float | None = None, reference: Any = None, rate: float = 0.1
    ) -> NDArray[np.bool_]:
        """Say which rows are anomalies, by their log-density, (n_samples,).

        For rows that may hold anomalies when they are fitted `MixtureOutlierDetector` is far better.

        Parameters
        ----------
        X : rows, as `score_samples` takes them
        contamination : float in (0, 1), default=None
            The share of X to flag: the least dense rows.
        reference : rows that are normal and were not fitted, default=None
            Instead: rows that stand out among these with at most the share `rate` of false discoveries, by split
            conformal p-values (Benjamini and Hochberg).
        rate : float in (0, 1), default=0.1
        """
        return verdicts(self, X, contamination=contamination, reference=reference, rate=rate)

    def reasons(self, X: Any, top: int = 3) -> Reasons:
        """Say what makes each row odd: its most surprising values given its others.

        Parameters
        ----------
        X : rows, as `score_samples` takes them
        top : int, default=3
            Columns to name for each row.

        Returns
        -------
        Reasons
            Noise and classes aside: of the Gaussian components. A value that is missing is no reason.
        """
        return reasons_of(self, X, top)

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
