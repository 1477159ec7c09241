"""What a covariance structure can do; covariance.py has the four of them and their table."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .parameters import Array, MixtureParameters

Index = NDArray[np.int64]


class KernelStructure(ABC):
    """What the bridge to the kernels needs to know of a covariance type."""

    name: str
    pools_components = False  # one covariance for all: second moments are a sum over components
    centres_freely = False  # the kernels know the means for the statistics alone, which may have other centres

    @property
    def kernels(self) -> ModuleType:
        """The compiled kernels, imported at first use."""
        from ..kernels import backend

        return backend.module(self.name)

    @abstractmethod
    def flops_per_row(self, n_components: int, n_features: int) -> float:
        """Multiply-adds count two; scores and statistics together (an exp counts sixty)."""

    def block_size(self, n_samples: int, n_padded: int, n_components: int, itemsize: int) -> int:
        """Rows that the kernels copy and score together."""
        from ..kernels import parallel

        return int(parallel.block_size(n_samples, n_padded, n_components, itemsize))

    @abstractmethod
    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the kernels' `factors` and `sum_outer`."""

    @abstractmethod
    def kernel_factors(self, parameters: Any, means: Array) -> tuple[Array, Array]:
        """`factors` and `offsets` of the kernels, unpadded, for means relative to the shift."""

    @abstractmethod
    def half_log_det_precision(self, parameters: Any) -> Array:
        """Half the log-determinant of each component's precision, shape (n_components,)."""

    @abstractmethod
    def squared_norm(self, diff: Array, factor: Array, unit: float) -> Array:
        """Squared distances of rows x - mean, (n_rows,), by a component's kernel factor over `unit`, in NumPy."""

    def largest_scale(self, factors: Array) -> float:
        """The largest number that kernel factors multiply a difference by: the `unit` that makes them at most 1."""
        return float(np.abs(factors).max())


class CovarianceStructure(KernelStructure):
    """What the layers above need to know of a covariance type whose covariances are arrays."""

    is_matrix = False  # covariances are matrices, not variances

    @abstractmethod
    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of covariances, precisions and precisions_cholesky."""

    @abstractmethod
    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of the covariances."""

    def half_log_det_precision(self, parameters: MixtureParameters) -> Array:
        """See `KernelStructure`."""
        return self.log_det_precision_chol(parameters.precisions_cholesky, *parameters.means.shape)

    def squared_norm(self, diff: Array, factor: Array, unit: float) -> Array:
        """See `KernelStructure`."""
        factor = factor / unit
        white = diff @ factor if factor.shape[0] > 1 else diff * factor
        return np.asarray((white**2).sum(axis=1))

    @abstractmethod
    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        """`sum_diff` and `sum_outer` from what the kernels accumulated, for means relative to the shift."""

    @abstractmethod
    def moved_outer(self, outer: Array, sum_resp: Array, sum_diff: Array, offsets: Array) -> Array:
        """`sum_outer` about means that lie `offsets` (n_components, n_features) away from the statistics' own."""

    @abstractmethod
    def denominator(self, counts: Array, n_features: int) -> Array:
        """What scatter is divided by to be a covariance, for `counts` (n_components,) rows per component."""

    @abstractmethod
    def with_ridge(self, covariances: Array, ridge: Array) -> Array:
        """Add `ridge` (n_features,) to every variance."""

    @abstractmethod
    def floored(self, covariances: Array, floor: Array) -> Array:
        """Raise what lies below `floor` (n_features,): eigenvalues in units in which the floor is 1.

        Of all covariances above the floor, the result is the one of largest likelihood.
        """

    @abstractmethod
    def eigenvalue_range(self, covariances: Array, unit: Array) -> tuple[Array, Array]:
        """Smallest and largest eigenvalue of each covariance, columns in units of variance `unit` (n_features,).

        Spherical covariances are measured in the mean of `unit`.
        """

    def scatter_exponent(self, degrees_of_freedom: float, n_features: int) -> float:
        """Twice the power of 1/|covariance| in an inverse-Wishart density (of a variance: an inverse-gamma one)."""
        return degrees_of_freedom + 2

    def mean_exponent(self, n_components: int, n_features: int) -> int:
        """How many rows' worth of that power a normal prior on the means adds to each covariance."""
        return 1

    def half_log_dets(self, precisions_cholesky: Array, n_features: int) -> Array:
        """Half the log-determinant of each precision that is free, tied once, a spherical one as a number."""
        return self.log_det_precision_chol(precisions_cholesky, len(precisions_cholesky), n_features)

    @abstractmethod
    def marginal(self, covariances: Array, observed: Index) -> Array:
        """Covariances of the columns `observed`."""

    @abstractmethod
    def completed_outer(
        self, outer: Array, sum_resp: Array, covariances: Array, observed: Index, missing: Index, slopes: Array | None
    ) -> Array:
        """Expected `sum_outer` of all columns, from that of the observed ones, under Gaussians of these covariances.

        `slopes` are those of `regression`.
        """

    @abstractmethod
    def scatter(self, diff: Array, starts: Index) -> Array:
        """Sum of diff diff^T over each run of rows: one entry per run (one for all if the structure pools them)."""

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
    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        """Lower factors L of the covariances, to sample: their diagonals (n_components, n_features), and L itself.

        L is (n_components, n_features, n_features), (1, n_features, n_features) for all, or (1, 1, 1) if diagonal.
        """

    @abstractmethod
    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        """weight[k] diff[k] diff[k]^T of each component; their sum if the structure pools them."""

    @abstractmethod
    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        """One covariance of this structure for all rows, from variances (n_features,) or, if need be, covariances."""

    @abstractmethod
    def dense(self, covariances: Array, n_features: int) -> Array:
        """Covariance matrices, (n_components, n_features, n_features); one for all if the structure pools them."""

    def regression(self, covariances: Array, observed: Index, missing: Index) -> Array | None:
        """Coefficients of the missing on the observed columns, (..., n_missing, n_observed); None: no correlation."""
        return None

    def given_columns(self, covariances: Array, left: Array, wanted: Index) -> Array:
        """Covariances of the wanted columns given others; left: matrices, (n_components or 1, n_wanted, n_wanted)."""
        return self.marginal(covariances, wanted)

    def share(self, counts: Array) -> Array:
        """Rows of each free covariance, of `counts` (n_components,); a shared one takes a component's share."""
        return np.asarray(counts.mean() if self.pools_components else counts)

    @abstractmethod
    def trace(self, covariances: Array, n_features: int) -> Array:
        """Sum of the variances of each component, (n_components,), or (1,) of one for all."""

    def identity(self, n_components: int, n_features: int) -> Array:
        """Unit covariances."""
        return np.ones(self.shape(n_components, n_features))

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of the mixture: covariances, means and all weights but one."""
        return self.n_covariance_parameters(n_components, n_features) + n_components * n_features + n_components - 1
