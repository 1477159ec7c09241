"""Scoring of rows with missing values, and of mixtures with uniform noise."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.missing import impute, score_missing
from ..model.parameters import MixtureParameters, UniformNoise
from ..rows.source import ArraySource, Source
from ..threads import thread_limit
from ..validation import check_finite, check_random_state, raise_infinite
from .base import MixtureEstimator

BLOCK_ROWS = 2**18  # rows with gaps that are scored together


class GapsAndNoise(MixtureEstimator):
    """What `missing='em'` and `noise` change about scoring."""

    missing: str
    noise: Any
    noise_weight_: float
    noise_bounds_: NDArray[np.float64]

    def impute(self, X: Any, mode: str = "mean") -> NDArray[Any]:
        """Return a copy of X with its missing values, NaN, filled in.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        mode : {'mean', 'sample'}, default='mean'
            The conditional mean given the row's other values, or a draw from their conditional distribution (an int
            `random_state` gives the same draw at every call). Uniform noise is left out of both.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32 if X is, else float64
        """
        source = self._score_input(X)
        if mode not in ("mean", "sample"):
            raise ValueError(f"mode must be 'mean' or 'sample'. Got {mode!r}.")
        raise_infinite(source, self._column_names())
        rng = None
        if mode == "sample":
            rng = np.random.default_rng(check_random_state(self.random_state).randint(0, 2**31 - 1, size=4))
        with thread_limit(self.n_jobs):
            return impute(source.take(np.arange(source.n_samples)), self._parameters(), rng)

    def _parameters(self) -> MixtureParameters:
        parameters = super()._parameters()
        if not hasattr(self, "noise_weight_"):
            return parameters
        return replace(parameters, noise=UniformNoise(float(self.noise_weight_), self.noise_bounds_))

    def _score_rows(self, source: Source, parameters: MixtureParameters, **outputs: NDArray[Any]) -> None:
        if self.missing == "em":
            gaps = any(np.isnan(chunk[first : first + BLOCK_ROWS]).any() for _, chunk in source.chunks()
                       for first in range(0, len(chunk), BLOCK_ROWS))  # fmt: skip
        else:
            gaps = False
        if gaps:
            raise_infinite(source, self._column_names())
            self._score_gaps(source, parameters, outputs)
        else:
            if parameters.noise is not None:  # whose density hides from the kernels that a row is not finite
                check_finite(source, type(self).__name__, self._column_names())
            super()._score_rows(source, parameters, **outputs)
        if parameters.noise is not None:
            self._score_outside(source, parameters, outputs)

    def _score_gaps(self, source: Source, parameters: MixtureParameters, outputs: dict[str, NDArray[Any]]) -> None:
        with thread_limit(self.n_jobs):
            for start, chunk in source.chunks():
                for first in range(0, len(chunk), BLOCK_ROWS):
                    rows = slice(start + first, start + min(first + BLOCK_ROWS, len(chunk)))
                    block = chunk[first : first + BLOCK_ROWS]
                    score_missing(block, parameters, **{name: output[rows] for name, output in outputs.items()})

    def _score_outside(self, source: Source, parameters: MixtureParameters, outputs: dict[str, NDArray[Any]]) -> None:
        """Noise has no density outside its box, and its label is -1."""
        noise = parameters.noise
        assert noise is not None
        if "labels" in outputs:
            labels = outputs["labels"]
            labels[labels == len(parameters.weights)] = -1
        low, high = noise.bounds
        if source.dtype == np.float32:  # rows at the edge may have been rounded over it
            low, high = (np.nextafter(bound.astype(np.float32), np.float32(end)) for bound, end in
                         ((low, -np.inf), (high, np.inf)))  # fmt: skip
        for start, chunk in source.chunks():
            with np.errstate(invalid="ignore"):
                outside = ((chunk < low) | (chunk > high)).any(axis=1)
            index = start + np.flatnonzero(outside)
            if len(index):
                parts = {name: output[index] for name, output in outputs.items()}
                self._score_rows(ArraySource(source.take(index)), replace(parameters, noise=None), **parts)
                for name, part in parts.items():
                    outputs[name][index] = part

    def _total_log_likelihood(
        self,
        source: Source,
        parameters: MixtureParameters,
        sample_weight: NDArray[np.float64] | None,
        labels: NDArray[np.int64] | None = None,
    ) -> float:
        if self.missing != "em" and parameters.noise is None:
            return super()._total_log_likelihood(source, parameters, sample_weight, labels)
        return self._total_of_scores(source, parameters, sample_weight, labels)

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows from the mixture, those of the noise last and labelled -1; see `MixtureEstimator.sample`."""
        noise = self._parameters().noise if self.__sklearn_is_fitted__() else None
        if noise is None or n_samples < 1:
            return super().sample(n_samples)
        # Not the numbers that the components are drawn with.
        rng = np.random.default_rng(check_random_state(self.random_state).randint(0, 2**31 - 1, size=4))
        n_noise = int(rng.binomial(n_samples, noise.weight))
        outliers = rng.uniform(noise.bounds[0], noise.bounds[1], (n_noise, noise.bounds.shape[1]))
        if n_noise == n_samples:
            return outliers, np.full(n_noise, -1)
        rows, labels = super().sample(n_samples - n_noise)
        return np.concatenate([rows, outliers]), np.concatenate([labels, np.full(n_noise, -1)])
