"""Rows as a fitted transform gives them."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from ..rows.source import Source
from ..rows.wrappers import WrappedSource
from .transform import Transform


class TransformedSource(WrappedSource):
    """The rows of a source as a fitted transform gives them, computed block by block whenever they are read.

    Parameters
    ----------
    source : Source
    transform : Transform
        Of single rows: what it makes of one does not depend on the others.
    names : sequence of str or None, default=None
        Of the transformed columns.
    """

    def __init__(self, source: Source, transform: Transform, names: Sequence[str] | None = None) -> None:
        super().__init__(source)
        self._transform, self.names = transform, None if names is None else list(names)
        self.n_features, self.dtype, self.input_dtype = transform.n_features_out, source.dtype, source.input_dtype

    def read_as(self, dtype: Any) -> "TransformedSource":
        """Return the same rows in this precision."""
        return TransformedSource(self._source.read_as(dtype), self._transform, self.names)

    def _made_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        return self._transform.transform(rows)
