"""Densities: fitted mixtures as values, which score, draw and complete rows wherever these lie.

A density is frozen and can be pickled, so that it is sent to the rows instead of the rows to it: `scored`, `totalled`
and `filled` are tasks for `Source.map_parts`. NaN, infinities and the box of the noise are looked at block by block, in
the pass that scores them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..rows.source import Source, blocks, sums_to_finite
from ..validation import generator_from
from . import sampling
from .bridge import MixtureKernels
from .conditioning import Conditionals, as_parameters, conditionals_of, mixture_given, posterior_weights
from .covariance import STRUCTURES, covariances_of
from .far import NonFiniteRowsError
from .missing import impute, marginal, score_missing, with_covariances
from .parameters import Array, MixtureParameters, UniformNoise
from .sampling import Draws

BLOCK_BYTES = 2**24  # of rows that are looked at and scored together
GAPS_ROWS = 2**18  # of rows with gaps: the algebra of every pattern of gaps is done once for all of them

Index = NDArray[np.int64]
Scorer = Callable[..., None]
Filler = Callable[[NDArray[Any], Draws | None], NDArray[Any]]


@dataclass(frozen=True)
class Gaussians:
    """What a marginal is drawn from, to be looked at: weights (n_components,), means (n_components, d), covariances
    (n_components, d, d), and uniform noise or None.
    """

    weights: Array
    means: Array
    covariances: Array
    noise: UniformNoise | None = None


class Density(ABC):
    """A fitted mixture as a value."""

    @property
    @abstractmethod
    def n_components(self) -> int:
        """Number of components, the noise not counted."""

    @abstractmethod
    def scorer(self, dtype: np.dtype[Any]) -> Scorer:
        """Prepare for rows of this precision; the function fills arrays of one entry for each row of a block.

        score(block, log_prob_norm=..., labels=..., resp=...): log-densities in nats, most probable components (-1:
        noise), and responsibilities. NonFiniteRowsError for an infinity, and for NaN unless that is a missing value.
        """

    @abstractmethod
    def imputer(self, dtype: np.dtype[Any]) -> Filler:
        """Prepare for rows of this precision; the function returns a block with its NaN filled in.

        By expectations, or by draws if it is given any; without the noise of outliers. NonFiniteRowsError for an
        infinity.
        """

    @abstractmethod
    def sample(self, n_samples: int, rng: np.random.RandomState) -> tuple[Array, Index]:
        """Draw rows, (n_samples, n_features), grouped by component, and their components, -1 for noise."""

    @abstractmethod
    def marginal(self, columns: Index) -> "Density":
        """The density of these columns."""

    @abstractmethod
    def conditionals(self, given: Index, wanted: Index) -> Conditionals:
        """The density of the wanted columns for each row of the given ones, the noise of outliers left out."""

    @abstractmethod
    def conditioned(self, given: Index, values: Array, wanted: Index) -> "Density":
        """The density of the wanted columns where the given ones have these values."""

    @abstractmethod
    def given(self, matrix: Array, values: Array, noise: Array, wanted: Index) -> "Density":
        """The density of the wanted columns given matrix x + e = values, e ~ N(0, noise); `DeterminedError`."""

    @abstractmethod
    def gaussians(self) -> Gaussians:
        """The components that rows are drawn from."""

    def rows_together(self, part: Source, filling: bool = False) -> int:
        """How many rows of a part to look at, and to score or fill, at a time."""
        return max(1024, BLOCK_BYTES // (part.n_features * part.dtype.itemsize))

    def score(self, part: Source, **outputs: NDArray[Any]) -> None:
        """Fill `log_prob_norm`, `labels` or `resp`, one entry for each row of the part; see `scorer`."""
        score = self.scorer(part.dtype)
        for rows, block in looked_at(part, self.rows_together(part)):
            score(block, **{name: output[rows] for name, output in outputs.items()})

    def log_likelihood(self, part: Source, sample_weight: Array | None, labels: Index | None) -> float:
        """Return the weighted total log-density of the rows in nats, and fill `labels` on the way if given.

        A row without weight may lie where the density underflows.
        """
        score, sums = self.scorer(part.dtype), []
        for rows, block in looked_at(part, self.rows_together(part)):
            log_prob_norm = np.empty(len(block), part.dtype)
            score(block, log_prob_norm=log_prob_norm, **({} if labels is None else {"labels": labels[rows]}))
            weight = np.ones(len(block)) if sample_weight is None else sample_weight[rows]
            present = weight > 0
            sums.append(float(np.sum(weight[present] * log_prob_norm[present], dtype=np.float64)))
        return math.fsum(sums)


def looked_at(part: Source, size: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the place of so many rows in their part, and the rows."""
    for first, block in blocks(part.chunks(), size):
        yield slice(first, first + len(block)), block


def scored(part: Source, density: Density, output: str) -> NDArray[Any]:
    """What one output of `Density.score` says of the rows of a part."""
    shape = (part.n_samples, density.n_components) if output == "resp" else (part.n_samples,)
    values = np.empty(shape, np.int64 if output == "labels" else part.dtype)
    density.score(part, **{output: values})
    return values


def totalled(
    part: Source, density: Density, with_labels: bool, sample_weight: Array | None
) -> tuple[float, Index | None]:
    """`Density.log_likelihood` of the rows of a part, and their labels if wanted."""
    labels = np.empty(part.n_samples, np.int64) if with_labels else None
    return density.log_likelihood(part, sample_weight, labels), labels


def filled(part: Source, density: Density, filler: str, seed: list[int] | None, numbers: range) -> NDArray[Any]:
    """The rows of a part, whose numbers among all rows are these, as the density completes them.

    filler: the method that makes what fills a block; seed: of draws, None for expectations.
    """
    fill = getattr(density, filler)(part.dtype)
    out = np.empty((part.n_samples, part.n_features), part.dtype)
    for rows, block in looked_at(part, density.rows_together(part, filling=True)):
        draws = None if seed is None else Draws(seed, numbers[rows])
        out[rows] = fill(block, draws)
    return out


# What densities have prepared for rows of each precision, for as long as they live; it does not travel with them.
_prepared: WeakKeyDictionary[Any, dict[np.dtype[Any], MixtureKernels]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class GaussianDensity(Density):
    """A Gaussian mixture.

    Attributes
    ----------
    parameters : MixtureParameters
    gaps : bool
        Whether NaN is a missing value, which the row's density leaves out.
    covariances : ndarray or None
        What rows are drawn from, where somebody has set others than those of the parameters.
    """

    parameters: MixtureParameters
    gaps: bool = False
    covariances: Array | None = None

    @property
    def n_components(self) -> int:
        return len(self.parameters.weights)

    @property
    def drawn(self) -> MixtureParameters:
        """What rows are drawn from: its covariances are there, its log-weights those of the weights."""
        if self.covariances is None:
            return replace(with_covariances(self.parameters), log_weights=None)
        return replace(self.parameters, covariances=self.covariances, log_weights=None)

    def rows_together(self, part: Source, filling: bool = False) -> int:
        if self.gaps or filling:
            return max(GAPS_ROWS, super().rows_together(part))
        return super().rows_together(part) if self.parameters.noise is not None else max(1, part.n_samples)

    def scorer(self, dtype: np.dtype[Any]) -> Scorer:
        prepared, noise = _prepared.setdefault(self, {}), self.parameters.noise
        kernels = prepared.get(dtype)
        if kernels is None:
            kernels = prepared[dtype] = MixtureKernels(self.parameters, dtype)
        if noise is None and not self.gaps:
            return lambda block, **outputs: kernels.score([(0, block)], **outputs)
        complete = with_covariances(self.parameters) if self.gaps else self.parameters

        def score(block: NDArray[Any], **outputs: NDArray[Any]) -> None:
            if self._has_gaps(block):
                score_missing(block, complete, **outputs)
            else:
                kernels.score([(0, block)], **outputs)
            if noise is not None:
                self._score_noise(block, noise, outputs)

        return score

    def imputer(self, dtype: np.dtype[Any]) -> Filler:
        parameters = replace(with_covariances(self.parameters), noise=None, log_weights=None)

        def fill(block: NDArray[Any], draws: Draws | None) -> NDArray[Any]:
            if np.isinf(block).any():
                raise NonFiniteRowsError
            return impute(block, parameters, draws)

        return fill

    def sample(self, n_samples: int, rng: np.random.RandomState) -> tuple[Array, Index]:
        """See `Density`; rows of the noise come last."""
        drawn, noise = self.drawn, self.parameters.noise
        outliers = np.empty((0, drawn.means.shape[1]))
        if noise is not None:
            state = rng.get_state()
            uniform = generator_from(rng)
            rng.set_state(state)  # rows of the components are those that would be drawn without noise
            size = (int(uniform.binomial(n_samples, noise.weight)), drawn.means.shape[1])
            outliers = uniform.uniform(noise.bounds[0], noise.bounds[1], size)
        counts = sampling.component_counts(drawn.weights, n_samples - len(outliers), rng)
        labels = np.repeat(np.arange(len(counts)), counts)
        seed = rng.randint(0, 2**32, size=4, dtype=np.uint32)
        rows = sampling.sample_rows(drawn.means, covariances_of(drawn), drawn.covariance_type, labels, seed)
        if noise is None:
            return rows, labels
        return np.concatenate([rows, outliers]), np.concatenate([labels, np.full(len(outliers), -1)])

    def marginal(self, columns: Index) -> "GaussianDensity":
        return GaussianDensity(marginal(self.drawn, columns), self.gaps)

    def conditionals(self, given: Index, wanted: Index) -> Conditionals:
        drawn = replace(self.drawn, noise=None)
        return conditionals_of(GaussianDensity(marginal(drawn, given)), drawn, given, wanted)

    def conditioned(self, given: Index, values: Array, wanted: Index) -> "GaussianDensity":
        drawn, structure = self.drawn, STRUCTURES[self.parameters.covariance_type]
        conditionals, seen = self.conditionals(given, wanted), marginal(drawn, given)
        left = structure.given_columns(covariances_of(drawn), conditionals.covariances, wanted)
        weights, means = posterior_weights(seen, values), conditionals.expected(values)
        parameters = as_parameters(weights, means, left, drawn.covariance_type)
        if seen.noise is not None:
            parameters = self._with_noise(parameters, seen, values, wanted)
        return GaussianDensity(parameters, self.gaps)

    def _with_noise(
        self, parameters: MixtureParameters, seen: MixtureParameters, values: Array, wanted: Index
    ) -> MixtureParameters:
        """Add the noise, which is uniform over the wanted columns of its box, or impossible outside the box."""
        noise = self.parameters.noise
        assert noise is not None
        share = np.zeros((1, len(parameters.weights)))
        GaussianDensity(seen).scorer(np.dtype(np.float64))(values[None], resp=share)
        outlier = max(0.0, 1.0 - float(share.sum()))
        bounds = np.ascontiguousarray(noise.bounds[:, wanted])
        return replace(
            parameters,
            weights=parameters.weights * (1.0 - outlier),
            noise=UniformNoise(outlier, bounds),
        )

    def given(self, matrix: Array, values: Array, noise: Array, wanted: Index) -> "GaussianDensity":
        if self.parameters.noise is not None:
            raise ValueError(
                "given is not for mixtures with a noise component: what is uniform over a box is not where a linear "
                "map of the columns is known. Use condition, or a mixture fitted without noise."
            )
        return GaussianDensity(mixture_given(self.drawn, matrix, values, noise, wanted), self.gaps)

    def gaussians(self) -> Gaussians:
        drawn = self.drawn
        n_components, n_features = drawn.means.shape
        dense = STRUCTURES[drawn.covariance_type].dense(covariances_of(drawn), n_features)
        dense = np.broadcast_to(dense, (n_components, n_features, n_features))
        return Gaussians(drawn.weights, drawn.means, dense, drawn.noise)

    def _has_gaps(self, block: NDArray[Any]) -> bool:
        """Whether values are missing; NonFiniteRowsError for those that are bad."""
        if sums_to_finite(block):
            return False
        missing = np.isnan(block)
        if np.isinf(block).any() or (not self.gaps and missing.any()):
            raise NonFiniteRowsError  # which the density of the noise hides from the kernels
        return bool(missing.any())

    def _score_noise(self, block: NDArray[Any], noise: UniformNoise, outputs: dict[str, NDArray[Any]]) -> None:
        """Noise has no density outside its box, and its label is -1."""
        if "labels" in outputs:
            labels = outputs["labels"]
            labels[labels == self.n_components] = -1
        low, high = noise.bounds
        if block.dtype == np.float32:  # rows at the edge may have been rounded over it
            low = np.nextafter(low.astype(np.float32), np.float32(-np.inf))
            high = np.nextafter(high.astype(np.float32), np.float32(np.inf))
        with np.errstate(invalid="ignore"):
            index = np.flatnonzero(((block < low) | (block > high)).any(axis=1))
        if len(index):
            without = replace(self, parameters=replace(self.parameters, noise=None))
            parts = {name: output[index] for name, output in outputs.items()}
            without.scorer(block.dtype)(block[index], **parts)
            for name, part in parts.items():
                outputs[name][index] = part
