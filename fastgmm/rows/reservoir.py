"""A sample of rows drawn in one pass while their number is not known yet, and the same sample by indices where it is.

Rows are the leaves of a binary tree, and at every node a hash decides for one of its halves: a node of level l keeps
one of its 2^l rows, each as likely as the others. A pass keeps the rows of all nodes of level 0, and whenever it holds
more than it should, goes one level up and drops half of them. What is kept depends on the number of rows alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESERVOIR_BYTES = 2**26  # as float64


def reservoir_size(n_features: int) -> int:
    """Most rows that are kept."""
    return max(1024, RESERVOIR_BYTES // (8 * n_features))


def level_of(n_rows: int, size: int) -> int:
    """The lowest level with at most `size` nodes."""
    return max(0, (-(-n_rows // size) - 1).bit_length())


def rows_of_nodes(nodes: NDArray[np.int64], level: int) -> NDArray[np.int64]:
    """Return the row that each node of a level keeps; the last node's may lie beyond the last row."""
    nodes = np.asarray(nodes, np.int64)
    for height in range(level, 0, -1):
        nodes = 2 * nodes + _chosen_half(nodes, height)
    return nodes


def _chosen_half(nodes: NDArray[np.int64], height: int) -> NDArray[np.int64]:
    """0 or 1 for each node, by the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    z = nodes.astype(np.uint64) * np.uint64(64) + np.uint64(height)
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(63)).astype(np.int64)


class Reservoir:
    """What a pass keeps.

    Parameters
    ----------
    n_features : int
    size : int, optional
        Most rows; by default 64 MiB of them.
    """

    def __init__(self, n_features: int, size: int | None = None) -> None:
        self._size = reservoir_size(n_features) if size is None else size
        self._level = self._n_rows = 0
        self._index: list[NDArray[np.int64]] = []
        self._blocks: list[NDArray[Any]] = []

    def add(self, block: NDArray[Any]) -> None:
        """Look at the next rows, and keep copies of some."""
        first, last = self._n_rows, self._n_rows + len(block)
        self._n_rows = last
        index = rows_of_nodes(np.arange(first >> self._level, ((last - 1) >> self._level) + 1), self._level)
        index = index[(index >= first) & (index < last)]
        self._index.append(index)
        self._blocks.append(block[index - first])
        while self._level < level_of(last, self._size):
            self._level += 1
            index, rows = self.kept()
            stays = rows_of_nodes(index >> self._level, self._level) == index
            self._index, self._blocks = [index[stays]], [rows[stays]]

    def kept(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return indices, increasing, and rows."""
        return np.concatenate(self._index), np.concatenate(self._blocks)
