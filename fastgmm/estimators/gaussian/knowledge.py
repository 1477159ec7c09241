"""What `GaussianMixture` is told besides the rows: fixed parameters, noise and labels, checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import validation as check
from ...model.covariance import STRUCTURES
from ...model.maximisation import FREE, FixedParameters
from ...model.parameters import Array
from ...rows.frames import to_numbers
from ...rows.summary import ColumnSummary

NOISE_START = 0.1
FIXED_NAMES = ("weights", "means", "covariances")


def resolve_fixed(
    fixed: Mapping[str, Any] | None, covariance_type: str, shape: tuple[int, int], has_noise: bool
) -> FixedParameters:
    """Check `fixed` and return its arrays; shape is (n_components, n_features)."""
    if fixed is None:
        return FREE
    unknown = sorted(set(fixed) - set(FIXED_NAMES))
    if unknown:
        raise ValueError(f"fixed may hold {', '.join(FIXED_NAMES)}; got {unknown[0]!r}.")
    structure, n_components = STRUCTURES[covariance_type], shape[0]
    values: dict[str, Any] = {}
    shapes = {"weights": (n_components,), "means": shape, "covariances": structure.shape(*shape)}
    for name in FIXED_NAMES:
        given = fixed.get(name)
        if given is None:
            continue
        if name == "weights" and isinstance(given, str):
            if given != "equal":
                raise ValueError(f"fixed weights are an array or 'equal'; got {given!r}.")
            values["equal_weights"] = True
            continue
        array = np.array(given, np.float64)
        check.check_shape(array, shapes[name], f"fixed[{name!r}]")
        parts = array.reshape(1, -1) if name == "covariances" and structure.pools_components else array
        parts = parts.reshape(len(parts), -1)
        gaps = np.isnan(parts)
        partly = gaps.any(axis=1) & ~gaps.all(axis=1)
        if partly.any():
            raise ValueError(
                f"fixed[{name!r}] of component {int(np.argmax(partly))} holds numbers and NaN; give all of its "
                "numbers, or NaN alone for a free component."
            )
        _check_fixed(name, array, covariance_type, has_noise)
        if not gaps.all():
            values[name] = array
    return FixedParameters(**values, n_components=shape[0], n_features=shape[1])


def _check_fixed(name: str, array: Array, covariance_type: str, has_noise: bool) -> None:
    """Raise ValueError for fixed values that no mixture has."""
    given = array[~np.isnan(array)]
    if not np.isfinite(given).all():
        raise ValueError(f"fixed[{name!r}] holds an infinite value.")
    if name == "weights":
        total, rest = given.sum(), has_noise or len(given) < len(array)
        if (given < 0).any() or (total >= 1 if rest else abs(total - 1) > 1e-8):
            raise ValueError(
                "fixed['weights'] must be non-negative and sum to less than 1 (to 1 if all are given and there is no "
                f"noise); got a sum of {total:.6g}."
            )
    if name == "covariances":
        structure = STRUCTURES[covariance_type]
        known = array[None] if structure.pools_components else array
        known = known[~np.isnan(known.reshape(len(known), -1)).any(axis=1)]
        if not structure.is_matrix:
            good = bool(np.all(known > 0))
        else:
            good = np.allclose(known, np.swapaxes(known, 1, 2)) and bool(np.all(np.linalg.eigvalsh(known) > 0))
        if not good:
            raise ValueError(
                "fixed['covariances'] must be symmetric and positive definite (diag, spherical: positive)."
            )


def resolve_noise(noise: Any, columns: ColumnSummary, n_features: int) -> tuple[Array | None, float]:
    """Return the box of the uniform noise, or None, and the weight it begins with.

    noise: None; True; a number in (0, 1), its first weight; or bounds of shape (2, n_features), which hold all rows.
    """
    if noise is None or (isinstance(noise, bool | np.bool_) and not noise):
        return None, 0.0
    start = NOISE_START
    bounds = np.stack([columns.minimum, columns.maximum])
    if np.ndim(noise) > 0:
        bounds = np.array(noise, np.float64)
        check.check_shape(bounds, (2, n_features), "noise")
        if not np.isfinite(bounds).all():
            raise ValueError("noise needs finite bounds: a uniform density has a volume.")
        check_within(columns, bounds)
    elif not isinstance(noise, bool | np.bool_):
        start = float(noise)
    if not np.all(bounds[1] > bounds[0]):
        d = int(np.argmin(bounds[1] > bounds[0]))
        raise ValueError(f"Uniform noise needs a box of positive volume; column {d} has no width. Drop it.")
    return bounds, start


def check_within(columns: ColumnSummary, bounds: Array) -> None:
    """Raise ValueError for a column that leaves the box of the noise."""
    outside = (columns.minimum < bounds[0]) | (columns.maximum > bounds[1])
    if outside.any():
        d = int(np.argmax(outside))
        raise ValueError(
            f"noise must bound all rows; column {d} runs from {columns.minimum[d]:g} to {columns.maximum[d]:g}, its "
            f"bounds are {bounds[0, d]:g} and {bounds[1, d]:g}. Pass wider bounds as noise."
        )


def resolve_labels(y: Any, n_samples: int, n_components: int) -> NDArray[np.int64] | None:
    """Return checked labels, -1 for unknown; None if no row is labelled. What is missing is unknown."""
    labels = to_numbers(y, "y")
    if labels.dtype.kind == "f":
        labels = np.where(np.isnan(labels), -1.0, labels)
    if labels.shape != (n_samples,):
        raise ValueError(
            f"y must hold a label for each of the {n_samples} rows, -1 for unknown; got shape {labels.shape}."
        )
    if labels.dtype.kind not in "iu":
        whole = labels.dtype.kind == "f" and np.array_equal(labels, np.trunc(labels))
        if not whole:
            raise ValueError(f"y must hold integers, -1 for unknown; got {labels.dtype}.")
    labels = labels.astype(np.int64)
    bad = (labels < -1) | (labels >= n_components)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"y holds component numbers from 0 to {n_components - 1}, and -1 for unknown; got {labels[row]} at row "
            f"{row}."
        )
    return labels if (labels >= 0).any() else None
