"""Stacks of covariance matrices and their triangular factors."""

import numpy as np

from .parameters import Array

SLOTS = 16
THREADED_WORK = 1e6  # of n_matrices n^3, about half a millisecond


class SingularComponent(Exception):  # noqa: N818 - caught and turned into SingularCovarianceError
    """Internal: component `component` is singular along column `column`."""

    def __init__(self, component: int, column: int) -> None:
        self.component, self.column = component, column


def upper_precision_cholesky(covariances: Array, rtol: float) -> Array:
    """Return U with U U^T = covariance^-1 of every matrix of a stack, (n_matrices, n_features, n_features).

    Raises SingularComponent at the first where that has no meaning.
    """
    from ..kernels import parallel, triangular

    n_matrices, n, _ = covariances.shape
    n_slots = min(SLOTS, n_matrices) if n_matrices * n**3 > THREADED_WORK else 1
    covariances = np.require(covariances, np.float64, ["C", "W"])
    out, failed = np.empty_like(covariances), np.zeros(n_slots)
    parallel.run_slots(
        *(triangular.factor_precisions_slot, n_slots, 0, covariances, out, np.empty((n_slots, n))),
        *(np.empty((n_slots, n, n)), np.array([rtol]), failed),
        kind="stack",
    )
    if failed.any():
        component = int(failed[failed > 0][0]) - 1
        raise SingularComponent(component, _singular_column(covariances[component]))
    return out


def _singular_column(covariance: Array) -> int:
    """The column of a singular covariance without variance, else the one that weighs most in what has least."""
    variance = np.diagonal(covariance)
    if not np.all(variance > 0):
        return int(np.argmin(np.where(variance > 0, np.inf, variance)))
    scale = np.sqrt(variance)
    return int(np.argmax(np.abs(np.linalg.eigh(covariance / scale / scale[:, None])[1][:, 0])))


def _triangular_inverse(upper: Array) -> Array:
    """Inverses of upper triangular matrices, one or a stack, upper triangular themselves."""
    from ..kernels.triangular import invert_upper

    upper = np.ascontiguousarray(upper, np.float64)
    inverse = np.empty_like(upper)
    invert_upper(*(matrices.reshape(-1, *upper.shape[-2:]) for matrices in (upper, inverse)))
    return inverse


def covariance_of(upper: Array) -> Array:
    """Covariance of U with U U^T = precision: U^-T U^-1."""
    inverse = _triangular_inverse(upper)
    return inverse.mT @ inverse


def upper_factor(precision: Array) -> Array:
    """Upper U with U U^T = precision, from the Cholesky factor of the matrix with both axes reversed."""
    return np.ascontiguousarray(np.linalg.cholesky(precision[..., ::-1, ::-1])[..., ::-1, ::-1])
