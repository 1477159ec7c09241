"""Files of image generators: those of a mixture of factor analysers, with the metadata `images`."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import validation as check
from ..estimators.factor_mixture import MixtureOfFactorAnalyzers
from ..estimators.saving import Packed
from ..rows.atomic import StrPath
from ..storage.container import ModelReader, fail, parse_metadata
from .models import MODELS

Classes = npt.NDArray[Any]

# What files keep; `n_jobs` is a matter of the machine.
SETTINGS = {
    "n_components": [check.integer(1), check.NONE],
    "model": [check.one_of(*MODELS)],
    "n_factors": [check.integer(1)],
    "noise_floor": [check.POSITIVE],
    "noise_prior": [check.NONE, check.one_of("auto"), check.ARRAY_LIKE],
    "pca_components": [check.POSITIVE],
    "reg_covar": [check.AT_LEAST_0],
    "tol": [check.AT_LEAST_0],
    "max_iter": [check.integer(0)],
    "n_init": [check.integer(1)],
    "random_state": [check.integer(0), check.NONE],
}


@dataclass(frozen=True)
class ImagesFile:
    """A mixture over pixels of images of this shape, the class of each component, and the generator's settings."""

    mixture: MixtureOfFactorAnalyzers
    shape: tuple[int, ...]
    classes: Classes
    component_classes: npt.NDArray[np.int64]
    settings: dict[str, Any]


def pack_images_model(path: StrPath, file: ImagesFile) -> Packed:
    """Return checked tensors and header of a file."""
    tensors, header = file.mixture._pack(path)
    images = {
        "shape": list(file.shape),
        "classes": file.classes.tolist(),
        "component_classes": file.component_classes.tolist(),
        "settings": file.settings,
    }
    return tensors, header | {"model": "ImageGenerator", "images": json.dumps(images)}


def read_images_model(reader: ModelReader) -> ImagesFile:
    """Read what `pack_images_model` made, checked but for the settings; FormatError says what is wrong."""
    mixture = MixtureOfFactorAnalyzers._unpack(reader).set_params(missing="em")
    n_components, n_pixels = mixture.means_.shape
    if "images" not in reader.metadata:
        fail(reader.path, "metadata 'images' does not describe an image generator")
    images = parse_metadata(reader.path, reader.metadata, "images", dict)
    try:
        shape = tuple(int(side) for side in images["shape"])
        classes = np.asarray(images["classes"])
        component_classes = np.asarray(images["component_classes"], np.int64)
        settings = dict(images.get("settings", {}))  # the first release did not write them
        fits = (
            min(shape) > 0
            and np.prod([float(side) for side in shape]) == n_pixels
            and len(shape) in (2, 3)
            and classes.ndim == 1
            and classes.dtype.kind in "biufU"
            and component_classes.shape == (n_components,)
            and np.array_equal(np.unique(component_classes), np.arange(len(classes)))
        )
    except (ValueError, TypeError, KeyError, OverflowError):
        fits = False
    if not fits:
        fail(reader.path, "metadata 'images' does not describe an image generator")
    return ImagesFile(mixture, shape, classes, component_classes, settings)
