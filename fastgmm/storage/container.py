"""Model files: named float64 arrays and string metadata in one safetensors file, written atomically, checked when read.

Never a pickle: no code in a file is ever run, and no file makes a reader allocate more than a small multiple of its own
size. What the arrays mean is up to the other files here.
"""

import json
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn, Self

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from .._version import __version__
from ..exceptions import MOST_ECHOED, FormatError
from ..rows.atomic import StrPath, replace_atomically

FORMAT = "fastgmm/1"

# The largest file that is read: 4 GiB, twice a model of 1,000 full components in 500 features.
MAX_FILE_BYTES = 2**32
# Headers of ours take some hundred bytes; this leaves room for the names of many thousand features.
MAX_CONTAINERS = 2_100_000  # two lists for each number, where there is one feature
MAX_HEADER_BYTES = 2**20

OWN_METADATA = ("format", "fastgmm_version", "covariance_type")
DTYPES = ("float32", "float64")

FloatArray = npt.NDArray[np.float64]
Shapes = dict[str, tuple[int, ...]]


class ModelReader(ABC):
    """A model whose header is checked; the arrays are read by `tensors`, after their shapes were looked at.

    Attributes
    ----------
    path : path-like
        What messages call the source.
    metadata : dict of str to str
        As `check` found them good; by default those of a model.
    """

    path: StrPath
    metadata: dict[str, str]
    _entries: dict[str, Any]
    _set_aside: frozenset[str] = frozenset()
    _file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def set_aside(self, names: tuple[str, ...]) -> None:
        """Leave these tensors, which must be there, to the caller: `shapes` then takes only the others."""
        if not set(names) <= set(self._entries):
            fail(self.path, f"must hold the tensors {sorted(names)}, got {sorted(self._entries)}")
        self._set_aside |= set(names)

    def shapes(self, names: tuple[str, ...]) -> Shapes:
        """Return the shapes of the tensors, which must be those of these names."""
        entries = {name: entry for name, entry in self._entries.items() if name not in self._set_aside}
        if set(entries) != set(names):
            fail(self.path, f"must hold exactly the tensors {sorted(names)}, got {sorted(entries)}")
        return self.described(names)

    def described(self, names: tuple[str, ...]) -> Shapes:
        """Return the shapes of these tensors, which are there."""
        return {name: self._shape(name, self._entries[name]) for name in names}

    @abstractmethod
    def tensors(self, names: tuple[str, ...]) -> dict[str, FloatArray]:
        """Read arrays whose shapes were asked for: writable, C-contiguous, owners of their memory."""

    @abstractmethod
    def _shape(self, name: str, entry: Any) -> tuple[int, ...]:
        """Return a tensor's shape, checked."""


class FileReader(ModelReader):
    """A model file, open until the end of the `with` block; its body is read only when its size is as announced."""

    def __init__(
        self, path: StrPath, max_bytes: int = MAX_FILE_BYTES, check: Callable[[StrPath, Any], None] | None = None
    ) -> None:
        self.path = path
        self._file: BinaryIO
        self._loaded: dict[str, Any] | None = None
        # Reading, not mapping: a mapped file that another process truncates kills this one with a bus error.
        check_regular(path)
        self._file = open(path, "rb")  # noqa: SIM115, closed by __exit__
        try:
            self._size = _check_size(path, self._file.fileno(), max_bytes)
            self._head = _read_head(path, self._file, self._size)
            self._entries = parse_object(path, self._head[8:])
            metadata = self._entries.pop("__metadata__", {})
            (check or check_metadata)(path, metadata)
            self.metadata = dict(sorted(metadata.items()))  # the package writes them in random order
        except BaseException:
            self._file.close()
            raise

    def tensors(self, names: tuple[str, ...]) -> dict[str, FloatArray]:
        """Read the body, once, and return these arrays."""
        if self._loaded is None:
            self._loaded = self._load()
        # The loaded arrays may be read-only views of the file's bytes, at any alignment.
        return {name: np.array(self._loaded[name], dtype=np.float64, order="C") for name in names}

    def _load(self) -> dict[str, Any]:
        numbers = sum(math.prod(shape) for shape in self.described(tuple(self._entries)).values())
        if len(self._head) + 8 * numbers != self._size:
            fail(self.path, f"is not a valid safetensors file: {self._size} bytes do not hold {numbers} numbers")
        try:
            return safetensors.numpy.load(self._head + self._file.read(8 * numbers))
        except SafetensorError as error:
            fail(self.path, f"is not a valid safetensors file: {error}")

    def _shape(self, name: str, entry: Any) -> tuple[int, ...]:
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            fail(self.path, f"tensor {name!r} is not described by dtype, shape and data_offsets")
        if entry["dtype"] != "F64":
            fail(self.path, f"tensor {name!r} must be F64, got {entry['dtype']!r}")
        shape = entry["shape"]
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            fail(self.path, f"tensor {name!r} has no valid shape: {shape!r}")
        return tuple(shape)


def make_header(path: StrPath, covariance_type: str, dtype: np.dtype[Any], given: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of a file to write: what every file says, and what the caller adds under other keys."""
    for key, value in given.items():
        if key in OWN_METADATA:
            fail(path, f"metadata key {key!r} is set by the format itself; use another name")
        if not isinstance(value, str):
            fail(path, f"metadata {key!r} must be a str, got {type(value).__name__}")
    header = {
        "format": FORMAT,
        "fastgmm_version": __version__,
        "covariance_type": covariance_type,
        "dtype": dtype.name,
        **given,
    }
    check_metadata(path, header)
    return header


def held_model(metadata: Mapping[str, str]) -> str:
    """Which class a file holds; files of the first releases do not say it."""
    if "model" in metadata:
        return metadata["model"]
    if metadata["covariance_type"] != "low_rank":
        return "GaussianMixture"
    return "ImageGenerator" if "images" in metadata else "MixtureOfFactorAnalyzers"


def contiguous(values: Mapping[str, npt.ArrayLike]) -> dict[str, FloatArray]:
    """The arrays as safetensors writes them, as they lie in memory: C-contiguous and little-endian."""
    return {name: np.asarray(value, dtype="<f8", order="C") for name, value in values.items()}


def write_model(path: StrPath, tensors: Mapping[str, FloatArray], header: Mapping[str, str]) -> None:
    """Write a file atomically; an existing one is replaced, or as it was if writing fails."""
    content = safetensors.numpy.save(dict(tensors), metadata=dict(header))
    data = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:data])
    entries["__metadata__"] = dict(sorted(header.items()))  # the package's order is random; equal models, equal files
    head = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > MAX_HEADER_BYTES:
        fail(path, f"would have a header of {len(head)} bytes, more than {MAX_HEADER_BYTES}: shorten names of features")
    with replace_atomically(path) as temporary:
        temporary.write_bytes(len(head).to_bytes(8, "little") + head + content[data:])


def fail(path: StrPath, cause: str) -> NoReturn:
    """Raise FormatError."""
    if len(cause) > 2 * MOST_ECHOED:  # names and values from a file may be of any length
        cause = f"{cause[:MOST_ECHOED]} ... {cause[-MOST_ECHOED:]}"
    cause = cause if cause.isprintable() else ascii(cause)[1:-1]
    raise FormatError(f"model file {os.fspath(path)}: {cause}")


def check_regular(path: StrPath) -> None:
    """Refuse what may wait for ever when it is opened: pipes, sockets and devices."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        fail(path, "is not a regular file")


def _check_size(path: StrPath, descriptor: int, max_bytes: int) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        fail(path, "is not a regular file")
    if status.st_size > max_bytes:
        fail(path, f"has {status.st_size} bytes, more than max_bytes={max_bytes}")
    return status.st_size


def _read_head(path: StrPath, file: BinaryIO, size: int) -> bytes:
    """The header and the eight bytes of its length."""
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > size - 8:
        fail(path, "is not a safetensors file, or was cut short")
    if length > MAX_HEADER_BYTES:
        fail(path, f"has a header of {length} bytes, more than {MAX_HEADER_BYTES}")
    return head + file.read(length)


def parse_object(path: StrPath, content: bytes) -> dict[str, Any]:
    """Parse JSON that must be an object in which no key is repeated, and has no more lists than the largest model."""
    n_containers = content.count(b"[") + content.count(b"{")
    if n_containers > MAX_CONTAINERS:  # an empty one takes thirty times the memory that it takes in the file
        fail(path, f"has {n_containers} lists and objects, more than {MAX_CONTAINERS}")
    try:
        header = json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        fail(path, f"has a header that is not valid JSON: {error}")
    if not isinstance(header, dict):
        fail(path, "has a header that is not a JSON object")
    return header


def parse_metadata(path: StrPath, metadata: Mapping[str, str], key: str, kind: type[Any]) -> Any:
    """Parse the JSON under a key of the metadata, which must be of this kind."""
    try:
        value = json.loads(metadata[key], object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        fail(path, f"metadata {key!r} is not valid JSON: {error}")
    if type(value) is not kind:
        fail(path, f"metadata {key!r} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers disagree about which of two equal keys counts, so that a file with both means two things.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is repeated")
    return result


def rounded(tensors: Mapping[str, FloatArray], dtype: np.dtype[Any]) -> dict[str, FloatArray]:
    """The numbers as a model of this dtype will hold them, which must be what is checked: float32 has less room."""
    if dtype == np.float64:
        return dict(tensors)
    with np.errstate(over="ignore", under="ignore"):
        return {name: tensor.astype(dtype).astype(np.float64) for name, tensor in tensors.items()}


def first_index(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def check_metadata(path: StrPath, metadata: Any) -> None:
    """Raise FormatError unless the metadata are those of a file of ours."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        fail(path, "metadata must map strings to strings")
    if metadata.get("format") != FORMAT:
        fail(path, f"metadata 'format' must be {FORMAT!r}, got {metadata.get('format')!r}; is it a fastgmm model?")
    for key in (*OWN_METADATA, "dtype"):
        if key not in metadata:
            fail(path, f"metadata {key!r} is missing")
    if metadata["dtype"] not in DTYPES:
        fail(path, f"metadata 'dtype' must be one of {DTYPES}, got {metadata['dtype']!r}")


def check_finite(path: StrPath, tensors: Mapping[str, FloatArray]) -> None:
    """Raise FormatError for the first number that is not finite."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            fail(path, f"tensor {name!r} is not finite at index {first_index(~np.isfinite(tensor))}")


def check_weights(path: StrPath, weights: FloatArray, dtype: np.dtype[Any]) -> None:
    """Raise FormatError unless weights are not negative and sum to 1 within 1e-8 (float32 models: 1e-5)."""
    tolerance = 1e-8 if dtype == np.float64 else 1e-5
    if weights.min() < 0:
        fail(path, f"tensor 'weights' is negative at component {weights.argmin()}: {weights.min()}")
    if not abs(weights.sum() - 1) <= tolerance:
        fail(path, f"tensor 'weights' must sum to 1 within {tolerance}, got {weights.sum()}")
