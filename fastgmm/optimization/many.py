"""Thousands of small fits of a ragged array in one call of compiled code (kernels/many.py)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.bridge import block_functions_of, read_only
from ..model.covariance import STRUCTURES
from ..model.parameters import Array
from ..model.structure import CovarianceStructure
from .compiled import GAIN, STEPS
from .convergence import NOISE

Index = NDArray[np.int64]
SLOTS = 256  # so many that the largest ones do not keep the others waiting
WORK_PER_CALL = 2e10  # operations, about a second of two threads
PASSES = 50  # of a fit, starts included


@dataclass(frozen=True)
class Stack:
    """Mixtures of one covariance type and width, one after the other, float64.

    Attributes
    ----------
    covariance_type : str
    n_components : ndarray of shape (n_mixtures,), int64
    weights : ndarray of shape (n_mixtures, most)
    means : ndarray of shape (n_mixtures, most, n_features)
    covariances, factors : ndarray of shape (n_mixtures, ...)
        As `kernels.m_step.Mixture` has them, in three axes more.
    """

    covariance_type: str
    n_components: Index
    weights: Array
    means: Array
    covariances: Array
    factors: Array

    @classmethod
    def empty(cls, covariance_type: str, n_components: Index, n_features: int) -> "Stack":
        """Mixtures that hold NaN."""
        from ..kernels.group import factor_shape

        n, most = len(n_components), int(n_components.max(initial=1))
        shape = (n, *factor_shape(_kind(covariance_type), most, n_features))
        arrays = ((n, most), (n, most, n_features), shape, shape)
        return cls(covariance_type, n_components, *(np.full(each, np.nan) for each in arrays))

    @property
    def tuple(self) -> Any:
        """As the kernels take it."""
        from ..kernels.m_step import Mixture

        return Mixture(self.weights, self.means, self.covariances, self.factors)


@dataclass(frozen=True)
class ManySettings:
    """What is the same for all groups: see `GaussianMixture`. `ridge` is absolute, `relative_ridge` a share of each
    column's variance in the group.
    """

    tol: float
    ridge: float
    relative_ridge: float
    max_iter: int
    n_init: int


def _kind(covariance_type: str) -> int:
    from ..kernels.m_step import KINDS

    return KINDS.index(covariance_type)


def _calls(
    offsets: Index,
    n_components: Index,
    seeds: NDArray[np.uint64],
    structure: CovarianceStructure,
    n_features: int,
    passes: int,
) -> Iterator[Any]:
    """Groups cut into calls, between which Ctrl-C works, each cut into slots of about equal work."""
    from ..kernels.many import Groups

    most = int(n_components.max(initial=0))
    per_row = np.array([structure.flops_per_row(k, n_features) for k in range(most + 1)])
    work = np.cumsum(np.diff(offsets) * per_row[n_components] * passes + 1.0)
    n_calls = max(1, int(work[-1] / WORK_PER_CALL)) if len(work) else 0
    ends = np.searchsorted(work, work[-1] * np.arange(1, n_calls) / n_calls, side="right") if n_calls else []
    edges = np.unique([0, *ends, len(work)])
    for first, last in pairwise(edges.tolist()):
        own = work[first:last] - (work[first - 1] if first else 0.0)
        n_slots = min(SLOTS, len(own))
        cuts = first + np.searchsorted(own, own[-1] * np.arange(1, n_slots) / n_slots, side="right")
        yield Groups(offsets, n_components, seeds, np.concatenate([[first], cuts, [last]]).astype(np.int64))


def fit_groups(
    X: NDArray[Any],
    sample_weight: Array | None,
    offsets: Index,
    stack: Stack,
    seeds: NDArray[np.uint64],
    settings: ManySettings,
) -> tuple[Array, Index]:
    """Fit the mixtures of `stack` to the rows offsets[g] to offsets[g + 1] each.

    Returns log-likelihoods and bounds, (n_groups, 2), and iterations and status, (n_groups, 2).
    """
    from ..kernels import begin, group, iterate, m_step, many, parallel

    kind, n_features, structure = _kind(stack.covariance_type), X.shape[1], STRUCTURES[stack.covariance_type]
    sizes, most = np.diff(offsets), max(settings.max_iter, STEPS)
    n_bytes, of_slot = many.many_bytes(
        kind, int(sizes.max(initial=1)), n_features, int(stack.n_components.max()), X.itemsize, most
    )
    eps = np.finfo(X.dtype).eps
    numbers = [settings.tol, settings.ridge, settings.relative_ridge, eps, NOISE[X.dtype], GAIN, STEPS]
    whole = np.array([kind, settings.n_init, settings.max_iter, of_slot])
    results = many.Results(np.full((len(sizes), 2), np.nan), np.zeros((len(sizes), 2), np.int64))
    weight = read_only(np.empty(0) if sample_weight is None else sample_weight)
    functions = block_functions_of(structure, n_features, X.dtype)
    no_matrix, no_cube, vector, index = np.empty((0, 0)), np.empty((0, 0, 0)), np.empty(0), np.empty(0, np.int64)
    example = (
        *(read_only(X), weight, m_step.Columns(vector, vector, vector, no_matrix)),
        *(m_step.Mixture(vector, no_matrix, no_cube, no_cube), begin.Choice(index, no_matrix, vector)),
        *(iterate.Course(vector, vector, index), functions, seeds),
    )
    address, at = group.fit_addresses(kind, *example)
    for groups in _calls(offsets, stack.n_components, seeds, structure, n_features, PASSES * settings.n_init):
        parallel.run_slots(
            *(many.fit_groups_slot, len(groups.bounds) - 1, n_bytes, address, read_only(X), weight, groups),
            *(many.Settings(whole, np.array(numbers)), stack.tuple, results, functions, at),
            kind=X.dtype,
        )
    return results.numbers, results.counts


def score_groups(
    X: NDArray[Any],
    offsets: Index,
    stack: Stack,
    places: Index,
    log_prob: NDArray[Any] | None,
    labels: Index | None,
) -> Index:
    """Fill log-densities and labels of the rows offsets[g] to offsets[g + 1] under the mixture of places[g].

    Returns the number of rows of each group that lie out of the range of their mixture.
    """
    from ..kernels import group, many, parallel

    kind, n_features, structure = _kind(stack.covariance_type), X.shape[1], STRUCTURES[stack.covariance_type]
    n_components = np.where(places >= 0, stack.n_components[places], 1)
    n_bytes, of_slot = group.room_bytes(kind, 1, n_features, int(n_components.max(initial=1)), X.itemsize)
    functions = block_functions_of(structure, n_features, X.dtype, labels is not None)
    n_far = np.zeros(len(places), np.int64)
    no_seeds, at_pass = np.empty(0, np.uint64), group.pass_address(X, functions)
    outputs = (
        np.empty(0, X.dtype) if log_prob is None else log_prob,
        np.empty(0, np.int64) if labels is None else labels,
    )
    for groups in _calls(offsets, n_components, no_seeds, structure, n_features, 1):
        parallel.run_slots(
            *(many.score_groups_slot, len(groups.bounds) - 1, n_bytes + of_slot, at_pass, kind, read_only(X)),
            *(groups, stack.tuple, places, functions, *outputs, n_far),
            kind=X.dtype,
        )
    return n_far
