"""The one table of covariance structures: every choice by covariance type is made here.

A structure knows its shapes, how statistics become covariances, how covariances become `precisions_cholesky` and
back, its number of free parameters, and what its kernels read and return.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from types import ModuleType

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from .parameters import Array, MixtureParameters
from .statistics import SufficientStatistics

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical covariance (for instance "
    "caused by singleton or collapsed samples). Try to decrease the number of components, increase reg_covar, or "
    "scale the input data."
)
EPS = float(np.finfo(np.float64).eps)
# A scaled Cholesky pivot below this many roundings per feature is what exactly collinear columns leave behind.
PIVOT_ROUNDINGS = 4
# A pooled covariance found as total minus between-component scatter loses this share of its digits at most; beyond,
# the scatter is accumulated pair by pair (1e-16 / 1e-4: the 1e-12 promised for one EM step).
TIED_CANCELLATION = 1e-4


def padded(n_features: int) -> int:
    """Features as the kernels see them: a multiple of four."""
    return -(-n_features // 4) * 4


class SingularComponent(Exception):  # noqa: N818 - caught and turned into SingularCovarianceError
    """Internal: component `component` is singular along column `column`."""

    def __init__(self, component: int, column: int) -> None:
        self.component, self.column = component, column


class CovarianceStructure(ABC):
    """What the layers above need to know of a covariance type."""

    name: str
    is_matrix = False  # covariances are matrices, not variances
    pools_components = False  # one covariance for all: second moments are a sum over components

    @property
    def kernels(self) -> ModuleType:
        """The compiled kernels, imported at first use."""
        return import_module(f"fastgmm.kernels.{self.name}")

    @abstractmethod
    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of covariances, precisions and precisions_cholesky."""

    @abstractmethod
    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of the covariances."""

    @abstractmethod
    def flops_per_row(self, n_components: int, n_features: int) -> float:
        """Multiply-adds count two; scores and statistics together (an exp counts sixty)."""

    @abstractmethod
    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the kernels' `factors` and `sum_outer`."""

    @abstractmethod
    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        """`factors` and `offsets` of the kernels, unpadded, for means relative to the shift."""

    @abstractmethod
    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        """`sum_diff` and `sum_outer` from what the kernels accumulated, for means relative to the shift."""

    @abstractmethod
    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        """M-step: covariances about the new means, which lie `offsets` away from the old; `counts` are positive."""

    @abstractmethod
    def check_variances(self, covariances: Array, floor: Array) -> None:
        """Raise SingularComponent if a variance is not above `floor` (n_features,) of its column."""

    @abstractmethod
    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        """precisions_cholesky of covariances; SingularComponent if a scaled pivot is <= rtol or not positive."""

    @abstractmethod
    def covariances(self, precisions_cholesky: Array) -> Array:
        """Covariances of precisions_cholesky."""

    @abstractmethod
    def precisions(self, precisions_cholesky: Array) -> Array:
        """Precisions of precisions_cholesky."""

    @abstractmethod
    def cholesky_of_precisions(self, precisions: Array) -> Array:
        """precisions_cholesky of precisions; LinAlgError if one is not positive definite."""

    @abstractmethod
    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        """Half the log-determinant of each component's precision, shape (n_components,)."""

    @abstractmethod
    def component_cholesky(self, covariances: Array, k: int, n_features: int) -> Array:
        """Lower factor L of component k's covariance, (n_features, n_features) or a broadcastable scale, to sample."""

    def identity(self, n_components: int, n_features: int) -> Array:
        """Unit covariances."""
        return np.ones(self.shape(n_components, n_features))

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of the mixture: covariances, means and all weights but one."""
        return self.n_covariance_parameters(n_components, n_features) + n_components * n_features + n_components - 1


def _check_above(variances: Array, floor: Array, pooled: bool = False) -> None:
    """Raise SingularComponent at the first entry of variances (n_components, n_features) not above its floor."""
    low = ~(variances > floor)
    if low.any():
        k, d = np.unravel_index(int(np.argmax(low)), low.shape)
        raise SingularComponent(-1 if pooled else int(k), int(d))


def _upper_precision_cholesky(covariance: Array, rtol: float) -> Array:
    """Return U with U U^T = covariance^-1; raise SingularComponent(-1, column) where that has no meaning."""
    scale = np.sqrt(np.diagonal(covariance))
    if not np.all(scale > 0):
        raise SingularComponent(-1, int(np.argmin(np.where(scale > 0, np.inf, np.diagonal(covariance)))))
    correlation = covariance / scale / scale[:, None]
    lower, info = lapack.dpotrf(correlation, lower=1)
    if info != 0 or np.min(np.diagonal(lower)) ** 2 <= rtol:
        raise SingularComponent(-1, _weakest_column(correlation))
    return _triangular_inverse(lower.T) / scale[:, None]


def _triangular_inverse(upper: Array) -> Array:
    """Inverse of an upper triangular matrix. LAPACK's dtrtri takes microseconds for a small matrix; a triangular
    solve wakes OpenBLAS's threads, milliseconds on a busy machine.
    """
    return np.triu(lapack.dtrtri(upper)[0])


def _weakest_column(correlation: Array) -> int:
    """Column that weighs most in the direction of least variance."""
    return int(np.argmax(np.abs(np.linalg.eigh(correlation)[1][:, 0])))


def _symmetrised(upper: Array) -> Array:
    """Mirror the upper triangles."""
    upper = np.triu(upper)
    return upper + np.swapaxes(np.triu(upper, 1), -1, -2)


class Full(CovarianceStructure):
    """Each component has its own covariance matrix."""

    name = "full"
    is_matrix = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features, n_features)

    def identity(self, n_components: int, n_features: int) -> Array:
        return np.broadcast_to(np.eye(n_features), self.shape(n_components, n_features))

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (2.0 * n_features**2 + 6 * n_features + 60)

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (n_components, n_padded, n_padded)
        return shape, shape

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        factors = parameters.precisions_cholesky
        return factors, -np.einsum("kde,kd->ke", factors, means)

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first, _symmetrised(outer - means[:, :, None] * first[:, None, :])

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        covariances = statistics.sum_outer / counts[:, None, None] - offsets[:, :, None] * offsets[:, None, :]
        diagonal = np.einsum("kdd->kd", covariances)
        diagonal += reg_covar
        return covariances

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(np.einsum("kdd->kd", covariances), floor)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        factors = np.empty_like(covariances)
        for k, covariance in enumerate(covariances):
            try:
                factors[k] = _upper_precision_cholesky(covariance, rtol)
            except SingularComponent as singular:
                raise SingularComponent(k, singular.column) from None
        return factors

    def covariances(self, precisions_cholesky: Array) -> Array:
        return np.stack([_covariance_of(upper) for upper in precisions_cholesky])

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ np.swapaxes(precisions_cholesky, -1, -2)

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return np.stack([_upper_factor(precision) for precision in precisions])

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.log(np.einsum("kdd->kd", precisions_cholesky)).sum(axis=1)

    def component_cholesky(self, covariances: Array, k: int, n_features: int) -> Array:
        return linalg.cholesky(covariances[k], lower=True)


def _covariance_of(upper: Array) -> Array:
    """Covariance of U with U U^T = precision: U^-T U^-1."""
    inverse = _triangular_inverse(upper)
    return inverse.T @ inverse


def _upper_factor(precision: Array) -> Array:
    """Upper U with U U^T = precision, from the Cholesky factor of the matrix with both axes reversed."""
    return linalg.cholesky(precision[::-1, ::-1], lower=True)[::-1, ::-1]


class Tied(CovarianceStructure):
    """All components share one covariance matrix."""

    name = "tied"
    is_matrix = True
    pools_components = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_features, n_features)

    def identity(self, n_components: int, n_features: int) -> Array:
        return np.broadcast_to(np.eye(n_features), self.shape(n_components, n_features))

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (4.0 * n_features + 60) + 2.0 * n_features**2

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (1, n_padded, n_padded), (1, 1, 1)

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        factor = parameters.precisions_cholesky
        return factor[None], means @ factor

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        """The second moment is minus what the means account for; `StatisticsPass` adds the scatter of the data."""
        sum_diff = first - means * sum_resp[:, None]
        cross = means.T @ sum_diff
        return sum_diff, -((means.T * sum_resp) @ means + cross + cross.T)

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        pooled = statistics.sum_outer - (offsets.T * statistics.sum_resp) @ offsets
        covariance = (pooled + pooled.T) / (2 * statistics.sum_resp.sum())
        covariance.flat[:: len(covariance) + 1] += reg_covar
        return covariance

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(np.diagonal(covariances)[None], floor, pooled=True)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        return _upper_precision_cholesky(covariances, rtol)

    def covariances(self, precisions_cholesky: Array) -> Array:
        return _covariance_of(precisions_cholesky)

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ precisions_cholesky.T

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return _upper_factor(precisions)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.full(n_components, np.log(np.diagonal(precisions_cholesky)).sum())

    def component_cholesky(self, covariances: Array, k: int, n_features: int) -> Array:
        return linalg.cholesky(covariances, lower=True)


class _Variances(CovarianceStructure):
    """What structures without correlations share: all arithmetic is elementwise."""

    def covariances(self, precisions_cholesky: Array) -> Array:
        return 1 / precisions_cholesky**2

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky**2

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return np.sqrt(precisions)

    def component_cholesky(self, covariances: Array, k: int, n_features: int) -> Array:
        return np.sqrt(covariances[k])


class Diag(_Variances):
    """Each component has its own variance per feature."""

    name = "diag"

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (8.0 * n_features + 60)

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (n_components, 1, n_padded)
        return shape, shape

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        return parameters.precisions_cholesky[:, None, :], -means * parameters.precisions_cholesky

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first, outer[:, 0, :]

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        return statistics.sum_outer / counts[:, None] - offsets**2 + reg_covar

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(covariances, floor)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        _check_above(covariances, np.zeros(covariances.shape[1]))
        return 1 / np.sqrt(covariances)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.log(precisions_cholesky).sum(axis=1)


class Spherical(_Variances):
    """Each component has one variance."""

    name = "spherical"

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (8.0 * n_features + 60)

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (n_components, 1, 1), (n_components, 1, 1)

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        return parameters.precisions_cholesky[:, None, None], -means * parameters.precisions_cholesky[:, None]

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first - means * sum_resp[:, None], outer[:, 0, 0]

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        return (statistics.sum_outer / counts - (offsets**2).sum(axis=1)) / offsets.shape[1] + reg_covar

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(covariances[:, None], floor.mean(keepdims=True))

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        _check_above(covariances[:, None], np.zeros(1))
        return 1 / np.sqrt(covariances)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return n_features * np.log(precisions_cholesky)


STRUCTURES: dict[str, CovarianceStructure] = {s.name: s for s in (Full(), Tied(), Diag(), Spherical())}
