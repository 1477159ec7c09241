"""Stacks of covariance matrices and their triangular factors: LAPACK through NumPy, one call for a whole stack."""

import numpy as np

from .parameters import Array


class SingularComponent(Exception):  # noqa: N818 - caught and turned into SingularCovarianceError
    """Internal: component `component` is singular along column `column`."""

    def __init__(self, component: int, column: int) -> None:
        self.component, self.column = component, column


def upper_precision_cholesky(covariances: Array, rtol: float) -> Array:
    """Return U with U U^T = covariance^-1 of every matrix of a stack, (n_matrices, n_features, n_features).

    Raises SingularComponent at the first where that has no meaning. One call for the whole stack: LAPACK called from
    Python matrix by matrix took 18 us each, more than the pass over 1000 rows at 1024 components.
    """
    scale = np.sqrt(covariances.diagonal(0, 1, 2))
    if (scale > 0).all():
        correlations = covariances / scale[:, None, :] / scale[:, :, None]
        try:
            lower = np.asarray(np.linalg.cholesky(correlations), np.float64)
        except np.linalg.LinAlgError:
            lower = np.zeros_like(correlations)
        if lower.diagonal(0, 1, 2).min() ** 2 > rtol:
            return _triangular_inverse(lower.mT) / scale[:, :, None]
    for k, covariance in enumerate(covariances):
        _check_regular(covariance, k, rtol)
    raise AssertionError("a stack is singular where one of its matrices is")


def _check_regular(covariance: Array, component: int, rtol: float) -> None:
    """Raise SingularComponent if a variance is not positive or a scaled pivot not above rtol."""
    scale = np.sqrt(np.diagonal(covariance))
    if not np.all(scale > 0):
        raise SingularComponent(component, int(np.argmin(np.where(scale > 0, np.inf, np.diagonal(covariance)))))
    correlation = covariance / scale / scale[:, None]
    try:
        smallest = np.min(np.diagonal(np.linalg.cholesky(correlation))) ** 2
    except np.linalg.LinAlgError:
        smallest = 0.0
    if not smallest > rtol:
        raise SingularComponent(component, _weakest_column(correlation))


def _triangular_inverse(upper: Array) -> Array:
    """Inverses of upper triangular matrices, one or a stack, upper triangular themselves."""
    from ..kernels.triangular import invert_upper

    upper = np.ascontiguousarray(upper, np.float64)
    inverse = np.empty_like(upper)
    invert_upper(*(matrices.reshape(-1, *upper.shape[-2:]) for matrices in (upper, inverse)))
    return inverse


def _weakest_column(correlation: Array) -> int:
    """Column that weighs most in the direction of least variance."""
    return int(np.argmax(np.abs(np.linalg.eigh(correlation)[1][:, 0])))


def covariance_of(upper: Array) -> Array:
    """Covariance of U with U U^T = precision: U^-T U^-1."""
    inverse = _triangular_inverse(upper)
    return inverse.mT @ inverse


def upper_factor(precision: Array) -> Array:
    """Upper U with U U^T = precision, from the Cholesky factor of the matrix with both axes reversed."""
    return np.ascontiguousarray(np.linalg.cholesky(precision[..., ::-1, ::-1])[..., ::-1, ::-1])
