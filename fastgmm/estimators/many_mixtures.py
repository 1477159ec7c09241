"""Thousands of small, independent mixtures, one for each group of rows: `fit_many`."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..exceptions import SingularCovarianceError
from ..model.covariance import STRUCTURES
from ..model.parameters import MixtureParameters
from ..model.sampling import sample_rows
from ..optimization.many import ManySettings, Stack, fit_groups, score_groups
from ..rows.frames import column_names, without_column
from ..rows.source import ArraySource
from ..threads import thread_limit
from .covariance_estimator import COVARIANCE_CONSTRAINTS
from .fitting import COMMON_CONSTRAINTS
from .gaussian.problem import RELATIVE_RIDGE
from .gaussian_mixture import CONSTRAINTS, GaussianMixture
from .sklearn_base import InvalidParameterError

Index = NDArray[np.int64]
# What `status_` says of a group.
STATUS = {
    0: "converged",
    1: "stopped at max_iter before it converged",
    2: "has fewer rows than components, or fewer than two",
    3: "holds NaN, infinity, or values whose squares leave the floating-point range",
    4: "has a component whose covariance became singular: increase reg_covar or use fewer components",
    5: "has rows so far from every component that their distances leave the floating-point range",
}
CHECKED = {
    name: (COMMON_CONSTRAINTS | COVARIANCE_CONSTRAINTS | CONSTRAINTS)[name]
    for name in (
        *("covariance_type", "tol", "reg_covar", "max_iter", "n_init"),
        *("random_state", "n_jobs"),
    )
}


@dataclass(frozen=True)
class ManyMixtures:
    """Gaussian mixtures of many groups of rows, stacked; what `fit_many` returns.

    Attributes
    ----------
    groups_ : ndarray of shape (n_groups,)
        What each group is called, increasing; 0, 1, ... where groups were given by offsets.
    n_samples_, n_components_, n_iter_ : ndarrays of shape (n_groups,), int64
    status_ : ndarray of shape (n_groups,), int8
        0 where all is well, 1 if the fit stopped at `max_iter`; otherwise the group has no mixture, and NaN in the
        arrays below. `STATUS` has the words.
    weights_ : ndarray of shape (n_groups, K), of the dtype of the rows
        K is the largest number of components; those a group does not have weigh 0 and hold NaN.
    means_ : ndarray of shape (n_groups, K, n_features)
    covariances_, precisions_cholesky_ : ndarrays
        full (n_groups, K, n_features, n_features), tied (n_groups, n_features, n_features), diag (n_groups, K,
        n_features), spherical (n_groups, K).
    log_likelihood_, lower_bound_ : ndarrays of shape (n_groups,), float64
        Total log-likelihood in nats, and the mean per row at the last E-step.
    covariance_type : str
    feature_names_in_ : ndarray of shape (n_features,) or None
    """

    groups_: NDArray[Any]
    n_samples_: Index
    n_components_: Index
    n_iter_: Index
    status_: NDArray[np.int8]
    weights_: NDArray[Any]
    means_: NDArray[Any]
    covariances_: NDArray[Any]
    precisions_cholesky_: NDArray[Any]
    log_likelihood_: NDArray[np.float64]
    lower_bound_: NDArray[np.float64]
    covariance_type: str
    feature_names_in_: NDArray[Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.groups_)

    def __repr__(self) -> str:
        n_bad = int((self.status_ > 1).sum())
        bad = f", {n_bad} without a mixture (status_)" if n_bad else ""
        return f"ManyMixtures({len(self)} groups, {self.covariance_type}{bad})"

    @property
    def n_features_in_(self) -> int:
        """Number of columns."""
        return int(self.means_.shape[2])

    def mixture(self, group: Any) -> GaussianMixture:
        """Return the fitted `GaussianMixture` of a group, by what it is called.

        Raises KeyError for a group that was not fitted, and ValueError, saying why, for one that has no mixture.
        """
        return self.mixture_at(int(self._places(np.asarray([group]))[0]))

    def mixture_at(self, place: int) -> GaussianMixture:
        """Return the fitted `GaussianMixture` of the group at this place of `groups_`."""
        status = int(self.status_[place])
        if status > 1:
            name = self.groups_[place : place + 1].tolist()[0]
            raise ValueError(f"Group {name!r} {STATUS[status]}: it has no mixture.")
        k = int(self.n_components_[place])
        structure, stack = STRUCTURES[self.covariance_type], (self.covariances_, self.precisions_cholesky_)
        covariances, factors = (
            np.asarray(array[place] if structure.pools_components else array[place, :k], np.float64) for array in stack
        )
        model = GaussianMixture(k, covariance_type=self.covariance_type, **self.settings)
        weights, means = (np.asarray(array[place, :k], np.float64) for array in (self.weights_, self.means_))
        model._set_mixture(
            MixtureParameters(weights, means, factors, self.covariance_type, covariances), self.weights_.dtype
        )
        model.n_features_in_, model.n_iter_ = self.n_features_in_, int(self.n_iter_[place])
        if self.feature_names_in_ is not None:
            model.feature_names_in_ = self.feature_names_in_
        model.converged_ = status == 0
        model.stop_reason_ = "converged" if status == 0 else "max_iter"
        model.lower_bound_ = self.weights_.dtype.type(self.lower_bound_[place])
        model.log_likelihood_ = float(self.log_likelihood_[place])
        return model

    def predict_many(
        self, X: Any, groups: Any = None, *, offsets: ArrayLike | None = None, n_jobs: int | None = None
    ) -> Index:
        """Return the most probable component of each row under its group's mixture, (n_samples,), int64.

        -1 for the rows of groups that have no mixture.

        Parameters
        ----------
        X, groups, offsets : as in `fit_many`; groups may be some of those that were fitted, in any order
        n_jobs : int or None
            Threads; the bits are the same for any number.

        Raises
        ------
        KeyError
            For a group that was not fitted.
        ValueError
            For NaN or infinity, naming row and column, and another number or other names of columns.
        """
        return self._scored(X, groups, offsets, n_jobs, "labels")

    def score_samples_many(
        self, X: Any, groups: Any = None, *, offsets: ArrayLike | None = None, n_jobs: int | None = None
    ) -> NDArray[Any]:
        """Return the log-density of each row in nats under its group's mixture, (n_samples,).

        NaN for the rows of groups that have no mixture; parameters and errors are those of `predict_many`.
        """
        return self._scored(X, groups, offsets, n_jobs, "log_prob_norm")

    def score_many(
        self, X: Any, groups: Any = None, *, offsets: ArrayLike | None = None, n_jobs: int | None = None
    ) -> NDArray[np.float64]:
        """Return the mean log-density per row in nats of each fitted group, (n_groups,); NaN where it has no rows in X.

        NaN also for groups that have no mixture; parameters and errors are those of `predict_many`.
        """
        rows = _grouped(X, groups, offsets, None)
        values = self._scored_rows(rows, n_jobs, "log_prob_norm")
        places = np.repeat(self._places(rows.names), np.diff(rows.offsets))
        sums, counts = np.bincount(places, values, len(self)), np.bincount(places, minlength=len(self))
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def sample_many(
        self, n_samples: int | ArrayLike = 1, *, random_state: Any = None
    ) -> tuple[NDArray[Any], NDArray[Any], Index]:
        """Draw rows from the mixture of every group that has one.

        Parameters
        ----------
        n_samples : int or array-like of shape (n_groups,), default=1
            Rows of each group, at least 0; of groups without a mixture none are drawn.
        random_state : int, RandomState or None

        Returns
        -------
        X : ndarray of shape (n_drawn, n_features), of the dtype of the model
            Group after group, component after component.
        groups : ndarray of shape (n_drawn,)
        labels : ndarray of shape (n_drawn,), int64
        """
        counts = np.broadcast_to(np.asarray(n_samples), (len(self),))
        if counts.dtype.kind not in "iu" or (counts < 0).any():
            raise ValueError(f"n_samples must be integers of at least 0, one or one per group. Got {n_samples!r}.")
        rng = check.generator_from(check.check_random_state(random_state))
        good = np.flatnonzero(self.status_ <= 1)
        weights = np.asarray(self.weights_[good], np.float64)
        drawn = rng.multinomial(counts[good], weights / weights.sum(axis=1, keepdims=True))
        k, n_features = self.means_.shape[1:]
        structure = STRUCTURES[self.covariance_type]
        covariances = np.asarray(self.covariances_[good], np.float64)
        kind = "full" if structure.is_matrix else self.covariance_type
        if structure.pools_components:
            covariances = np.repeat(covariances[:, None], k, axis=1)
        covariances = covariances.reshape(len(good) * k, *covariances.shape[2:])
        present = np.flatnonzero((np.arange(k) < self.n_components_[good, None]).ravel())
        means = np.asarray(self.means_[good], np.float64).reshape(len(good) * k, n_features)
        runs = np.repeat(np.arange(len(present)), drawn.ravel()[present])
        seed = rng.integers(2**32, size=4, dtype=np.uint32)
        rows = sample_rows(means[present], covariances[present], kind, runs, seed)
        places = good[present[runs] // k]
        return rows.astype(self.means_.dtype), self.groups_[places], present[runs] % k

    def _places(self, names: NDArray[Any]) -> Index:
        """Where groups of these names are; KeyError for one that is not known."""
        found = np.minimum(np.searchsorted(self.groups_, names), max(len(self) - 1, 0))
        known = self.groups_[found] == names if len(self) else np.zeros(len(names), bool)
        if not np.all(known):
            missing = np.asarray(names)[~np.asarray(known)].tolist()
            raise KeyError(f"{len(missing)} groups were not fitted, the first {missing[0]!r}.")
        return np.asarray(found, np.int64)

    def _scored(self, X: Any, groups: Any, offsets: ArrayLike | None, n_jobs: int | None, output: str) -> NDArray[Any]:
        rows = _grouped(X, groups, offsets, None)
        values = self._scored_rows(rows, n_jobs, output)
        if rows.order is None:
            return values
        result = np.empty_like(values)
        result[rows.order] = values
        return result

    def _scored_rows(self, rows: "_Rows", n_jobs: int | None, output: str) -> NDArray[Any]:
        if rows.X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {rows.X.shape[1]} features, but the mixtures have {self.n_features_in_}.")
        known, given = self.feature_names_in_, rows.names_of_columns
        if known is not None and given is not None and list(given) != list(known):
            raise ValueError(f"The columns are called {list(given)}, but the mixtures were fitted to {list(known)}.")
        if not np.isfinite(rows.X.sum()):  # a sum over all may overflow where no value is to blame
            bad = np.argwhere(~np.isfinite(rows.X))
            if len(bad):
                row, column = bad[0]
                row = row if rows.order is None else rows.order[row]
                raise ValueError(f"X holds NaN or infinity: row {row}, column {column}.")
        places = self._places(rows.names)
        places = np.where(self.status_[places] <= 1, places, -1)
        labels = np.full(len(rows.X), -1, np.int64) if output == "labels" else None
        log_prob = None if output == "labels" else np.full(len(rows.X), np.nan, rows.X.dtype)
        with thread_limit(n_jobs):
            n_far = score_groups(rows.X, rows.offsets, self._stack(), places, log_prob, labels)
        values = labels if log_prob is None else log_prob
        assert values is not None
        for g in np.flatnonzero(n_far):  # out of the range of what the kernels compute with
            part = slice(rows.offsets[g], rows.offsets[g + 1])
            model = self.mixture_at(places[g])
            ask = model.predict if output == "labels" else model.score_samples
            values[part] = ask(rows.X[part])
        return values

    def _stack(self) -> Stack:
        """The mixtures as the kernels take them."""
        empty = Stack.empty(self.covariance_type, self.n_components_, self.n_features_in_)
        arrays = (self.weights_, self.means_, self.covariances_, self.precisions_cholesky_)
        shapes = (empty.weights.shape, empty.means.shape, empty.covariances.shape, empty.factors.shape)
        pairs = zip(arrays, shapes, strict=True)
        cast = (np.ascontiguousarray(array, np.float64).reshape(shape) for array, shape in pairs)
        return Stack(self.covariance_type, self.n_components_, *cast)


@dataclass(frozen=True)
class _Rows:
    """Rows group after group: where each begins, what groups are called, and where the rows stood before."""

    X: NDArray[Any]
    sample_weight: NDArray[np.float64] | None
    offsets: Index
    names: NDArray[Any]
    order: Index | None
    names_of_columns: NDArray[Any] | None


def fit_many(
    X: Any,
    groups: Any = None,
    n_components: int | ArrayLike | Mapping[Any, int] = 1,
    *,
    offsets: ArrayLike | None = None,
    covariance_type: str = "full",
    tol: float = 1e-3,
    reg_covar: float | str = 1e-6,
    max_iter: int = 100,
    n_init: int = 1,
    random_state: Any = None,
    sample_weight: ArrayLike | None = None,
    n_jobs: int | None = None,
) -> ManyMixtures:
    """Fit an independent Gaussian mixture to each group of rows, all in one call of compiled code.

    Every group is fitted as `GaussianMixture` fits its rows alone: the same starts, short runs, EM and stopping rule.
    Its numbers are the same bits alone or among other groups, whatever their order, and for any number of threads; its
    random numbers follow from `random_state` and what it is called. No group stops the others: see `status_`.

    Parameters
    ----------
    X : array-like or frame of shape (n_samples, n_features)
        float32 stays float32.
    groups : array-like of shape (n_samples,), or str
        The group of each row: numbers or texts, in any order; or the name of a column of X, which is then no feature.
    n_components : int, array-like of shape (n_groups,), or mapping from group to int, default=1
        An array is in the order of the sorted groups.
    offsets : array-like of shape (n_groups + 1,)
        Instead of `groups`: rows offsets[g] to offsets[g + 1] are group g.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    tol, reg_covar, max_iter, n_init : as in `GaussianMixture`; `reg_covar='auto'` is 1e-6 of a column's variance in
        the group
    random_state : int, RandomState or None
    sample_weight : array-like of shape (n_samples,) or None
    n_jobs : int or None
        Threads; None and -1 mean all that the process may use.

    Returns
    -------
    ManyMixtures

    Raises
    ------
    ValueError
        For wrong shapes, settings out of range, groups that are missing (naming the row), or a group without a number
        of components. Never for the rows of a group.
    """
    values = {
        "covariance_type": covariance_type,
        "tol": tol,
        "reg_covar": reg_covar,
        "max_iter": max_iter,
        "n_init": n_init,
        "random_state": random_state,
        "n_jobs": n_jobs,
    }
    check.check_parameters("fit_many", values, CHECKED, InvalidParameterError)
    rows = _grouped(X, groups, offsets, sample_weight)
    counts = _component_counts(n_components, rows.names)
    relative = reg_covar == "auto"
    settings = ManySettings(
        float(tol), 0.0 if relative else float(reg_covar), RELATIVE_RIDGE if relative else 0.0, int(max_iter), n_init
    )
    base = int(check.generator_from(check.check_random_state(random_state)).integers(2**64, dtype=np.uint64))
    seeds = _seeds(base, rows.names)
    stack = Stack.empty(covariance_type, counts, rows.X.shape[1])
    with thread_limit(n_jobs):
        numbers, results = fit_groups(rows.X, rows.sample_weight, rows.offsets, stack, seeds, settings)
    kept = {"tol": tol, "reg_covar": reg_covar, "max_iter": max_iter, "n_init": n_init}
    _fit_left_over(rows, stack, seeds, numbers, results, kept)
    structure, dtype = STRUCTURES[covariance_type], rows.X.dtype
    bad = results[:, 1] > 1
    results[bad, 0] = 0
    stack.weights[np.arange(stack.weights.shape[1]) >= np.where(bad, 0, counts)[:, None]] = 0.0
    k, n_features = stack.means.shape[1:]
    shape = (len(counts), *structure.shape(k, n_features))
    return ManyMixtures(
        groups_=rows.names,
        n_samples_=np.diff(rows.offsets),
        n_components_=counts,
        n_iter_=results[:, 0].copy(),
        status_=results[:, 1].astype(np.int8),
        weights_=stack.weights.astype(dtype),
        means_=stack.means.astype(dtype),
        covariances_=stack.covariances.reshape(shape).astype(dtype),
        precisions_cholesky_=stack.factors.reshape(shape).astype(dtype),
        log_likelihood_=numbers[:, 0].copy(),
        lower_bound_=numbers[:, 1].copy(),
        covariance_type=covariance_type,
        feature_names_in_=rows.names_of_columns,
        settings=kept,
    )


def _fit_left_over(
    rows: _Rows, stack: Stack, seeds: NDArray[np.uint64], numbers: Any, results: Index, settings: dict[str, Any]
) -> None:
    """Fit the groups that need a step which compiled code does not know, one by one."""
    for g in np.flatnonzero(results[:, 1] == 5):
        part = slice(rows.offsets[g], rows.offsets[g + 1])
        k, seed = int(stack.n_components[g]), int(seeds[g] % np.uint64(2**32))
        model = GaussianMixture(k, covariance_type=stack.covariance_type, random_state=seed, **settings)
        weight = None if rows.sample_weight is None else rows.sample_weight[part]
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # status_ says it
                model.fit(rows.X[part], sample_weight=weight)
        except SingularCovarianceError:
            results[g, 1] = 4
        except ValueError:
            results[g, 1] = 5
        else:
            results[g] = model.n_iter_, 0 if model.converged_ else 1
            numbers[g] = model.log_likelihood_, model.lower_bound_
            stack.weights[g, :k], stack.means[g, :k] = model.weights_, model.means_
            shape = stack.covariances[g].shape
            shape = shape if stack.covariance_type == "tied" else (k, *shape[1:])
            stack.covariances[g][: shape[0]] = model.covariances_.reshape(shape)
            stack.factors[g][: shape[0]] = model.precisions_cholesky_.reshape(shape)


def _grouped(X: Any, groups: Any, offsets: ArrayLike | None, sample_weight: ArrayLike | None) -> _Rows:
    """Check rows and their groups, and put the rows of a group together."""
    if (groups is None) == (offsets is None):
        raise ValueError("Give either groups, the group of each row, or offsets, where each group begins.")
    if isinstance(groups, str):
        X, groups = without_column(X, groups)
    source = check.as_source(X, "fit_many")
    names_of_columns = column_names(X) if source.names is None else np.array(source.names, object)
    array = source.X if isinstance(source, ArraySource) else source.take(np.arange(source.n_samples))
    array = np.ascontiguousarray(array, source.dtype)
    weight = check.check_sample_weight(sample_weight, len(array))
    if offsets is not None:
        bounds = np.asarray(offsets)
        if bounds.ndim != 1 or len(bounds) < 1 or bounds.dtype.kind not in "iu":
            raise ValueError("offsets must be one-dimensional integers.")
        bounds = bounds.astype(np.int64)
        if bounds[0] != 0 or bounds[-1] != len(array) or (np.diff(bounds) < 0).any():
            raise ValueError(
                f"offsets must increase from 0 to the number of rows, {len(array)}. They go from {bounds[0]} to "
                f"{bounds[-1]}."
            )
        return _Rows(array, weight, bounds, np.arange(len(bounds) - 1), None, names_of_columns)
    labels = np.asarray(groups)
    if labels.shape != (len(array),):
        raise ValueError(f"groups has shape {labels.shape}; X has {len(array)} rows, each of which needs a group.")
    names, starts, order = _sorted_groups(labels)
    if order is not None:
        array = array[order]
        weight = None if weight is None else weight[order]
    return _Rows(array, weight, np.append(starts, len(array)).astype(np.int64), names, order, names_of_columns)


def _sorted_groups(labels: NDArray[Any]) -> tuple[NDArray[Any], Index, Index | None]:
    """Names of the groups, increasing, where each begins, and the order in which they stand together (None: as is)."""
    missing = labels != labels
    if labels.dtype.kind == "O":
        missing = np.asarray([label is None or label != label for label in labels], bool)
    if np.any(missing):
        raise ValueError(f"groups is missing in row {int(np.argmax(missing))}. Fill it in or leave the row out.")
    if len(labels) == 0:
        return labels, np.empty(0, np.int64), None
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    names = labels[starts]
    if np.all(names[1:] > names[:-1]):
        return names, starts, None
    try:
        names, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise ValueError(f"groups cannot be put in order: {error}. Make them all numbers or all texts.") from None
    order = np.argsort(codes, kind="stable")
    return names, np.searchsorted(codes[order], np.arange(len(names))), order


def _component_counts(n_components: Any, names: NDArray[Any]) -> Index:
    """The number of components of each group."""
    if isinstance(n_components, Mapping):
        missing = [name for name in names.tolist() if name not in n_components]
        if missing:
            raise ValueError(f"n_components says nothing of {len(missing)} groups, the first {missing[0]!r}.")
        n_components = [n_components[name] for name in names.tolist()]
    counts = np.asarray(n_components)
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or (counts.ndim == 1 and len(counts) != len(names)):
        raise ValueError(
            f"n_components must be an integer, or one for each of the {len(names)} groups. Got {n_components!r:.100}."
        )
    if (counts < 1).any():
        raise ValueError(f"n_components must be at least 1. Got {int(counts.min())}.")
    return np.ascontiguousarray(np.broadcast_to(counts, (len(names),)), np.int64)


def _seeds(base: int, names: NDArray[Any]) -> NDArray[np.uint64]:
    """A seed for each group, from what it is called alone."""
    if names.dtype.kind in "iub":
        own = names.astype(np.int64).view(np.uint64)
    else:
        digests = (hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in names.tolist())
        own = np.frombuffer(b"".join(digests), np.uint64)
    bits = own * np.uint64(0x9E3779B97F4A7C15) + np.uint64(base)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.ascontiguousarray(bits ^ (bits >> np.uint64(31)))
