"""How an estimator is fitted: check, start, iterate, set the attributes. What is started and iterated is a plan."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..callbacks import Callback, IterationInfo, is_callback
from ..distributed.sources import distribute_if_asked
from ..exceptions import SingularCovarianceError
from ..model.parameters import Array
from ..model.scoring import Density
from ..model.variational_prior import MixturePrior
from ..optimization.checkpoint import CheckpointKeeper
from ..optimization.em import EMIteration, EMResult, MStep
from ..optimization.initialization import METHODS
from ..optimization.restarts import EMOptions, Start, fit_best
from ..rows.source import Source
from ..rows.summary import ColumnSummary, summarise_columns
from ..threads import thread_limit
from .base import MixtureEstimator, labelled
from .fit_warnings import check_columns, check_observed, name_column
from .reporting import FitReporter, VerboseReport
from .resuming import make_keeper
from .sklearn_base import InvalidParameterError
from .sklearn_conversion import to_sklearn

COMMON_CONSTRAINTS: dict[str, list[check.Constraint]] = {
    "n_components": [check.integer(1)],
    "tol": [check.AT_LEAST_0],
    "max_iter": [check.integer(0)],
    "n_init": [check.integer(1)],
    "init_params": [check.one_of(*METHODS), check.CALLABLE, check.ARRAY_LIKE],
    "random_state": check.RANDOM_STATE,
    "warm_start": check.BOOLEAN,
    "verbose": check.VERBOSE,
    "verbose_interval": [check.integer(1)],
    "n_jobs": check.N_JOBS,
    "callback": [
        check.Constraint("a callable, an object with a method begin, iteration or end", is_callback),
        check.NONE,
    ],
    "max_seconds": [check.AT_LEAST_0, check.NONE],
    "checkpoint": [check.PATH, check.NONE],
    "checkpoint_every": [check.integer(1), check.SECONDS],
    "resume": check.BOOLEAN,
}


@dataclass(frozen=True)
class FitPlan:
    """What a fit does: where it begins, what it repeats, and what its objective is called.

    rng: what the starts draw from; prior: of a variational fit; m_step: what stands in for the problem's own, if
    anything does.
    """

    start: Start
    iterate: Callable[..., EMIteration]
    rng: np.random.RandomState
    objective: str
    prior: MixturePrior | None = None
    m_step: MStep | None = None


class EMEstimator(MixtureEstimator):
    """What estimators that iterate over all rows share."""

    n_components: int
    tol: float
    max_iter: int
    n_init: int
    init_params: str | ArrayLike | Callable[..., Any]
    warm_start: bool
    verbose: int
    verbose_interval: int
    callback: Callback | None
    max_seconds: float | None
    checkpoint: str | PathLike[str] | None
    checkpoint_every: float
    resume: bool
    converged_: bool
    lower_bound_: Any
    _constraints: ClassVar[dict[str, list[check.Constraint]]]
    _bound_is_per_row: ClassVar[bool] = True

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, executor: Any = None) -> Self:
        """Fit the mixture: one pass over the rows per iteration, memory independent of n_samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), path, list of paths, or what `fastgmm.open_source` returns
            C-contiguous float32 and float64 arrays, memory maps included, are read in place; others in blocks, as are
            the files and objects that `open_source` lists: `.npy`, CSV, Parquet, Arrow, Zarr, HDF5, Dask, `chunks()`.
        y : array-like of shape (n_samples,) or None
            Ignored, unless the estimator is told that it holds labels (`semi_supervised`).
        sample_weight : array-like of shape (n_samples,) or None
            A weight of 2 means the row twice, 0 means the row absent.
        executor : dask.distributed.Client, concurrent.futures.Executor or None
            Whose workers look at the rows, part by part (`fastgmm.distributed.distribute`); Dask arrays and frames go
            to the active Dask client by themselves.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For NaN, infinity, fewer rows than components or bad weights, naming the place; for a covariance that
            becomes singular (`SingularCovarianceError`, naming component and column: increase `reg_covar`, use fewer
            components or drop the column); for data whose squares leave the floating-point range (rescale); with
            `resume`, for a checkpoint of other settings or data, naming them, and (`fastgmm.exceptions.FormatError`)
            for a damaged one without one before it.
        """
        self._fit(distribute_if_asked(X, executor), y, sample_weight, want_labels=False)
        return self

    def fit_predict(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, executor: Any = None
    ) -> NDArray[np.int64]:
        """Fit and return the label of each row, shape (n_samples,): equal to `fit(X).predict(X)`."""
        labels = self._fit(distribute_if_asked(X, executor), y, sample_weight, want_labels=True)
        assert labels is not None
        return labels

    def to_sklearn(self) -> Any:
        """Return scikit-learn's estimator of the same name, fitted alike; `fastgmm.from_sklearn` is the way back."""
        return to_sklearn(self)

    @abstractmethod
    def _objective(self) -> str:
        """What the bound of the fit is called in messages and plots."""

    @abstractmethod
    def _problem(self, source: Source, y: Any, sample_weight: ArrayLike | None) -> Any:
        """Check rows, weights and settings, and summarise the columns."""

    @abstractmethod
    def _plan(self, problem: Any) -> FitPlan:
        """Check what depends on the rows, and say how to fit them."""

    @abstractmethod
    def _set_result(self, result: EMResult, plan: FitPlan, problem: Any) -> None:
        """Set the fitted arrays, in the dtype of the data."""

    @abstractmethod
    def _density_of(self, parameters: Any) -> Density:
        """The density of a mixture of these parameters, for rows like those of the fit."""

    @abstractmethod
    def _previous_parameters(self, n_features: int) -> Any:
        """The fitted parameters, to go on from; ValueError if they do not fit the constructor or the data any more."""

    @abstractmethod
    def _warn_about(self, result: EMResult, plan: FitPlan) -> None:
        """Warn of what went wrong."""

    def _bound_scale(self, total_weight: float) -> float:
        """What `lower_bound_` is of the bound per row."""
        return 1.0 if self._bound_is_per_row else total_weight

    def _tol_per_row(self, problem: Any) -> float:
        """`tol`, which is of the bound as `lower_bound_` gives it, as a change of the bound per row."""
        return float(self.tol / self._bound_scale(problem.total_weight))

    def _fit(self, X: Any, y: Any, sample_weight: ArrayLike | None, want_labels: bool) -> NDArray[np.int64] | None:
        """Check, start, iterate, then set the attributes: a fit that fails leaves the estimator as it was."""
        # Not by get_params, which inspects the signature: slow.
        values = {name: self._setting(name) for name in self._constraints}
        check.check_parameters(type(self).__name__, values, self._constraints, InvalidParameterError)
        begin = time.perf_counter()
        with self._keeping_names(), thread_limit(self._setting("n_jobs")):
            source = self._read(X, reset=True, min_samples=2)
            problem = self._problem(source, y, sample_weight)
            keeper = make_keeper(self, problem)
            plan = self._plan(problem)
            if keeper is not None:
                keeper.bind(plan.rng)
            result, log_likelihood, labels = self._run(
                problem, plan, self._reporter(problem, begin), keeper, want_labels
            )
        self._set_result(result, plan, problem)
        self.converged_ = result.converged
        self.stop_reason_ = result.stop_reason
        self.n_iter_ = len(result.lower_bounds)
        scale = self._bound_scale(problem.total_weight)
        self.lower_bounds_ = [source.dtype.type(bound * scale) for bound in result.lower_bounds]
        self.lower_bound_ = self.lower_bounds_[-1] if self.lower_bounds_ else source.dtype.type(-np.inf)
        self.log_likelihood_ = float(log_likelihood) * problem.weight_unit  # infinite beyond the range of numbers
        if self.max_iter > 0:
            self._warn_about(result, plan)
        return labels

    @contextmanager
    def _keeping_names(self) -> Iterator[None]:
        """Restore width and names of the columns if what is done within fails."""
        before = {name: getattr(self, name) for name in ("n_features_in_", "feature_names_in_") if hasattr(self, name)}
        try:
            yield
        except BaseException:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise

    def _check_rows(self, source: Source, sample_weight: ArrayLike | None) -> Array | None:
        """Check the number of rows, and return checked weights."""
        if source.n_samples < self.n_components:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, n_samples = "
                f"{source.n_samples}"
            )
        return check.check_sample_weight(sample_weight, source.n_samples)

    def _summary(
        self,
        source: Source,
        weight: Array | None,
        labels: NDArray[np.int64] | None = None,
        every_column: bool = True,
    ) -> ColumnSummary:
        """Summarise the columns, checked: ValueError for values that are not finite or whose squares leave the range.

        NaN may be a missing value; with `every_column`, each must have others.
        """
        columns, names = summarise_columns(source, weight, labels), self._column_names()
        if columns.has_infinity or (columns.has_missing and not self._may_miss):
            check.raise_nonfinite(source, type(self).__name__, names, self._may_miss)
        if columns.has_missing and every_column:
            check_observed(columns, names)
        check_columns(columns, names)
        return columns

    def _reporter(self, problem: Any, begin: float) -> FitReporter:
        """Whoever wants to know of the fit's progress, which began then."""
        max_seconds, callback = self._setting("max_seconds"), self._setting("callback")
        info = IterationInfo(
            init=0,
            n_iter=0,
            max_iter=int(self.max_iter),
            lower_bound=-np.inf,
            change=np.inf,
            n_samples=problem.source.n_samples,
            n_init=1 if self._goes_on() else int(self.n_init),
            tol=self._tol_per_row(problem),
            max_seconds=None if max_seconds is None else float(max_seconds),
        )
        return FitReporter(VerboseReport(self.verbose, self.verbose_interval), callback, info, begin)

    def _goes_on(self) -> bool:
        """Whether the fit starts from the one before."""
        return bool(self.warm_start) and hasattr(self, "converged_")

    def _run(
        self, problem: Any, plan: FitPlan, reporter: FitReporter, keeper: CheckpointKeeper | None, want_labels: bool
    ) -> tuple[EMResult, float, NDArray[np.int64] | None]:
        """Return the best result, the log-likelihood of its parameters, and labels if wanted."""
        source, bound = problem.source, -np.inf
        if self._goes_on():
            previous = problem.begun(self._previous_parameters(source.n_features))
            starts: list[Start] = [lambda: previous]
            bound = float(self.lower_bound_) / self._bound_scale(problem.total_weight)
        else:
            starts = [plan.start] * self.n_init
        options = EMOptions(self._tol_per_row(problem), self.max_iter, plan.iterate, plan.m_step)
        try:
            with reporter.whole_fit():
                result = fit_best(problem, starts, options, reporter, bound, keeper)
        except SingularCovarianceError as error:
            raise name_column(error, self._column_names(), source.dtype) from None
        density = self._density_of(result.parameters)
        if result.log_likelihood is not None:
            return result, result.log_likelihood, labelled(source, density) if want_labels else None
        return result, *self._total(source, density, problem.sample_weight, want_labels)
