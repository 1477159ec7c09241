"""Sufficient statistics of a mixture: they add up over blocks, threads, processes and machines."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .parameters import TINY, Array
from .structure import CovarianceStructure


@dataclass(frozen=True)
class SufficientStatistics:
    """Responsibility-weighted sums of x - mean about the means the responsibilities were computed with.

    Attributes
    ----------
    log_likelihood : float
        Weighted total log-likelihood of the rows, in nats.
    sum_resp : ndarray of shape (n_components,)
    sum_diff : ndarray of shape (n_components, n_features)
    sum_outer : ndarray, shaped like the covariances of the type; tied: the sum over components.
    means : ndarray of shape (n_components, n_features)
        What the sums are centred on: the parameters' means as the kernels rounded them.
    n_far : int
        Rows whose distance to every component left the floating-point range.
    noise_resp : float
        Weight of the rows that belong to the uniform noise.
    """

    log_likelihood: float
    sum_resp: Array
    sum_diff: Array
    sum_outer: Array
    means: Array
    n_far: int = 0
    noise_resp: float = 0.0

    @property
    def total_weight(self) -> float:
        """Weight of all rows."""
        return float(self.sum_resp.sum()) + self.noise_resp

    def scaled(self, factor: float) -> "SufficientStatistics":
        """The statistics as if every row had weighed `factor` times as much."""
        return replace(
            self,
            log_likelihood=self.log_likelihood * factor,
            sum_resp=self.sum_resp * factor,
            sum_diff=self.sum_diff * factor,
            sum_outer=self.sum_outer * factor,
            noise_resp=self.noise_resp * factor,
        )

    def about(self, means: Array, structure: CovarianceStructure) -> "SufficientStatistics":
        """The statistics of the same rows and responsibilities, centred on other means."""
        offsets = means - self.means
        return replace(
            self,
            sum_diff=self.sum_diff - self.sum_resp[:, None] * offsets,
            sum_outer=structure.moved_outer(self.sum_outer, self.sum_resp, self.sum_diff, offsets),
            means=means,
        )

    def leaning_on(self, covariances: Array, n_rows: float, structure: CovarianceStructure) -> "SufficientStatistics":
        """The statistics as if each component had `n_rows` rows more, of this covariance about its mean of all rows."""
        offsets = self.sum_diff / np.maximum(self.sum_resp, TINY)[:, None]
        centred = self.about(self.means + offsets, structure)
        scatter = structure.denominator(np.full(len(self.means), n_rows), self.means.shape[1]) * covariances
        return replace(centred, sum_resp=self.sum_resp + n_rows, sum_outer=centred.sum_outer + scatter)

    def __add__(self, other: "SufficientStatistics") -> "SufficientStatistics":
        """Combine the statistics of two disjoint sets of rows under the same parameters."""
        return SufficientStatistics(
            self.log_likelihood + other.log_likelihood,
            self.sum_resp + other.sum_resp,
            self.sum_diff + other.sum_diff,
            self.sum_outer + other.sum_outer,
            self.means,
            self.n_far + other.n_far,
            self.noise_resp + other.noise_resp,
        )


def add_up(parts: Iterable[Any]) -> Any:
    """Add statistics pairwise, neighbours first: a tree that depends on their number alone, whoever computed them.

    Holds one sum for each binary digit of the number so far.
    """
    sums: list[tuple[int, Any]] = []  # of 2^level parts each
    for part in parts:
        level, total = 0, part
        while sums and sums[-1][0] == level:
            total, level = sums.pop()[1] + total, level + 1
        sums.append((level, total))
    total = sums.pop()[1]
    while sums:
        total = sums.pop()[1] + total
    return total
