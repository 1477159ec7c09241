"""`partial_fit`: stepwise EM on rows that come in pieces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ... import validation as check
from ...exceptions import SingularCovarianceError
from ...model.parameters import MixtureParameters
from ...optimization.diagnostics import FitDiagnostics
from ...optimization.em import check_range
from ...optimization.problem import FitProblem
from ...optimization.stepwise import RunningStatistics, StepwiseOptions, rows_per_batch
from ...rows.open import column_names, is_one_shot, recognised
from ...rows.source import ArraySource, Source
from ...rows.summary import summarise_columns, summarise_observed
from ...threads import thread_limit
from ..fit_warnings import name_column
from ..fitting import EMEstimator
from ..sklearn_base import InvalidParameterError
from .combinations import check_combinations
from .knowledge import check_within, resolve_labels
from .problem import SOLVER_OPTIONS, check_options


@dataclass(frozen=True)
class _Stream:
    """Where `partial_fit` goes on: the problem of the first piece, without its rows, and what was learned since."""

    problem: FitProblem
    running: RunningStatistics
    parameters: MixtureParameters


class StreamFit(EMEstimator):
    """Estimators that can learn from a stream."""

    solver: str
    solver_options: dict[str, Any] | None
    semi_supervised: bool
    missing: str
    on_singular: str
    diagnostics_: FitDiagnostics
    _stream: _Stream

    def partial_fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from a piece of a stream by stepwise EM (Cappe and Moulines, 2009).

        After `fit` it goes on from the fitted mixture, whose rows count as so many batches; otherwise from a start of
        its own. The columns' scales, a default prior and the box of the noise are taken from the first piece, as is the
        start: give it some hundred rows per component. Later pieces, at best of about a batch's size, move the running
        statistics by (t + t0)^-kappa after batch t, and never less than `forgetting`; these are `solver_options` of
        solver='stepwise', whose defaults apply otherwise. Statistics are carried over exactly. `fit` starts anew. All
        other settings are those of the first piece.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`
            Pieces longer than `batch_size` are cut into batches. Files and other sources are learned block by block;
            so are iterators and generators of arrays, which come without `y` and `sample_weight`, and of which the
            first 50 rows per component, and at least 512, make up the first piece.

        Returns
        -------
        self
        """
        first = 0
        for piece, labels, weight in self._pieces(X, y, sample_weight):
            try:
                self._learn_piece(piece, labels, weight)
                first += piece.n_samples if isinstance(piece, Source) else 0
            except ValueError as error:
                if piece is not X:
                    error.add_note(f"Rows are counted from the beginning of a block, row {first} of the data.")
                raise
        return self

    def _pieces(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Iterator[tuple[Any, Any, Any]]:
        """Cut into pieces what is read block by block."""
        if is_one_shot(X):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "y and sample_weight cannot be given for the rows of an iterator. Call partial_fit for each of its "
                    "arrays."
                )
            begun = hasattr(self, "_stream") or hasattr(self, "diagnostics_")
            n_first = 1 if begun else rows_per_batch(None, int(self.n_components))
            yield from ((piece, None, None) for piece in _gathered(X, n_first, type(self).__name__))
            return
        source = recognised(X)
        if source is None or isinstance(source, ArraySource):
            yield X, y, sample_weight
            return
        weight = check.check_sample_weight(sample_weight, source.n_samples)
        if y is not None and len(y) != source.n_samples:
            raise ValueError(f"y has {len(y)} entries, but there are {source.n_samples} rows.")
        for first, block in source.chunks():
            rows = slice(first, first + len(block))
            if weight is None or weight[rows].any():
                labels = None if y is None else np.asarray(y)[rows]
                yield ArraySource(block, names=source.names), labels, None if weight is None else weight[rows]

    def _learn_piece(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> None:
        values = {name: getattr(self, name) for name in self._constraints}
        check.check_parameters(type(self).__name__, values, self._constraints, InvalidParameterError)
        check_combinations({"solver='stepwise'": True, f"on_singular={self.on_singular!r}": True})
        given = self.solver_options if self.solver == "stepwise" else None
        options = StepwiseOptions(**check_options("stepwise", given, SOLVER_OPTIONS["stepwise"]))
        goes_on = hasattr(self, "_stream")
        try:
            with self._keeping_names(), thread_limit(self.n_jobs):
                stream = self._next_piece(X, y, sample_weight) if goes_on else self._begin(X, y, sample_weight, options)
                stream, bound = _learn(stream, options)
        except SingularCovarianceError as error:
            raise name_column(error, self._column_names(), np.float64) from None
        problem = stream.problem
        nothing = ArraySource(np.empty((0, problem.source.n_features), problem.source.dtype))
        problem = replace(problem, source=nothing, sample_weight=None, labels=None)
        self._set_mixture(stream.parameters, problem.source.dtype)
        self._stream = replace(stream, problem=problem)
        for name in ("diagnostics_", "log_likelihood_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self.converged_, self.stop_reason_ = False, "passes"
        self.n_iter_ = stream.running.n_batches
        self.lower_bound_ = problem.source.dtype.type(bound)
        self.lower_bounds_ = [*(self.lower_bounds_ if goes_on else []), self.lower_bound_]

    def _begin(self, X: Any, y: Any, sample_weight: ArrayLike | None, options: StepwiseOptions) -> _Stream:
        """Start from the first piece, or go on from a fit."""
        fitted = hasattr(self, "diagnostics_")
        source = self._read(X, reset=not fitted, min_samples=2)
        problem = self._problem(source, y, sample_weight)
        if not fitted:
            parameters = self._plan(problem).start()
            return _Stream(problem, RunningStatistics.expected(parameters), parameters)
        parameters = self._previous_parameters(source.n_features)
        if problem.maximise.noise_bounds is not None and parameters.noise is not None:
            check_within(problem.columns, parameters.noise.bounds)
            problem = replace(problem, maximise=replace(problem.maximise, noise_bounds=parameters.noise.bounds))
        parameters = problem.begun(parameters)
        weight = float(self.diagnostics_.effective_sizes.sum() / self.weights_.sum())
        n_batches = round(weight / rows_per_batch(options.batch_size, problem.n_components))
        running = replace(RunningStatistics.expected(parameters), n_batches=n_batches, total_weight=weight)
        return _Stream(problem, running, parameters)

    def _next_piece(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> _Stream:
        """Check a later piece."""
        problem = self._stream.problem
        now, then = (self.n_components, self.covariance_type), (problem.n_components, problem.covariance_type)
        if now != then:
            raise ValueError(
                f"The stream began with n_components and covariance_type {then}, which are now {now}. Set them back "
                "or begin anew with fit."
            )
        source = self._read(X, reset=False, model_dtype=problem.source.dtype)
        weight = check.check_sample_weight(sample_weight, source.n_samples)
        columns = summarise_columns(source, weight)
        has_missing = self.missing == "em" and not columns.finite
        if has_missing:
            columns = summarise_observed(source, weight)
            check.raise_infinite(source, self._column_names())
        self._check_columns(source, columns)
        if problem.maximise.noise_bounds is not None:
            check_within(columns, problem.maximise.noise_bounds)
        labels = None
        if self.semi_supervised and y is not None:
            labels = resolve_labels(y, source.n_samples, problem.n_components)
        problem = replace(problem, source=source, sample_weight=weight, labels=labels, has_missing=has_missing)
        return replace(self._stream, problem=problem)


def _gathered(items: Iterable[Any], n_first: int, owner: str) -> Iterator[ArraySource]:
    """The arrays of an iterator that have rows, the first of them together until they have `n_first`."""
    waiting: list[Any] = []
    names: list[str] | None = None
    n_waiting, began = 0, False
    for number, item in enumerate(items):
        try:
            array = check.as_matrix(item, owner, min_samples=0)
            if waiting and array.shape[1] != waiting[0].shape[1]:
                raise ValueError(f"It has {array.shape[1]} columns, those before it {waiting[0].shape[1]}.")
        except ValueError as error:
            error.add_note(f"This is item {number} of the iterator.")
            raise
        if not len(array):
            continue
        names = column_names(item)
        if began:
            yield ArraySource(array, names=names)
            continue
        waiting.append(array)
        n_waiting += len(array)
        if n_waiting >= n_first:
            began = True
            yield ArraySource(waiting[0] if len(waiting) == 1 else np.concatenate(waiting), names=names)
            waiting = []
    if waiting:
        yield ArraySource(np.concatenate(waiting), names=names)
    elif not began:
        raise ValueError("The iterator has no rows.")


def _learn(stream: _Stream, options: StepwiseOptions) -> tuple[_Stream, float]:
    """Blend the rows of the stream's problem in, batch by batch; also the mean log-likelihood before each update."""
    problem, running, parameters = stream.problem, stream.running, stream.parameters
    weight = problem.sample_weight
    rows = np.arange(problem.source.n_samples) if weight is None else np.flatnonzero(weight > 0)
    size = rows_per_batch(options.batch_size, problem.n_components)
    total = seen = 0.0
    for index in np.array_split(rows, max(1, round(len(rows) / size))):
        batch = problem.batch(index)(parameters)
        check_range(batch)
        total, seen = total + batch.log_likelihood, seen + batch.total_weight
        running = running.after(batch, parameters, options)
        parameters = running.maximised(problem.maximise, running.total_weight)
    return _Stream(problem, running, parameters), total / seen
