"""Asking a mixture for some of its columns: alone, given values of others, given linear evidence, row by row."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._homes import find
from ..model.conditioning import Conditionals, DeterminedError, answered, answered_by_gaps
from ..model.factors.scoring import FactorDensity
from ..model.far import NonFiniteRowsError
from ..model.scoring import Density, GaussianDensity
from ..model.wrapped import Rescaled
from ..rows.source import Source
from ..threads import thread_limit
from ..validation import as_source, check_random_state, raise_nonfinite
from .reasons import checked_density

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Columns = Sequence[int | str] | NDArray[Any] | int | str


def marginal_model(model: Any, columns: Columns) -> Any:
    """See `MixtureEstimator.marginal` in base.py."""
    density, chosen = checked_density(model), as_columns(model, columns)
    return as_model(model, density.marginal(chosen), chosen)


def conditioned_model(model: Any, columns: Columns | Mapping[Any, Any], values: ArrayLike | None = None) -> Any:
    """See `MixtureEstimator.condition` in base.py."""
    named: Any = columns
    if isinstance(columns, Mapping):
        named, values = list(columns), np.array(list(columns.values()), np.float64)
    density, given = checked_density(model), as_columns(model, named)
    known = _values(values, len(given), "values")
    wanted = others(model, given)
    with _naming_determined(model, wanted):
        return as_model(model, density.conditioned(given, known, wanted), wanted)


def model_given(
    model: Any, matrix: ArrayLike, values: ArrayLike, noise: ArrayLike | None = None, columns: Columns | None = None
) -> Any:
    """See `MixtureEstimator.given` in base.py."""
    density = checked_density(model)
    A = np.atleast_2d(np.asarray(matrix, np.float64))
    n_features = _width(model)
    if A.ndim != 2 or A.shape[1] != n_features or not len(A) or not np.isfinite(A).all():
        raise ValueError(
            f"matrix must be finite and of shape (n_evidence, {n_features}), a row for each piece of evidence and "
            f"a column for each of the mixture's, got shape {np.shape(matrix)}."
        )
    known, error = _values(values, len(A), "values"), _noise(noise, len(A))
    wanted = np.arange(n_features) if columns is None else as_columns(model, columns)
    with _naming_determined(model, wanted):
        return as_model(model, density.given(A, known, error, wanted), wanted)


def conditional_of(model: Any, columns: Columns | None = None, wanted: Columns | None = None) -> "Conditional":
    """See `MixtureEstimator.conditional` in base.py."""
    density = checked_density(model)
    if columns is None:
        if wanted is not None:
            raise ValueError("wanted needs columns; without these, every row wants the columns in which it is NaN.")
        return Conditional(model, density, None, np.arange(_width(model)))
    given = as_columns(model, columns)
    chosen = others(model, given) if wanted is None else as_columns(model, wanted, "wanted")
    if np.intersect1d(given, chosen).size or not len(chosen):
        raise ValueError("wanted must be at least one column, and none of those that are given.")
    with _naming_determined(model, chosen):
        return Conditional(model, density.conditionals(given, chosen), given, chosen)


@dataclass(frozen=True, eq=False)
class Conditional:
    """Wanted columns of a mixture given others, row by row; made by the `conditional` of a mixture.

    The methods take X, array-like of shape (n_samples, n_given), a frame, a file or a source, and return float64. Where
    every row wants other columns (`given` None), X has all columns, NaN where a value is wanted, and results have an
    entry for each of all columns: what a row has is its own answer and varies by 0.

    Attributes
    ----------
    model : the mixture
    answers : Conditionals or Density
    given : ndarray of int or None
    wanted : ndarray of int
        Columns.
    """

    model: Any
    answers: Conditionals | Density
    given: Index | None
    wanted: Index

    def mean(self, X: Any) -> Array:
        """Expectation, (n_samples, n_wanted): what has the least squared error."""
        return self._ask(X, "mean")

    def std(self, X: Any) -> Array:
        """Standard deviation, (n_samples, n_wanted)."""
        return self._ask(X, "std")

    def covariance(self, X: Any) -> Array:
        """Covariance matrix, (n_samples, n_wanted, n_wanted)."""
        return self._ask(X, "covariance")

    def quantile(self, X: Any, probabilities: ArrayLike) -> Array:
        """Quantiles of each wanted column on its own, (n_samples, n_wanted, n_probabilities).

        Parameters
        ----------
        X : rows of the given columns
        probabilities : float, for which the last axis is left out, or array-like of shape (n_probabilities,)
            Between 0 and 1; 0.5 asks for the median. Those near 0 and 1 are as exact as others.
        """
        found = self._ask(X, "quantiles", check_probabilities(probabilities))
        return found[..., 0] if np.ndim(probabilities) == 0 else found

    def mode(self, X: Any) -> Array:
        """Where the density of the wanted columns together is highest, (n_samples, n_wanted).

        The best of the modes that Newton's and EM's steps reach from the means of the components; of equal ones that
        of the first component.
        """
        return self._ask(X, "modes")

    def log_prob(self, X: Any, Y: ArrayLike) -> Array:
        """Log-density of the wanted columns Y (n_samples, n_wanted) given X, in nats, (n_samples,)."""
        self._needs_columns("log_prob")
        source = self._source(X)
        target = np.ascontiguousarray(Y, np.float64)
        if target.ndim == 1 and len(self.wanted) == 1:
            target = target[:, None]
        shape = (source.n_samples, len(self.wanted))
        if target.shape != shape or not np.isfinite(target).all():
            raise ValueError(f"Y must be finite and of shape {shape}, got shape {np.shape(Y)}.")
        return self._ask(source, "log_density", target=target, checked=True)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the components given X, (n_samples, n_components)."""
        self._needs_columns("predict_proba")
        return self._ask(X, "probabilities")

    def sample(self, X: Any, n_samples: int = 1) -> Array:
        """Draw so many times for every row, (n_rows, n_samples, n_wanted).

        An int `random_state` of the mixture gives the same draws at every call, and a row's own whatever rows come
        after it; the same bits for any `n_jobs`.
        """
        self._needs_columns("sample")
        if int(n_samples) < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        seed = check_random_state(self.model.random_state).randint(0, 2**31 - 1, size=4).tolist()
        return self._ask(X, "draws", (int(n_samples), seed))

    def _needs_columns(self, method: str) -> None:
        if self.given is None:
            raise ValueError(f"{method} needs the columns that are given: mixture.conditional(columns).{method}(...).")

    def _source(self, X: Any) -> Source:
        if self.given is None:
            source: Source = self.model._score_input(X)
            return source
        source = as_source(X, "Conditional", 1, np.float64)
        names = self._names()
        if source.n_features != len(self.given):
            raise ValueError(f"X has {source.n_features} columns, but {len(self.given)} are given: {self._said()}.")
        found = names_of(X, source)
        if found is not None and names is not None and found != list(names):
            raise ValueError(f"the columns of X must be {list(names)}, in this order, got {found}.")
        return source

    def _names(self) -> NDArray[Any] | None:
        names = self.model._column_names()
        return names if names is None or self.given is None else names[self.given]

    def _said(self) -> str:
        names = self._names()
        return str((self.given if names is None else names).tolist()) if self.given is not None else "all"

    def _ask(
        self, X: Any, question: str, option: Any = None, target: Array | None = None, checked: bool = False
    ) -> Array:
        source = X if checked else self._source(X)
        numbers, ask = range(source.n_samples), answered_by_gaps if self.given is None else answered
        with thread_limit(self.model._setting("n_jobs")):
            try:
                parts = source.map_parts(ask, self.answers, question, option, per_row=(numbers, target))
                return np.concatenate(list(parts))
            except NonFiniteRowsError:
                raise_nonfinite(source, "Conditional", self._names(), self.given is None)
                raise AssertionError("the kernels met a value that is not finite") from None


def check_probabilities(probabilities: ArrayLike) -> Array:
    """As an array of one dimension; ValueError for what lies outside of [0, 1]."""
    asked = np.atleast_1d(np.asarray(probabilities, np.float64))
    if asked.ndim != 1 or not ((asked >= 0) & (asked <= 1)).all():
        raise ValueError(f"probabilities must lie between 0 and 1, got {probabilities!r}.")
    return np.ascontiguousarray(asked)


def names_of(X: Any, source: Source) -> list[str] | None:
    """Names of the columns of a source, or of the frame that it was made of if all are texts."""
    names = list(source.names if source.names is not None else getattr(X, "columns", ()))
    return names if names and all(isinstance(name, str) for name in names) else None


def _width(model: Any) -> int:
    return int(np.shape(model.means_)[1])


def as_columns(model: Any, columns: Any, what: str = "columns") -> Index:
    """Numbers of columns given by number or name; ValueError for unknown ones and for the same one twice."""
    if isinstance(columns, str | int | np.integer):
        columns = [columns]
    names, n_features = model._column_names(), _width(model)
    known = [] if names is None else list(names)
    found = []
    for column in list(columns):
        if isinstance(column, str):
            if column not in known:
                have = f"they are {known}" if known else "the fit knew no names, so give numbers"
                raise ValueError(f"{what}: the mixture has no column {column!r}; {have}.")
            found.append(known.index(column))
        elif isinstance(column, int | np.integer) and not isinstance(column, bool | np.bool_):
            if not -n_features <= column < n_features:
                raise ValueError(f"{what}: the mixture has no column {column}; it has {n_features}, from 0 on.")
            found.append(int(column) % n_features)
        else:
            raise ValueError(f"{what} must be numbers or names of columns, got {column!r}.")
    if not found:
        raise ValueError(f"{what} must name at least one column.")
    if len(set(found)) < len(found):
        raise ValueError(f"{what} must be different ones, got {list(columns)}.")
    return np.array(found, np.int64)


def others(model: Any, given: Index) -> Index:
    """The columns that are not given; ValueError if all are."""
    wanted = np.setdiff1d(np.arange(_width(model)), given)
    if not len(wanted):
        raise ValueError("all columns are given, and none is left to ask for.")
    return wanted


def _values(values: Any, size: int, name: str) -> Array:
    array = np.atleast_1d(np.asarray(values, np.float64)) if values is not None else np.empty(0)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be {size} finite numbers, got {values!r}.")
    return array


def _noise(noise: Any, size: int) -> Array:
    """The covariance of the error of evidence."""
    array = np.zeros(()) if noise is None else np.asarray(noise, np.float64)
    if array.ndim < 2:
        array = np.diag(np.broadcast_to(array, size)) if array.shape in ((), (size,)) else array
    shaped = array.shape == (size, size) and np.isfinite(array).all()
    if not shaped or not np.allclose(array, array.T) or np.linalg.eigvalsh(array)[0] < -1e-12 * np.abs(array).max():
        raise ValueError(
            f"noise must be a variance, {size} variances, or a symmetric {size} x {size} covariance without negative "
            f"eigenvalues, got {noise!r}."
        )
    return array


@contextmanager
def _naming_determined(model: Any, wanted: Index) -> "Iterator[None]":
    """Say in the caller's words what evidence leaves nothing of."""
    try:
        yield
    except DeterminedError as error:
        if error.column < 0:
            raise ValueError(
                "the evidence repeats itself: a row of matrix is a combination of the others. Leave it out, or say how "
                "uncertain it is by noise=."
            ) from None
        names, column = model._column_names(), int(wanted[error.column])
        name = f"column {column}" if names is None else f"column {column} ({names[column]!r})"
        raise ValueError(
            f"the evidence determines {name} by what comes before it, so that these columns have no density together. "
            "Leave it out of columns=, or say how uncertain the evidence is by noise=."
        ) from None


def as_model(model: Any, density: Density, columns: Index) -> Any:
    """A fitted mixture of the kind of `model` with this density, of these of its columns."""
    names = model._column_names()
    if isinstance(density, Rescaled):
        made = find("StandardisedMixture")(as_model(model.mixture, density.density, columns), density.standardisation)
        return made
    shared = {"n_jobs": model.n_jobs, "random_state": model.random_state}
    dtype = np.result_type(*(getattr(model, name) for name in model._defining))
    if isinstance(density, FactorDensity):
        parameters = density.parameters
        loadings = parameters.loadings
        if loadings.shape[2] > loadings.shape[1]:  # as many factors as columns say the same: L^T = Q R
            loadings = np.swapaxes(np.linalg.qr(np.swapaxes(loadings, 1, 2), mode="r"), 1, 2)
        made = find("MixtureOfFactorAnalyzers").from_parameters(
            parameters.weights.astype(dtype),
            parameters.means.astype(dtype),
            loadings.astype(dtype),
            parameters.noise_variance.astype(dtype),
            missing=model._setting("missing"),
            obs_noise=model._setting("obs_noise"),
            **shared,
        )
    else:
        assert isinstance(density, GaussianDensity)
        drawn = density.drawn
        if drawn.noise is not None:
            shared["noise"] = drawn.noise.bounds
        missing = "em" if density.gaps else "raise"
        made = find("GaussianMixture")(
            len(drawn.weights), covariance_type=drawn.covariance_type, missing=missing, **shared
        )
        made._set_mixture(drawn, dtype)
        made.n_features_in_ = len(columns)
    if names is not None:
        made.feature_names_in_ = np.asarray(names, dtype=object)[columns]
    return made
