"""Sums over the rows of each label, wherever they lie: work independent of the number of components."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.covariance import STRUCTURES
from ..model.parameters import Array
from ..rows.source import Source, blocks

BLOCK_ROWS = 65536  # sorted by label together


def label_means(source: Source, shift: Array, n_components: int, per_row: tuple[Any, Any]) -> tuple[Array, Array]:
    """Weight and mean of the rows with each label, the shift where there are none; -1 is no label."""
    sums = np.sum(list(source.map_parts(_label_sums, shift, n_components, per_row=per_row)), axis=0)
    sum_resp = sums[:, -1]
    return sum_resp, shift + sums[:, :-1] / np.where(sum_resp > 0, sum_resp, 1.0)[:, None]


def _label_sums(
    part: Source, shift: Array, n_components: int, sample_weight: Array | None, labels: NDArray[np.int64]
) -> Array:
    """Sums of x - shift over the rows with each label, and their weight in the last column."""
    sums = np.zeros((n_components, len(shift) + 1))
    for label, starts, rows, weight in _runs(part, sample_weight, labels):
        sums[label[starts], :-1] += np.add.reduceat(weight[:, None] * (rows - shift), starts)
        sums[label[starts], -1] += np.add.reduceat(weight, starts)
    return sums


def label_scatter(
    part: Source, means: Array, covariance_type: str, sample_weight: Array | None, labels: NDArray[np.int64]
) -> Array:
    """Scatter of the rows about the means of their labels, in the shape of the covariances."""
    structure = STRUCTURES[covariance_type]
    sum_outer = np.zeros(structure.shape(*means.shape))
    for label, starts, rows, weight in _runs(part, sample_weight, labels):
        scatter = structure.scatter((rows - means[label]) * np.sqrt(weight)[:, None], starts)
        sum_outer[... if structure.pools_components else label[starts]] += scatter
    return sum_outer


def _runs(
    source: Source, sample_weight: Array | None, labels: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any], Array]]:
    """Yield the labelled rows of blocks, sorted by label: labels, where each run starts, rows, and weights."""
    narrow = np.min_scalar_type(int(labels.max(initial=0)))  # up to 16 bits NumPy sorts by radix, ten times faster
    for first, block in blocks(source.chunks(), BLOCK_ROWS):
        here = labels[first : first + len(block)]
        weight = np.ones(len(here)) if sample_weight is None else sample_weight[first : first + len(block)]
        if len(here) and (here[0] < 0 or (here[1:] < here[:-1]).any()):  # else sorted already: no copy
            known = np.flatnonzero(here >= 0)
            order = known[np.argsort(here[known].astype(narrow), kind="stable")]
            here, block, weight = here[order], block[order], weight[order]
        if len(here):
            counts = np.bincount(here)
            yield here, (np.cumsum(counts) - counts)[counts > 0], block, weight
