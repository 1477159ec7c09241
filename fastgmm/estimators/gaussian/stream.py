"""`partial_fit`: stepwise EM on rows that come in pieces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ... import validation as check
from ...exceptions import SingularCovarianceError
from ...model.parameters import MixtureParameters
from ...optimization.em import check_range
from ...optimization.problem import MixtureProblem
from ...optimization.solvers import SOLVERS, STREAMING
from ...optimization.stepwise import RunningStatistics, StepwiseOptions, rows_per_batch
from ...rows.open import column_names, is_one_shot, recognised
from ...rows.source import ArraySource, Source
from ...threads import thread_limit
from ..fit_warnings import name_column
from ..sklearn_base import InvalidParameterError
from .combinations import check_combinations
from .knowledge import check_within, resolve_labels


@dataclass(frozen=True)
class Stream:
    """Where `partial_fit` goes on: the problem of the first piece, without its rows, and what was learned since."""

    problem: MixtureProblem
    running: RunningStatistics
    parameters: MixtureParameters


_Stream = Stream  # as pickles of version 0.1.0 name it


def learn(model: Any, X: Any, y: Any, sample_weight: ArrayLike | None) -> None:
    """`GaussianMixture.partial_fit`."""
    first = 0
    for piece, labels, weight in _pieces(model, X, y, sample_weight):
        try:
            _learn_piece(model, piece, labels, weight)
            first += piece.n_samples if isinstance(piece, Source) else 0
        except ValueError as error:
            if piece is not X:
                error.add_note(f"Rows are counted from the beginning of a block, row {first} of the data.")
            raise


def stream_of(model: Any) -> Stream | None:
    """What `partial_fit` knows of the rows so far; an attribute of another kind is a subclass's own."""
    found = vars(model).get("_stream")
    return found if isinstance(found, Stream) else None


def _pieces(model: Any, X: Any, y: Any, sample_weight: ArrayLike | None) -> Iterator[tuple[Any, Any, Any]]:
    """Cut into pieces what is read block by block."""
    if is_one_shot(X):
        if y is not None or sample_weight is not None:
            raise ValueError(
                "y and sample_weight cannot be given for the rows of an iterator. Call partial_fit for each of its "
                "arrays."
            )
        begun = stream_of(model) is not None or hasattr(model, "diagnostics_")
        n_first = 1 if begun else rows_per_batch(None, int(model.n_components))
        yield from ((piece, None, None) for piece in _gathered(X, n_first, type(model).__name__))
        return
    source = recognised(X)
    if source is None or isinstance(source, ArraySource):
        yield X, y, sample_weight
        return
    weight = check.check_sample_weight(sample_weight, source.n_samples)
    check.check_weight_range(weight, "where batches are added up")
    if y is not None and len(y) != source.n_samples:
        raise ValueError(f"y has {len(y)} entries, but there are {source.n_samples} rows.")
    for first, block in source.chunks():
        rows = slice(first, first + len(block))
        if weight is None or weight[rows].any():
            labels = None if y is None else np.asarray(y)[rows]
            yield ArraySource(block, names=source.names), labels, None if weight is None else weight[rows]


def _learn_piece(model: Any, X: Any, y: Any, sample_weight: ArrayLike | None) -> None:
    values = {name: model._setting(name) for name in model._constraints}
    check.check_parameters(type(model).__name__, values, model._constraints, InvalidParameterError)
    check_combinations({STREAMING.setting: True, f"on_singular={values['on_singular']!r}": True})
    given = values["solver_options"] if SOLVERS[values["solver"]] is STREAMING else None
    options: StepwiseOptions = STREAMING.read_options(given)
    running = stream_of(model)
    try:
        with model._keeping_names(), thread_limit(values["n_jobs"]):
            if running is None:
                stream = _begin(model, X, y, sample_weight, options)
            else:
                stream = _next_piece(model, running, X, y, sample_weight)
            stream, bound = _learn(stream, options)
    except SingularCovarianceError as error:
        raise name_column(error, model._column_names(), np.float64) from None
    problem = stream.problem
    nothing = ArraySource(np.empty((0, problem.source.n_features), problem.source.dtype))
    problem = replace(problem, source=nothing, sample_weight=None, labels=None)
    model._set_mixture(stream.parameters, problem.source.dtype)
    model._stream = replace(stream, problem=problem)
    for name in ("diagnostics_", "log_likelihood_"):  # of an earlier fit
        model.__dict__.pop(name, None)
    model.converged_, model.stop_reason_ = False, "passes"
    model.n_iter_ = stream.running.n_batches
    model.lower_bound_ = problem.source.dtype.type(bound)
    model.lower_bounds_ = [*(model.lower_bounds_ if running is not None else []), model.lower_bound_]


def _begin(model: Any, X: Any, y: Any, sample_weight: ArrayLike | None, options: StepwiseOptions) -> Stream:
    """Start from the first piece, or go on from a fit."""
    fitted = hasattr(model, "diagnostics_")
    source = model._read(X, reset=not fitted, min_samples=2)
    given = check.check_sample_weight(sample_weight, source.n_samples)
    check.check_weight_range(given, "where batches are added up")
    problem = model._problem(source, y, sample_weight)
    if not fitted:
        parameters = model._plan(problem).start()
        return Stream(problem, RunningStatistics.expected(parameters), parameters)
    parameters = model._previous_parameters(source.n_features)
    if problem.maximise.noise_bounds is not None and parameters.noise is not None:
        check_within(problem.columns, parameters.noise.bounds)
        problem = replace(problem, maximise=replace(problem.maximise, noise_bounds=parameters.noise.bounds))
    parameters = problem.begun(parameters)
    weight = float(model.diagnostics_.effective_sizes.sum() / model.weights_.sum())
    n_batches = round(weight / rows_per_batch(options.batch_size, problem.n_components))
    running = replace(RunningStatistics.expected(parameters), n_batches=n_batches, total_weight=weight)
    return Stream(problem, running, parameters)


def _next_piece(model: Any, running: Stream, X: Any, y: Any, sample_weight: ArrayLike | None) -> Stream:
    """Check a later piece."""
    problem = running.problem
    now, then = (model.n_components, model.covariance_type), (problem.n_components, problem.covariance_type)
    if now != then:
        raise ValueError(
            f"The stream began with n_components and covariance_type {then}, which are now {now}. Set them back "
            "or begin anew with fit."
        )
    source = model._read(X, reset=False, model_dtype=problem.source.dtype)
    weight = check.check_sample_weight(sample_weight, source.n_samples)
    check.check_weight_range(weight, "where batches are added up")
    labels = None
    if model._setting("semi_supervised") and y is not None:
        labels = resolve_labels(y, source.n_samples, problem.n_components)
    columns = model._summary(source, weight, labels, every_column=False)
    if problem.maximise.noise_bounds is not None:
        check_within(columns, problem.maximise.noise_bounds)
    shifted = replace(columns, mean=problem.columns.mean)  # the shift remains that of the first piece
    rows = {"source": source, "columns": shifted, "sample_weight": weight, "labels": labels}
    problem = replace(problem, **rows, has_missing=columns.has_missing)
    return replace(running, problem=problem)


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


def _learn(stream: Stream, options: StepwiseOptions) -> tuple[Stream, float]:
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
    return Stream(problem, running, parameters), total / seen
