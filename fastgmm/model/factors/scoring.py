"""A mixture of factor analysers as a density."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import sampling
from ..bridge import MixtureKernels
from ..conditioning import Conditionals, mixture_given, posterior_weights
from ..far import NonFiniteRowsError
from ..parameters import Array, MixtureParameters
from ..sampling import Draws
from ..scoring import Density, Filler, GaussianDensity, Gaussians, Index, Scorer
from .missing import FactorNumbers, blocks_of, expected_rows, impute_visible, score_visible
from .parameters import FactorParameters


@dataclass(frozen=True)
class FactorDensity(Density):
    """A mixture of factor analysers.

    Attributes
    ----------
    parameters : FactorParameters
    gaps : bool
        Whether NaN is a missing value, which the row's density leaves out.
    obs_noise : float
        Variance of independent noise that rows to score or complete have in addition to the model's own.
    """

    parameters: FactorParameters
    gaps: bool = False
    obs_noise: float = 0.0

    @property
    def n_components(self) -> int:
        return len(self.parameters.weights)

    @property
    def observed(self) -> FactorParameters:
        """What rows as they are observed follow."""
        return self.parameters.with_observation_noise(self.obs_noise)

    def scorer(self, dtype: np.dtype[Any]) -> Scorer:
        parameters = self.observed
        kernels = MixtureKernels(parameters, dtype)

        def score(block: NDArray[Any], **outputs: NDArray[Any]) -> None:
            gaps = np.isnan(block).any(axis=1) if self.gaps else np.zeros(0, bool)
            if not gaps.any():
                kernels.score([(0, block)], **outputs)
                return
            if np.isinf(block).any():
                raise NonFiniteRowsError
            for rows, is_visible in ((gaps, True), (~gaps, False)):
                index = np.flatnonzero(rows)
                parts = {name: np.empty((len(index), *out.shape[1:]), out.dtype) for name, out in outputs.items()}
                if is_visible:
                    score_visible(block[index], parameters, **parts)
                else:
                    kernels.score([(0, block[index])], **parts)
                for name, part in parts.items():
                    outputs[name][index] = part

        return score

    def imputer(self, dtype: np.dtype[Any]) -> Filler:
        """See `Density`; draws have the model's own noise, without `obs_noise`."""
        return self._filler(partial(impute_visible, noise_variance=self.parameters.noise_variance))

    def reconstructor(self, dtype: np.dtype[Any]) -> Filler:
        """Prepare for rows of this precision; the function returns mean + loadings z of each, expected or drawn."""
        return self._filler(expected_rows)

    def sample(self, n_samples: int, rng: np.random.RandomState, noise: bool = True) -> tuple[Array, Index]:
        """See `Density`; without `noise` rows are mean + loadings z."""
        counts = sampling.component_counts(self.parameters.weights, n_samples, rng)
        labels = np.repeat(np.arange(len(counts)), counts)
        seeds = rng.randint(0, 2**32, size=(2, 4), dtype=np.uint32)
        return sampling.sample_factor_rows(self.parameters, labels, seeds, noise), labels

    def marginal(self, columns: Index) -> "FactorDensity":
        parameters = self.parameters
        return FactorDensity(
            FactorParameters(
                parameters.weights,
                np.ascontiguousarray(parameters.means[:, columns]),
                np.ascontiguousarray(parameters.loadings[:, columns]),
                np.ascontiguousarray(parameters.noise_variance[:, columns]),
            ),
            self.gaps,
            self.obs_noise,
        )

    def conditionals(self, given: Index, wanted: Index) -> Conditionals:
        parameters, seen = self.parameters, self.marginal(given).observed
        slopes, loadings = self._posterior(seen, wanted)
        noise = parameters.noise_variance[:, wanted]
        covariances = loadings @ np.swapaxes(loadings, 1, 2) + noise[:, :, None] * np.eye(len(wanted))
        left = np.asarray(np.linalg.cholesky(covariances), np.float64)
        shift = seen.means.mean(axis=0)
        intercepts = parameters.means[:, wanted] + np.einsum("kwg,kg->kw", slopes, shift - seen.means)
        return Conditionals(FactorDensity(seen), shift, intercepts, slopes, left)

    def conditioned(self, given: Index, values: Array, wanted: Index) -> "FactorDensity":
        seen = self.marginal(given).observed
        slopes, loadings = self._posterior(seen, wanted)
        means = self.parameters.means[:, wanted] + np.einsum("kwg,kg->kw", slopes, values - seen.means)
        noise = np.ascontiguousarray(self.parameters.noise_variance[:, wanted])
        weights = posterior_weights(seen, values)
        return FactorDensity(FactorParameters(weights, means, loadings, noise), self.gaps, self.obs_noise)

    def given(self, matrix: Array, values: Array, noise: Array, wanted: Index) -> GaussianDensity:
        """See `Density`; what is left of the covariances after any evidence but columns has no factors."""
        whole = self.gaussians()
        factors = np.swapaxes(np.linalg.inv(np.linalg.cholesky(whole.covariances)), 1, 2)
        parameters = MixtureParameters(whole.weights, whole.means, factors, "full", whole.covariances)
        return GaussianDensity(mixture_given(parameters, matrix, values, noise, wanted), self.gaps)

    def _posterior(self, seen: FactorParameters, wanted: Index) -> tuple[Array, Array]:
        """Regression of the wanted columns on those seen, and their loadings on what is left of the factors.

        Given x, z ~ N(M^-1 L^T D^-1 (x - mean), M^-1), M = I + L^T D^-1 L = C C^T, of the columns seen.
        """
        loadings = self.parameters.loadings[:, wanted] @ np.swapaxes(seen.inverse_cholesky, 1, 2)
        weighted = np.swapaxes(seen.projection / np.sqrt(seen.noise_variance)[:, :, None], 1, 2)
        return np.ascontiguousarray(loadings @ weighted), np.ascontiguousarray(loadings)

    def gaussians(self) -> Gaussians:
        parameters, loadings = self.parameters, self.parameters.loadings
        own = parameters.noise_variance[:, :, None] * np.eye(loadings.shape[1])
        return Gaussians(parameters.weights, parameters.means, loadings @ np.swapaxes(loadings, 1, 2) + own)

    def _filler(self, complete: Any) -> Filler:
        """What `complete` makes of the visible values of a block."""
        parameters = self.observed

        def fill(block: NDArray[Any], draws: Draws | None) -> NDArray[Any]:
            if np.isinf(block).any():
                raise NonFiniteRowsError
            numbers = None if draws is None else FactorNumbers.of(draws, parameters)
            out = np.empty_like(block)
            for first, x, visible in blocks_of(block):
                rows = slice(first, first + len(x))
                out[rows] = complete(x, visible, parameters, None if numbers is None else numbers.of_rows(rows))
            return out

        return fill
