"""Model files: exact round trips, atomic writes, and a clear refusal of everything else."""

import pickle
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgmm.exceptions import FormatError
from fastgmm.storage import container as files
from tests.mixture_files import load_mixture, save_mixture

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def make_parameters(covariance_type, dtype=np.float64, n_components=3, n_features=4):
    rng = np.random.default_rng(0)
    weights = np.array([0.5, 0.25, 0.25])[:n_components].astype(dtype)
    means = rng.standard_normal((n_components, n_features)).astype(dtype)
    n_matrices = {"full": n_components, "tied": 1}.get(covariance_type)
    if n_matrices is None:
        shape = (n_components, n_features) if covariance_type == "diag" else (n_components,)
        covariances = rng.uniform(1e-6, 2, shape)
        precisions_cholesky = 1 / np.sqrt(covariances)
    else:
        # Columns of very different scale: the checks must not mistake units for ill-conditioning.
        roots = rng.standard_normal((n_matrices, n_features, n_features)) * np.geomspace(1e-5, 1e5, n_features)
        covariances = roots.transpose(0, 2, 1) @ roots
        lower = np.linalg.cholesky(covariances)
        precisions_cholesky = np.triu(np.linalg.inv(lower).transpose(0, 2, 1))
        if covariance_type == "tied":
            covariances, precisions_cholesky = covariances[0], precisions_cholesky[0]
    return {
        "weights": weights,
        "means": means,
        "covariances": covariances.astype(dtype),
        "precisions_cholesky": precisions_cholesky.astype(dtype),
    }


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_mixture(path, **make_parameters("full"), covariance_type="full", metadata={"seed": "0"})
    return path


def write(path, tensors, **metadata):
    """Write any tensors as a safetensors file, past the checks of `save_mixture`."""
    header = {
        "format": "fastgmm/1",
        "fastgmm_version": "0.1.0",
        "covariance_type": "full",
        "dtype": "float64",
    }
    path.write_bytes(safetensors.numpy.save(tensors, metadata={**header, **metadata}))


def rewrite_header(path, change):
    """Replace the header text of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = change(content[8 : 8 + length].decode()).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_round_trip_is_exact(tmp_path, covariance_type, dtype):
    parameters = make_parameters(covariance_type, dtype)
    path = tmp_path / "model.safetensors"
    save_mixture(path, **parameters, covariance_type=covariance_type, metadata={"note": "größer"})
    loaded = load_mixture(path)
    for name, value in parameters.items():
        array = getattr(loaded, name)
        np.testing.assert_array_equal(array, value)
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.owndata
    assert loaded.covariance_type == covariance_type
    assert loaded.dtype == dtype
    assert loaded.metadata["note"] == "größer"
    assert loaded.metadata["format"] == "fastgmm/1"


def test_layout_and_byte_order_of_the_arrays_do_not_matter(tmp_path):
    parameters = make_parameters("full")
    path = tmp_path / "model.safetensors"
    other = {name: np.asfortranarray(value).astype(">f8") for name, value in parameters.items()}
    other["means"] = np.repeat(other["means"], 2, axis=1)[:, ::2]
    save_mixture(path, **other, covariance_type="full")
    for name, value in parameters.items():
        np.testing.assert_array_equal(getattr(load_mixture(path), name), value)


def test_the_package_itself_can_read_the_file(model):
    tensors = safetensors.numpy.load_file(model)
    assert set(tensors) == {"weights", "means", "covariances", "precisions_cholesky"}
    np.testing.assert_array_equal(tensors["means"], make_parameters("full")["means"])


def test_new_files_get_the_permissions_of_any_other_new_file(model, tmp_path):
    (tmp_path / "plain").touch()
    assert model.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_failed_write_leaves_the_old_file_and_no_other(model, monkeypatch):
    before = model.read_bytes()

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_mixture(model, **make_parameters("diag"), covariance_type="diag")
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


def test_save_refuses_what_would_not_load(tmp_path):
    path = tmp_path / "model.safetensors"
    parameters = make_parameters("full")
    parameters["precisions_cholesky"] = parameters["precisions_cholesky"] * 2
    with pytest.raises(FormatError, match=r"model\.safetensors.*'precisions_cholesky' of component 0"):
        save_mixture(path, **parameters, covariance_type="full")
    with pytest.raises(FormatError, match="'format' is set by the format itself"):
        save_mixture(path, **make_parameters("full"), covariance_type="full", metadata={"format": "mine"})
    with pytest.raises(FormatError, match="'seed' must be a str, got int"):
        save_mixture(path, **make_parameters("full"), covariance_type="full", metadata={"seed": 0})
    assert list(tmp_path.iterdir()) == []


def test_renamed_pickle_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "executed"

    class Attack:
        def __reduce__(self):
            return marker.touch, ()

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(FormatError, match="not a safetensors file"):
        load_mixture(path)
    assert not marker.exists()


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_truncated_file_is_refused(model, size):
    content = model.read_bytes()
    model.write_bytes(content[:size])
    with pytest.raises(FormatError, match="safetensors file"):
        load_mixture(model)


def test_trailing_bytes_are_refused(model):
    model.write_bytes(model.read_bytes() + b"\0" * 8)
    with pytest.raises(FormatError, match="not a valid safetensors file"):
        load_mixture(model)


def test_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(files.MAX_FILE_BYTES + 1)  # sparse: takes no room on the disk
    with pytest.raises(FormatError, match="more than max_bytes"):
        load_mixture(path)


def test_large_header_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    size = files.MAX_HEADER_BYTES + 1
    path.write_bytes(struct.pack("<Q", size) + b" " * size)
    with pytest.raises(FormatError, match="has a header of 1048577 bytes"):
        load_mixture(path)


def test_folder_is_refused(tmp_path):
    with pytest.raises(OSError, match="directory"):
        load_mixture(tmp_path)


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        ("not json", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("\ud800", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"__metadata__": 1}', "metadata must map strings to strings"),
        ('{"__metadata__": {"format": 1}}', "metadata must map strings to strings"),
        ("{}", "'format' must be 'fastgmm/1', got None"),
        ('{"__metadata__": {"format": "fastgmm/2"}}', "'format' must be 'fastgmm/1', got 'fastgmm/2'"),
        ('{"__metadata__": {"format": "fastgmm/1"}}', "metadata 'fastgmm_version' is missing"),
    ],
)
def test_absurd_header_is_refused(tmp_path, header, cause):
    path = tmp_path / "model.safetensors"
    text = header.encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(FormatError, match=cause):
        load_mixture(path)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('"weights":', '"extra":', "exactly the tensors"),
        ('"weights":', '"means":', "a key is repeated"),
        ('"seed":', '"format":', "a key is repeated"),
        ('"F64"', '"F32"', "must be F64, got 'F32'"),
        ('"shape":[3,4]', '"shape":[4,3]', "tensor 'weights' must have shape"),
        ('"shape":[3,4]', '"shape":[3.0,4]', "tensor 'means' has no valid shape"),
        ('"shape":[3,4]', '"shape":[-3,-4]', "tensor 'means' must have shape"),
        ('"shape":[3,4]', '"shape":[0,4]', "tensor 'means' must have shape"),
        ('"shape":[3]', '"shape":[9000000000000]', "tensor 'weights' must have shape"),
        ('"shape":[3]', '"form":[3]', "not described by"),
        ('"covariance_type":"full"', '"covariance_type":"diag"', "tensor 'covariances' must have shape"),
        ('"covariance_type":"full"', '"covariance_type":"flat"', "covariance_type must be one of"),
        ('"dtype":"float64"', '"dtype":"object"', "'dtype' must be one of"),
    ],
)
def test_changed_header_is_refused(model, old, new, cause):
    rewrite_header(model, lambda text: text.replace(old, new))
    with pytest.raises(FormatError, match=rf"model\.safetensors: .*{cause}"):
        load_mixture(model)


def change(name, index, value):
    def apply(parameters):
        parameters[name][index] = value

    return apply


@pytest.mark.parametrize(
    ("covariance_type", "damage", "cause"),
    [
        ("full", change("means", (1, 2), np.nan), r"'means' is not finite at index \(1, 2\)"),
        (
            "full",
            change("covariances", (2, 0, 1), np.inf),
            r"'covariances' is not finite at index \(2, 0, 1\)",
        ),
        ("full", change("weights", 1, -0.25), "'weights' is negative at component 1"),
        ("full", change("weights", 1, 0.26), "'weights' must sum to 1"),
        ("full", change("weights", slice(None), 1e308), "'weights' must sum to 1"),
        ("full", change("covariances", (1, 0, 3), 0.5), "'covariances' of component 1 is not symmetric"),
        (
            "full",
            change("covariances", (1, 3, 3), 0.0),
            "component 1 has a variance that is not positive, feature 3",
        ),
        ("full", change("covariances", (2,), np.ones((4, 4))), "component 2 is not positive definite"),
        ("full", change("precisions_cholesky", (0, 3, 0), 1.0), "component 0 is not upper triangular"),
        ("full", change("precisions_cholesky", (0, 1, 1), -1.0), "component 0 is not upper triangular"),
        ("full", change("precisions_cholesky", (0, 0, 0), 1e308), "component 0 is not the inverse factor"),
        (
            "tied",
            change("precisions_cholesky", (0, 0), 1e-3),
            "'precisions_cholesky' is not the inverse factor",
        ),
        ("tied", change("covariances", (0, 1), 1.0), "'covariances' is not symmetric"),
        ("diag", change("covariances", (1, 1), -1.0), r"'covariances' is not positive at index \(1, 1\)"),
        (
            "diag",
            change("precisions_cholesky", (2, 0), 7.0),
            r"not 1 / sqrt\(covariances\) at index \(2, 0\)",
        ),
        (
            "spherical",
            change("precisions_cholesky", 2, 1e308),
            r"not 1 / sqrt\(covariances\) at index \(2,\)",
        ),
        (
            "spherical",
            change("precisions_cholesky", 1, 0.0),
            r"'precisions_cholesky' is not positive at index \(1,\)",
        ),
    ],
)
def test_impossible_parameters_are_refused(tmp_path, covariance_type, damage, cause):
    path = tmp_path / "model.safetensors"
    parameters = make_parameters(covariance_type)
    write(path, parameters, covariance_type=covariance_type)
    load_mixture(path)
    damage(parameters)
    write(path, parameters, covariance_type=covariance_type)
    with pytest.raises(FormatError, match=rf"model\.safetensors: .*{cause}"):
        load_mixture(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_file_loads_as_a_valid_mixture_or_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    save_mixture(path, **make_parameters("diag"), covariance_type="diag")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = load_mixture(path)
    except FormatError:
        return
    assert np.isfinite(loaded.means).all()
    assert loaded.covariances.min() > 0
    np.testing.assert_allclose(loaded.precisions_cholesky**2 * loaded.covariances, 1, rtol=1e-14)
