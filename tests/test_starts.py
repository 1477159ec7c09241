"""Where EM begins: seeds by k-means++, exchanged where that pays, against loops over rows."""

import numpy as np
import pytest

from fastgmm.kernels.nearest import padded_to_four
from fastgmm.optimization.clustering import BlockedSample, Nearest, improve_seeds, kmeans, kmeans_plusplus, lloyd
from fastgmm.threads import thread_limit


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


def seeded(X, weight, n_clusters, numbers):
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007), every potential from its definition."""
    numbers, n_tried, rows = iter(numbers), 2 + int(np.log(n_clusters)), []
    mass = weight
    for k in range(n_clusters):
        cumulative = np.cumsum(mass)
        tried = [
            int(np.searchsorted(cumulative, next(numbers) * cumulative[-1], side="right"))
            for _ in range(n_tried if k else 1)
        ]
        potentials = [weight @ squared_distances(X, X[[*rows, row]]).min(axis=1) for row in tried]
        rows.append(tried[int(np.argmin(potentials))])
        mass = weight * squared_distances(X, X[rows]).min(axis=1)
    return X[rows]


def moved_by_lloyd(X, weight, centers, most=100):
    """Lloyd's iterations until centres move by 1e-4 in the mean square."""
    for _ in range(most):
        labels = squared_distances(X, centers).argmin(axis=1)
        moved = np.array([np.average(X[labels == k], axis=0, weights=weight[labels == k]) for k in range(len(centers))])
        step, centers = ((moved - centers) ** 2).sum() / len(centers), moved
        if step <= 1e-4:
            return centers
    return centers


def make_rows(n, d, k, seed, weighted):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 6 * rng.integers(k, size=(n, 1))
    return X, rng.exponential(size=n) if weighted else None


SHAPES = [(40, 1, 2), (300, 4, 3), (700, 3, 7), (40_000, 6, 30)]  # the last compares by threads


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_exchanges_of_seeds_are_those_of_the_definition(n, d, k, weighted):
    n_exchanged = 0
    for seed in range(5 if n < 1000 else 1):
        X, weight = make_rows(n, d, k, seed, weighted)
        sample, centers = BlockedSample.from_rows(X, weight), np.zeros((k, padded_to_four(d)))
        centers[:, :d] = X[:k]
        found = improve_seeds(sample, centers, 8, np.random.default_rng(seed))
        numbers = np.random.default_rng(seed).random(8)
        expected = exchanged(X, np.ones(n) if weight is None else weight, X[:k], numbers)
        np.testing.assert_allclose(found[:, :d], expected, rtol=1e-12)
        assert (found[:, d:] == 0).all()
        n_exchanged += int((found != centers).any(axis=1).sum())
    assert n_exchanged > 3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_seeds_and_lloyd_are_those_of_the_definition(n, d, k, weighted):
    for seed in range(3 if n < 1000 else 1):
        X, weight = make_rows(n, d, k, seed, weighted)
        sample, each = BlockedSample.from_rows(X, weight), np.ones(n) if weight is None else weight
        seeds = kmeans_plusplus(sample, k, np.random.default_rng(seed))
        numbers = np.random.default_rng(seed).random(k * 8)
        np.testing.assert_array_equal(seeds[:, :d], seeded(X, each, k, numbers))
        if n < 1000:
            moved = lloyd(sample, seeds)
            np.testing.assert_allclose(moved[:, :d], moved_by_lloyd(X, each, seeds[:, :d]), rtol=1e-9, atol=1e-12)
            np.testing.assert_array_equal(
                Nearest.of(sample, moved).labels[:n], squared_distances(X, moved[:, :d]).argmin(axis=1)
            )


def test_a_cluster_that_empties_moves_to_the_farthest_row():
    X = np.array([[0.0], [1.0], [2.0], [50.0], [90.0]])
    sample = BlockedSample.from_rows(X, np.array([1.0, 1, 1, 1, 0]))  # a row without weight is no place to be
    centers = np.array([[0.0, 0, 0, 0], [-1e3, 0, 0, 0]])
    np.testing.assert_allclose(lloyd(sample, centers)[:, 0], [1.0, 50.0])


def test_kmeans_of_many_rows_has_the_same_bits_for_any_number_of_threads():
    X, _ = make_rows(40_000, 6, 30, 0, False)
    found = []
    for n_threads in (1, 2):
        with thread_limit(n_threads):
            found.append(kmeans(BlockedSample.from_rows(X, None), 30, 10, np.random.default_rng(0)))
    np.testing.assert_array_equal(*found)
