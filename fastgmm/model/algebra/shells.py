"""Draws at a distance from a target: of two exact proposals the one that is refused less often."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

from ..parameters import Array
from ..sampling import drawn_components
from .components import LOG_2_PI, Components, log_normal
from .constrained import Draw, Index, chosen, placed
from .maps import times_normal
from .truncated import log_uniform

PILOT = 4096  # proposals, of numbers that are always the same, by which the two are compared


def in_shell(mixture: Components, target: Array, scale: Array, low: float, high: float) -> Draw:
    """Rows with low <= |(x - target) / scale| <= high; NaN in target is a column that does not count.

    Equal bounds are a sphere, and need all columns.
    """
    if np.isnan(target).any():
        return by_distance(mixture, target, scale, low, high)
    if low == 0:  # a ball, of which the other way's proposals hit a good share
        return by_distance(mixture, target, scale, low, high)
    by_place = on_spheres(mixture, target, scale, low, high)
    if low == high:
        return by_place
    other = by_distance(mixture, target, scale, low, high)
    return max((other, by_place), key=_acceptance)


def _acceptance(draw: Draw) -> float:
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((PILOT, width)) for width in draw.widths]
    return float(draw.propose(rng.random(PILOT), tables)[2].mean())


def on_spheres(mixture: Components, target: Array, scale: Array, low: float, high: float) -> Draw:
    """The same from places that are uniform in the shell, of which p(x) / bound is accepted: good for thin shells."""
    d = mixture.n_features
    covariances = mixture.covariances / np.outer(scale, scale)
    local = Components(mixture.weights, (mixture.means - target) / scale, covariances)
    most = [
        -0.5 * (_least_distance(mean, precision, low, high) + d * LOG_2_PI)
        for mean, precision in zip(local.means, local.precisions, strict=True)
    ]
    logs = local.log_weights + np.array(most) - local.half_log_det
    bound = logs.max() + np.log(np.exp(logs - logs.max()).sum())
    hollow = (low / high) ** d

    def propose(uniform: Array, tables: list[Array]) -> tuple[Array, Index, NDArray[np.bool_]]:
        z = tables[0]
        radius = high * (hollow + (1 - hollow) * ndtr(tables[1][:, 0])) ** (1 / d)
        y = z * (radius / np.sqrt((z**2).sum(axis=1)))[:, None]
        rows = target + scale * y
        accepted = log_uniform(tables[1][:, 1])[0] <= local.log_density(y) - bound
        if low < high:
            squared = (((rows - target) / scale) ** 2).sum(axis=1)
            accepted &= (squared >= low**2) & (squared <= high**2)
        return rows, drawn_components(local.responsibilities(y), uniform), accepted

    return Draw(d, (d, 2), propose)


def _least_distance(mean: Array, precision: Array, low: float, high: float) -> float:
    """Lower bound of (y - mean)^T precision (y - mean) for low <= |y| <= high, tight but for degenerate cases.

    Lagrange's dual function is below the minimum for every multiplier, so that its maximum need not be found exactly.
    """
    p, vectors = np.linalg.eigh(precision)
    b = mean @ vectors
    norm = float(np.linalg.norm(b))
    if low <= norm <= high:
        return 0.0

    def dual(multiplier: float, radius: float) -> float:
        return float((p * multiplier * b**2 / (p + multiplier)).sum() - multiplier * radius**2)

    if norm > high:
        ends = (np.log(p[0]) - 40, np.log(p[-1] * norm / high) + 1)
        found = minimize_scalar(lambda u: -dual(np.exp(u), high), bounds=ends, method="bounded")
    else:
        found = minimize_scalar(lambda s: -dual(-p[0] * s, low), bounds=(0, 1 - 1e-9), method="bounded")
    return max(0.0, -float(found.fun))


def by_distance(mixture: Components, target: Array, scale: Array, low: float, high: float) -> Draw:
    """Rows with low <= |(x - target) / scale| <= high, from proposals that are refused by their distance.

    Proposals come from the mixture times exp(-distance^2 / 2 tau^2), and a share exp(-(high^2 - distance^2) / 2 tau^2)
    of those in the shell is accepted. Of all tau the one is taken whose proposals are fewest, which the integral of
    that product tells: the shell's probability over the acceptance is exp(high^2 / 2 tau^2) times it.
    """
    given = np.flatnonzero(~np.isnan(target))
    d = mixture.n_features
    diff = target[given] - mixture.means[:, given]
    seen = mixture.covariances[:, given[:, None], given]
    constant = 0.5 * len(given) * LOG_2_PI + np.log(scale[given]).sum()
    best, tau = 0.0, np.inf
    for candidate in high * np.geomspace(0.02, 100, 80):
        widened = seen + np.diag((candidate * scale[given]) ** 2)
        logs = mixture.log_weights + log_normal(diff, widened)
        most = logs.max()
        log_cost = 0.5 * (high / candidate) ** 2 + constant + len(given) * np.log(candidate)
        log_cost += most + np.log(np.exp(logs - most).sum())
        if log_cost < best:
            best, tau = log_cost, candidate
    proposed = mixture if tau == np.inf else times_normal(mixture, target, scale * tau)[0]

    def propose(uniform: Array, tables: list[Array]) -> tuple[Array, Index, NDArray[np.bool_]]:
        labels = chosen(proposed.log_weights, uniform)
        rows = placed(proposed, labels, tables[0])
        squared = (((rows[:, given] - target[given]) / scale[given]) ** 2).sum(axis=1)
        threshold = log_uniform(tables[1][:, 0])[0]
        inside = (squared >= low**2) & (squared <= high**2)
        return rows, labels, inside & (threshold <= 0.5 * (squared - high**2) / tau**2)

    return Draw(d, (d, 1), propose)
