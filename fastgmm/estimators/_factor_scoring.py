"""What a mixture of factor analysers does with rows once it has parameters: score, draw, complete, reconstruct."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import validation as check
from ..model import sampling
from ..model.bridge import MixtureKernels, Rows
from ..model.factors.missing import blocks_of, expected_rows, find_gaps, impute_visible, score_visible, selected
from ..model.factors.parameters import FactorParameters
from ..rows.source import Source
from ..threads import thread_limit
from .base import InformationCriteria
from .sklearn_base import InvalidParameterError

OBS_NOISE = [check.real(0.0)]


class FactorScoring(InformationCriteria):
    """The part of `MixtureOfFactorAnalyzers` that needs no fit."""

    n_factors: int
    noise_type: str
    shared_noise: bool
    noise_floor: float
    noise_prior: Any
    obs_noise: float
    missing: str
    loadings_: NDArray[Any]
    noise_variance_: NDArray[Any]
    _defining = ("weights_", "means_", "loadings_", "noise_variance_")

    def sample(self, n_samples: int = 1, *, noise: bool = True) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows from the mixture.

        Parameters
        ----------
        n_samples : int, default=1
        noise : bool, default=True
            Without, rows are mean + loadings z: images without grain.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features), float64, grouped by component
        y : ndarray of shape (n_samples,), int64
            The component of each row. An int `random_state` gives the same sample at every call, the same bits for
            any `n_jobs`.
        """
        self._check_is_fitted()
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample.")
        rng = check.check_random_state(self.random_state)
        parameters = self._fitted_parameters()
        counts = sampling.component_counts(parameters.weights, int(n_samples), rng)
        labels = np.repeat(np.arange(len(counts)), counts)
        seeds = rng.randint(0, 2**32, size=(2, 4), dtype=np.uint32)
        with thread_limit(self.n_jobs):
            X = sampling.sample_factor_rows(parameters, labels, seeds, noise)
        return X, labels

    def impute(self, X: Any, mode: str = "mean") -> NDArray[Any]:
        """Return a copy of X with its missing values, NaN, filled in from the visible ones of their row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        mode : {'mean', 'sample'}, default='mean'
            The conditional mean, or a draw from the conditional distribution: component, factors and the model's own
            noise, without `obs_noise` (an int `random_state` gives the same draw at every call).

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32 if X and the model are, else float64
        """
        self._check_is_fitted()
        noise = np.asarray(self.noise_variance_, np.float64)
        return self._given_visible(X, mode, partial(impute_visible, noise_variance=noise))

    def reconstruct(self, X: Any, mode: str = "mean") -> NDArray[Any]:
        """Return the rows without what the model takes for noise: mean + loadings z of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN is a value that was not observed. With `obs_noise`, this denoises.
        mode : {'mean', 'sample'}, default='mean'
            The expectation given the row, or a draw of component and factors from their posterior.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32 if X and the model are, else float64
        """
        return self._given_visible(X, mode, expected_rows)

    def get_covariance(self, component: int) -> NDArray[Any]:
        """Return the covariance matrix of a component, (n_features, n_features)."""
        self._check_is_fitted()
        loadings = self.loadings_[component]
        return np.asarray(loadings @ loadings.T + np.diag(self.noise_variance_[component]))

    def _n_parameters(self) -> int:
        (n_components, n_features), n_factors = self.means_.shape, self.loadings_.shape[2]
        rotations = n_factors * (n_factors - 1) // 2
        noise = (1 if self.shared_noise else n_components) * (1 if self.noise_type == "isotropic" else n_features)
        return n_components * (n_features * (n_factors + 1) - rotations + 1) - 1 + noise

    def _given_visible(self, X: Any, mode: str, complete: Callable[..., Any]) -> NDArray[Any]:
        """What `complete` makes of the visible values of rows."""
        source = self._score_input(X)
        if mode not in ("mean", "sample"):
            raise ValueError(f"mode must be 'mean' or 'sample'. Got {mode!r}.")
        check.raise_infinite(source, self._column_names())
        rng = None
        if mode == "sample":
            rng = np.random.default_rng(check.check_random_state(self.random_state).randint(0, 2**31 - 1, size=4))
        out = np.empty((source.n_samples, source.n_features), source.dtype)
        parameters = self._parameters()
        with thread_limit(self.n_jobs):
            for first, x, visible in blocks_of(source.chunks()):
                out[first : first + len(x)] = complete(x, visible, parameters, rng)
        return out

    def _set_factors(self, parameters: FactorParameters, dtype: Any) -> None:
        self.weights_ = parameters.weights.astype(dtype)
        self.means_ = parameters.means.astype(dtype)
        self.loadings_ = parameters.loadings.astype(dtype)
        self.noise_variance_ = np.maximum(parameters.noise_variance, np.finfo(dtype).tiny).astype(dtype)

    def _fitted_parameters(self) -> FactorParameters:
        weights, means, loadings, noise = (np.asarray(getattr(self, name), np.float64) for name in self._defining)
        return FactorParameters(weights, means, loadings, noise)

    def _parameters(self) -> FactorParameters:
        """The fitted arrays as they stand now, for rows observed with `obs_noise`."""
        name, values = type(self).__name__, {"obs_noise": self.obs_noise}  # it may have been set since the fit
        check.check_parameters(name, values, {"obs_noise": OBS_NOISE}, InvalidParameterError)
        return self._fitted_parameters().with_observation_noise(float(self.obs_noise))

    def _score_rows(self, source: Source, parameters: FactorParameters, **outputs: NDArray[Any]) -> None:
        gaps = find_gaps(source) if self.missing == "em" else np.zeros(0, bool)
        if not gaps.any():
            super()._score_rows(source, parameters, **outputs)
            return
        check.raise_infinite(source, self._column_names())
        kernels = MixtureKernels(parameters, source.dtype)

        def score_gaps(rows: Rows, **parts: NDArray[Any]) -> None:
            score_visible(rows, parameters, **parts)

        for wanted, score in ((gaps, score_gaps), (~gaps, kernels.score)):
            index = np.flatnonzero(wanted)
            with thread_limit(self.n_jobs):
                for first, block in selected(source.chunks(), wanted):
                    of = index[first : first + len(block)]
                    parts = {name: np.empty((len(of), *out.shape[1:]), out.dtype) for name, out in outputs.items()}
                    score([(0, block)], **parts)
                    for name, part in parts.items():
                        outputs[name][of] = part

    def _total_log_likelihood(
        self,
        source: Source,
        parameters: FactorParameters,
        sample_weight: NDArray[np.float64] | None,
        labels: NDArray[np.int64] | None = None,
    ) -> float:
        if self.missing != "em":
            return super()._total_log_likelihood(source, parameters, sample_weight, labels)
        return self._total_of_scores(source, parameters, sample_weight, labels)
