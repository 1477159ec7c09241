"""What commands on images read: pictures, labels, masks and sizes."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from ..images import ImageGenerator
    from ..images.pictures import ImageSet

SIDES = ("left", "right", "top", "bottom", "center")

Source = Annotated[
    Path,
    Argument(
        exists=True,
        metavar="IMAGES",
        help="A folder of pictures (png, jpg, bmp, gif, webp, tiff; sub-folders too), one picture, or a .npy file of "
        "uint8 or of floats from 0 to 1, of shape (images, height, width) or (images, height, width, channels).",
    ),
]
SkipUnreadable = Annotated[bool, Option("--skip-unreadable", help="Leave out pictures that cannot be read.")]
ValueRange = Annotated[
    str | None,
    Option(
        "--value-range",
        metavar="LOW,HIGH",
        help="Values of grey pictures of 16 or 32 bits or of floats that become black and white.  "
        "[default: 0,65535 for 16 bits]",
        show_default=False,
    ),
]
Resize = Annotated[
    bool, Option("--resize", help="Bring pictures to the model's size: largest centred part, resampled by Lanczos.")
]


def load_images_of(
    generator: "ImageGenerator", path: Path, resize: bool, skip_unreadable: bool, value_range: str | None
) -> "ImageSet":
    """Read images of the size and colour of the model's."""
    from ..images.pictures import MixedSizesError, load_images, warn_of_losses

    height, width, *channels = generator.image_shape_
    pictures = path.suffix.lower() != ".npy" or path.is_dir()
    size = (width, height) if resize and pictures else None
    remedy = f"the model has {shape_text(generator.image_shape_)}; --resize brings pictures to it"
    try:
        found = load_images(
            path,
            size=size,
            grey=channels in ([], [1]),
            skip_unreadable=skip_unreadable,
            value_range=parse_range(value_range),
        )
    except MixedSizesError as error:
        raise ValueError(f"{error.found}; {remedy}") from None
    if pictures and channels == [1]:
        found = replace(found, images=found.images[..., None])
    if found.images.shape[1:] != generator.image_shape_:
        raise ValueError(f"{path} holds images of {shape_text(found.images.shape[1:])}; {remedy}")
    warn_of_losses(found)
    return found


def load_labels(file: Path, found: "ImageSet") -> npt.NDArray[Any]:
    """Read a label for each image."""
    if found.unreadable:
        raise ValueError("--labels-file names all images, but some cannot be read and were left out; remove them")
    labels = _read_array(file, str(file))
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iuU":
        raise ValueError(f"{file} must hold an array of whole numbers or strings, one label per image")
    if labels.shape != (len(found.images),):
        raise ValueError(f"{file} has shape {labels.shape}, but there are {len(found.images)} images")
    return labels


def folder_labels(source: Path, found: "ImageSet", wanted: bool | None) -> npt.NDArray[Any] | None:
    """Return the sub-folders as labels; if it was not said whether they are wanted, only where they differ."""
    if wanted is False:
        return None
    if wanted and found.labels is None:
        raise ValueError(f"--labels needs every image of {source} in a sub-folder, whose name is the label")
    several = found.labels is not None and len(np.unique(found.labels)) > 1
    return found.labels if wanted or several else None


def side(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a mask of the shape that hides a half, or the middle of it."""
    height, width = shape[:2]
    y, x = np.ogrid[:height, :width]
    hidden = {
        "left": x < (width + 1) // 2,
        "right": x >= width // 2,
        "top": y < (height + 1) // 2,
        "bottom": y >= height // 2,
        "center": (y >= height // 4) & (y < height - height // 4) & (x >= width // 4) & (x < width - width // 4),
    }[name]
    return _for_channels(np.broadcast_to(hidden, (height, width)), shape)


def read_mask(file: Path, n_images: int, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the mask of a file, of the shape of the images or of one."""
    if file.suffix.lower() == ".npy":
        values = _read_array(file, f"mask {file}")
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            raise ValueError(f"mask {file} must hold numbers or booleans")
    else:
        from ..images.pictures import load_images

        values = load_images(file, grey=False).images[0].any(axis=-1)
    height, width = shape[:2]
    fitting = ((height, width), (n_images, height, width), shape, (n_images, *shape))
    if values.shape not in fitting:
        raise ValueError(
            f"mask {file} has shape {values.shape}, but must be (height, width) = {(height, width)}, or have one such "
            f"mask for each of the {n_images} images"
        )
    hidden = values != 0
    if not hidden.any():
        raise ValueError(f"mask {file} hides nothing: it is zero everywhere")
    return hidden if values.shape in fitting[2:] else _for_channels(hidden, shape)


def _read_array(file: Path, name: str) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{name} is not a usable .npy file: {error}; write it with numpy.save") from None


def _for_channels(hidden: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Repeat a mask of (height, width) for each channel."""
    return hidden if len(shape) == 2 else np.repeat(hidden[..., None], shape[2], axis=-1)


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise typer.BadParameter(f"{text!r} is not WxH, a width and a height as in 32x32", param_hint="--size")
    return int(width), int(height)


def parse_range(text: str | None) -> tuple[float, float] | None:
    """Return the lowest and the highest value."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = np.nan
    if not -np.inf < low < high < np.inf:
        raise typer.BadParameter(
            f"{text!r} is not LOW,HIGH, two numbers as in 0,4095, the lower first", param_hint="--value-range"
        )
    return low, high


def counts(found: "ImageSet") -> dict[str, Any]:
    """Return what a table says of the images read."""
    others = {"other files ignored": found.n_ignored, "unreadable left out": len(found.unreadable)}
    return {"images": len(found.images), **{name.replace(" ", "_"): n for name, n in others.items() if n}}


def shape_text(shape: tuple[int, ...]) -> str:
    """As `8x9` (width x height), with the channels if there are any."""
    return f"{shape[1]}x{shape[0]}" + (f", {shape[2]} channels" if len(shape) == 3 else "")
