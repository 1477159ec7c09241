"""Rows of many groups, put together group by group."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..rows.frames import column_names, without_column
from ..rows.source import ArraySource

Index = NDArray[np.int64]


@dataclass(frozen=True)
class GroupedRows:
    """Rows group after group: where each begins, what groups are called, and where the rows stood before."""

    X: NDArray[Any]
    sample_weight: NDArray[np.float64] | None
    offsets: Index
    names: NDArray[Any]
    order: Index | None
    names_of_columns: NDArray[Any] | None


def grouped(X: Any, groups: Any, offsets: ArrayLike | None, sample_weight: ArrayLike | None) -> GroupedRows:
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
        return GroupedRows(array, weight, bounds, np.arange(len(bounds) - 1), None, names_of_columns)
    labels = np.asarray(groups)
    if labels.shape != (len(array),):
        raise ValueError(f"groups has shape {labels.shape}; X has {len(array)} rows, each of which needs a group.")
    names, starts, order = _sorted_groups(labels)
    if order is not None:
        array = array[order]
        weight = None if weight is None else weight[order]
    return GroupedRows(array, weight, np.append(starts, len(array)).astype(np.int64), names, order, names_of_columns)


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
