"""Model files of plain mixtures, written and read without an estimator."""

import numpy as np

from fastgmm.storage import container
from fastgmm.storage.gaussian import TENSORS, pack_mixture, read_mixture


def save_mixture(path, *, covariance_type, metadata=None, **arrays):
    """Write the arrays of TENSORS as a mixture."""
    values = {name: np.asarray(arrays[name]) for name in TENSORS}
    container.write_model(path, *pack_mixture(path, values, covariance_type, metadata or {}))


def load_mixture(path, max_bytes=container.MAX_FILE_BYTES):
    """Read and check a mixture."""
    with container.FileReader(path, max_bytes) as reader:
        return read_mixture(reader)
