"""Files of many mixtures, one for each group of rows.

Format "fastgmm/1" with `model` "ManyMixtures". The tensors `weights`, `means`, `covariances` and `precisions_cholesky`
hold the components of all groups that have a mixture, one after the other; `counts` (n_groups, 4) each group's rows,
components, iterations and status; `numbers` (n_groups, 2) its log-likelihood and bound, 0 where it has no mixture.
`groups` holds what they are called: numbers (metadata `groups`: "int64" or "float64"), or the bytes of their texts in
UTF-8 ("text"), of which `ends` says where each ends.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.covariance import STRUCTURES
from ..rows.atomic import StrPath
from . import container as files
from .container import FloatArray, ModelReader, fail

MODEL = "ManyMixtures"
ARRAYS = ("weights", "means", "covariances", "precisions_cholesky")
MOST_COUNT = 2.0**53
MOST_STATUS = 5


@dataclass(frozen=True)
class ManyFile:
    """The content of a file: mixtures one after the other, and what is known of each group.

    Attributes
    ----------
    covariance_type : str
    dtype : dtype
        Of the model.
    groups : ndarray of shape (n_groups,)
    counts : ndarray of shape (n_groups, 4), int64
        Rows, components, iterations, status.
    numbers : ndarray of shape (n_groups, 2)
        Log-likelihood and bound, NaN where there is no mixture.
    arrays : dict of str to ndarray
        By the names in ARRAYS.
    feature_names : ndarray of shape (n_features,) or None
    settings : dict
    """

    covariance_type: str
    dtype: np.dtype[Any]
    groups: NDArray[Any]
    counts: NDArray[np.int64]
    numbers: FloatArray
    arrays: dict[str, FloatArray]
    feature_names: NDArray[Any] | None
    settings: dict[str, Any]


def pack_many(path: StrPath, file: ManyFile) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return tensors and header."""
    names: dict[str, Any] = {"groups": file.groups}
    kind = file.groups.dtype.kind
    if kind in "biu":
        said = "int64"
    elif kind == "f":
        said = "float64"
    else:
        said, texts = "text", [str(name).encode() for name in file.groups.tolist()]
        if not all(type(name) is str for name in file.groups.tolist()):
            fail(path, "groups that are neither numbers nor texts cannot be written; fit by their texts")
        names = {
            "groups": np.frombuffer(b"".join(texts), np.uint8),
            "ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
        }
    metadata = {"model": MODEL, "groups": said, "settings": json.dumps(file.settings)}
    if file.feature_names is not None:
        metadata["feature_names"] = json.dumps([str(name) for name in file.feature_names], ensure_ascii=False)
    header = files.make_header(path, file.covariance_type, file.dtype, metadata)
    numbers = np.where(file.counts[:, 3:] <= 1, file.numbers, 0.0)
    tensors = files.contiguous({**file.arrays, **names, "counts": file.counts, "numbers": numbers})
    _check(path, file.covariance_type, file.dtype, tensors)
    return tensors, header


def read_many(reader: ModelReader) -> ManyFile:
    """Check and read a file; FormatError for what `pack_many` would not have written."""
    path, metadata = reader.path, reader.metadata
    kind, dtype, covariance_type = metadata.get("groups"), np.dtype(metadata["dtype"]), metadata["covariance_type"]
    if covariance_type not in STRUCTURES:
        fail(path, f"has an unknown covariance_type {covariance_type[:100]!r}")
    if kind not in ("int64", "float64", "text"):
        fail(path, f"metadata 'groups' must be int64, float64 or text, got {str(kind)[:100]!r}")
    names = (*ARRAYS, "counts", "numbers", "groups", *(("ends",) if kind == "text" else ()))
    reader.shapes(names)
    tensors = reader.tensors(names)
    tensors |= files.rounded({name: tensors[name] for name in ARRAYS}, dtype)
    _check(path, covariance_type, dtype, tensors)
    counts = tensors["counts"].astype(np.int64)
    numbers = np.where(counts[:, 3:] <= 1, tensors["numbers"], np.nan)
    settings = files.parse_metadata(path, metadata, "settings", dict) if "settings" in metadata else {}
    feature_names = None
    if "feature_names" in metadata:
        given = files.parse_metadata(path, metadata, "feature_names", list)
        if len(given) != tensors["means"].shape[1] or not all(isinstance(name, str) for name in given):
            fail(path, f"metadata 'feature_names' must hold {tensors['means'].shape[1]} strings")
        feature_names = np.array(given, object)
    arrays = {name: tensors[name] for name in ARRAYS}
    return ManyFile(
        covariance_type, dtype, _names(path, kind, tensors), counts, numbers, arrays, feature_names, settings
    )


def _names(path: StrPath, kind: str, tensors: dict[str, FloatArray]) -> NDArray[Any]:
    """What the groups are called, checked: increasing, and of whole numbers whole."""
    values = tensors["groups"]
    n_groups = len(tensors["counts"])
    if kind == "text":
        ends = tensors["ends"]
        starts = np.concatenate([[0.0], ends[:-1]]) if len(ends) else ends
        whole = (values >= 0) & (values < 256) & (values == np.floor(values))
        fit = ends.shape == (n_groups,) and bool(whole.all() and (ends >= starts).all() and (ends % 1 == 0).all())
        if not fit or (n_groups and ends[-1] != len(values)):
            fail(path, "tensors 'groups' and 'ends' do not hold texts")
        content = values.astype(np.uint8).tobytes()
        try:
            texts = [content[int(a) : int(b)].decode() for a, b in zip(starts, ends, strict=True)]
        except UnicodeDecodeError:
            fail(path, "tensor 'groups' does not hold UTF-8")
        names = np.array(texts)
    else:
        whole = values == np.floor(values)
        if kind == "int64" and not (whole & (np.abs(values) <= MOST_COUNT)).all():
            fail(path, "tensor 'groups' must hold whole numbers")
        names = values.astype(kind)
    if names.shape != (n_groups,) or not np.all(names[1:] > names[:-1]):
        fail(path, f"tensor 'groups' must hold {n_groups} names that increase")
    return names


def _check(path: StrPath, covariance_type: str, dtype: np.dtype[Any], tensors: dict[str, FloatArray]) -> None:
    """Raise FormatError unless shapes belong together and every group's numbers are those of a mixture."""
    files.check_finite(path, tensors)
    counts, means, structure = tensors["counts"], tensors["means"], STRUCTURES[covariance_type]
    if counts.ndim != 2 or counts.shape[1] != 4 or means.ndim != 2 or means.shape[1] < 1:
        fail(path, "tensors 'counts' and 'means' must have 4 columns and one for each feature")
    whole = (counts >= 0) & (counts <= MOST_COUNT) & (counts == np.floor(counts))
    if not whole.all() or (counts[:, 3] > MOST_STATUS).any() or (counts[:, 1] < 1).any():
        fail(path, "tensor 'counts' must hold whole numbers: rows, at least one component, iterations, a status")
    good = counts[:, 3] <= 1
    sizes = counts[good, 1].astype(np.int64)
    n_components, n_features = int(sizes.sum()), means.shape[1]
    n_covariances = len(sizes) if structure.pools_components else n_components
    inner = structure.shape(n_covariances, n_features)
    shape = (n_covariances, *inner) if structure.pools_components else inner
    expected = {
        "weights": (n_components,),
        "means": (n_components, n_features),
        "covariances": shape,
        "precisions_cholesky": shape,
        "numbers": (len(counts), 2),
    }
    for name, wanted in expected.items():
        if tensors[name].shape != wanted:
            fail(path, f"tensor {name!r} must have shape {wanted}, got {tensors[name].shape}")
    if not len(sizes):
        return
    weights, tolerance = tensors["weights"], 1e-8 if dtype == np.float64 else 1e-5
    sums = np.add.reduceat(weights, np.cumsum(sizes) - sizes)
    if weights.min() < 0 or np.abs(sums - 1).max() > tolerance:
        fail(path, f"tensor 'weights' must not be negative and sum to 1 within {tolerance} in every group")
    _check_covariances(path, structure.is_matrix, tensors, float(np.finfo(dtype).eps))


def _check_covariances(path: StrPath, is_matrix: bool, tensors: dict[str, FloatArray], eps: float) -> None:
    """The covariances must be positive definite, and the factors those of their inverses, within rounding."""
    covariances, factors = tensors["covariances"], tensors["precisions_cholesky"]
    if not is_matrix:
        wrong = ~((covariances > 0) & (factors > 0)) | ~(np.abs(covariances * factors**2 - 1) <= 16 * eps)
        if wrong.any():
            fail(path, f"tensors 'covariances' and 'precisions_cholesky' disagree at {files.first_index(wrong)}")
        return
    variances = covariances.diagonal(0, 1, 2)
    if not (variances > 0).all():
        fail(path, f"tensor 'covariances' has a variance that is not positive at {files.first_index(~(variances > 0))}")
    n, scale = variances.shape[1], np.sqrt(variances)
    correlations = covariances / scale[:, :, None] / scale[:, None, :]
    whitener = factors * scale[:, :, None]
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(whitener.mT @ correlations @ whitener - np.eye(n)).max(axis=(1, 2))
        condition = np.linalg.norm(correlations, axis=(1, 2)) * np.linalg.norm(whitener, axis=(1, 2)) ** 2
        fits = error <= np.minimum(0.5, 4 * n * eps * condition)
    symmetric = np.abs(correlations - correlations.mT).max(axis=(1, 2)) <= 16 * eps
    lower = np.tril(np.ones((n, n), bool), -1)
    upper = ~(factors[:, lower] != 0).any(axis=1) & (factors.diagonal(0, 1, 2) > 0).all(axis=1)
    good = fits & symmetric & upper
    if not good.all():
        place = int(np.argmin(good))
        fail(path, f"tensors 'covariances' and 'precisions_cholesky' are no covariance and its factor, entry {place}")
