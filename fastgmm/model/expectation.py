"""The E-step of a fit: statistics of all its rows under given parameters, whatever the rows are like.

What iterates knows an `Expectation` only. Passes over complete rows are here, over rows with gaps in missing.py;
`PartlyLabelled` adds rows whose component is known.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..rows.source import ArraySource, Source
from .bridge import MixtureKernels, OneHot, Resp
from .covariance import STRUCTURES, TIED_CANCELLATION
from .log_density import as_full, complete_log_likelihood
from .parameters import TINY, Array, MixtureParameters
from .resumable import Resumable
from .statistics import SufficientStatistics, add_up
from .structure import CovarianceStructure

# Moments about a mean are made anew about the rows' own where they would lose more than this share of a variance.
MOMENT_CANCELLATION = 1e-3
NOISE_ROUNDINGS = 16  # of a column's deviation, that means move by for no reason


class Expectation(Protocol):
    """A pass over the rows of a fit."""

    def __call__(self, parameters: MixtureParameters, *, hard: bool = False) -> SufficientStatistics:
        """Return the statistics of all rows under `parameters`.

        With `hard`, every row belongs to its most probable component alone.
        """


class StatisticsPass(Resumable):
    """One EM pass over the rows of a fit, whatever the covariance type.

    For a tied covariance, the pooled second moment is the scatter of the data about `shift` (computed once) minus what
    the means account for. Where that difference keeps too few digits (components very far apart against their
    width), the pass accumulates the scatter pair by pair with the kernels of full covariances instead.

    Parameters
    ----------
    source : Source
    shift : ndarray of shape (n_features,)
    sample_weight : ndarray of shape (n_samples,) or None
    """

    changing = ("_pairwise",)
    is_pass = True

    def __init__(self, source: Source, shift: Array, sample_weight: Array | None = None) -> None:
        self.source, self.shift, self.sample_weight = source, shift, sample_weight
        self._scatter: Array | None = None
        self._pairwise = False

    def __call__(
        self, parameters: MixtureParameters, resp: Resp | None = None, hard: bool = False
    ) -> SufficientStatistics:
        """See `Expectation`; `resp` are given responsibilities."""
        structure = STRUCTURES[parameters.covariance_type]
        if not structure.pools_components:
            return self._accumulate(parameters, resp, hard)
        if not self._pairwise and parameters.noise is None:
            scatter = self.data_scatter()
            statistics = self._accumulate(parameters, resp, hard)
            pooled = statistics.sum_outer + scatter
            if _keeps_digits(pooled, scatter):
                return replace(statistics, sum_outer=pooled)
            self._pairwise = True
        statistics = self._accumulate(as_full(parameters), resp, hard)
        return replace(statistics, sum_outer=statistics.sum_outer.sum(axis=0))

    def _accumulate(self, parameters: MixtureParameters, resp: Resp | None, hard: bool) -> SufficientStatistics:
        structure, per_row = STRUCTURES[parameters.covariance_type], (self.sample_weight, resp)
        arguments = (accumulate_part, parameters, self.shift, hard)
        statistics = add_up(self.source.map_parts(*arguments, None, per_row=per_row))
        centres = _better_centres(statistics, structure, self.source.dtype)
        if centres is None:
            return statistics
        again = add_up(self.source.map_parts(*arguments, centres, per_row=per_row))
        return again.about(statistics.means, structure)

    def data_scatter(self) -> Array:
        """Weighted sum of (x - shift)(x - shift)^T, as the statistics of one Gaussian at the shift; kept."""
        if self._scatter is None:
            n_features = len(self.shift)
            factor = 1e-100 * np.eye(n_features)  # so wide that no row is far
            wide = MixtureParameters(np.ones(1), self.shift[None], factor[None], "full")
            arguments = (accumulate_part, wide, self.shift, False, None)
            self._scatter = add_up(self.source.map_parts(*arguments, per_row=(self.sample_weight, None))).sum_outer[0]
        return self._scatter


def accumulate_part(
    part: Source,
    parameters: MixtureParameters,
    shift: Array,
    hard: bool,
    centres: Array | None,
    sample_weight: Array | None,
    resp: Resp | None = None,
) -> SufficientStatistics:
    """Return the statistics of the rows of a part."""
    return MixtureKernels(parameters, part.dtype, shift, centres).accumulate(part.chunks(), sample_weight, resp, hard)


class PartwisePass(Resumable):
    """A pass that treats every part of the rows for itself.

    Parameters
    ----------
    source : Source
    make : callable(part, sample_weight), a function of a module or a partial of one
        Returns the pass over a part.
    sample_weight : ndarray of shape (n_samples,) or None
    """

    is_pass = True

    def __init__(self, source: Source, make: Callable[..., Any], sample_weight: Array | None) -> None:
        self.source, self.make, self.sample_weight = source, make, sample_weight

    def __call__(self, parameters: Any, hard: bool = False) -> Any:
        """See `Expectation`; responsibilities are never given."""
        arguments = (_pass_over, self.make, parameters, hard)
        return add_up(self.source.map_parts(*arguments, per_row=(self.sample_weight,)))


def _pass_over(part: Source, make: Callable[..., Any], parameters: Any, hard: bool, sample_weight: Array | None) -> Any:
    return make(part, sample_weight)(parameters, hard=hard)


class KnownRows:
    """The pass over the rows whose component is known, wherever they lie; `own` is that over rows of this process.

    Parameters
    ----------
    source : Source
        All rows.
    make : callable(part, sample_weight)
        Returns the pass over a part that is an `ArraySource`.
    sample_weight : ndarray of shape (n_samples,) or None
    labels : ndarray of shape (n_samples,), int64
        -1 where the component is not known.
    """

    def __init__(
        self, source: Source, make: Callable[..., Any], sample_weight: Array | None, labels: NDArray[np.int64]
    ) -> None:
        self._source, self._make, self._per_row = source, make, (sample_weight, labels)
        self.own: Any = None
        if source.is_local:
            self.own, self._own_labels = _known(source, make, sample_weight, labels)

    def __call__(self, parameters: MixtureParameters) -> SufficientStatistics:
        """Return the statistics of the known rows."""
        if self.own is not None:
            return self.own(parameters, OneHot(self._own_labels, len(parameters.weights)))
        parts = self._source.map_parts(_pass_over_known, self._make, parameters, per_row=self._per_row)
        return add_up(part for part in parts if part is not None)


def _known(
    part: Source, make: Callable[..., Any], sample_weight: Array | None, labels: NDArray[np.int64]
) -> tuple[Any, NDArray[np.int64]]:
    """The pass over the known rows of a part, and their labels."""
    index = np.flatnonzero(labels >= 0)
    return make(ArraySource(part.take(index)), None if sample_weight is None else sample_weight[index]), labels[index]


def _pass_over_known(
    part: Source,
    make: Callable[..., Expectation],
    parameters: MixtureParameters,
    sample_weight: Array | None,
    labels: NDArray[np.int64],
) -> SufficientStatistics | None:
    if not (labels >= 0).any():
        return None
    estimate, known = _known(part, make, sample_weight, labels)
    return estimate(parameters, OneHot(known, len(parameters.weights)))


class _Nothing(Resumable):
    is_pass = True


class PartlyLabelled(Resumable):
    """Rows of which some are known to belong to one component; the others are the concern of another pass.

    A known row counts in the log-likelihood with the density of row and component together.

    Parameters
    ----------
    unlabelled : Expectation or None
        None where every row is labelled.
    known_rows : KnownRows
    constant : bool
        Whether the statistics of labelled rows do not depend on the parameters, so that one pass over them is enough.
    """

    changing = ("unlabelled", "labelled", "_known")
    is_pass = True

    def __init__(self, unlabelled: Expectation | None, known_rows: KnownRows, constant: bool) -> None:
        self.unlabelled, self.known_rows, self.constant = unlabelled, known_rows, constant
        self._known: SufficientStatistics | None = None

    @property
    def labelled(self) -> Any:
        """What changes in the pass over known rows of this process; nothing does where workers have them."""
        return _Nothing() if self.known_rows.own is None else self.known_rows.own

    def __call__(self, parameters: MixtureParameters, hard: bool = False) -> SufficientStatistics:
        """See `Expectation`."""
        structure = STRUCTURES[parameters.covariance_type]
        known = self._known
        if known is None or not self.constant:
            known = self.known_rows(replace(parameters, noise=None))
            if self.constant:
                present = np.maximum(known.sum_resp, 1.0)[:, None]
                known = known.about(known.means + known.sum_diff / present, structure)
            self._known = known
        known = known.about(parameters.means, structure)
        if self.constant:
            known = replace(known, log_likelihood=complete_log_likelihood(parameters, known))
        if self.unlabelled is None:
            return known
        return self.unlabelled(parameters, hard=hard).about(parameters.means, structure) + known


def _better_centres(statistics: SufficientStatistics, structure: CovarianceStructure, dtype: Any) -> Array | None:
    """Where the rows of each component lie, if some lie so far from its mean that moments about it keep few digits.

    They do if a prior holds the mean elsewhere, or a start put it there. None if the moments are good as they are.
    """
    if not structure.centres_freely:
        return None
    # In nearly all passes it ends here, at a few microseconds: what follows takes most of a second moment to be offset.
    count = np.maximum(statistics.sum_resp, TINY)[:, None]
    second = statistics.sum_outer.diagonal(0, -2, -1) if structure.is_matrix else statistics.sum_outer
    if not (2.0 * count * (statistics.sum_diff / count) ** 2 > second).any():
        return None
    present = statistics.sum_resp > TINY
    count = np.where(present, statistics.sum_resp, 1.0)[:, None]
    offsets = np.where(present[:, None], statistics.sum_diff / count, 0.0)
    centred = structure.moved_outer(statistics.sum_outer, statistics.sum_resp, statistics.sum_diff, offsets)
    scatter = centred.diagonal(0, -2, -1) if structure.is_matrix else centred
    pooled = scatter.sum(axis=0) / max(count.sum(), TINY)
    eps, moved = np.finfo(dtype).eps, statistics.means + offsets
    rounding = offsets**2 * eps
    # Of a column that is constant in every component, all of this is rounding.
    spread = np.average((moved - np.average(moved, axis=0, weights=count[:, 0])) ** 2, axis=0, weights=count[:, 0])
    noise = (NOISE_ROUNDINGS * eps) ** 2 * (spread + pooled)
    worse = (rounding > MOMENT_CANCELLATION * scatter / count) & (offsets**2 > pooled) & (offsets**2 > noise)
    return moved if worse.any() else None


def _keeps_digits(part: Array, whole: Array) -> bool:
    """Whether `part` holds more than TIED_CANCELLATION of `whole` along every direction: a difference is definite."""
    scale = np.sqrt(np.diagonal(whole))
    if not np.all(scale > 0):
        return False
    try:
        np.linalg.cholesky((part - TIED_CANCELLATION * whole) / scale / scale[:, None])
    except np.linalg.LinAlgError:
        return False
    return True
