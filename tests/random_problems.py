"""Random problems of everything that `GaussianMixture` can be told at once, without conflicts.

A problem is a `Told` of the reference, a start and the settings of the estimator that say the same; the same seed makes
the same problem.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastgmm import ConjugatePrior
from tests.reference import COVARIANCE_TYPES, Mixture, dense_covariances
from tests.reference_combinations import Prior, State, Told, begin, box, column_variances

FEATURES = ("weights", "gaps", "labels", "prior", "noise", "means", "shares", "covariances", "floor")
CHANCE = 0.4


@dataclass(frozen=True)
class Case:
    told: Told
    start: Mixture
    state: State  # the start as the fit begins
    settings: dict[str, Any]
    dtype: type
    n_iter: int
    fresh: np.ndarray
    unit: np.ndarray  # standard deviations of the columns
    told_names: tuple[str, ...]

    def data(self):
        """What `fit` gets."""
        weight = self.told.sample_weight if "weights" in self.told_names else None
        labels = self.told.labels if "labels" in self.told_names else None
        return self.told.X.astype(self.dtype), labels, weight

    def __str__(self):
        n, d = self.told.X.shape
        start = {"weights": self.start.weights, "means": self.start.means, "covariances": self.start.covariances}
        return f"{n} x {d} {self.dtype.__name__}, told {self.told_names}, {self.n_iter} steps, {self.settings}, {start}"


def definite(rng, d, dof=8):
    """A random covariance matrix of about unit size and moderate condition."""
    root = rng.normal(size=(d, d + dof)) / np.sqrt(d + dof)
    return root @ root.T


def shaped(matrices, covariance_type):
    """Covariance matrices (k, d, d) in the shape of the type."""
    return {
        "full": lambda: matrices,
        "tied": lambda: matrices.mean(axis=0),
        "diag": lambda: np.diagonal(matrices, axis1=1, axis2=2).copy(),
        "spherical": lambda: np.trace(matrices, axis1=1, axis2=2) / matrices.shape[1],
    }[covariance_type]()


def draw_rows(rng, n, d, k, names, separated):
    """Rows of k clusters in units of their own, the clusters, weights, and labels; gaps are NaN."""
    scale = 10.0 ** rng.uniform(-1, 1, d)
    cluster = rng.permutation(np.arange(n) % k)
    centres = rng.normal(0, 2, (k, d))
    if separated:
        centres = 10.0 * rng.permutation(k)[:, np.newaxis] + rng.normal(size=(k, d))
    roots = np.stack([np.linalg.cholesky(definite(rng, d)) for _ in range(k)])
    spread = np.einsum("nij,nj->ni", roots[cluster], rng.normal(size=(n, d)))
    X = (centres[cluster] + spread + rng.normal(0, 5, d)) * scale
    weight, labels = np.ones(n), np.full(n, -1)
    if "weights" in names:
        weight = rng.choice([rng.uniform(0.1, 3, n), rng.integers(0, 4, n).astype(float)])
        weight[rng.random(n) < 0.1] = 0.0
    if "labels" in names:
        labels = np.where(rng.random(n) < rng.choice([0.1, 0.5, 1.0], p=[0.4, 0.5, 0.1]), cluster, -1)
        strange = rng.random(n) < (0.0 if separated else 0.05)  # whatever the rows look like
        labels[strange] = rng.integers(0, k, strange.sum())
    if "gaps" in names:
        X[rng.random(X.shape) < rng.uniform(0.05, 0.3)] = np.nan
        X[rng.choice(n, 3, replace=False)] = np.nan
        if "labels" in names:
            first, second = np.flatnonzero(np.isnan(X).all(axis=1))[:2]
            labels[first], labels[second], weight[first] = rng.integers(0, k), -1, 1.5
            if "weights" not in names:
                weight[first] = 1.0
    return X, cluster, weight, labels


def draw_prior(rng, told, k, covariance_type):
    """A prior of random strength, the reference's and the estimator's; by defaults where that is the draw."""
    d, is_matrix = told.X.shape[1], covariance_type in ("full", "tied")
    weight, variance, gaps = told.sample_weight, column_variances(told), np.isnan(told.X)
    unit = np.sqrt(variance)
    if rng.random() < 0.2:  # the defaults
        mean = weight @ np.where(gaps, 0.0, told.X) / (weight @ ~gaps)
        diff = np.where(gaps, 0.0, told.X - mean)
        covariance = (weight * diff.T) @ diff
        root = np.sqrt(np.diag(covariance))
        covariance *= np.outer(unit / root, unit / root)  # correlations of filled rows, variances of what is there
        scale = {"diag": np.full(d, variance.mean()), "spherical": variance.mean()}.get(covariance_type, covariance)
        return Prior(1.0, 0.01, mean, d + 2.0, scale / k ** (2 / d)), "conjugate"
    matrix = definite(rng, d) * np.outer(unit, unit) * np.exp(rng.uniform(-3, 2))
    scale = {"full": matrix, "tied": matrix, "diag": np.diag(matrix)}.get(covariance_type, np.trace(matrix) / d)
    prior = Prior(
        rng.choice([1.0, 1.0 + np.exp(rng.uniform(-2, 3))]),
        rng.choice([0.0, np.exp(rng.uniform(-4, 4))]),
        np.nanmean(told.X, axis=0) + rng.normal(size=d) * unit,
        (d - 1 if is_matrix else 0) + np.exp(rng.uniform(-1, 4)),
        scale,
    )
    return prior, ConjugatePrior(*prior)


def draw_fixed(rng, start, names, has_noise):
    """What is fixed of the parameters, as `fixed` has it: values beside those of the start."""
    k, d = start.means.shape
    fixed = {}
    if "means" in names:
        free = rng.random(k) < 0.5
        free[rng.integers(k)] = False
        fixed["means"] = np.where(free[:, np.newaxis], np.nan, start.means * rng.uniform(0.95, 1.05, (k, d)))
    if "shares" in names:
        if rng.random() < 0.4:
            fixed["weights"] = "equal"
        else:
            free = rng.random(k) < 0.5
            weights = rng.dirichlet(np.full(k, 5.0))
            if has_noise or free.all():
                weights *= 0.8
                free[rng.integers(k)] &= k > 1
            if not has_noise and k == 1:
                free, weights = np.zeros(1, bool), np.ones(1)
            fixed["weights"] = np.where(free, np.nan, weights)
    if "covariances" in names:
        covariances = start.covariances * rng.uniform(0.3, 1.0)
        if start.covariance_type != "tied":
            free = rng.random(k) < 0.5
            free[rng.integers(k)] = False
            covariances[free] = np.nan
        fixed["covariances"] = covariances
    return fixed


def draw_noise(rng, told):
    """The box of the noise, its first weight, and the setting that says so."""
    bounds = box(told.X, told.sample_weight)
    kind = rng.integers(3)
    if kind == 0:
        return bounds, 0.1, True
    if kind == 1:
        weight = float(rng.uniform(0.02, 0.5))
        return bounds, weight, weight
    width = np.ptp(bounds, axis=0)
    bounds = bounds + [[-1], [1]] * rng.uniform(0.01, 1, (2, len(width))) * width
    return bounds, 0.1, bounds


def draw_start(rng, told, k, covariance_type):
    """Means at random rows, covariances about as wide as the data."""
    d = told.X.shape[1]
    unit = np.sqrt(column_variances(told))
    rows = np.where(np.isnan(told.X), np.nanmean(told.X, axis=0), told.X)[told.sample_weight > 0]
    means = rows[rng.choice(len(rows), k, replace=False)] + 0.2 * rng.normal(size=(k, d)) * unit
    matrices = np.stack([definite(rng, d) * rng.uniform(0.3, 1.5) for _ in range(k)]) * np.outer(unit, unit)
    return Mixture(rng.dirichlet(np.full(k, 5.0)), means, shaped(matrices, covariance_type), covariance_type)


def near_start(told, cluster, start):
    """The start with the clusters' own means, a little smaller than they are."""
    X = np.where(np.isnan(told.X), np.nan, told.X)
    means = np.stack(
        [np.nanmean(X[(cluster == k) & (told.sample_weight > 0)], axis=0) for k in range(len(start.means))]
    )
    return start._replace(means=means, covariances=start.covariances * 0.05)


def draw(seed, covariance_type, dtype=np.float64, features=FEATURES, separated=False):
    """The problem of a seed; separated: of clusters that everybody finds, from a start in them."""
    rng = np.random.default_rng([seed, COVARIANCE_TYPES.index(covariance_type), np.dtype(dtype).itemsize])
    names = tuple(name for name in features if rng.random() < CHANCE)
    d, k = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    n = int(rng.integers(max(20, 4 * k * d), 61)) * (4 if separated else 1)
    X, cluster, weight, labels = draw_rows(rng, n, d, k, names, separated)
    X = X.astype(dtype).astype(np.float64)
    told = Told(X, weight, labels, reg_covar=float(rng.choice([0.0, 1e-3])) * float(np.nanvar(X)))
    settings = {"covariance_type": covariance_type, "reg_covar": told.reg_covar, "on_singular": "raise"}
    start, noise_weight = draw_start(rng, told, k, covariance_type), 0.0
    if separated:
        start = near_start(told, cluster, start)
    if "noise" in names:
        bounds, noise_weight, settings["noise"] = draw_noise(rng, told)
        told = replace(told, bounds=bounds)
    fixed = draw_fixed(rng, start, names, "noise" in names)
    if fixed:
        settings["fixed"] = fixed
        arrays = {name: values for name, values in fixed.items() if not isinstance(values, str)}
        told = replace(told, equal_weights=len(arrays) < len(fixed), **arrays)
    if "prior" in names:
        prior, settings["prior"] = draw_prior(rng, told, k, covariance_type)
        told = replace(told, prior=prior)
    if "floor" in names:
        told = replace(told, floor=float(rng.uniform(0.01, 0.3)))
        settings["covariance_floor"] = told.floor
    if "gaps" in names:
        settings["missing"] = "em"
    if "labels" in names:
        settings["semi_supervised"] = True
    if "means" not in names and "covariances" not in names:
        settings["on_singular"] = str(rng.choice(["raise", "regularize", "restart"]))
    unit = np.sqrt(column_variances(told))
    fresh = np.nanmean(X, axis=0) + 2 * rng.normal(size=(15, d)) * unit
    if "gaps" in names:
        fresh[rng.random(fresh.shape) < 0.3] = np.nan
        fresh[0] = np.nan
    fresh = fresh.astype(dtype).astype(np.float64)
    state = begin(told, start, noise_weight)
    return Case(told, start, state, settings, dtype, int(rng.integers(1, 4)), fresh, unit, names)


def precisions(mixture):
    """What `precisions_init` takes."""
    matrices = np.linalg.inv(dense_covariances(mixture))
    return matrices[0] if mixture.covariance_type == "tied" else shaped(matrices, mixture.covariance_type)
