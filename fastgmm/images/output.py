"""Generated images in one file, block by block: the images are never in memory together."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..rows.atomic import StrPath
from ..rows.columns import Columns
from ..rows.output import open_output
from .generator import ImageGenerator
from .png import to_bytes

BLOCK_BYTES = 2**26  # of float64 images in memory at once

Images = npt.NDArray[np.float64]


@contextlib.contextmanager
def open_images_file(
    path: StrPath, n_images: int, shape: tuple[int, ...], *, as_float: bool, overwrite: bool
) -> Iterator[Callable[[Images], None]]:
    """Yield the function that writes the next images, floats from 0 to 1, as uint8 or (`as_float`) float32.

    A `.npy` file has shape (n_images, *shape). A Parquet file has the columns pixel_0, pixel_1, ... in C order, so that
    it can be read as rows, and the shape of an image in its metadata, as JSON under `image_shape`. For errors see
    `representation.output.open_output`.
    """
    dtype: np.dtype[Any] = np.dtype(np.float32 if as_float else np.uint8)
    names = [f"pixel_{i}" for i in range(int(np.prod(shape)))]
    metadata = {"image_shape": json.dumps(shape)}
    with open_output(path, n_images, [Columns(names, dtype, shape)], overwrite=overwrite, metadata=metadata) as write:
        yield lambda images: write(images.astype(dtype) if as_float else to_bytes(images))


def generated_blocks(
    generator: ImageGenerator, size: int, label: Any, seed: int, *, temperature: float, noise: bool, first: int
) -> Iterator[Images]:
    """Yield the images of `generator.generate(size, label, seed, ...)` block by block."""
    block = max(1, BLOCK_BYTES // (8 * int(np.prod(generator.image_shape_))))
    for done in range(0, size, block):
        count = min(block, size - done)
        yield generator.generate(count, label, seed, temperature=temperature, noise=noise, first=first + done)
