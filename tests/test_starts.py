"""Where EM begins: seeds by k-means++, exchanged where that pays, against loops over rows."""

import numpy as np
import pytest

from fastgmm.optimization import clustering
from fastgmm.optimization.clustering import BlockedSample, improve_seeds


def squared_distances(X, centers):
    return ((X[:, None, :] - centers) ** 2).sum(axis=2)


def exchanged(X, weight, centers, numbers):
    """One exchange after the other (Lattanzi and Sohler, 2019), every potential from its definition."""
    centers = centers.copy()
    for number in numbers:
        mass = weight * squared_distances(X, centers).min(axis=1)
        candidate = X[np.searchsorted(np.cumsum(mass), number * mass.sum(), side="right")]
        potentials = []
        for leaving in range(len(centers)):
            tried = centers.copy()
            tried[leaving] = candidate
            potentials.append(weight @ squared_distances(X, tried).min(axis=1))
        if min(potentials) < mass.sum():
            centers[np.argmin(potentials)] = candidate
    return centers


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("n", "d", "k"), [(40, 1, 2), (300, 4, 3), (700, 3, 7)])
def test_exchanges_of_seeds_are_those_of_the_definition_at_once_or_one_by_one(n, d, k, at_once, weighted, monkeypatch):
    n_exchanged = 0
    if not at_once:
        monkeypatch.setattr(clustering, "_n_slots", lambda sample, n_centers: 2)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = np.zeros((n, clustering.padded(d)))
        X[:, :d] = rng.normal(size=(n, d)) + 6 * rng.integers(k, size=(n, 1))
        weight = rng.exponential(size=n) if weighted else None
        sample = BlockedSample.from_rows(X, weight)
        centers = X[:k].copy()
        found = improve_seeds(sample, centers, 8, np.random.default_rng(seed))
        numbers = np.random.default_rng(seed).random(8)
        expected = exchanged(X, np.ones(n) if weight is None else weight, centers, numbers)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        n_exchanged += int((found != centers).any(axis=1).sum())
    assert n_exchanged > 3
