"""The mixture of one or two features: what is left of a mixture when the others are integrated out."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimators.base import MixtureEstimator
from ..model.parameters import Array
from ..model.scoring import Gaussians
from ..rows.source import ArraySource

N_NODES = 20_000  # points that highest-density levels are estimated from
GOLDEN = (np.sqrt(5) - 1) / 2


class MarginalMixture(Gaussians):
    """A mixture of Gaussians in d = 1 or 2 dimensions, with a uniform component of outliers or without.

    Its attributes are weights (n_components,), means (n_components, d), covariances (n_components, d, d) and noise.
    """

    def component_density(self, component: int, points: Array) -> Array:
        """Weighted density of a component at points (n_points, d)."""
        factor = np.linalg.cholesky(self.covariances[component])
        white = np.linalg.solve(factor, (points - self.means[component]).T)
        constant = np.prod(np.diagonal(factor)) * (2 * np.pi) ** (len(factor) / 2)
        return self.weights[component] / constant * np.exp(-0.5 * np.sum(white**2, axis=0))

    def noise_density(self, points: Array) -> Array:
        """Weighted density of the noise at points (n_points, d)."""
        if self.noise is None:
            return np.zeros(len(points))
        low, high = self.noise.bounds
        within = ((points >= low) & (points <= high)).all(axis=1)
        return self.noise.weight / np.prod(high - low) * within

    def density(self, points: Array) -> Array:
        """Density at points (n_points, d)."""
        total = self.noise_density(points)
        for k in np.flatnonzero(self.weights > 0):
            total = total + self.component_density(int(k), points)
        return total

    def highest_density_levels(self, shares: Sequence[float]) -> Array:
        """The densities above which the mixture has these shares of its probability (Hyndman, 1996).

        Quantiles of the density at the mixture's own points: a spiral of equal shares of each component.
        """
        present = np.flatnonzero(self.weights > 0)
        n = max(200, N_NODES // (len(present) + 1))
        steps = (np.arange(n) + 0.5) / n
        radius, angle = np.sqrt(-2 * np.log1p(-steps)), 2 * np.pi * GOLDEN * np.arange(n)
        spiral = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, : self.means.shape[1]]
        factors = np.linalg.cholesky(self.covariances[present])
        nodes = [self.means[k] + spiral @ factor.T for k, factor in zip(present, factors, strict=True)]
        weights = np.repeat(self.weights[present] / n, n)
        if self.noise is not None:
            low, high = self.noise.bounds
            lattice = np.stack([steps, np.arange(n) * GOLDEN % 1], axis=1)[:, : len(low)]
            nodes.append(low + lattice * (high - low))
            weights = np.append(weights, np.full(n, self.noise.weight / n))
        values = self.density(np.concatenate(nodes))
        order = np.argsort(-values)
        reached = np.cumsum(weights[order])
        return np.interp(np.asarray(shares) * reached[-1], reached, values[order])

    def ellipses(self, level: float) -> tuple[Array, Array]:
        """Full axes (n_components, 2), the longer first, and the angle of the longer in degrees, (n_components,).

        They hold the share `level` of each component in two dimensions: |U^T (x - mean)|^2 <= -2 log(1 - level).
        """
        values, vectors = np.linalg.eigh(self.covariances)
        axes = 2 * np.sqrt(-2 * np.log1p(-level) * values[:, ::-1])
        return axes, np.degrees(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]))


def marginal(mixture: MixtureEstimator, features: NDArray[np.int64]) -> MarginalMixture:
    """The mixture of these columns; Bayesian mixtures by the parameters that they draw from."""
    return MarginalMixture(**vars(mixture._density().marginal(features).gaussians()))


def check_mixture(mixture: Any) -> MixtureEstimator:
    """Return the mixture; TypeError if it is none of fastgmm's, NotFittedError if it is not fitted."""
    if not isinstance(mixture, MixtureEstimator):
        raise TypeError(
            "mixture must be a GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers or "
            f"StandardisedMixture of fastgmm. Got {type(mixture).__name__}; "
            "fastgmm.from_sklearn converts scikit-learn's."
        )
    mixture._check_is_fitted()
    return mixture


def resolve_features(mixture: MixtureEstimator, features: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Columns and their names, from indices or names of one feature or two different ones; None: the first ones."""
    n_features = mixture.means_.shape[1]
    names = mixture._column_names()
    if features is None:
        features = range(min(2, n_features))
    elif isinstance(features, (str, Integral)):
        features = [features]
    columns = [_column(feature, n_features, names) for feature in features]
    if not 1 <= len(columns) <= 2 or len(set(columns)) < len(columns):
        raise ValueError(f"features must name one feature or two different ones. Got {tuple(features)!r}.")
    return np.array(columns), [f"feature {c}" if names is None else str(names[c]) for c in columns]


def _column(feature: Any, n_features: int, names: NDArray[Any] | None) -> int:
    if isinstance(feature, str):
        if names is None or feature not in names:
            known = "has no feature names" if names is None else f"has the features {', '.join(map(str, names))}"
            raise ValueError(f"there is no feature {feature!r}: the mixture {known}.")
        return int(np.flatnonzero(names == feature)[0])
    if not isinstance(feature, Integral):
        raise ValueError(f"features must be column indices or names. Got {feature!r}.")
    feature = int(feature)
    if not -n_features <= feature < n_features:
        raise ValueError(f"feature {feature} is out of range: the mixture has {n_features} features.")
    return feature % n_features


def rows_to_show(mixture: MixtureEstimator, X: Any, most: int) -> tuple[NDArray[Any], int]:
    """At most so many rows of X, drawn evenly at random but always the same, and how many rows X has."""
    source = mixture._score_input(X)
    n_samples = source.n_samples
    if n_samples > most:  # without a number for each of the others, which may be very many
        index = np.sort(np.random.default_rng(0).choice(n_samples, most, replace=False))
    else:
        index = np.arange(n_samples)
    return source.take(index), n_samples


def scored(mixture: MixtureEstimator, rows: NDArray[Any], output: str) -> NDArray[Any]:
    """`labels` or `resp` of these rows of a checked X; `predict` would miss the column names of a frame."""
    return mixture._scored(ArraySource(rows), output)


def check_most(max_points: Any, default: int) -> int:
    """Return a number of rows of at least 1, the default for None."""
    if max_points is None:
        return default
    if not isinstance(max_points, Integral) or max_points < 1:
        raise ValueError(f"max_points must be an int of at least 1. Got {max_points!r}.")
    return int(max_points)
