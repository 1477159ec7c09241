"""The surface of a density: gradient, Hessian and modes."""

from collections.abc import Iterator

import numpy as np

from ..parameters import Array
from .components import BLOCK_VALUES, Components

MAX_STEPS = 2000
STEP_TOLERANCE = 1e-11  # of the last step towards a mode, in local standard deviations
SAME = 1e-5  # distance of two ends that are one mode, in local standard deviations
MAX_PAIRS = 500  # of components between which modes are looked for as well


def blocks_of(X: Array, width: int) -> Iterator[slice]:
    """Slices of rows of which each takes `width` numbers."""
    step = max(1, BLOCK_VALUES // width)
    for first in range(0, len(X), step):
        yield slice(first, first + step)


def pulls(mixture: Components, X: Array) -> Array:
    """Gradient of each component's log-density, precision (mean - x), (n_rows, n_components, n_features)."""
    upper = mixture.upper_precision
    whitened = (mixture.means[:, None] - X) @ upper
    return np.swapaxes(whitened @ upper.mT, 0, 1)


def log_gradient(mixture: Components, X: Array) -> Array:
    """Gradient of the log-density, (n_rows, n_features)."""
    out = np.empty_like(X)
    for rows in blocks_of(X, mixture.means.size):
        out[rows] = np.einsum("nk,nkd->nd", mixture.responsibilities(X[rows]), pulls(mixture, X[rows]))
    return out


def log_hessian(mixture: Components, X: Array, of_log: bool = True) -> Array:
    """Hessian of the log-density, (n_rows, n_features, n_features), or else that of the density over the density."""
    out = np.empty((*X.shape, X.shape[1]))
    for rows in blocks_of(X, mixture.covariances.size):
        resp, pull = mixture.responsibilities(X[rows]), pulls(mixture, X[rows])
        weighted = resp[..., None] * pull
        hessian = np.swapaxes(weighted, 1, 2) @ pull - np.tensordot(resp, mixture.precisions, 1)
        if of_log:
            gradient = weighted.sum(axis=1)
            hessian -= gradient[:, :, None] * gradient[:, None, :]
        out[rows] = hessian
    return out


def _starts(mixture: Components) -> Array:
    """All means, and a point of the ridge between the two components of each near pair (Ray and Lindsay, 2005)."""
    first, second = np.triu_indices(len(mixture.weights), 1)
    if len(first) == 0:
        return mixture.means
    precisions = mixture.precisions
    diff = mixture.means[second] - mixture.means[first]
    if len(first) > MAX_PAIRS:
        distance = np.einsum("pi,pij,pj->p", diff, precisions[first] + precisions[second], diff)
        near = np.argsort(distance, kind="stable")[:MAX_PAIRS]
        first, second, diff = first[near], second[near], diff[near]
    pull = precisions[second] @ diff[..., None]
    between = mixture.means[first] + np.linalg.solve(precisions[first] + precisions[second], pull)[..., 0]
    return np.concatenate([mixture.means, between])


def _em_steps(mixture: Components, X: Array) -> Array:
    """The fixed-point step, which never lowers the density (Carreira-Perpinan, 2000)."""
    resp = mixture.responsibilities(X)
    pull = np.einsum("nk,nkd->nd", resp, pulls(mixture, X))
    return np.linalg.solve(np.tensordot(resp, mixture.precisions, 1), pull[..., None])[..., 0]


def modes(mixture: Components) -> Array:
    """Local maxima of the density that are reached from the starts, (n_modes, n_features), the highest first.

    Newton steps where the log-density is concave and the step is at most one local standard deviation; the
    fixed-point step elsewhere, and wherever Newton's would lower the density. Origin: the mean.
    """
    origin = mixture.mean
    centred = mixture.moved(-origin)
    X = np.array(_starts(centred))
    active = np.arange(len(X))
    for _ in range(MAX_STEPS):
        here = X[active]
        gradient, hessian = log_gradient(centred, here), log_hessian(centred, here)
        values, vectors = np.linalg.eigh(hessian)
        concave = values[:, -1] < 0
        coordinates = (vectors.mT @ gradient[..., None])[..., 0]
        safe = np.where(values < 0, values, -1.0)
        decrement = np.sqrt((coordinates**2 / -safe).sum(axis=1))
        newton = -(vectors @ (coordinates / safe)[..., None])[..., 0]
        step = np.where((concave & (decrement <= 1))[:, None], newton, 0.0)
        worse = centred.log_density(here + step) < centred.log_density(here)
        plain = worse & (decrement > 1e-6) | ~concave | (decrement > 1)
        if plain.any():
            step[plain] = _em_steps(centred, here[plain])
        X[active] = here + step
        done = concave & (decrement < STEP_TOLERANCE)
        active = active[~done]
        if len(active) == 0:
            break
    if len(active) < len(X):
        X = np.delete(X, active, axis=0)  # what crawls along a ridge without a maximum, or lies on a saddle
    return _distinct(centred, X) + origin


def _distinct(mixture: Components, X: Array) -> Array:
    """Each maximum once, from the highest down."""
    X = X[np.argsort(-mixture.log_density(X), kind="stable")]
    curvature = -log_hessian(mixture, X)
    kept: list[int] = []
    for i in range(len(X)):
        diff = X[kept] - X[i]
        if not kept or np.einsum("md,de,me->m", diff, curvature[i], diff).min() > SAME**2:
            kept.append(i)
    return X[kept]
