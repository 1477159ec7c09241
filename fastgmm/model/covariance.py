"""The one table of covariance structures: every choice by covariance type is made here.

A structure knows its shapes, how statistics become covariances, how covariances become `precisions_cholesky` and
back, its number of free parameters, and what its kernels read and return.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .cholesky import SingularComponent as SingularComponent  # for those who catch what the structures raise
from .cholesky import covariance_of, upper_factor, upper_precision_cholesky
from .parameters import Array, MixtureParameters
from .structure import CovarianceStructure, Index

EPS = float(np.finfo(np.float64).eps)
# A pooled covariance found as total minus between-component scatter loses this share of its digits at most; beyond,
# the scatter is accumulated pair by pair (1e-16 / 1e-4: the 1e-12 promised for one EM step).
TIED_CANCELLATION = 1e-4


def _check_above(variances: Array, floor: Array | float, pooled: bool = False) -> None:
    """Raise SingularComponent at the first entry of variances (n_components, n_features) not above its floor."""
    above = variances > floor
    if not above.all():
        low = ~above
        k, d = np.unravel_index(int(np.argmax(low)), low.shape)
        raise SingularComponent(-1 if pooled else int(k), int(d))


def _symmetrised(upper: Array) -> Array:
    """Mirror the upper triangles."""
    return np.where(_is_lower(upper.shape[-1]), upper.mT, upper)


@lru_cache(16)
def _is_lower(n: int) -> NDArray[np.bool_]:
    return np.arange(n)[:, None] > np.arange(n)


class _Matrices(CovarianceStructure):
    """What structures with correlations share; covariances (..., n_features, n_features)."""

    is_matrix = True

    def identity(self, n_components: int, n_features: int) -> Array:
        return np.broadcast_to(np.eye(n_features), self.shape(n_components, n_features))

    def covariances(self, precisions_cholesky: Array) -> Array:
        return covariance_of(precisions_cholesky)

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ precisions_cholesky.mT

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return upper_factor(precisions)

    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        return covariance()

    def trace(self, covariances: Array, n_features: int) -> Array:
        return np.add.reduce(self.dense(covariances, n_features).diagonal(0, 1, 2), axis=1)

    def with_ridge(self, covariances: Array, ridge: Array) -> Array:
        covariances, n_features = covariances.copy(), len(ridge)
        covariances.reshape(-1, n_features * n_features)[:, :: n_features + 1] += ridge
        return covariances

    def floored(self, covariances: Array, floor: Array) -> Array:
        unit = np.sqrt(floor)
        unit = unit[:, None] * unit
        values, vectors = np.linalg.eigh(covariances / unit)
        low = values.min(axis=-1) < 1
        if not np.any(low):
            return covariances
        raised = (vectors * np.maximum(values, 1.0)[..., None, :]) @ vectors.mT * unit
        return np.where(low[..., None, None], raised, covariances)

    def eigenvalue_range(self, covariances: Array, unit: Array) -> tuple[Array, Array]:
        scale = np.sqrt(unit)
        values = np.linalg.eigvalsh(self.dense(covariances, len(unit)) / (scale[:, None] * scale))
        return values[:, 0], values[:, -1]

    def scatter_exponent(self, degrees_of_freedom: float, n_features: int) -> float:
        return degrees_of_freedom + n_features + 1

    def dense(self, covariances: Array, n_features: int) -> Array:
        return covariances.reshape(-1, n_features, n_features)

    def marginal(self, covariances: Array, observed: Index) -> Array:
        return covariances[..., observed[:, None], observed]

    def regression(self, covariances: Array, observed: Index, missing: Index) -> Array | None:
        across = covariances[..., observed[:, None], missing]
        return np.swapaxes(np.linalg.solve(self.marginal(covariances, observed), across), -1, -2)

    def completed_outer(
        self, outer: Array, sum_resp: Array, covariances: Array, observed: Index, missing: Index, slopes: Array | None
    ) -> Array:
        assert slopes is not None
        across = slopes @ outer
        residual = self.marginal(covariances, missing) - slopes @ covariances[..., observed[:, None], missing]
        whole = np.empty_like(covariances)
        whole[..., observed[:, None], observed] = outer
        whole[..., missing[:, None], observed] = across
        whole[..., observed[:, None], missing] = across.mT
        inner = across @ slopes.mT + self.denominator(sum_resp, 1) * residual
        whole[..., missing[:, None], missing] = 0.5 * (inner + inner.mT)
        return whole


class Full(_Matrices):
    """Each component has its own covariance matrix."""

    name = "full"
    centres_freely = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features, n_features)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (2.0 * n_features**2 + 6 * n_features + 60)

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (n_components, n_padded, n_padded)
        return shape, shape

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        factors = parameters.precisions_cholesky
        return factors, -(means[:, None, :] @ factors)[:, 0]

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first, _symmetrised(outer - means[:, :, None] * first[:, None, :])

    def moved_outer(self, outer: Array, sum_resp: Array, sum_diff: Array, offsets: Array) -> Array:
        rest = sum_diff - sum_resp[:, None] * offsets  # zero at the means of maximum likelihood, but for rounding
        twice = offsets[:, :, None] * (sum_resp[:, None] * offsets + 2 * rest)[:, None, :]
        return outer - 0.5 * (twice + twice.mT)

    def denominator(self, counts: Array, n_features: int) -> Array:
        return counts[:, None, None]

    def given_columns(self, covariances: Array, left: Array, wanted: Index) -> Array:
        return left

    def scatter(self, diff: Array, starts: Index) -> Array:
        return np.stack([run.T @ run for run in np.split(diff, starts[1:])])

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return weight[:, None, None] * diff[:, :, None] * diff[:, None, :]

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(covariances.diagonal(0, 1, 2), floor)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        return upper_precision_cholesky(covariances, rtol)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.add.reduce(np.log(precisions_cholesky.diagonal(0, 1, 2)), axis=1)

    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        lower = np.asarray(np.linalg.cholesky(covariances), np.float64)
        return lower.diagonal(0, 1, 2).copy(), lower


class Tied(_Matrices):
    """All components share one covariance matrix."""

    name = "tied"
    pools_components = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_features, n_features)

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

    def moved_outer(self, outer: Array, sum_resp: Array, sum_diff: Array, offsets: Array) -> Array:
        cross = offsets.T @ (sum_diff - sum_resp[:, None] * offsets)
        pooled = outer - (offsets.T * sum_resp) @ offsets - cross - cross.T
        return 0.5 * (pooled + pooled.T)

    def denominator(self, counts: Array, n_features: int) -> Array:
        return counts.sum()

    def mean_exponent(self, n_components: int, n_features: int) -> int:
        return n_components

    def half_log_dets(self, precisions_cholesky: Array, n_features: int) -> Array:
        return self.log_det_precision_chol(precisions_cholesky, 1, n_features)

    def given_columns(self, covariances: Array, left: Array, wanted: Index) -> Array:
        return left[0]

    def scatter(self, diff: Array, starts: Index) -> Array:
        return diff.T @ diff

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return (weight * diff.T) @ diff

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(np.diagonal(covariances)[None], floor, pooled=True)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        try:
            return upper_precision_cholesky(covariances[None], rtol)[0]
        except SingularComponent as singular:
            raise SingularComponent(-1, singular.column) from None

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.full(n_components, np.log(np.diagonal(precisions_cholesky)).sum())

    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        lower = np.asarray(np.linalg.cholesky(covariances), np.float64)[None]
        return np.tile(np.diagonal(lower[0]), (n_components, 1)), lower


class _Variances(CovarianceStructure):
    """What structures without correlations share: all arithmetic is elementwise."""

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (8.0 * n_features + 60)

    def trace(self, covariances: Array, n_features: int) -> Array:
        values = covariances.reshape(len(covariances), -1)
        return np.add.reduce(values, axis=1) * (n_features / values.shape[1])

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        _check_above(covariances.reshape(len(covariances), -1), 0.0)
        return 1 / np.sqrt(covariances)

    def covariances(self, precisions_cholesky: Array) -> Array:
        return 1 / precisions_cholesky**2

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky**2

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return np.sqrt(precisions)

    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        scales = np.empty((n_components, n_features))
        scales.T[:] = np.sqrt(covariances).T
        return scales, np.zeros((1, 1, 1))


class Diag(_Variances):
    """Each component has its own variance per feature."""

    name = "diag"
    centres_freely = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (n_components, 1, n_padded)
        return shape, shape

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        return parameters.precisions_cholesky[:, None, :], -means * parameters.precisions_cholesky

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first, outer[:, 0, :]

    def moved_outer(self, outer: Array, sum_resp: Array, sum_diff: Array, offsets: Array) -> Array:
        rest = sum_diff - sum_resp[:, None] * offsets
        return outer - sum_resp[:, None] * offsets**2 - 2 * offsets * rest

    def denominator(self, counts: Array, n_features: int) -> Array:
        return counts[:, None]

    def with_ridge(self, covariances: Array, ridge: Array) -> Array:
        return covariances + ridge

    def floored(self, covariances: Array, floor: Array) -> Array:
        return np.maximum(covariances, floor)

    def eigenvalue_range(self, covariances: Array, unit: Array) -> tuple[Array, Array]:
        return np.min(covariances / unit, axis=1), np.max(covariances / unit, axis=1)

    def dense(self, covariances: Array, n_features: int) -> Array:
        return covariances[:, :, None] * np.eye(n_features)

    def marginal(self, covariances: Array, observed: Index) -> Array:
        return covariances[:, observed]

    def completed_outer(
        self, outer: Array, sum_resp: Array, covariances: Array, observed: Index, missing: Index, slopes: Array | None
    ) -> Array:
        whole = sum_resp[:, None] * covariances
        whole[:, observed] = outer
        return whole

    def scatter(self, diff: Array, starts: Index) -> Array:
        return np.add.reduceat(diff**2, starts)

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return weight[:, None] * diff**2

    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        return variance

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(covariances, floor)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.log(precisions_cholesky).sum(axis=1)


class Spherical(_Variances):
    """Each component has one variance."""

    name = "spherical"

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (n_components, 1, 1), (n_components, 1, 1)

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        return parameters.precisions_cholesky[:, None, None], -means * parameters.precisions_cholesky[:, None]

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first - means * sum_resp[:, None], outer[:, 0, 0]

    def moved_outer(self, outer: Array, sum_resp: Array, sum_diff: Array, offsets: Array) -> Array:
        rest = sum_diff - sum_resp[:, None] * offsets
        return outer - sum_resp * (offsets**2).sum(axis=1) - 2 * (offsets * rest).sum(axis=1)

    def denominator(self, counts: Array, n_features: int) -> Array:
        return counts * n_features

    def with_ridge(self, covariances: Array, ridge: Array) -> Array:
        return covariances + np.mean(ridge)

    def floored(self, covariances: Array, floor: Array) -> Array:
        return np.maximum(covariances, np.mean(floor))

    def eigenvalue_range(self, covariances: Array, unit: Array) -> tuple[Array, Array]:
        return covariances / np.mean(unit), covariances / np.mean(unit)

    def mean_exponent(self, n_components: int, n_features: int) -> int:
        return n_features

    def half_log_dets(self, precisions_cholesky: Array, n_features: int) -> Array:
        return np.log(precisions_cholesky)

    def dense(self, covariances: Array, n_features: int) -> Array:
        return covariances[:, None, None] * np.eye(n_features)

    def marginal(self, covariances: Array, observed: Index) -> Array:
        return covariances

    def completed_outer(
        self, outer: Array, sum_resp: Array, covariances: Array, observed: Index, missing: Index, slopes: Array | None
    ) -> Array:
        return outer + len(missing) * sum_resp * covariances

    def scatter(self, diff: Array, starts: Index) -> Array:
        return np.add.reduceat((diff**2).sum(axis=1), starts)

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return weight * np.mean(diff**2, axis=1)

    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        return variance.mean()

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(covariances[:, None], floor.mean(keepdims=True))

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return n_features * np.log(precisions_cholesky)


STRUCTURES: dict[str, CovarianceStructure] = {s.name: s for s in (Full(), Tied(), Diag(), Spherical())}


def covariances_of(parameters: MixtureParameters) -> Array:
    """Covariances of a mixture, computed if need be."""
    if parameters.covariances is not None:
        return parameters.covariances
    return STRUCTURES[parameters.covariance_type].covariances(parameters.precisions_cholesky)
