"""Thousands of small, independent mixtures, one for each group of rows, in one call of compiled code."""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..exceptions import SingularCovarianceError
from ..model.covariance import STRUCTURES
from ..optimization.many import ManySettings, Stack, fit_groups
from ..threads import thread_limit
from .covariance_estimator import COVARIANCE_CONSTRAINTS
from .fitting import COMMON_CONSTRAINTS
from .gaussian.problem import RELATIVE_RIDGE
from .gaussian_mixture import CONSTRAINTS, GaussianMixture
from .grouping import GroupedRows, Index, grouped
from .many_mixtures import ManyMixtures
from .sklearn_base import InvalidParameterError

CHECKED = {
    name: (COMMON_CONSTRAINTS | COVARIANCE_CONSTRAINTS | CONSTRAINTS)[name]
    for name in (
        *("covariance_type", "tol", "reg_covar", "max_iter", "n_init"),
        *("random_state", "n_jobs"),
    )
}


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
    rows = grouped(X, groups, offsets, sample_weight)
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
    rows: GroupedRows, stack: Stack, seeds: NDArray[np.uint64], numbers: Any, results: Index, settings: dict[str, Any]
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
            shape = shape if STRUCTURES[stack.covariance_type].pools_components else (k, *shape[1:])
            stack.covariances[g][: shape[0]] = model.covariances_.reshape(shape)
            stack.factors[g][: shape[0]] = model.precisions_cholesky_.reshape(shape)


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
