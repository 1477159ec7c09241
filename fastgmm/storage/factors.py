"""Files of mixtures of factor analysers: covariance_type "low_rank" of format "fastgmm/1".

The float64 tensors `weights`, `means`, `loadings` and `noise_variance`; metadata as in gaussian.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..model.factors.parameters import FactorParameters
from ..rows.atomic import StrPath
from . import container as files
from .container import FloatArray, ModelReader, Shapes, fail, first_index

TENSORS = ("weights", "means", "loadings", "noise_variance")


def pack_factor_mixture(
    path: StrPath, parameters: FactorParameters, dtype: np.dtype[Any], metadata: Mapping[str, str]
) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the tensors and header of a file; FormatError if it is no mixture, so that what is saved loads."""
    header = files.make_header(path, "low_rank", dtype, metadata)
    tensors = files.contiguous({name: getattr(parameters, name) for name in TENSORS})
    _check_shapes(path, {name: tensor.shape for name, tensor in tensors.items()})
    _check_values(path, tensors, dtype)
    return tensors, header


def read_factor_mixture(reader: ModelReader) -> FactorParameters:
    """Read parameters, trusting nothing in the file.

    Raises
    ------
    FormatError
        Not such a file, a missing or unknown tensor, a wrong dtype or shape, a number that is not finite, weights that
        are negative or do not sum to 1, a noise variance that is not positive.
    """
    path, metadata = reader.path, reader.metadata
    if metadata["covariance_type"] != "low_rank":
        fail(path, f"covariance_type must be 'low_rank', got {metadata['covariance_type']!r}")
    _check_shapes(path, reader.shapes(TENSORS))
    dtype = np.dtype(metadata["dtype"])
    tensors = files.rounded(reader.tensors(TENSORS), dtype)
    _check_values(path, tensors, dtype)
    return FactorParameters(*(tensors[name] for name in TENSORS))


def load_settings(path: StrPath, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the estimator's settings that the metadata hold, checked."""
    settings: dict[str, Any] = {}
    noise_type = metadata.get("noise_type", "diagonal")
    if noise_type not in ("diagonal", "isotropic"):
        fail(path, f"metadata 'noise_type' must be 'diagonal' or 'isotropic', got {noise_type!r}")
    settings["noise_type"] = noise_type
    settings["shared_noise"] = metadata.get("shared_noise") == "True"
    for name, least in (("noise_floor", 1e-6), ("obs_noise", 0.0)):
        try:
            value = float(metadata.get(name, least))
        except ValueError:
            fail(path, f"metadata {name!r} is not a number: {metadata[name]!r}")
        if not 0 <= value < np.inf:
            fail(path, f"metadata {name!r} must be finite and not negative, got {value}")
        settings[name] = value
    return settings


def _check_shapes(path: StrPath, shapes: Shapes) -> None:
    means, loadings = shapes["means"], shapes["loadings"]
    if len(means) != 2 or min(means) < 1:
        fail(path, f"tensor 'means' must have shape (n_components, n_features), both >= 1, got {means}")
    if len(loadings) != 3 or loadings[:2] != means or not 1 <= loadings[2] <= means[1]:
        fail(
            path, f"tensor 'loadings' must have shape {(*means, 'n_factors')}, n_factors <= {means[1]}, got {loadings}"
        )
    for name, shape in (("weights", means[:1]), ("noise_variance", means)):
        if shapes[name] != shape:
            fail(path, f"tensor {name!r} must have shape {shape} for means of shape {means}, got {shapes[name]}")


def _check_values(path: StrPath, tensors: Mapping[str, FloatArray], dtype: np.dtype[Any]) -> None:
    files.check_finite(path, tensors)
    files.check_weights(path, tensors["weights"], dtype)
    low = ~(tensors["noise_variance"] > 0)
    if low.any():
        fail(path, f"tensor 'noise_variance' is not positive at index {first_index(low)}")
    # What scoring factorises must be finite too, or a hostile file would make it fail later.
    with np.errstate(over="ignore"):
        size = (tensors["loadings"] ** 2 / tensors["noise_variance"][:, :, None]).sum(axis=(1, 2))
    if not np.all(size < 1e200):
        fail(path, f"tensor 'loadings' is beyond any scale of its noise at component {int(np.argmax(~(size < 1e200)))}")
