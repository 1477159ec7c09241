"""What estimators of mixtures share whose covariances are arrays: full, tied, diag or spherical."""

from dataclasses import replace
from numbers import Real
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..model.by_hand import check_mixture
from ..model.covariance import STRUCTURES, covariances_of
from ..model.parameters import MixtureParameters
from ..model.scoring import GaussianDensity
from ..optimization.em import EMResult
from ..validation import AT_LEAST_0, one_of
from .fit_warnings import warn_about_result
from .fitting import COMMON_CONSTRAINTS, EMEstimator, FitPlan

COVARIANCE_CONSTRAINTS = COMMON_CONSTRAINTS | {"reg_covar": [AT_LEAST_0], "covariance_type": [one_of(*STRUCTURES)]}


# The last density of each estimator of few numbers, and the bytes of what it was made of: to check and prepare them
# anew takes a third of the time in which a row is scored, to compare them a tenth.
_known: WeakKeyDictionary[Any, tuple[Any, GaussianDensity]] = WeakKeyDictionary()
MOST_COMPARED = 4096  # numbers


def _content(parameters: MixtureParameters, drawn: NDArray[Any] | None) -> tuple[Any, ...]:
    """All that a density is made of, to be compared; nothing where that is much."""
    noise = parameters.noise
    arrays = [parameters.weights, parameters.means, parameters.precisions_cholesky, parameters.log_weights, drawn]
    arrays += [] if noise is None else [noise.bounds]
    if sum(array.size for array in arrays if array is not None) > MOST_COMPARED:
        return ()
    values = [None if array is None else (array.shape, array.tobytes()) for array in arrays]
    return (parameters.covariance_type, None if noise is None else (noise.weight, noise.beta), *values)


class CovarianceEstimator(EMEstimator):
    """Estimators of mixtures whose covariances are arrays."""

    covariance_type: str
    reg_covar: Any
    covariances_: NDArray[Any]
    precisions_cholesky_: NDArray[Any]
    _defining = ("weights_", "means_", "precisions_cholesky_")

    def _parameters(self) -> MixtureParameters:
        """The fitted arrays as they stand now, which may have been set by hand; without covariances."""
        return MixtureParameters(
            np.asarray(self.weights_, np.float64),
            np.asarray(self.means_, np.float64),
            np.asarray(self.precisions_cholesky_, np.float64),
            self.covariance_type,
        )

    def _density(self) -> GaussianDensity:
        covariances = getattr(self, "covariances_", None)
        drawn = None if covariances is None else np.asarray(covariances, np.float64)
        parameters = self._parameters()
        content = _content(parameters, drawn)
        known = _known.get(self)
        if content and known is not None and known[0] == (content, self._may_miss):
            return known[1]
        check_mixture(parameters, covariances=drawn)
        density = GaussianDensity(parameters, self._may_miss, drawn)
        if content:
            _known[self] = (content, self._may_miss), density
        return density

    def _density_of(self, parameters: MixtureParameters) -> GaussianDensity:
        return GaussianDensity(parameters, self._may_miss)

    def _warn_about(self, result: EMResult, plan: FitPlan) -> None:
        ridge = f"{self.reg_covar:g}" if isinstance(self.reg_covar, Real) else repr(self.reg_covar)
        warn_about_result(result, f"reg_covar = {ridge}", plan.objective, may_empty=plan.prior is not None)

    def _previous_parameters(self, n_features: int) -> MixtureParameters:
        expected = STRUCTURES[self.covariance_type].shape(self.n_components, n_features)
        shape = (self.n_components, n_features)
        if self.means_.shape != shape or self.covariances_.shape != expected:
            raise ValueError(
                f"warm_start=True continues a fit with means of shape {self.means_.shape} and covariances of shape "
                f"{self.covariances_.shape}, but n_components, covariance_type and X now ask for {shape} and "
                f"{expected}. Set warm_start=False to start anew."
            )
        return replace(self._parameters(), covariances=np.asarray(self.covariances_, np.float64))

    def _set_mixture(self, parameters: MixtureParameters, dtype: Any) -> None:
        """Set the arrays that every mixture has."""
        structure = STRUCTURES[parameters.covariance_type]
        factors = parameters.precisions_cholesky
        self.weights_ = parameters.weights.astype(dtype)
        self.means_ = parameters.means.astype(dtype)
        self.covariances_ = covariances_of(parameters).astype(dtype)
        self.precisions_cholesky_ = factors.astype(dtype)
        self.precisions_ = structure.precisions(factors).astype(dtype)
