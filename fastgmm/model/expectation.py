"""The E-step of a fit: statistics of all its rows under given parameters, whatever the rows are like.

What iterates knows an `Expectation` only. Passes over complete rows are here, over rows with gaps in missing.py;
`PartlyLabelled` adds rows whose component is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..rows.source import Source
from .bridge import MixtureKernels, RespOf
from .covariance import STRUCTURES, TIED_CANCELLATION
from .density import as_full, complete_log_likelihood
from .parameters import Array, MixtureParameters
from .resumable import Resumable
from .statistics import SufficientStatistics, add_up


class Expectation(Protocol):
    """A pass over the rows; with `hard`, every row belongs to its most probable component alone."""

    hard: bool

    def __call__(self, parameters: MixtureParameters, resp: RespOf | None = None) -> SufficientStatistics:
        """Return the statistics of all rows under `parameters` (or under given responsibilities)."""


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

    def __init__(self, source: Source, shift: Array, sample_weight: Array | None = None) -> None:
        self.source, self.shift, self.sample_weight = source, shift, sample_weight
        self.hard = False
        self._scatter: Array | None = None
        self._pairwise = False

    def __call__(self, parameters: MixtureParameters, resp: RespOf | None = None) -> SufficientStatistics:
        """Return the statistics of all rows under `parameters` (or under given responsibilities)."""
        structure = STRUCTURES[parameters.covariance_type]
        if not structure.pools_components:
            return self._accumulate(parameters, resp)
        if not self._pairwise and parameters.noise is None:
            scatter = self.data_scatter()
            statistics = self._accumulate(parameters, resp)
            pooled = statistics.sum_outer + scatter
            if _keeps_digits(pooled, scatter):
                return replace(statistics, sum_outer=pooled)
            self._pairwise = True
        statistics = self._accumulate(as_full(parameters), resp)
        return replace(statistics, sum_outer=statistics.sum_outer.sum(axis=0))

    def _accumulate(self, parameters: MixtureParameters, resp: RespOf | None) -> SufficientStatistics:
        if resp is not None:  # a start, or rows whose component is known: not worth sending to workers
            kernels = MixtureKernels(parameters, self.source.dtype, self.shift)
            return kernels.accumulate(self.source.chunks(), self.sample_weight, resp)
        arguments = (accumulate_part, parameters, self.shift, self.hard)
        return add_up(self.source.map_parts(*arguments, per_row=(self.sample_weight,)))

    def data_scatter(self) -> Array:
        """Weighted sum of (x - shift)(x - shift)^T, as the statistics of one Gaussian at the shift; kept."""
        if self._scatter is None:
            n_features = len(self.shift)
            factor = 1e-100 * np.eye(n_features)  # so wide that no row is far
            wide = MixtureParameters(np.ones(1), self.shift[None], factor[None], "full")
            arguments = (accumulate_part, wide, self.shift, False)
            self._scatter = add_up(self.source.map_parts(*arguments, per_row=(self.sample_weight,))).sum_outer[0]
        return self._scatter


def accumulate_part(
    part: Source, parameters: MixtureParameters, shift: Array, hard: bool, sample_weight: Array | None
) -> SufficientStatistics:
    """Return the statistics of the rows of a part."""
    return MixtureKernels(parameters, part.dtype, shift).accumulate(part.chunks(), sample_weight, hard=hard)


class PartwisePass:
    """A pass that treats every part of the rows for itself.

    Parameters
    ----------
    source : Source
    make : callable(part, *values), a function of a module or a partial of one
        Returns the Expectation of a part, given its values of the arrays per row.
    per_row : sequence of ndarrays of n_samples entries, or None
    """

    def __init__(self, source: Source, make: Callable[..., Any], per_row: Sequence[Any]) -> None:
        self.source, self.make, self.per_row = source, make, per_row
        self.hard = False

    def __call__(self, parameters: Any, resp: RespOf | None = None) -> Any:
        """Return the statistics of all rows under `parameters`."""
        if resp is not None:
            return self.make(self.source, *self.per_row)(parameters, resp)
        return add_up(self.source.map_parts(_pass_over, self.make, parameters, self.hard, per_row=self.per_row))


def _pass_over(part: Source, make: Callable[..., Any], parameters: Any, hard: bool, *values: Any) -> Any:
    expectation = make(part, *values)
    if hard:
        expectation.hard = True
    return expectation(parameters)


class PartlyLabelled(Resumable):
    """Rows of which some are known to belong to one component; the others are the concern of another pass.

    A known row counts in the log-likelihood with the density of row and component together.

    Parameters
    ----------
    unlabelled : Expectation or None
        None where every row is labelled.
    labelled : Expectation
        Over the labelled rows alone.
    labels : ndarray of shape (n_labelled,), int64
    constant : bool
        Whether the statistics of labelled rows do not depend on the parameters, so that one pass over them is enough.
    """

    changing = ("unlabelled", "labelled", "_known")

    def __init__(
        self, unlabelled: Expectation | None, labelled: Expectation, labels: NDArray[np.int64], constant: bool
    ) -> None:
        self.unlabelled, self.labelled, self.labels, self.constant = unlabelled, labelled, labels, constant
        self._known: SufficientStatistics | None = None

    @property
    def hard(self) -> bool:
        """Whether unlabelled rows belong to one component each."""
        return self.unlabelled is not None and self.unlabelled.hard

    @hard.setter
    def hard(self, value: bool) -> None:
        if self.unlabelled is not None:
            self.unlabelled.hard = value

    def __call__(self, parameters: MixtureParameters, resp: RespOf | None = None) -> SufficientStatistics:
        """Return the statistics of all rows under `parameters`."""
        if resp is not None:
            raise ValueError("Responsibilities of labelled rows are their labels.")
        structure = STRUCTURES[parameters.covariance_type]
        known = self._known
        if known is None or not self.constant:
            identity = np.eye(len(parameters.weights))
            quiet = replace(parameters, noise=None)
            known = self.labelled(quiet, lambda first, last: identity[self.labels[first:last]])
            if self.constant:
                present = np.maximum(known.sum_resp, 1.0)[:, None]
                known = known.about(known.means + known.sum_diff / present, structure)
            self._known = known
        known = known.about(parameters.means, structure)
        if self.constant:
            known = replace(known, log_likelihood=complete_log_likelihood(parameters, known))
        if self.unlabelled is None:
            return known
        return self.unlabelled(parameters).about(parameters.means, structure) + known


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
