"""The fit of a mixture of factor analysers; the counterpart of problem.py."""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ..model.expectation import PartwisePass
from ..model.factors.expectation import FactorPass
from ..model.factors.maximisation import FactorMaximiser
from ..model.factors.parameters import FactorParameters
from .problem import Problem


@dataclass(frozen=True)
class FactorProblem(Problem):
    """The fit of a mixture of factor analysers.

    Attributes
    ----------
    maximise : FactorMaximiser
    n_factors : int
    """

    maximise: FactorMaximiser
    n_factors: int = 1
    parameters_kind: type = field(default=FactorParameters, kw_only=True)

    def expectation(self) -> PartwisePass:
        """The pass over all rows that EM repeats."""
        make = partial(FactorPass, shift=self.columns.mean, gaps=self.has_missing)
        return PartwisePass(self.source, make, self.sample_weight)

    def begun(self, parameters: FactorParameters) -> FactorParameters:
        """Starting parameters among those that the M-step chooses from, so that the first step cannot fall."""
        noise = parameters.noise_variance
        if self.maximise.shared:
            noise = (parameters.weights / parameters.weights.sum() @ noise)[None]
        if self.maximise.isotropic:
            noise = noise.mean(axis=1, keepdims=True)
        noise = np.broadcast_to(np.maximum(noise, self.maximise.floor), parameters.means.shape)
        return replace(parameters, noise_variance=noise)
