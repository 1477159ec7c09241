"""Files of Bayesian Gaussian mixtures: those of the expected mixture, and the tensors of its posterior and its prior.

All float64, for K components and d features: `weight_concentration` (K,), or (2, K) for a Dirichlet process;
`mean_precision` (K,); `degrees_of_freedom` (K,), or () for tied covariances; of the prior `weight_concentration_prior`,
`mean_precision_prior`, `degrees_of_freedom_prior` (), `mean_prior` (d,) and `covariance_prior`, shaped like the
covariance of one component. Metadata `weight_concentration_prior_type`: one of WEIGHT_PRIORS.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..model.covariance import STRUCTURES
from ..model.variational_prior import WEIGHT_PRIORS, DirichletProcess, WeightPrior, expected_log_weights
from ..rows.atomic import StrPath
from . import container as files
from .container import FloatArray, ModelReader, Shapes, fail, first_index
from .gaussian import TENSORS, MixtureFile, pack_mixture, read_mixture

POSTERIOR = ("weight_concentration", "mean_precision", "degrees_of_freedom")
PRIOR = (
    *("weight_concentration_prior", "mean_precision_prior", "mean_prior", "degrees_of_freedom_prior"),
    "covariance_prior",
)


@dataclass(frozen=True)
class PosteriorFile:
    """A checked file: the expected mixture, the arrays of `POSTERIOR` and `PRIOR`, and what prior the weights have."""

    mixture: MixtureFile
    arrays: Mapping[str, FloatArray]
    weight_prior: str


def pack_posterior(
    path: StrPath,
    values: Mapping[str, npt.ArrayLike],
    covariance_type: str,
    weight_prior: str,
    metadata: Mapping[str, str],
) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the checked tensors and header of a file."""
    metadata = {**metadata, "weight_concentration_prior_type": weight_prior}
    mixture, header = pack_mixture(path, {name: values[name] for name in TENSORS}, covariance_type, metadata)
    arrays = files.contiguous({name: values[name] for name in POSTERIOR + PRIOR})
    shapes = {name: array.shape for name, array in arrays.items()}
    _check_shapes(path, shapes, covariance_type, weight_prior, mixture["means"].shape)
    _check_values(path, arrays, mixture["means"].shape[1], WEIGHT_PRIORS[weight_prior])
    return mixture | arrays, header


def read_posterior(reader: ModelReader) -> PosteriorFile:
    """Check and read a posterior; FormatError as in `read_mixture`."""
    path, weight_prior = reader.path, reader.metadata.get("weight_concentration_prior_type", "")
    if weight_prior not in WEIGHT_PRIORS:
        fail(path, f"weight_concentration_prior_type must be one of {list(WEIGHT_PRIORS)}, got {weight_prior!r}")
    reader.set_aside(POSTERIOR + PRIOR)
    mixture = read_mixture(reader)
    shapes = reader.described(POSTERIOR + PRIOR)
    _check_shapes(path, shapes, mixture.covariance_type, weight_prior, mixture.means.shape)
    arrays = reader.tensors(POSTERIOR + PRIOR)
    arrays |= files.rounded({name: arrays[name] for name in POSTERIOR}, mixture.dtype)
    _check_values(path, arrays, mixture.means.shape[1], WEIGHT_PRIORS[weight_prior])
    return PosteriorFile(mixture, arrays, weight_prior)


def _check_shapes(
    path: StrPath, shapes: Shapes, covariance_type: str, weight_prior: str, means: tuple[int, ...]
) -> None:
    n_components, n_features = means
    structure = STRUCTURES[covariance_type]
    one = structure.shape(1, n_features)
    sticks = isinstance(WEIGHT_PRIORS[weight_prior], DirichletProcess)
    expected: Shapes = {
        "weight_concentration": (2, n_components) if sticks else (n_components,),
        "mean_precision": (n_components,),
        "degrees_of_freedom": () if structure.pools_components else (n_components,),
        "mean_prior": (n_features,),
        "covariance_prior": one if structure.pools_components else one[1:],
    }
    for name, shape in shapes.items():
        if shape != expected.get(name, ()):
            fail(path, f"tensor {name!r} must have shape {expected.get(name, ())}, got {shape}")


def _check_values(path: StrPath, arrays: Mapping[str, FloatArray], n_features: int, weights: WeightPrior) -> None:
    files.check_finite(path, arrays)
    for name, array in arrays.items():
        least = n_features - 1 if name.startswith("degrees_of_freedom") else 0
        if name not in ("mean_prior", "covariance_prior") and not np.all(array > least):
            fail(path, f"tensor {name!r} is not above {least} at index {first_index(~(array > least))}")
    prior = arrays["covariance_prior"]
    try:
        if prior.ndim == 2:
            np.linalg.cholesky(prior)
        elif not np.all(prior > 0):
            raise np.linalg.LinAlgError
    except np.linalg.LinAlgError:
        fail(path, "tensor 'covariance_prior' is not positive definite")
    # What scoring derives from them must be finite too, or a hostile file would make it fail later.
    with np.errstate(all="ignore"):
        concentration, precision, dof = (arrays[name] for name in POSTERIOR)
        log_weights = expected_log_weights(weights, concentration, precision, dof, n_features)
    if not np.isfinite(log_weights).all():
        fail(path, f"the posterior of component {first_index(~np.isfinite(log_weights))[0]} has no expected weight")
