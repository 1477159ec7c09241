"""Rows whose squared distances overflow: rare, so plain NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class NonFiniteRowsError(Exception):
    """Internal: rows to score hold NaN or infinity. Their densities underflow, so that only such rows are looked at."""


def score_far(block: NDArray[Any], kernels: Any, output: Any) -> None:
    """Redo the far rows of a block, scaled by a power of two, in what a pass of these `MixtureKernels` has written.

    Their log-density may be -inf, but the nearest component is known and probabilities are never NaN.
    """
    if not np.isfinite(block).all():
        raise NonFiniteRowsError
    structure, means, dtype = kernels.structure, kernels.parameters.means, kernels.dtype
    factors, _ = structure.kernel_factors(kernels.parameters, kernels.means)
    with np.errstate(over="ignore"):
        usable = np.isfinite(factors.astype(dtype)).all()
    if not usable:
        raise ValueError(
            "The mixture's parameters are not finite, have variances that are not positive, or leave the range of "
            f"{dtype} when they are divided by standard deviations."
        )
    factors = np.broadcast_to(factors, (len(means), *factors.shape[1:]))
    sharpest = structure.largest_scale(factors)
    reach = np.abs(block.astype(np.float64) - kernels.shift).max(axis=1)
    far = np.flatnonzero(reach > float(np.finfo(dtype).max) ** 0.45 / sharpest)
    x = block[far].astype(np.float64)
    scale = 2.0 ** -np.ceil(np.log2(np.abs(x).max() + np.abs(means).max()))
    distance = np.empty((len(far), len(means)))  # in units of (sharpest / scale)^2
    for k, mean in enumerate(means):
        distance[:, k] = structure.squared_norm(x * scale - mean * scale, factors[k], sharpest)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        unit = min(sharpest / scale, 1e300)  # finite, so that a difference of 0 stays 0
        nearest = distance.min(axis=1, keepdims=True)
        log_ratio = kernels.log_const - 0.5 * (distance - nearest) * unit * unit
        peak = log_ratio.max(axis=1, keepdims=True)
        unnormalised = np.exp(log_ratio - peak)
        total = unnormalised.sum(axis=1, keepdims=True)
        offset = 0.5 * nearest * unit * unit
        norm = ((peak + np.log(total) - offset)[:, 0]).astype(dtype)
        found = (norm, log_ratio.argmax(axis=1), unnormalised / total, log_ratio - offset)
        for array, values in zip(output, found, strict=True):
            if len(array):
                array[far] = values
