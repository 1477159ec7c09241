"""Fewer components with the same mean and covariance (Runnalls, 2007; refined as by Goldberger and Roweis, 2004)."""

import numpy as np
from numpy.typing import NDArray

from ..parameters import Array
from .components import BLOCK_VALUES, Components, symmetrised
from .divergences import gaussian_kl

REFINEMENTS = 100  # which lower a bound, so that they end by themselves


def _half_log_dets(covariances: Array) -> Array:
    return np.log(np.linalg.cholesky(covariances).diagonal(0, -2, -1)).sum(axis=-1)


class _Merging:
    """The components that are left, and the table of what each merge of two would cost."""

    def __init__(self, mixture: Components) -> None:
        self.weights, self.means = mixture.weights.copy(), mixture.means.copy()
        self.covariances = np.array(mixture.covariances)
        self.half_log_dets = mixture.half_log_det.copy()
        n = len(self.weights)
        self.alive = np.ones(n, bool)
        self.group = np.arange(n)
        self.costs = np.full((n, n), np.inf)
        for i in range(n - 1):
            self.costs[i, i + 1 :] = self.costs[i + 1 :, i] = self.costs_of(i, np.arange(i + 1, n))
        self.nearest = self.costs.argmin(axis=1)
        self.least = self.costs[np.arange(n), self.nearest]

    def merged(self, i: int, others: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Weights, means and covariances of component i merged with each of the others: moments are kept."""
        total = self.weights[i] + self.weights[others]
        share = (self.weights[others] / total)[:, None]
        diff = self.means[others] - self.means[i]
        spread = (share * (1 - share) * diff)[:, :, None] * diff[:, None, :]
        within = (1 - share)[..., None] * self.covariances[i] + share[..., None] * self.covariances[others]
        return total, self.means[i] + share * diff, symmetrised(within + spread)

    def costs_of(self, i: int, others: NDArray[np.intp]) -> Array:
        """Runnalls' bound of how much the divergence from the original may rise, in nats."""
        out = np.empty(len(others))
        step = max(1, BLOCK_VALUES // self.means.shape[1] ** 2)
        for first in range(0, len(others), step):
            part = others[first : first + step]
            total, _, covariances = self.merged(i, part)
            gain = self.weights[part] * (_half_log_dets(covariances) - self.half_log_dets[part])
            rest = total - self.weights[part]
            out[first : first + step] = gain + rest * (_half_log_dets(covariances) - self.half_log_dets[i])
        return np.maximum(out, 0.0)

    def merge(self, i: int, j: int) -> None:
        """Put component j into component i and update one row of the table."""
        total, mean, covariance = self.merged(i, np.array([j]))
        self.weights[i], self.means[i], self.covariances[i] = total[0], mean[0], covariance[0]
        self.half_log_dets[i] = _half_log_dets(covariance)[0]
        self.group[self.group == j] = i
        self.alive[j] = False
        self.costs[j], self.costs[:, j], self.least[j] = np.inf, np.inf, np.inf
        others = np.flatnonzero(self.alive)
        others = others[others != i]
        costs = self.costs_of(i, others)
        self.costs[i, others] = self.costs[others, i] = costs
        stale = others[np.isin(self.nearest[others], (i, j))]
        for row in (i, *stale):
            self.nearest[row] = self.costs[row].argmin()
            self.least[row] = self.costs[row, self.nearest[row]]
        nearer = others[costs < self.least[others]]
        self.nearest[nearer], self.least[nearer] = i, self.costs[nearer, i]


def reduced(mixture: Components, n_components: int, max_kl: float) -> tuple[Components, float]:
    """Merge until so few components are left, or the next merge would pass max_kl; and the bound of KL(p || result).

    The costs of merges add up to sum_i w_i KL(p_i || component of its group), which bounds the divergence: the
    components of the result have the moments of their groups. The regrouping that follows only lowers that sum.
    """
    merging, spent = _Merging(mixture), 0.0
    for _ in range(len(mixture.weights) - n_components):
        i = int(merging.least.argmin())
        if spent + merging.least[i] > max_kl:
            break
        spent += float(merging.least[i])
        merging.merge(i, int(merging.nearest[i]))
    if merging.alive.all():
        return mixture, 0.0
    group = np.unique(merging.group, return_inverse=True)[1]
    result = _of_groups(mixture, group)
    best = min(spent, _bound(mixture, result, group))
    for _ in range(REFINEMENTS):
        group = gaussian_kl(mixture, result).argmin(axis=1)
        if len(np.unique(group)) < len(result.weights):
            break
        candidate = _of_groups(mixture, group)
        bound = _bound(mixture, candidate, group)
        if not bound < best * (1 - 1e-12):
            break
        result, best = candidate, bound
    return result, best


def _of_groups(mixture: Components, group: NDArray[np.intp]) -> Components:
    """One component for each group, with its moments."""
    n = int(group.max()) + 1
    member = np.zeros((n, len(group)))
    member[group, np.arange(len(group))] = mixture.weights
    weights = member.sum(axis=1)
    member /= weights[:, None]
    origin = mixture.means[0]
    means = member @ (mixture.means - origin) + origin
    diff = mixture.means - means[group]
    d = mixture.n_features
    inner = mixture.covariances + diff[:, :, None] * diff[:, None, :]
    covariances = (member @ inner.reshape(-1, d * d)).reshape(n, d, d)
    return Components(weights / weights.sum(), means, symmetrised(covariances))


def _bound(mixture: Components, result: Components, group: NDArray[np.intp]) -> float:
    """Sum of the weights times KL(component || that of its group): traces and distances add up to the dimension."""
    return max(0.0, float(mixture.weights @ (result.half_log_det[group] - mixture.half_log_det)))
