"""Zarr arrays and HDF5 data sets by their paths. This module knows zarr and h5py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..exceptions import SourceError
from .files import unseen
from .npy import kind_of, split_name
from .slices import SliceReader


class StoreReader(SliceReader):
    """A two-dimensional array of a Zarr store or HDF5 file, `path` or `path::name`; workers open it anew."""

    def __init__(self, path: Path, columns: Sequence[str | int] | None = None) -> None:
        self._path = path
        super().__init__(_opened(path), columns)
        self.origin = str(path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_data"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            self._data = _opened(self._path)
        except FileNotFoundError:
            raise SourceError(unseen(split_name(self._path)[0])) from None


def _opened(path: Path) -> Any:
    """Return the array that a path means."""
    file, name = split_name(path)
    kind = kind_of(path)
    try:
        if kind == "zarr":
            import zarr

            root = zarr.open(str(file), mode="r")
        else:
            import h5py

            root = h5py.File(file, "r")
    except ImportError:
        package = "zarr" if kind == "zarr" else "h5py"
        raise ImportError(f"Reading {file} needs {package}. Install it with: pip install {package}") from None
    except Exception as error:  # of many kinds
        if not file.exists():
            raise FileNotFoundError(f"There is no file {str(file)!r}.") from None
        raise SourceError(f"{file} is no usable {'Zarr store' if kind == 'zarr' else 'HDF5 file'}: {error}") from error
    if hasattr(root, "shape"):
        if name is not None:
            raise SourceError(f"{file} is one array; it has none named {name!r}.")
        return root
    arrays = _tables(root)
    if not arrays:
        raise SourceError(f"{file} has no two-dimensional array.")
    if name is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if name is None or name.strip("/") not in arrays:
        wanted = "several" if name is None else f"none named {name!r}"
        known = ", ".join(map(repr, arrays))
        raise SourceError(f"{file} has {wanted} of these two-dimensional arrays: {known}; choose with '{file}::NAME'.")
    return arrays[name.strip("/")]


def _tables(group: Any, prefix: str = "") -> dict[str, Any]:
    """The two-dimensional arrays of a group and of the groups in it, by their names."""
    found: dict[str, Any] = {}
    for name in group:
        node = group[name]
        if not hasattr(node, "shape"):
            found |= _tables(node, f"{prefix}{name}/")
        elif len(node.shape) == 2:
            found[f"{prefix}{name}"] = node
    return found
