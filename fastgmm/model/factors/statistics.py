"""The E-step of a mixture of factor analysers: expected sums over rows and factors together."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridge import MixtureKernels, Rows
from ..parameters import Array
from .parameters import FactorParameters

SLOTS = 8  # at least so many parts of a pass: a few components alone would not feed the threads


@dataclass(frozen=True)
class FactorStatistics:
    """Responsibility-weighted sums with z~ = (z, 1), the expected factors of a row and a one.

    Where values are missing, each feature has sums of its own, over the rows in which it is present: n_own is then
    n_features. Otherwise n_own is 1.

    Attributes
    ----------
    log_likelihood : float
        Weighted total log-likelihood of the rows, in nats.
    sum_resp : ndarray of shape (n_components,)
    latent : ndarray of shape (n_components, n_own, n_factors + 1, n_factors + 1)
        Sum of r E[z~ z~^T]; its last entry is the sum of r.
    cross : ndarray of shape (n_components, n_features, n_factors + 1)
        Sum of r (x - mean) E[z~]^T.
    second : ndarray of shape (n_components, n_features)
        Sum of r (x - mean)^2.
    parameters : FactorParameters
        What the sums were computed with; its means are those the kernels rounded.
    n_far : int
        Rows whose distance to every component left the floating-point range.
    """

    log_likelihood: float
    sum_resp: Array
    latent: Array
    cross: Array
    second: Array
    parameters: FactorParameters
    n_far: int = 0

    @property
    def total_weight(self) -> float:
        """Weight of all rows."""
        return float(self.sum_resp.sum())

    def __add__(self, other: "FactorStatistics") -> "FactorStatistics":
        """Combine the statistics of two disjoint sets of rows under the same parameters."""
        return FactorStatistics(
            self.log_likelihood + other.log_likelihood,
            self.sum_resp + other.sum_resp,
            self.latent + other.latent,
            self.cross + other.cross,
            self.second + other.second,
            self.parameters,
            self.n_far + other.n_far,
        )


class FactorPass:
    """One pass over complete rows.

    Responsibilities of a few thousand rows are written out, then each component gathers the rows that it has a share
    in: where features are many, that is one row in n_components.

    Parameters
    ----------
    rows : callable returning the rows anew at each call
    dtype : float32 or float64
    shift : ndarray of shape (n_features,)
    sample_weight : ndarray of shape (n_samples,) or None
    """

    hard = False

    def __init__(self, rows: Callable[[], Rows], dtype: Any, shift: Array, sample_weight: Array | None = None) -> None:
        self.rows, self.dtype, self.shift, self.sample_weight = rows, np.dtype(dtype), shift, sample_weight

    def __call__(self, parameters: FactorParameters) -> FactorStatistics:
        """Return the statistics of all rows under `parameters`."""
        from ...kernels.low_rank import FactorSums

        kernels = MixtureKernels(parameters, self.dtype, self.shift)
        n_components, n_features = parameters.means.shape
        parts = -(-SLOTS // n_components)
        row_factors = _row_factors(parameters, self.shift, kernels.dtype)
        n_padded, n_rows = row_factors.shape[2], row_factors.shape[1]
        slots = n_components * parts
        sums = FactorSums(np.zeros((slots, n_rows, n_padded)), np.zeros((slots, n_rows - 1, n_rows - 1)))
        log_likelihood, n_far = 0.0, 0
        for first, block in kernels.calls(self.rows(), kernels.dtype.itemsize * n_components):
            weight = None if self.sample_weight is None else self.sample_weight[first : first + len(block)]
            total, far = self._add_block(kernels, block, weight, row_factors, parts, sums)
            log_likelihood += total
            n_far += far
        cross = sums.cross.reshape(n_components, parts, n_rows, n_padded).sum(axis=1)[:, :, :n_features]
        latent = sums.latent.reshape(n_components, parts, n_rows - 1, n_rows - 1).sum(axis=1)
        return _expected(parameters, row_factors, self.shift, log_likelihood, cross, latent, n_far)

    def _add_block(
        self,
        kernels: MixtureKernels,
        block: NDArray[Any],
        weight: Array | None,
        row_factors: NDArray[Any],
        parts: int,
        sums: Any,
    ) -> tuple[float, int]:
        from ...kernels import parallel
        from ...kernels.low_rank import accumulate_slot, workspace_bytes

        resp = np.empty((len(block), len(row_factors)), block.dtype)
        log_prob_norm = np.empty(len(block), block.dtype)
        kernels.score([(0, block)], log_prob_norm, resp=resp)
        values = log_prob_norm.astype(np.float64)
        present = np.ones(len(block), bool) if weight is None else weight > 0
        total = values[present].sum() if weight is None else weight[present] @ values[present]
        n_far = int(np.sum(~np.isfinite(values[present])))
        if n_far:  # the fit ends with an error; their squares would overflow
            return float(total), n_far
        given = np.empty(0) if weight is None else weight.view()
        for array in (resp, given):
            array.flags.writeable = False
        parallel.run_slots(
            *(accumulate_slot, len(sums.cross), workspace_bytes(row_factors)),
            *(block, resp, given, self.shift, row_factors, parts, sums),
        )
        return float(total), 0


def _row_factors(parameters: FactorParameters, shift: Array, dtype: np.dtype[Any]) -> NDArray[Any]:
    """1 / sd, -(mean - shift) / sd and A, features along rows and padded: what accumulate_slot reads."""
    n_components, n_features = parameters.means.shape
    n_factors = parameters.n_factors + parameters.n_factors % 2
    width = 256 // dtype.itemsize
    rows = np.zeros((n_components, 2 + n_factors, -(-n_features // width) * width), dtype)
    scale = 1.0 / np.sqrt(parameters.noise_variance)
    rows[:, 0, :n_features] = scale
    rows[:, 1, :n_features] = -(parameters.means - shift) * scale
    rows[:, 2 : 2 + parameters.n_factors, :n_features] = np.swapaxes(parameters.projection, 1, 2)
    return rows


def _expected(
    parameters: FactorParameters,
    row_factors: NDArray[Any],
    shift: Array,
    log_likelihood: float,
    cross: Array,
    latent: Array,
    n_far: int,
) -> FactorStatistics:
    """From sums of u and v (kernels/low_rank.py) to sums of x - mean and z."""
    n_factors, n_features = parameters.n_factors, parameters.means.shape[1]
    scale, offset = (row_factors[:, i, :n_features].astype(np.float64) for i in (0, 1))
    kept = [*range(n_factors), latent.shape[1] - 1]  # without the factor that fills a pair up
    latent = latent[:, kept][:, :, kept]
    latent = latent + np.swapaxes(np.tril(latent, -1), 1, 2)
    sum_resp = latent[:, -1, -1].copy()
    T = np.zeros_like(latent)
    T[:, :-1, :-1] = np.swapaxes(parameters.inverse_cholesky, 1, 2)
    T[:, -1, -1] = 1.0
    expected = T @ latent @ np.swapaxes(T, 1, 2)
    covariance = np.swapaxes(parameters.inverse_cholesky, 1, 2) @ parameters.inverse_cholesky  # M^-1
    expected[:, :-1, :-1] += sum_resp[:, None, None] * covariance
    moments = np.swapaxes(cross[:, kept] / scale[:, None], 1, 2) @ np.swapaxes(T, 1, 2)
    means = shift - offset / scale
    return FactorStatistics(
        log_likelihood,
        sum_resp,
        expected[:, None],
        moments,
        cross[:, -1] / scale**2,
        replace(parameters, means=means),
        n_far,
    )
