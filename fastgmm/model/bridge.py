"""The bridge to the kernels: a mixture prepared for them, and passes over blocks of rows.

Rows arrive as (first, block) pairs: the index of the block's first row and a C-contiguous array of float32 or float64.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .factors.parameters import FactorParameters
from .far import score_far
from .log_density import as_full, compute_log_const, structure_of
from .parameters import Array, MixtureParameters
from .statistics import SufficientStatistics
from .structure import CovarianceStructure, KernelStructure

Rows = Iterable[tuple[int, NDArray[Any]]]
Parameters = MixtureParameters | FactorParameters


class Resp(Protocol):
    """Given responsibilities: an array (n_rows, n_components), or what computes the rows it is asked for."""

    def __getitem__(self, rows: Any) -> Array: ...


class OneHot:
    """The responsibilities of rows whose component is known: labels (n_rows,)."""

    def __init__(self, labels: NDArray[np.int64], n_components: int) -> None:
        self._labels, self._identity = labels, np.eye(n_components)

    def __getitem__(self, rows: Any) -> Array:
        return self._identity[self._labels[rows]]


def read_only(block: NDArray[Any]) -> NDArray[Any]:
    """A read-only view: mutable and read-only arrays would compile separately."""
    view = block.view()
    view.flags.writeable = False
    return view


_UNWEIGHTED = read_only(np.empty(0))
_NO_RESP = read_only(np.empty((0, 0)))
_NO_LABELS = np.empty(0, np.int64)


@cache
def _passes() -> Any:
    """The module of the passes, which imports Numba, at first use."""
    return import_module("fastgmm.kernels.passes")


@cache
def _parallel() -> Any:
    return import_module("fastgmm.kernels.parallel")


class Layout:
    """What follows from the shape of a mixture alone: padded shapes, how rows are cut, and which kernels there are."""

    def __init__(self, structure: KernelStructure, n_components: int, n_features: int, dtype: np.dtype[Any]) -> None:
        passes = _passes()
        self._structure, self._itemsize = structure, dtype.itemsize
        self.means = (passes.padded_components(n_components), passes.padded_features(n_features))
        self.factors, self.outer = structure.kernel_shapes(*self.means)
        self.flops_per_row = structure.flops_per_row(n_components, n_features)
        self.kernels = structure.kernels
        no_matrix = np.empty((0, 0), dtype)
        self.no_output = passes.ScoreOutput(np.empty(0, dtype), _NO_LABELS, no_matrix, no_matrix)
        self.cut = lru_cache(self._cut)

    def _cut(self, n_samples: int) -> tuple[int, int]:
        """Rows per block and number of slots for a call on n_samples rows."""
        n_components, n_padded = self.means
        block = int(self._structure.block_size(n_samples, n_padded, n_components, self._itemsize))
        slot_bytes = 8 * (2 + n_components * (1 + n_padded) + math.prod(self.outer))
        return block, int(_parallel().slot_count(n_samples, block, slot_bytes))


_layout = lru_cache(Layout)


@cache
def block_functions_of(structure: KernelStructure, n_features: int, dtype: np.dtype[Any], general: bool = False) -> Any:
    """Where the functions are that do an EM pass, or with `general` any, over a block of rows of this width."""
    passes, n_padded = _passes(), _passes().padded_features(n_features)
    empty, no_matrix = np.empty((0, n_padded), dtype), np.empty((0, n_padded, n_padded), dtype)
    parameters = passes.KernelParameters(np.empty(n_padded), np.empty(0, dtype), empty, no_matrix, empty)
    return passes.block_functions(structure.kernels, parameters, general)


class MixtureKernels:
    """A mixture prepared for the kernels of its covariance type: shifted, padded, in the dtype of the rows.

    Parameters
    ----------
    parameters : MixtureParameters or FactorParameters
    dtype : float32 or float64
        Of the rows. Factor analysers whose densities float32 has no digits for compute in float64.
    shift : ndarray of shape (n_features,), default: the mean of the mixture
        Subtracted from rows and means in float64, so that a common offset costs no digits.
    centres : ndarray of shape (n_components, n_features), default: the means
        What statistics are about, for structures whose `centres_freely` allows it.
    """

    def __init__(
        self, parameters: Parameters, dtype: Any, shift: Array | None = None, centres: Array | None = None
    ) -> None:
        has_noise = isinstance(parameters, MixtureParameters) and parameters.noise is not None
        if has_noise and structure_of(parameters).pools_components:
            assert isinstance(parameters, MixtureParameters)
            parameters = as_full(parameters)  # a shared factor cannot be zero for the noise alone
        self.parameters, self.dtype = parameters, np.dtype(dtype)
        if isinstance(parameters, FactorParameters):
            self.dtype = parameters.precision(self.dtype)
        self._converts = self.dtype != dtype
        self.structure = structure_of(parameters)
        n_components, n_features = parameters.means.shape
        self.shift = parameters.weights @ parameters.means if shift is None else shift
        layout = _layout(self.structure, n_components + has_noise, n_features, self.dtype)
        self._layout = layout
        means = np.zeros(layout.means, self.dtype)
        means[:n_components, :n_features] = parameters.means - self.shift
        # Rounded to the dtype of the rows first, so that the statistics are about the very means the kernels used.
        self.means = means[:n_components, :n_features].astype(np.float64)
        factors, offsets = self.structure.kernel_factors(parameters, self.means)
        if centres is not None:
            means[:n_components, :n_features] = centres - self.shift
            self.means = means[:n_components, :n_features].astype(np.float64)
        padded = np.full(layout.means[0], -np.inf, self.dtype)
        with np.errstate(divide="ignore", over="ignore"):
            self.log_const = padded[:n_components] = compute_log_const(parameters)
            # Noise is a last component whose factor and offset are zero, so that every row is at distance zero.
            if parameters.noise is not None:
                padded[n_components] = parameters.noise.log_weighted_density
            self._kernel_parameters = _passes().KernelParameters(
                _pad(self.shift, (max(8, n_features),), np.float64),
                padded,
                means,
                _pad(factors, layout.factors, self.dtype),
                _pad(offsets, means.shape, self.dtype),
            )

    def calls(self, rows: Rows, bytes_per_row: int = 1, multiple: int = 1) -> Iterator[tuple[int, NDArray[Any]]]:
        """Cut blocks into what one call may take, so that control returns to Python several times a second.

        But for the last call of a block, they take multiples of so many rows.
        """
        if self._converts:
            bytes_per_row = max(bytes_per_row, self.dtype.itemsize * self.means.shape[1])
        size = _parallel().rows_per_call(self._layout.flops_per_row, bytes_per_row)
        size = max(1, size // multiple) * multiple
        for start, block in rows:
            for first in range(0, len(block), size):
                part = block[first : first + size]
                yield start + first, read_only(part.astype(self.dtype, copy=False) if self._converts else part)

    def _aligned_calls(self, rows: Rows, bytes_per_row: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """`calls` that are cut between the blocks of the kernels, wherever the source was cut.

        The sums of a float32 block are float32: the same blocks make the statistics of a file those of an array.
        """
        size = self._layout.cut(2**40)[0]  # of many rows
        held: NDArray[Any] | None = None  # rows of an unfinished block
        chunks = iter(rows)
        following = next(chunks, None)
        while following is not None:
            (first, chunk), following = following, next(chunks, None)
            if held is not None:
                count = min(len(chunk), size - len(held))
                held = np.concatenate([held, chunk[:count]])
                if len(held) == size or (following is None and count == len(chunk)):
                    yield first + count - len(held), read_only(held)
                    held = None
                first, chunk = first + count, chunk[count:]
            whole = len(chunk) if following is None else len(chunk) // size * size
            yield from self.calls([(first, chunk[:whole])], bytes_per_row, size)
            if whole < len(chunk):
                held = chunk[whole:].copy()  # the chunk's memory may be used again

    def _run(
        self, block: NDArray[Any], weight: Array, resp: Array, size: int, slots: Any, output: Any, hard: bool = False
    ) -> None:
        """One pass over a block of rows, `size` of them at a time, into statistics and outputs."""
        passes, parameters = _passes(), self._kernel_parameters
        general = hard or len(resp) > 0 or len(output.labels) > 0 or len(output.resp) > 0 or len(output.log_prob) > 0
        functions = passes.block_functions(self._layout.kernels, parameters, general)
        if hard:
            functions = functions._replace(hard=1)
        _parallel().run_slots(
            *(passes.run_slot, len(slots.totals), passes.workspace_bytes(size, parameters, functions)),
            *(block, weight, resp, size, parameters, functions, slots, output),
            kind=self.dtype,
        )

    def accumulate(
        self, rows: Rows, sample_weight: Array | None = None, resp: Resp | None = None, hard: bool = False
    ) -> SufficientStatistics:
        """Add up the statistics of all rows.

        With `hard`, every row belongs to its most probable component alone, and the log-likelihood is that of rows and
        components together.
        `resp[first:last]` are given responsibilities of these rows, (last - first, n_components); without them they
        come from the mixture itself. The second moment of a tied covariance lacks the scatter of the data,
        which `StatisticsPass` adds.
        """
        layout, slots, total = self._layout, None, None
        for first, block in self._aligned_calls(rows, 1 if resp is None else 8 * len(self.means)):
            block_rows, n_slots = layout.cut(len(block))
            if slots is None or len(slots.totals) != n_slots:
                total = _merge(total, slots)
                slots = _passes().SlotStatistics(
                    np.zeros((n_slots, 2)),
                    np.zeros((n_slots, layout.means[0])),
                    np.zeros((n_slots, *layout.means)),
                    np.zeros((n_slots, *layout.outer)),
                )
            last = first + len(block)
            weight = _UNWEIGHTED if sample_weight is None else read_only(sample_weight[first:last])
            given = _NO_RESP if resp is None else read_only(np.ascontiguousarray(resp[first:last], np.float64))
            self._run(block, weight, given, block_rows, slots, layout.no_output, hard)
        return self._statistics(_merge(total, slots))

    def _statistics(self, merged: Any) -> SufficientStatistics:
        n_components, n_features = self.means.shape
        sum_resp, first = merged.sum_resp[0, :n_components], merged.sum_first[0, :n_components, :n_features]
        outer = merged.sum_outer[0, :n_components]
        if outer.shape[1] > 1:
            outer = outer[:, :n_features]
        if outer.shape[2] > 1:
            outer = outer[:, :, :n_features]
        assert isinstance(self.structure, CovarianceStructure)
        sum_diff, sum_outer = self.structure.centred(first, outer, sum_resp, self.means)
        return SufficientStatistics(
            float(merged.totals[0, 0]),
            sum_resp,
            sum_diff,
            sum_outer,
            means=self.means + self.shift,
            n_far=int(merged.totals[0, 1]),
            noise_resp=0.0 if self.parameters.noise is None else float(merged.sum_resp[0, n_components]),
        )

    def score(
        self,
        rows: Rows,
        log_prob_norm: NDArray[Any] | None = None,
        labels: NDArray[np.int64] | None = None,
        resp: NDArray[Any] | None = None,
        log_prob: NDArray[Any] | None = None,
    ) -> None:
        """Fill the given arrays (one entry per row) with log-densities in nats, labels and responsibilities.

        `log_prob` gets the weighted log-densities of the components. Nothing of size n_samples x n_components exists
        unless `resp` or `log_prob` is given; labels and `log_prob` alone need no exponential. NonFiniteRowsError
        if rows hold NaN or infinity: looking for them beforehand took as long as the labels of float32 rows.
        """
        passes, layout = _passes(), self._layout
        for first, block in self.calls(rows):
            last = first + len(block)
            block_rows, n_slots = layout.cut(len(block))
            wanted = (log_prob_norm, labels, resp, log_prob)
            given = [None if array is None else array[first:last] for array in wanted]
            pairs = zip(given, layout.no_output, strict=True)
            output = passes.ScoreOutput(*(none if array is None else self._buffer(array) for array, none in pairs))
            totals = np.zeros((n_slots, 2))
            no_sums = passes.SlotStatistics(totals, np.empty((0, 0)), np.empty((0, 0, 0)), np.empty((0, 0, 0, 0)))
            self._run(block, _UNWEIGHTED, _NO_RESP, block_rows, no_sums, output)
            if totals[:, 1].any():
                score_far(block, self, output)
            for array, computed in zip(given, output, strict=True):
                if array is not None and computed is not array:
                    array[...] = computed

    def _buffer(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself if the kernels can write into it, else one of their dtype."""
        other = array.dtype.kind == "f" and array.dtype != self.dtype
        return np.empty(array.shape, self.dtype) if other else array


def _pad(values: Array, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """With trailing features padded by zeros; single entries stay single."""
    if values.shape == shape and values.dtype == dtype and values.flags.carray:
        return values
    out = np.zeros(shape, dtype)
    out[tuple(slice(0, n) for n in values.shape)] = values
    return out


def _merge(total: Any, slots: Any) -> Any:
    """Add the slots up in their order; the result has one slot."""
    if slots is None:
        return total
    if len(slots.totals) > 1:
        slots = type(slots)(*(np.add.reduce(array, axis=0, keepdims=True) for array in slots))
    if total is None:
        return slots
    return type(slots)(*(a + b for a, b in zip(total, slots, strict=True)))
