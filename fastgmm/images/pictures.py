"""Images in files: a folder of pictures, a single picture or a .npy file, read; png.py writes them."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import clipped, warn
from .pixels import check_images

# Of the formats that pillow knows, those named by these endings only: some others start programs to be read.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_MOST_NAMED = 10  # files or sizes that an error lists
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height

Images = npt.NDArray[Any]
Size = tuple[int, int]  # width, height


class MixedSizesError(ValueError):
    """The pictures of a folder have several sizes; `found` says which, without a remedy."""

    def __init__(self, folder: Path, sizes: "dict[Size, list[Any]]") -> None:
        common = sorted(sizes.items(), key=lambda item: -item[1][0])
        shown = [
            f"{w}x{h} ({_count(count, 'image')}, as {clipped(name)})" for (w, h), (count, name) in common[:_MOST_NAMED]
        ]
        more = f" and {len(common) - _MOST_NAMED} more" if len(common) > _MOST_NAMED else ""
        self.found = f"{folder} holds images of {len(sizes)} sizes: {', '.join(shown)}{more}"
        super().__init__(
            f"{self.found}; give size=(width, height) (--size WxH) to bring all to one: the largest centred part of "
            "its aspect ratio, resampled by Lanczos"
        )


@dataclass(frozen=True)
class ImageSet:
    """Images that were read, and what was left out.

    Attributes
    ----------
    images : ndarray of shape (n_images, height, width) or (n_images, height, width, 3)
        uint8, or the floats of a .npy file.
    labels : ndarray of shape (n_images,) or None
        First sub-folder of each image: int64 if all of them are plain whole numbers, otherwise str.
    names : list of str
        Path of each image below the folder, with "/"; numbers for a .npy file.
    n_ignored : int
        Files of other endings and hidden ones.
    unreadable : dict of str to str
        Cause by name, of the images left out.
    shallow : int
        The largest value of pictures of 16 bits that use an eighth of them at most; else 0.
    """

    images: Images
    labels: npt.NDArray[Any] | None
    names: list[str]
    n_ignored: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    shallow: int = 0


def read_images(
    path: str | os.PathLike[str],
    *,
    size: Size | None = None,
    grey: bool | None = None,
    skip_unreadable: bool = False,
    value_range: tuple[float, float] | None = None,
) -> tuple[Images, npt.NDArray[Any] | None, list[str]]:
    """Read the images of a folder, of one picture or of a .npy file.

    Parameters
    ----------
    path : path-like
        A folder, searched with its sub-folders for files ending in .png, .jpg, .jpeg, .bmp, .gif, .webp, .tif or
        .tiff (other files and hidden ones are ignored); one such file; or a .npy file of uint8 or floats in [0, 1], of
        shape (n_images, height, width) or (n_images, height, width, channels).
    size : (int, int), optional
        Width and height to bring every picture to: the largest centred part of that aspect ratio is cut out and
        resampled by Lanczos. None: all must have one size.
    grey : bool, optional
        True: luminance of colour pictures; False: three equal channels for grey ones. None: colour if any is.
    skip_unreadable : bool, default=False
        Leave out, with a warning, what cannot be read.
    value_range : (float, float), optional
        The values of grey pictures of 16 or 32 bits or of floats that become black and white; beyond them is cut off.
        None: 0 and 65,535 for 16 bits, with a warning where no picture uses more of them than 1/8, as cameras of 12
        bits; the others, which have no known scale, are refused.

    Returns
    -------
    images : ndarray of shape (n_images, height, width) or (n_images, height, width, 3), uint8
        Sorted by name. Turned as EXIF says, transparent parts on white, 16 bits reduced to 8. Each page of a TIFF file
        and each frame of an animation is an image. For a .npy file the array as it is.
    labels : ndarray of shape (n_images,) or None
        If every picture lies in a sub-folder, the name of that sub-folder (the first below `path`), as int64 if all
        names are plain whole numbers.
    names : list of str
        Path of each picture below the folder; of a page or frame with its number, from 1, before the ending:
        stack.0001.tif.

    Raises
    ------
    ImportError
        Pillow is missing (pictures only).
    OSError
        `path` cannot be read.
    TypeError, ValueError
        No pictures, pictures that cannot be read (each is named), several sizes and no `size`, or an array that holds
        no images.
    """
    found = load_images(path, size=size, grey=grey, skip_unreadable=skip_unreadable, value_range=value_range)
    warn_of_losses(found)
    return found.images, found.labels, found.names


def load_images(
    path: str | os.PathLike[str],
    *,
    size: Size | None = None,
    grey: bool | None = None,
    skip_unreadable: bool = False,
    value_range: tuple[float, float] | None = None,
) -> ImageSet:
    """As `read_images`, but return what was left out instead of warning of it."""
    path = Path(path)
    if value_range is not None and not -np.inf < value_range[0] < value_range[1] < np.inf:
        raise ValueError(f"value_range must be two finite numbers, the lower first. Got {value_range}")
    if size is not None and min(size) < 1:
        raise ValueError(f"size must be a width and a height of at least 1, got {size}")
    if path.is_dir():
        names, n_ignored = _find(path)
        if not names:
            others = f" ({_count(n_ignored, 'file')} of other endings)" if n_ignored else ""
            raise ValueError(f"{path} holds no images{others}; their names must end in {', '.join(SUFFIXES)}")
        return _read_pictures(path, names, n_ignored, Reading(size, grey, value_range), skip_unreadable)
    if path.exists() and not path.is_file():  # a pipe, which might wait for ever
        raise ValueError(f"{path} is neither a folder nor a regular file")
    if path.suffix.lower() in SUFFIXES:
        return _read_pictures(path.parent, [path.name], 0, Reading(size, grey, value_range), skip_unreadable)
    if path.suffix.lower() != ".npy":
        raise ValueError(f"{path} is neither a folder nor a file ending in .npy, {', '.join(SUFFIXES)}")
    if size is not None:
        raise ValueError(f"{path} is an array, which is taken as it is; only pictures can be resized")
    images = _read_array(path)
    return ImageSet(images, None, [f"{i:06d}" for i in range(len(images))])


def _find(folder: Path) -> tuple[list[str], int]:
    """Return the sorted names of the pictures below a folder, and the number of other files."""
    names, n_ignored = [], 0
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            is_picture = Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
            if is_picture and (Path(parent) / name).is_file():  # no pipe or socket, which might wait for ever
                names.append((Path(parent) / name).relative_to(folder).as_posix())
            else:
                n_ignored += 1
    return sorted(names), n_ignored


def _raise(error: OSError) -> None:
    raise error


@dataclass
class Reading:
    """How pictures are to be read, and the largest value met of those of 16 bits."""

    size: Size | None
    grey: bool | None
    value_range: tuple[float, float] | None
    deepest: int = 0


def _read_pictures(folder: Path, names: list[str], n_ignored: int, reading: Reading, skip_unreadable: bool) -> ImageSet:
    pillow, _ = load_pillow()
    stack, kept = _Stack(len(names)), []
    unreadable: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata; they name no file
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        for name in names:
            try:
                # Once two sizes are found there will be an error, which needs the sizes of the others only.
                pages: list[npt.NDArray[np.uint8] | Size]
                pages = (
                    list(_decoded(folder / name, reading)) if len(stack.sizes) < 2 else [_upright_size(folder / name)]
                )
            except Exception as error:  # pillow raises many types for damaged files
                unreadable[name] = _cause(error)
                continue
            for number, page in enumerate(pages, 1):
                stack.add(page, name)
                kept.append(name if len(pages) == 1 else _page_name(name, number))
    if len(stack.sizes) > 1:
        raise MixedSizesError(folder, stack.sizes)
    if unreadable and not (skip_unreadable and kept):
        remedy = "repair or remove them, or skip_unreadable (--skip-unreadable) leaves them out"
        raise ValueError(
            f"{len(unreadable)} of {len(names)} images in {folder} cannot be read: {_listed(unreadable)}; {remedy}"
        )
    shallow = reading.deepest if reading.value_range is None and 0 < reading.deepest < 2**13 else 0
    return ImageSet(stack.images(), _labels(kept), kept, n_ignored, unreadable, shallow)


def _page_name(name: str, number: int) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}.{number:04d}{path.suffix}"))


class _Stack:
    """One array for images of one size; it becomes one of colour images with the first of them."""

    def __init__(self, capacity: int) -> None:
        self.sizes: dict[Size, list[Any]] = {}  # (width, height) -> number of images, first name
        self._capacity, self._filled = capacity, 0
        self._array: npt.NDArray[np.uint8] = np.empty((0, 0, 0), np.uint8)

    def add(self, picture: npt.NDArray[np.uint8] | Size, name: str) -> None:
        """Append an image, or only count its size."""
        size = picture if isinstance(picture, tuple) else (picture.shape[1], picture.shape[0])
        self.sizes.setdefault(size, [0, name])[0] += 1
        if isinstance(picture, tuple) or len(self.sizes) > 1:
            return
        if not self._filled:
            self._array = np.empty((self._capacity, *picture.shape), np.uint8)
        elif self._filled == len(self._array):  # files of several pages
            self._array = np.concatenate([self._array, np.empty_like(self._array)])
        if picture.ndim == 3 and self._array.ndim == 3:
            self._array = np.repeat(self._array[..., None], 3, axis=3)
        self._array[self._filled] = picture if picture.ndim == self._array.ndim - 1 else picture[..., None]
        self._filled += 1

    def images(self) -> npt.NDArray[np.uint8]:
        return self._array[: self._filled]


def _decoded(file: Path, reading: Reading) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the pages or frames of a picture, each (height, width) or (height, width, 3)."""
    pillow, operations = load_pillow()
    with pillow.open(file, formats=_FORMATS) as opened:
        for page in range(getattr(opened, "n_frames", 1)):
            opened.seek(page)
            yield _decode(operations.exif_transpose(opened), opened.format, reading)


def _decode(picture: Any, kind: str, reading: Reading) -> npt.NDArray[np.uint8]:
    """Return one picture, (height, width) or (height, width, 3)."""
    pillow, operations = load_pillow()
    mode, scale = picture.mode, reading.value_range
    has_16_bits = mode.startswith("I;16") or (mode == "I" and kind == "PNG")  # some pillows open 16 bits as 32
    if has_16_bits or mode in ("I", "F"):
        values = np.asarray(picture)
        if scale is None and not has_16_bits:
            raise ValueError(
                f"its pixels (mode {mode}) have no known scale; value_range (--value-range LOW,HIGH) gives one"
            )
        if has_16_bits:
            reading.deepest = max(reading.deepest, int(values.max(initial=0)))
        low, high = (0, 2**16 - 1) if scale is None else scale
        shares = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
        if np.isnan(shares).any():
            raise ValueError("some of its pixels are NaN")
        picture = pillow.fromarray(np.rint(255 * shares).astype(np.uint8))
    if picture.has_transparency_data:
        white = pillow.new("RGBA", picture.size, "white")
        picture = pillow.alpha_composite(white, picture.convert("RGBA"))
    if reading.grey is None:
        is_grey = mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")
        # Frames after the first of a GIF have lost their palette.
        is_grey = is_grey or ((mode == "P" or kind == "GIF") and _has_grey_palette(picture))
    else:
        is_grey = reading.grey
    picture = picture.convert("RGB").convert("L") if is_grey else picture.convert("RGB")
    if reading.size is not None:
        picture = operations.fit(picture, reading.size, method=pillow.Resampling.LANCZOS)
    return np.asarray(picture)


def _has_grey_palette(picture: Any) -> bool:
    colours = np.asarray(picture.convert("RGB"))
    return bool((colours == colours[..., :1]).all())


def _upright_size(file: Path) -> Size:
    pillow, _ = load_pillow()
    with pillow.open(file, formats=_FORMATS) as picture:
        width, height = picture.size
        return (height, width) if picture.getexif().get(_ORIENTATION) in _TURNED else (width, height)


def _labels(names: list[str]) -> npt.NDArray[Any] | None:
    folders = [name.split("/")[0] for name in names]
    if not all("/" in name for name in names):
        return None
    if all(label.isdecimal() and label == str(int(label)) and len(label) < 19 for label in set(folders)):
        return np.array([int(label) for label in folders], np.int64)
    return np.array(folders)


def _read_array(file: Path) -> Images:
    try:
        return check_images(np.load(file, allow_pickle=False))  # not mapped: others may cut the file off
    except OSError:
        raise
    except Exception as error:  # NumPy's parser of headers raises many types
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{file} is no .npy file of images: {clipped(str(error))}") from None


def _cause(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "no image of a known format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def warn_of_losses(found: ImageSet) -> None:
    """Name what was left out, and say where depth was."""
    if found.unreadable:
        warn(f"left out what cannot be read: {_listed(found.unreadable)}", UserWarning)
    if found.shallow:
        depth = 2 ** found.shallow.bit_length() - 1
        warn(
            f"pictures of 16 bits have no value above {found.shallow} of 65535, so that few of the 256 levels are left "
            f"of them; value_range=(0, {depth}) (--value-range 0,{depth}) reads them as of "
            f"{found.shallow.bit_length()} bits",
            UserWarning,
        )


def _listed(causes: dict[str, str]) -> str:
    """Return the first names with their causes, and the number of the others."""
    shown = [f"{clipped(name)} ({clipped(cause)})" for name, cause in list(causes.items())[:_MOST_NAMED]]
    more = len(causes) - _MOST_NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def load_pillow() -> tuple[Any, Any]:
    """Return pillow's modules Image and ImageOps."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading and writing pictures needs Pillow: pip install 'fastgmm[images]'") from error
    return Image, ImageOps
