"""The E-step of a mixture of factor analysers; the counterpart of model/expectation.py."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...rows.source import Source
from ..bridge import MixtureKernels
from ..parameters import Array
from .missing import VisibleSums
from .parameters import FactorParameters
from .statistics import FactorStatistics

SLOTS = 8  # at least so many parts of a pass: a few components alone would not feed the threads


class FactorPass:
    """One pass over rows.

    Responsibilities of a few thousand rows are written out, then each component gathers the rows that it has a share
    in: where features are many, that is one row in n_components. With `gaps`, rows that hold NaN go another way
    (`VisibleSums`).

    Parameters
    ----------
    source : Source
    sample_weight : ndarray of shape (n_samples,) or None
    shift : ndarray of shape (n_features,)
    gaps : bool
        Whether NaN is a missing value.
    """

    def __init__(self, source: Source, sample_weight: Array | None, shift: Array, gaps: bool = False) -> None:
        self.source, self.sample_weight, self.shift, self.gaps = source, sample_weight, shift, gaps

    def __call__(self, parameters: FactorParameters, hard: bool = False) -> FactorStatistics:
        """Return the statistics of all rows under `parameters`."""
        complete = CompleteSums(parameters, self.source.dtype, self.shift)
        visible = VisibleSums(parameters) if self.gaps else None
        bytes_per_row = complete.kernels.dtype.itemsize * len(parameters.weights)
        for first, block in complete.kernels.calls(self.source.chunks(), bytes_per_row):
            weight = None if self.sample_weight is None else self.sample_weight[first : first + len(block)]
            if visible is not None and (incomplete := np.isnan(block).any(axis=1)).any():
                visible.add(block[incomplete], None if weight is None else weight[incomplete])
                block, weight = block[~incomplete], None if weight is None else weight[~incomplete]
            if len(block):
                complete.add(block, weight)
        if visible is None or not visible.n_rows:
            return complete.statistics()
        if not complete.n_rows:
            return visible.statistics()
        statistics = complete.statistics()
        return statistics + visible.statistics().about(statistics.parameters.means)


class CompleteSums:
    """Sums over complete rows under one mixture, block by block."""

    def __init__(self, parameters: FactorParameters, dtype: Any, shift: Array) -> None:
        from ...kernels.low_rank import FactorSums

        self.kernels = MixtureKernels(parameters, dtype, shift)
        self._parameters, self._shift = parameters, shift
        n_components = len(parameters.weights)
        self._parts = -(-SLOTS // n_components)
        self._row_factors = _row_factors(parameters, shift, self.kernels.dtype)
        n_rows, n_padded = self._row_factors.shape[1:]
        slots = n_components * self._parts
        self._sums = FactorSums(np.zeros((slots, n_rows, n_padded)), np.zeros((slots, n_rows - 1, n_rows - 1)))
        self.n_rows, self._log_likelihood, self._n_far = 0, 0.0, 0

    @property
    def _rounded(self) -> FactorParameters:
        """The parameters, with the means that the sums are about: as the kernels round them."""
        n_features = self._parameters.means.shape[1]
        scale, offset = (self._row_factors[:, i, :n_features].astype(np.float64) for i in (0, 1))
        return replace(self._parameters, means=self._shift - offset / scale)

    def add(self, block: NDArray[Any], weight: Array | None) -> None:
        """Add the rows of a block, of these weights."""
        from ...kernels import parallel
        from ...kernels.low_rank import accumulate_slot, workspace_bytes

        self.n_rows += len(block)
        row_factors = self._row_factors
        resp = np.empty((len(block), len(row_factors)), self.kernels.dtype)
        log_prob_norm = np.empty(len(block), self.kernels.dtype)
        self.kernels.score([(0, block)], log_prob_norm, resp=resp)
        values = log_prob_norm.astype(np.float64)
        present = np.ones(len(block), bool) if weight is None else weight > 0
        self._log_likelihood += float(values[present].sum() if weight is None else weight[present] @ values[present])
        n_far = int(np.sum(~np.isfinite(values[present])))
        self._n_far += n_far
        if n_far:  # the fit ends with an error; their squares would overflow
            return
        given, rows = np.empty(0) if weight is None else weight.view(), block.view()
        for array in (resp, given, rows):
            array.flags.writeable = False
        parallel.run_slots(
            *(accumulate_slot, len(self._sums.cross), workspace_bytes(row_factors)),
            *(rows, resp, given, self._shift, row_factors, self._parts, self._sums),
        )

    def statistics(self) -> FactorStatistics:
        """From sums of u and v (kernels/low_rank.py) to sums of x - mean and z."""
        parameters, parts = self._parameters, self._parts
        n_components, n_features = parameters.means.shape
        n_rows, n_padded = self._row_factors.shape[1:]
        cross = self._sums.cross.reshape(n_components, parts, n_rows, n_padded).sum(axis=1)[:, :, :n_features]
        latent = self._sums.latent.reshape(n_components, parts, n_rows - 1, n_rows - 1).sum(axis=1)
        kept = [*range(parameters.n_factors), latent.shape[1] - 1]  # without the factor that fills a pair up
        latent = latent[:, kept][:, :, kept]
        latent = latent + np.swapaxes(np.tril(latent, -1), 1, 2)
        sum_resp = latent[:, -1, -1].copy()
        T = np.zeros_like(latent)
        T[:, :-1, :-1] = np.swapaxes(parameters.inverse_cholesky, 1, 2)
        T[:, -1, -1] = 1.0
        expected = T @ latent @ np.swapaxes(T, 1, 2)
        covariance = np.swapaxes(parameters.inverse_cholesky, 1, 2) @ parameters.inverse_cholesky  # M^-1
        expected[:, :-1, :-1] += sum_resp[:, None, None] * covariance
        scale = self._row_factors[:, 0, :n_features].astype(np.float64)
        return FactorStatistics(
            self._log_likelihood,
            sum_resp,
            expected[:, None],
            np.swapaxes(cross[:, kept] / scale[:, None], 1, 2) @ np.swapaxes(T, 1, 2),
            cross[:, -1] / scale**2,
            self._rounded,
            self._n_far,
        )


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
