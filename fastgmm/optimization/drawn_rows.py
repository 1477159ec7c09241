"""Rows drawn from a source, spread over all of it: what starts and samples look at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows.reservoir import level_of, reservoir_size, rows_of_nodes
from ..rows.source import Source
from .problem import Problem


@dataclass(frozen=True)
class DrawnRows:
    """Rows drawn from a source: their indices, increasing, their values, and what draws among them."""

    index: NDArray[np.int64]
    rows: NDArray[Any]
    rng: np.random.Generator

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.index)

    def thinned(self, size: int) -> "DrawnRows":
        """Return `size` of them, or all if they are no more."""
        if size >= self.size:
            return self
        part = stratified_index(self.size, size, self.rng)
        return DrawnRows(self.index[part], self.rows[part], self.rng)


def stratified_index(count: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One index at random from each of `size` equal stretches of range(count), increasing."""
    if size == count:
        return np.arange(count)
    bounds = np.arange(size + 1) * count // size
    return rng.integers(bounds[:-1], bounds[1:])


def stratified_rows(source: Source, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `size` rows, spread over all of them, that a source has at hand if it was read to count its rows.

    They are drawn from what a reservoir keeps; where that is too few, from all rows.
    """
    count, largest = source.n_samples, reservoir_size(source.n_features)
    level = level_of(count, largest)
    n_nodes = count >> level  # without the last one, where it has fewer rows than the others
    if level == 0 or size > n_nodes:
        return stratified_index(count, size, rng)
    return rows_of_nodes(stratified_index(n_nodes, size, rng), level)


def sample_index(problem: Problem, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the rows a start looks at, increasing, all of positive weight.

    One row at random from each of `size` equal stretches of the data: every row is as likely as any other, data
    sorted by cluster are represented evenly, and without weights neither time nor memory depend on n_samples.
    """
    if problem.sample_weight is None:
        return stratified_rows(problem.source, min(problem.source.n_samples, size), rng)
    eligible = np.flatnonzero(problem.sample_weight > 0)
    return eligible[stratified_index(len(eligible), min(len(eligible), size), rng)]
