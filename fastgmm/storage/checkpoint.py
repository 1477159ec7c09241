"""Checkpoint files: the state of a fit that is under way, to the bit, as safetensors.

Format "fastgmm-checkpoint/1": string metadata `format`, `fastgmm_version`, `fingerprint` (what the fit is about, JSON),
`state` (JSON, in which arrays are named) and `sha256` of all of it; the arrays as float64 tensors "0", "1", ... An
array is put back with the dtype and the order in memory that it had: sums of the same numbers in another order may
differ in the last bit. As in model files, nothing in a file is ever run.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from .._version import __version__
from ..exceptions import FormatError, clipped
from ..rows.atomic import StrPath, replace_atomically
from .container import FileReader, fail

FORMAT = "fastgmm-checkpoint/1"
MAX_FILE_BYTES = 2**36  # an accelerated fit remembers twenty mixtures
MOST_REPEATED = 2**20  # times that a number of the file may stand in an array: components that share a covariance
DTYPES = ("float64", "float32", "bool", "int64", "uint32")
KEYS = ("format", "fastgmm_version", "fingerprint", "state", "sha256")


def previous_path(path: StrPath) -> Path:
    """Where the last checkpoint but one is kept: beside the file, if `path` is a link to one."""
    return Path(f"{os.path.realpath(path) if os.path.islink(path) else os.fspath(path)}.previous")


def write_checkpoint(path: StrPath, fingerprint: Mapping[str, Any], state: Any, *, keep: bool = True) -> None:
    """Write a checkpoint atomically; with `keep`, the one that was at `path` becomes `previous_path(path)`.

    Parameters
    ----------
    fingerprint : mapping to JSON values
    state : dict of None, bool, int, float, str, arrays, dataclasses, and lists, tuples and dicts of these

    Raises
    ------
    OSError
        Older checkpoints are then as they were.
    """
    writer = _Writer()
    metadata = {
        "format": FORMAT,
        "fastgmm_version": __version__,
        "fingerprint": json.dumps(fingerprint, sort_keys=True),
        "state": json.dumps(writer.pack(state)),
    }
    tensors = {name: np.asarray(tensor, dtype="<f8", order="C") for name, tensor in writer.tensors.items()}
    metadata["sha256"] = _digest(metadata, tensors)
    content = safetensors.numpy.save(tensors, metadata=metadata)
    with replace_atomically(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep and os.path.exists(path):
            os.replace(os.path.realpath(path), previous_path(path))


def read_checkpoint(path: StrPath, kinds: Iterable[type]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read fingerprint and state; FormatError for a file that is damaged or no checkpoint.

    `kinds` are the dataclasses that the state may hold.
    """
    try:
        with FileReader(path, MAX_FILE_BYTES, _check_metadata) as reader:
            metadata = reader.metadata
            fingerprint, packed = json.loads(metadata["fingerprint"]), json.loads(metadata["state"])
            names = tuple(sorted(_named(packed)))
            reader.shapes(names)
            tensors = reader.tensors(names)
        if _digest(metadata, tensors) != metadata["sha256"]:
            fail(path, "is damaged: its content is not what was written")
        state = _Reader(tensors, {kind.__name__: kind for kind in kinds}).unpack(packed)
    except FormatError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        fail(path, f"does not describe the state of a fit: {clipped(repr(error))}")
    if not isinstance(fingerprint, dict) or not isinstance(state, dict):
        fail(path, "does not describe the state of a fit")
    return fingerprint, state


def check_replaceable(path: StrPath) -> None:
    """Raise ValueError if something that is no checkpoint would be replaced, there or where the one before is kept."""
    for file in (path, previous_path(path)):
        if not os.path.lexists(file):
            continue
        try:
            with FileReader(file, MAX_FILE_BYTES, _check_metadata):
                pass
        except (FormatError, OSError) as error:
            raise ValueError(
                f"checkpoint={os.fspath(path)!r} would replace {os.fspath(file)!r}, which exists and is no checkpoint "
                f"({error}). Name another."
            ) from None


def _check_metadata(path: StrPath, metadata: Any) -> None:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        fail(path, f"is not a checkpoint of format {FORMAT!r}")
    for key in KEYS:
        if not isinstance(metadata.get(key), str):
            fail(path, f"metadata {key!r} is missing")


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray[Any, Any]]) -> str:
    digest = hashlib.sha256()
    for key in KEYS[:-1]:
        digest.update(metadata[key].encode() + b"\0")
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name], dtype="<f8").data)
    return digest.hexdigest()


def _named(packed: Any) -> set[str]:
    """Names of the tensors that a packed value refers to."""
    found: set[str] = set()
    stack = [packed]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if isinstance(value.get("tensor"), str):
                found.add(value["tensor"])
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return found


class _Writer:
    """Turns values into JSON, and their arrays into tensors; an array that occurs twice is written once."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray[Any, Any]] = {}
        self._seen: dict[int, tuple[Any, Any]] = {}  # by id; holds the array, so that the id stays its own

    def pack(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return {"scalar": self._pack_array(np.asarray(value))}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray):
            if id(value) not in self._seen:
                self._seen[id(value)] = value, self._pack_array(value)
            return self._seen[id(value)][1]
        if is_dataclass(value) and not isinstance(value, type):
            return {
                "kind": type(value).__name__,
                "fields": {field.name: self.pack(getattr(value, field.name)) for field in fields(value)},
            }
        if isinstance(value, dict):
            return {"dict": {key: self.pack(entry) for key, entry in value.items()}}
        if isinstance(value, list) and value and all(isinstance(entry, float) for entry in value):
            return {"floats": self.pack(np.array(value, np.float64))}
        if isinstance(value, list | tuple):
            return {type(value).__name__: [self.pack(entry) for entry in value]}
        raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")

    def _pack_array(self, array: np.ndarray[Any, Any]) -> dict[str, Any]:
        if array.dtype.name not in DTYPES:
            raise TypeError(f"a checkpoint cannot hold an array of {array.dtype}")
        # Axes that are repeated, as np.broadcast_to does, are kept once; the others lie in order of their strides.
        kept = array[tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)]
        axes = sorted(range(kept.ndim), key=lambda axis: -abs(kept.strides[axis]))
        name = str(len(self.tensors))
        self.tensors[name] = np.asarray(kept.transpose(axes), np.float64, order="C")  # a number stays one
        return {"tensor": name, "dtype": array.dtype.name, "axes": axes, "shape": list(array.shape)}


class _Reader:
    """The way back; raises some ValueError, TypeError, KeyError or IndexError for what no `_Writer` wrote."""

    def __init__(self, tensors: Mapping[str, np.ndarray[Any, Any]], kinds: Mapping[str, Callable[..., Any]]) -> None:
        self._tensors, self._kinds = tensors, kinds

    def unpack(self, packed: Any) -> Any:
        if not isinstance(packed, dict):
            if isinstance(packed, list):
                raise TypeError("a list without a kind")
            return packed
        if "tensor" in packed:
            return self._array(**packed)
        if "kind" in packed:
            given = {name: self.unpack(value) for name, value in packed["fields"].items()}
            return self._kinds[packed["kind"]](**given)
        ((kind, content),) = packed.items()
        if kind == "dict":
            return {key: self.unpack(value) for key, value in content.items()}
        if kind == "scalar":
            return self.unpack(content)[()]
        if kind == "floats":
            values = self.unpack(content)
            if values.shape != self._tensors[content["tensor"]].shape:  # one number repeated would become a long list
                raise ValueError("a list whose numbers are not in the file")
            return values.tolist()
        return {"list": list, "tuple": tuple}[kind](self.unpack(value) for value in content)

    def _array(self, tensor: str, dtype: str, axes: list[int], shape: list[int]) -> np.ndarray[Any, Any]:
        if dtype not in DTYPES:
            raise ValueError(f"an array of {dtype}")
        stored = self._tensors[tensor].astype(dtype, copy=False)
        array = stored.transpose(np.argsort(axes)) if stored.ndim else stored
        if math.prod(shape) > MOST_REPEATED * max(array.size, 1):
            raise ValueError(f"an array of shape {shape} made of {array.size} numbers")
        return np.broadcast_to(array, shape) if list(array.shape) != shape else array
