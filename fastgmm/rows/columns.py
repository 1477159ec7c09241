"""What is written to a file of rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Write = Callable[..., None]  # takes the next rows: an array for each `Columns`


@dataclass(frozen=True)
class Columns:
    """Columns of one dtype, whose values come in one array.

    Attributes
    ----------
    names : sequence of str
        In a Parquet file, one for each value of a row; a `.npy` file has no names.
    dtype : dtype
    shape : tuple of int
        Of a row of the array: () for one column, (n,) for n, the shape of an image for its pixels.
    """

    names: Sequence[str]
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Values in a row."""
        return math.prod(self.shape)
