"""Contact sheets: many small images as one."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..rows.atomic import replace_atomically
from .pixels import as_floats

_GAP = 96  # grey level between the images, apart from both black and white ones
_TITLE_HEIGHT = 24  # pixels


def image_grid(images: npt.ArrayLike, n_columns: int = 10, padding: int = 1, scale: int = 4) -> npt.NDArray[np.uint8]:
    """Lay images out in rows, each pixel enlarged to a square.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)
        uint8, or floats in [0, 1]; 1 or 3 channels.
    n_columns : int, default=10
        Images per row, at least 1.
    padding : int, default=1
        Width of the grey gap between and around images, in image pixels, at least 0.
    scale : int, default=4
        Side of the square that one image pixel becomes, at least 1.

    Returns
    -------
    ndarray of shape (rows, columns) or (rows, columns, 3), uint8

    Raises
    ------
    TypeError, ValueError
        `images` is not such an array, or a size is out of range.
    """
    pixels = np.rint(as_floats(images) * 255).astype(np.uint8)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 4 and pixels.shape[3] != 3:
        raise ValueError(f"images must have 1 or 3 channels to be shown, got {pixels.shape[3]}")
    if n_columns < 1 or padding < 0 or scale < 1:
        raise ValueError(f"n_columns, scale, padding must be at least 1, 1, 0, got {n_columns}, {scale}, {padding}")
    n_images, height, width = pixels.shape[:3]
    step_down, step_right = height + padding, width + padding
    n_rows = -(-n_images // n_columns)
    sheet = np.full((n_rows * step_down + padding, n_columns * step_right + padding, *pixels.shape[3:]), _GAP, np.uint8)
    for i, image in enumerate(pixels):
        top, left = padding + (i // n_columns) * step_down, padding + (i % n_columns) * step_right
        sheet[top : top + height, left : left + width] = image
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def save_grid(
    path: str | os.PathLike[str],
    images: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    *,
    n_columns: int = 10,
    padding: int = 1,
    scale: int = 4,
) -> None:
    """Write a contact sheet as a PNG file, atomically; an existing file is replaced.

    Parameters
    ----------
    path : path-like
        The file to write; its folder must exist.
    images : array-like, or mapping of str to array-like
        Images as in `image_grid`. A mapping gives one sheet per entry, side by side, its key as the title.
    n_columns, padding, scale : int
        As in `image_grid`.

    Raises
    ------
    ImportError
        Pillow is missing.
    TypeError, ValueError
        As in `image_grid`.
    OSError
        The file cannot be written.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("writing pictures needs Pillow: pip install 'fastgmm[images]'") from error
    if isinstance(images, Mapping):
        sheets = {title: image_grid(part, n_columns, padding, scale) for title, part in images.items()}
        picture = _beside_each_other(sheets)
    else:
        picture = Image.fromarray(image_grid(images, n_columns, padding, scale))
    with replace_atomically(path) as temporary:
        picture.save(temporary, format="PNG")


def _beside_each_other(sheets: Mapping[str, npt.NDArray[np.uint8]]) -> Any:
    """Return one white pillow image with every sheet under its title."""
    from PIL import Image, ImageDraw, ImageFont

    margin = _TITLE_HEIGHT // 2
    width = sum(sheet.shape[1] + margin for sheet in sheets.values()) + margin
    height = max(sheet.shape[0] for sheet in sheets.values()) + _TITLE_HEIGHT + margin
    picture = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=14)
    left = margin
    for title, sheet in sheets.items():
        draw.text((left, 4), title, fill="black", font=font)
        picture.paste(Image.fromarray(sheet), (left, _TITLE_HEIGHT))
        left += sheet.shape[1] + margin
    return picture
