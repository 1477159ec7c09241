"""Model files: named float64 arrays and string metadata in one safetensors file, written atomically, checked when read.

Never a pickle: no code in a file is ever run, and no file makes a reader allocate more than a small multiple of its own
size. What the arrays mean is up to persistence.py and factor_persistence.py.
"""

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from .. import __version__

FORMAT = "fastgmm/1"

# The largest file that is read: 4 GiB, twice a model of 1,000 full components in 500 features.
MAX_FILE_BYTES = 2**32
# Headers of ours take some hundred bytes; this leaves room for the names of many thousand features.
MAX_HEADER_BYTES = 2**20

OWN_METADATA = ("format", "fastgmm_version", "covariance_type")
DTYPES = ("float32", "float64")

StrPath = str | os.PathLike[str]
FloatArray = npt.NDArray[np.float64]
Shapes = dict[str, tuple[int, ...]]


class FormatError(ValueError):
    """A model file, or a model about to be written, breaks the format; names file, tensor and cause."""


@contextlib.contextmanager
def replace_atomically(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it onto `path` on success, delete it on any error.

    Whoever reads `path` sees the old content or the whole new one, also after a crash or a full disk.
    """
    target = Path(path)
    # Not `tempfile`: its files are readable by their owner only, whatever the umask says.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


class ModelReader:
    """A model file whose header is checked; the arrays are read by `tensors`, after their shapes were looked at.

    Attributes
    ----------
    metadata : dict of str to str
        As `check` found them good; by default those of a model.
    """

    def __init__(
        self,
        path: StrPath,
        max_bytes: int = MAX_FILE_BYTES,
        check: Callable[[StrPath, Any], None] | None = None,
    ) -> None:
        self._path, self._content = path, _read_regular_file(path, max_bytes)
        header = _parse_header(path, self._content)
        metadata = header.pop("__metadata__", {})
        (check or check_metadata)(path, metadata)
        self.metadata = dict(sorted(metadata.items()))  # the package writes them in random order
        self._header = header

    def shapes(self, names: tuple[str, ...]) -> Shapes:
        """Return the shapes of the tensors, which must be those of these names."""
        return _tensor_shapes(self._path, self._header, names)

    def tensors(self) -> dict[str, FloatArray]:
        """Read the arrays: writable, C-contiguous, owners of their memory."""
        try:
            loaded = safetensors.numpy.load(self._content)
        except SafetensorError as error:
            fail(self._path, f"is not a valid safetensors file: {error}")
        # The loaded arrays may be read-only views of the file's bytes, at any alignment.
        return {name: np.array(value, dtype=np.float64, order="C") for name, value in loaded.items()}


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


def contiguous(values: Mapping[str, npt.ArrayLike]) -> dict[str, FloatArray]:
    """The arrays as safetensors writes them, as they lie in memory: C-contiguous and little-endian."""
    return {name: np.ascontiguousarray(value, dtype="<f8") for name, value in values.items()}


def write_model(path: StrPath, tensors: Mapping[str, FloatArray], header: Mapping[str, str]) -> None:
    """Write a file atomically; an existing one is replaced, or as it was if writing fails."""
    content = safetensors.numpy.save(dict(tensors), metadata=dict(header))
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


def fail(path: StrPath, cause: str) -> NoReturn:
    """Raise FormatError."""
    raise FormatError(f"model file {os.fspath(path)}: {cause}")


def _read_regular_file(path: StrPath, max_bytes: int) -> bytes:
    # Reading, not mapping: a mapped file that another process truncates kills this one with a bus error.
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            fail(path, "is not a regular file")
        if status.st_size > max_bytes:
            fail(path, f"has {status.st_size} bytes, more than max_bytes={max_bytes}")
        return file.read(status.st_size)


def _parse_header(path: StrPath, content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        fail(path, "is not a safetensors file, or was cut short")
    if length > MAX_HEADER_BYTES:
        fail(path, f"has a header of {length} bytes, more than {MAX_HEADER_BYTES}")
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        fail(path, f"has a header that is not valid JSON: {error}")
    if not isinstance(header, dict):
        fail(path, "has a header that is not a JSON object")
    return header


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers disagree about which of two equal keys counts, so that a file with both means two things.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is repeated")
    return result


def first_index(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def check_metadata(path: StrPath, metadata: Any) -> None:
    """Raise FormatError unless the metadata are those of a file of ours."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        fail(path, "metadata must map strings to strings")
    if metadata.get("format") != FORMAT:
        fail(
            path,
            f"metadata 'format' must be {FORMAT!r}, got {metadata.get('format')!r}; is it a fastgmm model?",
        )
    for key in (*OWN_METADATA, "dtype"):
        if key not in metadata:
            fail(path, f"metadata {key!r} is missing")
    if metadata["dtype"] not in DTYPES:
        fail(path, f"metadata 'dtype' must be one of {DTYPES}, got {metadata['dtype']!r}")


def _tensor_shapes(path: StrPath, header: Mapping[str, Any], names: tuple[str, ...]) -> Shapes:
    if set(header) != set(names):
        fail(path, f"must hold exactly the tensors {sorted(names)}, got {sorted(header)}")
    shapes = {}
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            fail(path, f"tensor {name!r} is not described by dtype, shape and data_offsets")
        if entry["dtype"] != "F64":
            fail(path, f"tensor {name!r} must be F64, got {entry['dtype']!r}")
        shape = entry["shape"]
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            fail(path, f"tensor {name!r} has no valid shape: {shape!r}")
        shapes[name] = tuple(shape)
    return shapes


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
