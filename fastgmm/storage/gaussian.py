"""Files of Gaussian mixtures.

Format "fastgmm/1": the float64 tensors `weights`, `means`, `covariances` and `precisions_cholesky`, and
string metadata: `format`, `fastgmm_version`, `covariance_type`, `dtype` (of the model that was saved), and
whatever the caller adds.

What the estimators add (estimators/saving.py) leaves these files readable for the first release: `model`, the
name of the class, and JSON in `settings`, `lower_bounds`, `feature_names`, `diagnostics` and `noise`. A file of a
posterior (posterior.py) or with a standardisation has more tensors, so that none is taken for a plain one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.covariance import STRUCTURES
from ..model.parameters import MixtureParameters, UniformNoise
from ..rows.atomic import StrPath
from . import container as files
from .container import FloatArray, ModelReader, fail, first_index

STANDARDISATION = ("standardisation_mean", "standardisation_scale")
# Metadata of standardised mixtures: what is under "log_likelihood" is of the standardised rows.
LOG_LIKELIHOOD_OF_ROWS = "log_likelihood_of_rows"
TENSORS = ("weights", "means", "covariances", "precisions_cholesky")


@dataclass(frozen=True, kw_only=True)
class MixtureFile(MixtureParameters):
    """The checked content of a model file: a mixture, with covariances.

    Attributes
    ----------
    metadata : mapping of str to str
        All the file says about itself, `format`, `fastgmm_version`, `covariance_type`, `dtype` included.
    """

    metadata: Mapping[str, str]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the model that was saved; a float32 model is exact in the file's float64."""
        return np.dtype(self.metadata["dtype"])


def pack_mixture(
    path: StrPath, values: Mapping[str, npt.ArrayLike], covariance_type: str, metadata: Mapping[str, str]
) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the checked tensors and header of a file; `path` is for messages."""
    header = files.make_header(path, covariance_type, np.asarray(values["means"]).dtype, metadata)
    tensors = files.contiguous(values)
    _check_shapes(path, {name: tensor.shape for name, tensor in tensors.items()}, covariance_type)
    _check_values(path, tensors, covariance_type, np.dtype(header["dtype"]))
    return tensors, header


def read_mixture(reader: ModelReader) -> MixtureFile:
    """Check and read a mixture; arrays are writable, C-contiguous and own their memory.

    FormatError for a missing, unknown or repeated tensor, a wrong dtype or shape, a number that is not finite, negative
    weights, weights whose sum differs from 1 by more than 1e-8 (float64 models; 1e-5 for float32), a covariance that is
    not symmetric positive definite, or a `precisions_cholesky` that is not its inverse factor within the rounding of
    the model's dtype.
    """
    path, metadata = reader.path, reader.metadata
    covariance_type = metadata["covariance_type"]
    if covariance_type == "low_rank":
        fail(path, "holds a mixture of factor analysers; MixtureOfFactorAnalyzers.load reads it")
    _check_shapes(path, reader.shapes(TENSORS), covariance_type)
    dtype = np.dtype(metadata["dtype"])
    tensors = files.rounded(reader.tensors(TENSORS), dtype)
    _check_values(path, tensors, covariance_type, dtype)
    weights, means, covariances, factors = (tensors[name] for name in TENSORS)
    return MixtureFile(weights, means, factors, covariance_type, covariances, metadata=metadata)


def check_standardisation(path: StrPath, arrays: Mapping[str, FloatArray], n_features: int) -> None:
    """Raise FormatError unless the arrays are mean and scale of that many columns."""
    for name, array in arrays.items():
        if array.shape != (n_features,):
            fail(path, f"tensor {name!r} must have shape {(n_features,)}, got {array.shape}")
    files.check_finite(path, arrays)
    scale = arrays[STANDARDISATION[1]]
    if scale.min() <= 0:
        fail(path, f"tensor {STANDARDISATION[1]!r} is not positive at index {first_index(scale <= 0)}")


def read_standardisation(reader: ModelReader, n_features: int) -> tuple[FloatArray, FloatArray]:
    """Check and read mean and scale of the columns, which were set aside before the mixture was read."""
    reader.described(STANDARDISATION)
    arrays = reader.tensors(STANDARDISATION)
    check_standardisation(reader.path, arrays, n_features)
    mean, scale = arrays.values()
    return mean, scale


def load_noise(path: StrPath, file: MixtureFile) -> tuple[UniformNoise, FloatArray]:
    """Return the uniform noise that the metadata `noise` describes, and the components' weights beside it, checked."""
    n_features = file.means.shape[1]
    try:
        given = json.loads(file.metadata["noise"])
        weight, bounds = float(given["weight"]), np.asarray(given["bounds"], np.float64)
        scaled = file.weights * (1.0 - weight)
        weights = np.asarray(given.get("weights", scaled), np.float64)  # exact; the first release did not write them
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        fail(path, "metadata noise is not a weight and bounds")
    if not 0 <= weight < 1 or bounds.shape != (2, n_features):
        fail(path, f"metadata noise has a weight of {weight:g} and bounds of shape {bounds.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        sides = bounds[1] - bounds[0]  # NaN where both ends are the same infinity
        if not (np.isfinite(bounds).all() and np.isfinite(sides).all() and sides.min() > 0):
            fail(path, "metadata noise has bounds without volume")
    if weights.shape != scaled.shape or not (weights.min() >= 0 and np.abs(weights - scaled).max() <= 1e-5):
        fail(path, "metadata noise has weights that are not those of the file, scaled")
    return UniformNoise(weight, bounds), weights


def _check_shapes(path: StrPath, shapes: Mapping[str, tuple[int, ...]], covariance_type: str) -> None:
    means = shapes["means"]
    if len(means) != 2 or min(means) < 1:
        fail(path, f"tensor 'means' must have shape (n_components, n_features), both >= 1, got {means}")
    n_components, n_features = means
    if covariance_type not in STRUCTURES:
        fail(path, f"covariance_type must be one of {list(STRUCTURES)}, got {covariance_type!r}")
    covariance_shape = STRUCTURES[covariance_type].shape(n_components, n_features)
    expected = {"weights": (n_components,), "covariances": covariance_shape, "precisions_cholesky": covariance_shape}
    for name, shape in expected.items():
        if shapes[name] != shape:
            owner = f"for covariance_type={covariance_type!r} and means of shape {means}"
            fail(path, f"tensor {name!r} must have shape {shape} {owner}, got {shapes[name]}")


def _check_values(path: StrPath, tensors: Mapping[str, FloatArray], covariance_type: str, dtype: np.dtype[Any]) -> None:
    files.check_finite(path, tensors)
    eps = float(np.finfo(dtype).eps)
    covariances, precisions_cholesky = tensors["covariances"], tensors["precisions_cholesky"]
    # Hostile but finite numbers may overflow below; each comparison is written so that NaN and infinity fail.
    with np.errstate(over="ignore", invalid="ignore"):
        files.check_weights(path, tensors["weights"], dtype)
        if not STRUCTURES[covariance_type].is_matrix:
            _check_variances(path, covariances, precisions_cholesky, eps)
            return
        size = covariances.shape[-1]
        stacks = (covariances.reshape(-1, size, size), precisions_cholesky.reshape(-1, size, size))
        for k, (covariance, factor) in enumerate(zip(*stacks, strict=True)):
            owner = f" of component {k}" if covariances.ndim == 3 else ""
            _check_matrix(path, covariance, factor, eps, owner)


def _check_variances(path: StrPath, variances: FloatArray, factors: FloatArray, eps: float) -> None:
    for name, values in (("covariances", variances), ("precisions_cholesky", factors)):
        if values.min() <= 0:
            fail(path, f"tensor {name!r} is not positive at index {first_index(values <= 0)}")
    agrees = np.abs(np.sqrt(variances) * factors - 1) <= 16 * eps
    if not agrees.all():
        fail(path, f"tensor 'precisions_cholesky' is not 1 / sqrt(covariances) at index {first_index(~agrees)}")


def _check_matrix(path: StrPath, covariance: FloatArray, factor: FloatArray, eps: float, owner: str) -> None:
    """Check that a covariance S is symmetric positive definite and that its factor U solves U^T S U = I."""
    diagonal = np.diagonal(covariance)
    if diagonal.min() <= 0:
        fail(path, f"tensor 'covariances'{owner} has a variance that is not positive, feature {diagonal.argmin()}")
    # In units of the standard deviations, so that differently scaled columns weigh the same.
    scale = np.sqrt(diagonal)
    correlation = covariance / scale / scale[:, np.newaxis]
    if not np.abs(correlation - correlation.T).max() <= 16 * eps:
        fail(path, f"tensor 'covariances'{owner} is not symmetric")
    try:
        np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        fail(path, f"tensor 'covariances'{owner} is not positive definite")
    if np.tril(factor, -1).any() or np.diagonal(factor).min() <= 0:
        fail(path, f"tensor 'precisions_cholesky'{owner} is not upper triangular with a positive diagonal")
    whitener = factor * scale[:, np.newaxis]
    error = np.abs(whitener.T @ correlation @ whitener - np.eye(len(scale))).max()
    # Rounding the covariance by eps moves U^T S U by up to eps times the condition number of the correlation
    # matrix, which is below this product; beyond 1/2 the factor says nothing about this covariance.
    condition = np.linalg.norm(correlation) * np.linalg.norm(whitener) ** 2
    if not error <= min(0.5, 4 * len(scale) * eps * condition):
        fail(path, f"tensor 'precisions_cholesky'{owner} is not the inverse factor of its covariance")
