"""Model files: one mixture in one safetensors file, written atomically, checked when read, never a pickle.

Format "fastgmm/1": the float64 tensors `weights`, `means`, `covariances` and `precisions_cholesky`, and
string metadata: `format`, `fastgmm_version`, `covariance_type`, `dtype` (of the model that was saved), and
whatever the caller adds.
"""

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from .. import __version__
from .covariance import STRUCTURES
from .parameters import UniformNoise

FORMAT = "fastgmm/1"

# The largest file `load_mixture` reads: 4 GiB, twice a model of 1,000 full components in 500 features.
MAX_FILE_BYTES = 2**32
# Headers of ours take some hundred bytes; this leaves room for the names of many thousand features.
MAX_HEADER_BYTES = 2**20

_TENSORS = ("weights", "means", "covariances", "precisions_cholesky")
_OWN_METADATA = ("format", "fastgmm_version", "covariance_type")
_DTYPES = ("float32", "float64")

StrPath = str | os.PathLike[str]
FloatArray = npt.NDArray[np.float64]


class FormatError(ValueError):
    """A model file, or a model about to be written, breaks the format; names file, tensor and cause."""


@dataclass(frozen=True)
class MixtureFile:
    """The checked content of a model file.

    Attributes
    ----------
    weights : ndarray of shape (n_components,), float64
    means : ndarray of shape (n_components, n_features), float64
    covariances : ndarray, float64
        Full (n_components, n_features, n_features), tied (n_features, n_features), diag (n_components,
        n_features), spherical (n_components,).
    precisions_cholesky : ndarray, float64
        Same shape as `covariances`; upper triangular U with U U^T = precision, or its diagonal.
    covariance_type : {"full", "tied", "diag", "spherical"}
    metadata : mapping of str to str
        All the file says about itself, `format`, `fastgmm_version`, `covariance_type`, `dtype` included.
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray
    precisions_cholesky: FloatArray
    covariance_type: str
    metadata: Mapping[str, str]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the model that was saved; a float32 model is exact in the file's float64."""
        return np.dtype(self.metadata["dtype"])


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


def save_mixture(
    path: StrPath,
    *,
    weights: npt.ArrayLike,
    means: npt.ArrayLike,
    covariances: npt.ArrayLike,
    precisions_cholesky: npt.ArrayLike,
    covariance_type: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a mixture to a safetensors file, atomically; an existing file is replaced.

    Parameters
    ----------
    path : path-like
        The file to write, by convention ending in `.safetensors`; its folder must exist.
    weights, means, covariances, precisions_cholesky : array-like of float32 or float64
        Shapes as in `MixtureFile`; stored as float64.
    covariance_type : {"full", "tied", "diag", "spherical"}
        The structure of `covariances` and `precisions_cholesky`.
    metadata : mapping of str to str, optional
        Additional facts about the model, under other keys than `format`, `fastgmm_version` and
        `covariance_type`. `dtype`, "float32" or "float64", is that of `means` unless given here.

    Raises
    ------
    FormatError
        The parameters are not those of a mixture: the checks of `load_mixture`, so that what is saved loads.
    OSError
        The file cannot be written; an older file at `path` is then as it was.
    """
    given = dict(metadata or {})
    for key, value in given.items():
        if key in _OWN_METADATA:
            _fail(path, f"metadata key {key!r} is set by the format itself; use another name")
        if not isinstance(value, str):
            _fail(path, f"metadata {key!r} must be a str, got {type(value).__name__}")
    header = {
        "format": FORMAT,
        "fastgmm_version": __version__,
        "covariance_type": covariance_type,
        "dtype": np.asarray(means).dtype.name,
        **given,
    }
    values = (weights, means, covariances, precisions_cholesky)
    # safetensors writes the buffer as it lies in memory, so that it must be C-contiguous and little-endian.
    tensors = {name: np.ascontiguousarray(value, dtype="<f8") for name, value in zip(_TENSORS, values, strict=True)}
    _check_metadata(path, header)
    _check_shapes(path, {name: tensor.shape for name, tensor in tensors.items()}, covariance_type)
    _check_values(path, tensors, covariance_type, np.dtype(header["dtype"]))
    content = safetensors.numpy.save(tensors, metadata=header)
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


def load_mixture(path: StrPath, max_bytes: int = MAX_FILE_BYTES) -> MixtureFile:
    """Read a mixture from a model file, trusting nothing in it.

    The size of the file and its header are checked before any tensor is read: no file makes this function
    allocate more than a small multiple of its own size, and no code in a file is ever run.

    Parameters
    ----------
    path : path-like
        A file written by `save_mixture`.
    max_bytes : int, default=4 GiB
        Larger files are refused unread.

    Returns
    -------
    MixtureFile
        Arrays are writable, C-contiguous and own their memory.

    Raises
    ------
    FormatError
        Not a safetensors file, not format "fastgmm/1", a missing, unknown or repeated tensor, a wrong dtype
        or shape, a non-finite number, negative weights, weights whose sum differs from 1 by more than 1e-8
        (float64 models; 1e-5 for float32), a covariance that is not symmetric positive definite, or a
        `precisions_cholesky` that is not its inverse factor within the rounding of the model's dtype.
    OSError
        The file cannot be read.
    """
    content = _read_regular_file(path, max_bytes)
    header = _parse_header(path, content)
    metadata = header.pop("__metadata__", {})
    _check_metadata(path, metadata)
    metadata = dict(sorted(metadata.items()))  # the package writes them in random order
    shapes = _tensor_shapes(path, header)
    covariance_type = metadata["covariance_type"]
    _check_shapes(path, shapes, covariance_type)
    try:
        loaded = safetensors.numpy.load(content)
    except SafetensorError as error:
        _fail(path, f"is not a valid safetensors file: {error}")
    # The loaded arrays may be read-only views of the file's bytes, at any alignment.
    tensors = {name: np.array(loaded[name], dtype=np.float64, order="C") for name in _TENSORS}
    _check_values(path, tensors, covariance_type, np.dtype(metadata["dtype"]))
    return MixtureFile(**tensors, covariance_type=covariance_type, metadata=metadata)


def load_noise(path: StrPath, text: str, n_features: int) -> UniformNoise:
    """Return the uniform noise that the metadata `noise` describes, checked."""
    try:
        given = json.loads(text)
        weight, bounds = float(given["weight"]), np.asarray(given["bounds"], np.float64)
    except (ValueError, TypeError, KeyError):
        _fail(path, "metadata noise is not a weight and bounds")
    if not 0 <= weight < 1 or bounds.shape != (2, n_features):
        _fail(path, f"metadata noise has a weight of {weight:g} and bounds of shape {bounds.shape}")
    if not (np.isfinite(bounds).all() and np.all(bounds[1] > bounds[0])):
        _fail(path, "metadata noise has bounds without volume")
    return UniformNoise(weight, bounds)


def _fail(path: StrPath, cause: str) -> NoReturn:
    raise FormatError(f"model file {os.fspath(path)}: {cause}")


def _read_regular_file(path: StrPath, max_bytes: int) -> bytes:
    # Reading, not mapping: a mapped file that another process truncates kills this one with a bus error.
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            _fail(path, "is not a regular file")
        if status.st_size > max_bytes:
            _fail(path, f"has {status.st_size} bytes, more than max_bytes={max_bytes}")
        return file.read(status.st_size)


def _parse_header(path: StrPath, content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        _fail(path, "is not a safetensors file, or was cut short")
    if length > MAX_HEADER_BYTES:
        _fail(path, f"has a header of {length} bytes, more than {MAX_HEADER_BYTES}")
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        _fail(path, f"has a header that is not valid JSON: {error}")
    if not isinstance(header, dict):
        _fail(path, "has a header that is not a JSON object")
    return header


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers disagree about which of two equal keys counts, so that a file with both means two things.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is repeated")
    return result


def _first_index(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _check_metadata(path: StrPath, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _fail(path, "metadata must map strings to strings")
    if metadata.get("format") != FORMAT:
        _fail(
            path,
            f"metadata 'format' must be {FORMAT!r}, got {metadata.get('format')!r}; is it a fastgmm model?",
        )
    for key in (*_OWN_METADATA, "dtype"):
        if key not in metadata:
            _fail(path, f"metadata {key!r} is missing")
    if metadata["dtype"] not in _DTYPES:
        _fail(path, f"metadata 'dtype' must be one of {_DTYPES}, got {metadata['dtype']!r}")


def _tensor_shapes(path: StrPath, header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    if set(header) != set(_TENSORS):
        _fail(path, f"must hold exactly the tensors {sorted(_TENSORS)}, got {sorted(header)}")
    shapes = {}
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            _fail(path, f"tensor {name!r} is not described by dtype, shape and data_offsets")
        if entry["dtype"] != "F64":
            _fail(path, f"tensor {name!r} must be F64, got {entry['dtype']!r}")
        shape = entry["shape"]
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            _fail(path, f"tensor {name!r} has no valid shape: {shape!r}")
        shapes[name] = tuple(shape)
    return shapes


def _check_shapes(path: StrPath, shapes: Mapping[str, tuple[int, ...]], covariance_type: str) -> None:
    means = shapes["means"]
    if len(means) != 2 or min(means) < 1:
        _fail(path, f"tensor 'means' must have shape (n_components, n_features), both >= 1, got {means}")
    n_components, n_features = means
    if covariance_type not in STRUCTURES:
        _fail(path, f"covariance_type must be one of {list(STRUCTURES)}, got {covariance_type!r}")
    covariance_shape = STRUCTURES[covariance_type].shape(n_components, n_features)
    expected = {
        "weights": (n_components,),
        "covariances": covariance_shape,
        "precisions_cholesky": covariance_shape,
    }
    for name, shape in expected.items():
        if shapes[name] != shape:
            _fail(
                path,
                f"tensor {name!r} must have shape {shape} for covariance_type={covariance_type!r} "
                f"and means of shape {means}, got {shapes[name]}",
            )


def _check_values(
    path: StrPath,
    tensors: Mapping[str, FloatArray],
    covariance_type: str,
    dtype: np.dtype[Any],
) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            _fail(path, f"tensor {name!r} is not finite at index {_first_index(~np.isfinite(tensor))}")
    eps = float(np.finfo(dtype).eps)
    covariances, precisions_cholesky = tensors["covariances"], tensors["precisions_cholesky"]
    # Hostile but finite numbers may overflow below; each comparison is written so that NaN and infinity fail.
    with np.errstate(over="ignore", invalid="ignore"):
        _check_weights(path, tensors["weights"], 1e-8 if dtype == np.float64 else 1e-5)
        if not STRUCTURES[covariance_type].is_matrix:
            _check_variances(path, covariances, precisions_cholesky, eps)
            return
        size = covariances.shape[-1]
        stacks = (covariances.reshape(-1, size, size), precisions_cholesky.reshape(-1, size, size))
        for k, (covariance, factor) in enumerate(zip(*stacks, strict=True)):
            owner = f" of component {k}" if covariances.ndim == 3 else ""
            _check_matrix(path, covariance, factor, eps, owner)


def _check_weights(path: StrPath, weights: FloatArray, tolerance: float) -> None:
    if weights.min() < 0:
        _fail(path, f"tensor 'weights' is negative at component {weights.argmin()}: {weights.min()}")
    if not abs(weights.sum() - 1) <= tolerance:
        _fail(path, f"tensor 'weights' must sum to 1 within {tolerance}, got {weights.sum()}")


def _check_variances(path: StrPath, variances: FloatArray, factors: FloatArray, eps: float) -> None:
    for name, values in (("covariances", variances), ("precisions_cholesky", factors)):
        if values.min() <= 0:
            _fail(path, f"tensor {name!r} is not positive at index {_first_index(values <= 0)}")
    agrees = np.abs(np.sqrt(variances) * factors - 1) <= 16 * eps
    if not agrees.all():
        _fail(
            path,
            f"tensor 'precisions_cholesky' is not 1 / sqrt(covariances) at index {_first_index(~agrees)}",
        )


def _check_matrix(path: StrPath, covariance: FloatArray, factor: FloatArray, eps: float, owner: str) -> None:
    """Check that a covariance S is symmetric positive definite and that its factor U solves U^T S U = I."""
    diagonal = np.diagonal(covariance)
    if diagonal.min() <= 0:
        _fail(
            path,
            f"tensor 'covariances'{owner} has a variance that is not positive, feature {diagonal.argmin()}",
        )
    # In units of the standard deviations, so that differently scaled columns weigh the same.
    scale = np.sqrt(diagonal)
    correlation = covariance / scale / scale[:, np.newaxis]
    if not np.abs(correlation - correlation.T).max() <= 16 * eps:
        _fail(path, f"tensor 'covariances'{owner} is not symmetric")
    try:
        np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        _fail(path, f"tensor 'covariances'{owner} is not positive definite")
    if np.tril(factor, -1).any() or np.diagonal(factor).min() <= 0:
        _fail(path, f"tensor 'precisions_cholesky'{owner} is not upper triangular with a positive diagonal")
    whitener = factor * scale[:, np.newaxis]
    error = np.abs(whitener.T @ correlation @ whitener - np.eye(len(scale))).max()
    # Rounding the covariance by eps moves U^T S U by up to eps times the condition number of the correlation
    # matrix, which is below this product; beyond 1/2 the factor says nothing about this covariance.
    condition = np.linalg.norm(correlation) * np.linalg.norm(whitener) ** 2
    if not error <= min(0.5, 4 * len(scale) * eps * condition):
        _fail(path, f"tensor 'precisions_cholesky'{owner} is not the inverse factor of its covariance")
