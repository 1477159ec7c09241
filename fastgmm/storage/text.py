"""Small models as dictionaries of plain lists and strings, and as JSON: what a model file holds, checked alike."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..rows.atomic import StrPath
from . import container as files
from .container import FloatArray, ModelReader, fail

# Both bound what a hostile text makes us allocate; larger models belong in a file.
MAX_NUMBERS = 1_000_000
MAX_TEXT = 32 * MAX_NUMBERS  # characters

MAX_DEPTH = 3  # dimensions of the largest array
OWN = "<dict>"


def to_dict(tensors: Mapping[str, FloatArray], header: Mapping[str, str]) -> dict[str, Any]:
    """Return {"metadata": str by name, "tensors": nested lists of float by name}; FormatError if it is too large."""
    numbers = sum(tensor.size for tensor in tensors.values())
    if numbers > MAX_NUMBERS:
        fail(OWN, f"{numbers} numbers are more than {MAX_NUMBERS}, the most for lists; `save` writes any number")
    return {"metadata": dict(header), "tensors": {name: tensor.tolist() for name, tensor in tensors.items()}}


def parse_text(text: Any) -> dict[str, Any]:
    """Parse JSON into a dictionary; FormatError for what is too long, no JSON, or repeats a key."""
    if not isinstance(text, str):
        fail(OWN, f"JSON must be a str, got {type(text).__name__}")
    if len(text) > MAX_TEXT:
        fail(OWN, f"has {len(text)} characters, more than {MAX_TEXT}")
    return files.parse_object(OWN, text.encode("utf-8", "surrogatepass"))


def open_model(path: StrPath) -> ModelReader:
    """Open a model file for a `with` block: safetensors, or JSON where it begins as only JSON does.

    Raises FormatError for what is neither, OSError for what cannot be read.
    """
    file = Path(path)
    if not file.is_file():  # missing, or nothing to look into before it is known to be a file
        return files.FileReader(path)
    with file.open("rb") as stream:
        head = stream.read(8)
        # A safetensors file begins with the length of its header, whose upper bytes are zero; no JSON holds a zero.
        if not head.lstrip().startswith(b"{") or b"\0" in head:
            return files.FileReader(path)
        content = head + stream.read(MAX_TEXT + 1 - len(head))
    if len(content) > MAX_TEXT:
        fail(path, f"has more than {MAX_TEXT} bytes, the most for JSON")
    return DictReader(files.parse_object(path, content), path)


class DictReader(ModelReader):
    """A model in a dictionary made by `to_dict`, perhaps by way of JSON."""

    def __init__(self, data: Any, path: StrPath = OWN) -> None:
        self.path = path
        if not isinstance(data, dict) or set(data) != {"metadata", "tensors"}:
            fail(path, "must be a dict of exactly 'metadata' and 'tensors'")
        files.check_metadata(path, data["metadata"])
        if not isinstance(data["tensors"], dict) or not all(isinstance(name, str) for name in data["tensors"]):
            fail(path, "'tensors' must be a dict with names as keys")
        self.metadata = dict(sorted(data["metadata"].items()))
        self._entries = data["tensors"]

    def tensors(self, names: tuple[str, ...]) -> dict[str, FloatArray]:
        """Turn lists into arrays; a FormatError for ragged ones and for what is no number."""
        shapes = self.described(names)
        if sum(map(math.prod, shapes.values())) > MAX_NUMBERS:
            fail(self.path, f"holds more than {MAX_NUMBERS} numbers")
        return {name: _array(self.path, name, self._entries[name], shapes[name]) for name in names}

    def _shape(self, name: str, entry: Any) -> tuple[int, ...]:
        shape: list[int] = []
        while isinstance(entry, list) and len(shape) <= MAX_DEPTH:
            shape.append(len(entry))
            entry = entry[0] if entry else 0.0
        if len(shape) > MAX_DEPTH:
            fail(self.path, f"tensor {name!r} has more than {MAX_DEPTH} dimensions")
        return tuple(shape)


def _array(path: StrPath, name: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    """Lists of this shape as an array."""
    numbers = [value]
    for size in shape:
        if not all(type(part) is list and len(part) == size for part in numbers):
            fail(path, f"tensor {name!r} is no array of shape {shape}: its lists differ in length")
        numbers = [number for part in numbers for number in part]
    for number in numbers:
        if type(number) not in (float, int):
            fail(path, f"tensor {name!r} holds a {type(number).__name__} where a number must be")
    try:
        return np.array(numbers, np.float64).reshape(shape)
    except OverflowError:
        fail(path, f"tensor {name!r} holds an integer beyond any float")
