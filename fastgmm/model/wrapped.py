"""Densities around another: of rows in other units, of rows among which some are bad."""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..representation.scaling import Standardisation
from ..rows.source import Source, sums_to_finite
from .conditioning import Conditionals
from .parameters import Array
from .sampling import Draws
from .scoring import GAPS_ROWS, Density, Filler, Gaussians, Index, Scorer

BAD_LABEL = -2  # of rows that could not be read
RESCALED_BYTES = 2**26  # of rows of which a copy is made


@dataclass(frozen=True)
class KeptBad(Density):
    """A density of rows among which some are bad: these are labelled BAD_LABEL, and what else is said of them is NaN.

    Attributes
    ----------
    density : Density
    gaps : bool
        Whether NaN is a missing value; infinities are bad in any case.
    """

    density: Density
    gaps: bool

    @property
    def n_components(self) -> int:
        return self.density.n_components

    def rows_together(self, part: Source, filling: bool = False) -> int:
        return max(super().rows_together(part), GAPS_ROWS if self.gaps else 0)

    def scorer(self, dtype: np.dtype[Any]) -> Scorer:
        score_good = self.density.scorer(dtype)

        def score(block: NDArray[Any], **outputs: NDArray[Any]) -> None:
            if sums_to_finite(block):
                score_good(block, **outputs)
                return
            bad = (np.isinf(block) if self.gaps else ~np.isfinite(block)).any(axis=1)
            good = np.ascontiguousarray(block[~bad])
            parts = {name: np.empty((len(good), *output.shape[1:]), output.dtype) for name, output in outputs.items()}
            if len(good):
                score_good(good, **parts)
            for name, part in parts.items():
                outputs[name][~bad], outputs[name][bad] = part, BAD_LABEL if name == "labels" else np.nan

        return score

    def imputer(self, dtype: np.dtype[Any]) -> Filler:
        return self.density.imputer(dtype)

    def sample(self, n_samples: int, rng: np.random.RandomState) -> tuple[Array, Index]:
        return self.density.sample(n_samples, rng)

    def marginal(self, columns: Index) -> "KeptBad":
        return KeptBad(self.density.marginal(columns), self.gaps)

    def conditionals(self, given: Index, wanted: Index) -> Conditionals:
        return self.density.conditionals(given, wanted)

    def conditioned(self, given: Index, values: Array, wanted: Index) -> Density:
        return self.density.conditioned(given, values, wanted)

    def given(self, matrix: Array, values: Array, noise: Array, wanted: Index) -> Density:
        return self.density.given(matrix, values, noise, wanted)

    def gaussians(self) -> Gaussians:
        return self.density.gaussians()


@dataclass(frozen=True)
class Rescaled(Density):
    """A density of standardised rows as one of the rows themselves.

    Attributes
    ----------
    density : Density
        Of what `standardisation` makes of rows.
    standardisation : Standardisation
    """

    density: Density
    standardisation: Standardisation

    @property
    def n_components(self) -> int:
        return self.density.n_components

    def rows_together(self, part: Source, filling: bool = False) -> int:
        most = max(1024, RESCALED_BYTES // (part.n_features * part.dtype.itemsize))
        return min(most, self.density.rows_together(part, filling))

    def scorer(self, dtype: np.dtype[Any]) -> Scorer:
        score_standardised = self.density.scorer(dtype)

        def score(block: NDArray[Any], **outputs: NDArray[Any]) -> None:
            score_standardised(self.standardisation.transform(block), **outputs)
            if "log_prob_norm" in outputs:
                outputs["log_prob_norm"] += self.standardisation.log_abs_det_of_values(block)

        return score

    def imputer(self, dtype: np.dtype[Any]) -> Filler:
        """See `Density`; values that are there stay as they are."""
        fill_standardised = self.density.imputer(dtype)

        def fill(block: NDArray[Any], draws: Draws | None) -> NDArray[Any]:
            rows = fill_standardised(self.standardisation.transform(block), draws)
            return np.where(np.isnan(block), self.standardisation.inverse_transform(rows), block)

        return fill

    def sample(self, n_samples: int, rng: np.random.RandomState) -> tuple[Array, Index]:
        rows, labels = self.density.sample(n_samples, rng)
        return self.standardisation.inverse_transform(rows), labels

    def marginal(self, columns: Index) -> "Rescaled":
        return Rescaled(self.density.marginal(columns), self.standardisation.of_columns(columns))

    def conditionals(self, given: Index, wanted: Index) -> Conditionals:
        inner, mean, scale = self.density.conditionals(given, wanted), self.standardisation.mean_, self._scale
        given_density = cast(Density, inner.given)  # of columns in their standardised units
        seen = Rescaled(given_density, self.standardisation.of_columns(given)) if len(given) else given_density
        return inner.rescaled(seen, scale[given], mean[given], scale[wanted], mean[wanted])

    def conditioned(self, given: Index, values: Array, wanted: Index) -> "Rescaled":
        standardised = (values - self.standardisation.mean_[given]) / self._scale[given]
        inner = self.density.conditioned(given, standardised, wanted)
        return Rescaled(inner, self.standardisation.of_columns(wanted))

    def given(self, matrix: Array, values: Array, noise: Array, wanted: Index) -> "Rescaled":
        inner = self.density.given(matrix * self._scale, values - matrix @ self.standardisation.mean_, noise, wanted)
        return Rescaled(inner, self.standardisation.of_columns(wanted))

    @property
    def _scale(self) -> Array:
        return np.asarray(self.standardisation.scale_, np.float64)

    def gaussians(self) -> Gaussians:
        inner, mean, scale = self.density.gaussians(), self.standardisation.mean_, self.standardisation.scale_
        noise = inner.noise
        if noise is not None:
            noise = replace(noise, bounds=mean + scale * noise.bounds)
        return Gaussians(inner.weights, mean + scale * inner.means, inner.covariances * np.outer(scale, scale), noise)
