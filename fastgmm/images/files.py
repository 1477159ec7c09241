"""Files of image generators: those of a mixture of factor analysers, with the metadata `images`."""

import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from ..estimators.factor_mixture import MixtureOfFactorAnalyzers
from ..model.factor_parameters import FactorParameters
from ..model.factor_persistence import load_factor_mixture, save_factor_mixture
from ..model.files import FormatError, StrPath

Classes = npt.NDArray[Any]


def save_images_model(
    path: StrPath,
    mixture: MixtureOfFactorAnalyzers,
    shape: tuple[int, ...],
    classes: Classes,
    component_classes: npt.NDArray[np.int64],
) -> None:
    """Write a mixture over pixels of images of this shape, with the class of each component, atomically."""
    images = {"shape": list(shape), "classes": classes.tolist(), "component_classes": component_classes.tolist()}
    names = ("weights_", "means_", "loadings_", "noise_variance_")
    weights, means, loadings, noise = (np.asarray(getattr(mixture, name), np.float64) for name in names)
    parameters = FactorParameters(weights, means, loadings, noise)
    save_factor_mixture(path, parameters, mixture.means_.dtype, {"images": json.dumps(images)})


def load_images_model(
    path: StrPath,
) -> tuple[MixtureOfFactorAnalyzers, tuple[int, ...], Classes, npt.NDArray[np.int64]]:
    """Read what `save_images_model` wrote, checked; FormatError says what is wrong with a bad file."""
    _, metadata = load_factor_mixture(path)
    mixture = MixtureOfFactorAnalyzers.load(path).set_params(missing="em")
    n_components, n_pixels = mixture.means_.shape
    try:
        images = json.loads(metadata["images"])
        shape = tuple(int(side) for side in images["shape"])
        classes = np.asarray(images["classes"])
        component_classes = np.asarray(images["component_classes"], np.int64)
        fits = (
            np.prod(shape) == n_pixels
            and len(shape) in (2, 3)
            and classes.ndim == 1
            and component_classes.shape == (n_components,)
            and np.array_equal(np.unique(component_classes), np.arange(len(classes)))
        )
    except (ValueError, TypeError, KeyError, OverflowError):
        fits = False
    if not fits:
        raise FormatError(f"model file {os.fspath(path)}: metadata 'images' does not describe an image generator")
    return mixture, shape, classes, component_classes
