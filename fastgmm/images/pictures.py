"""Images in files: a folder of pictures, a single picture or a .npy file in; a folder of PNG files out."""

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import warn
from .pixels import as_floats, check_images

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
            f"{w}x{h} ({_count(count, 'image')}, as {_shown(name)})" for (w, h), (count, name) in common[:_MOST_NAMED]
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
    """

    images: Images
    labels: npt.NDArray[Any] | None
    names: list[str]
    n_ignored: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def read_images(
    path: str | os.PathLike[str], *, size: Size | None = None, grey: bool | None = None, skip_unreadable: bool = False
) -> tuple[Images, npt.NDArray[Any] | None, list[str]]:
    """Read the images of a folder, of one picture or of a .npy file.

    Parameters
    ----------
    path : path-like
        A folder, searched with its sub-folders for files ending in .png, .jpg, .jpeg, .bmp, .gif, .webp, .tif or
        .tiff (other files and hidden ones are ignored); one such file; or a .npy file of uint8 or floats in [0, 1], of
        shape (n_images, height, width) or (n_images, height, width, channels), which is mapped, not read.
    size : (int, int), optional
        Width and height to bring every picture to: the largest centred part of that aspect ratio is cut out and
        resampled by Lanczos. None: all must have one size.
    grey : bool, optional
        True: luminance of colour pictures; False: three equal channels for grey ones. None: colour if any is.
    skip_unreadable : bool, default=False
        Leave out, with a warning, what cannot be read.

    Returns
    -------
    images : ndarray of shape (n_images, height, width) or (n_images, height, width, 3), uint8
        Sorted by name. Turned as EXIF says, transparent parts on white, 16 bits reduced to 8, the first frame of
        several. For a .npy file the array as it is.
    labels : ndarray of shape (n_images,) or None
        If every picture lies in a sub-folder, the name of that sub-folder (the first below `path`), as int64 if all
        names are plain whole numbers.
    names : list of str
        Path of each picture below the folder.

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
    found = load_images(path, size=size, grey=grey, skip_unreadable=skip_unreadable)
    warn_of_unreadable(found)
    return found.images, found.labels, found.names


def load_images(
    path: str | os.PathLike[str], *, size: Size | None = None, grey: bool | None = None, skip_unreadable: bool = False
) -> ImageSet:
    """As `read_images`, but return what was left out instead of warning of it."""
    path = Path(path)
    if size is not None and min(size) < 1:
        raise ValueError(f"size must be a width and a height of at least 1, got {size}")
    if path.is_dir():
        names, n_ignored = _find(path)
        if not names:
            others = f" ({_count(n_ignored, 'file')} of other endings)" if n_ignored else ""
            raise ValueError(f"{path} holds no images{others}; their names must end in {', '.join(SUFFIXES)}")
        return _read_pictures(path, names, n_ignored, size, grey, skip_unreadable)
    if path.suffix.lower() in SUFFIXES:
        return _read_pictures(path.parent, [path.name], 0, size, grey, skip_unreadable)
    if path.suffix.lower() != ".npy":
        raise ValueError(f"{path} is neither a folder nor a file ending in .npy, {', '.join(SUFFIXES)}")
    if size is not None:
        raise ValueError(f"{path} is an array, which is taken as it is; only pictures can be resized")
    images = _map_array(path)
    return ImageSet(images, None, [f"{i:06d}" for i in range(len(images))])


def write_images(
    folder: str | os.PathLike[str], images: npt.ArrayLike, names: Sequence[str] | None = None, *, force: bool = False
) -> None:
    """Write each image as a PNG file into a new folder, which appears complete or not at all.

    Parameters
    ----------
    folder : path-like
        An existing one must be empty unless `force` is given.
    images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)
        uint8, or floats in [0, 1]; 1 or 3 channels.
    names : sequence of str, optional
        Path of each file below the folder; the ending becomes .png. None: 000000.png, 000001.png, ...
    force : bool, default=False
        Replace a folder that holds nothing but PNG files.

    Raises
    ------
    ImportError
        Pillow is missing.
    OSError
        The folder is not empty (without `force`), holds other files (with it), is the current one, or cannot be
        written.
    TypeError, ValueError
        `images` is no such array, `names` has another length, or a name leads out of the folder.
    """
    pixels = to_bytes(images)
    names = [f"{i:06d}" for i in range(len(pixels))] if names is None else names
    if len(names) != len(pixels):
        raise ValueError(f"names must have one name per image, got {len(names)} for {len(pixels)} images")
    files = png_names(names)
    with replace_folder(folder, force=force) as temporary:
        save_png_files(temporary, pixels, files)


def to_bytes(images: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Return checked images as uint8: 255 times the floats, rounded."""
    pixels = check_images(images)
    return np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(as_floats(pixels) * 255), np.uint8)


def png_names(names: Sequence[str]) -> list[str]:
    """Return names ending in .png, no two the same: where replacing the ending makes two equal, it is kept."""
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not PurePosixPath(name).name:
            raise ValueError(f"the name {name!r} is no path inside a folder")
    short = [str(PurePosixPath(name).with_suffix(".png")) for name in names]
    if len({name.lower() for name in short}) == len(short):  # some file systems ignore case
        return short
    return [f"{name}.png" for name in names]


def save_png_files(folder: Path, pixels: npt.NDArray[np.uint8], names: Sequence[str]) -> None:
    """Write uint8 images of 1 or 3 channels under these names, making the sub-folders they name."""
    pillow, _ = load_pillow()
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 4 and pixels.shape[3] != 3:
        raise ValueError(f"images must have 1 or 3 channels to become PNG files, got {pixels.shape[3]}")
    for image, name in zip(pixels, names, strict=True):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(np.ascontiguousarray(image)).save(file, format="PNG")


def check_replaceable(folder: str | os.PathLike[str], force: bool) -> None:
    """Raise OSError if `replace_folder` would."""
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file; name a new folder")
    if Path.cwd().is_relative_to(target.resolve()):  # whoever works in it would be left in a deleted folder
        raise FileExistsError(f"{target} is the current folder or holds it; name a new one")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not force:
        raise FileExistsError(f"{target} is not empty; give force (--force) to replace it")
    for file in target.rglob("*"):
        if not file.is_dir() and file.suffix.lower() != ".png":
            raise FileExistsError(f"{target} holds other files than PNG, as {_shown(file.name)}; remove it yourself")


@contextlib.contextmanager
def replace_folder(folder: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; move it there on success, delete it on any error."""
    check_replaceable(folder, force)
    target = Path(folder).resolve()  # the folder itself, not a link to it
    temporary, old = (target.with_name(f".{target.name}.{secrets.token_hex(8)}.{end}") for end in ("tmp", "old"))
    temporary.mkdir()
    try:
        yield temporary
        check_replaceable(target, force)  # others may have written meanwhile
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _find(folder: Path) -> tuple[list[str], int]:
    """Return the sorted names of the pictures below a folder, and the number of other files."""
    names, n_ignored = [], 0
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                names.append((Path(parent) / name).relative_to(folder).as_posix())
            else:
                n_ignored += 1
    return sorted(names), n_ignored


def _raise(error: OSError) -> None:
    raise error


def _read_pictures(
    folder: Path, names: list[str], n_ignored: int, size: Size | None, grey: bool | None, skip_unreadable: bool
) -> ImageSet:
    pillow, _ = load_pillow()
    stack, kept = _Stack(len(names)), []
    unreadable: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata; they name no file
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        for name in names:
            try:
                # Once two sizes are found there will be an error, which needs the sizes of the others only.
                picture = _decode(folder / name, size, grey) if len(stack.sizes) < 2 else _upright_size(folder / name)
            except Exception as error:  # pillow raises many types for damaged files
                unreadable[name] = _cause(error)
            else:
                stack.add(picture, name)
                kept.append(name)
    if len(stack.sizes) > 1:
        raise MixedSizesError(folder, stack.sizes)
    if unreadable and not (skip_unreadable and kept):
        remedy = "repair or remove them, or skip_unreadable (--skip-unreadable) leaves them out"
        raise ValueError(
            f"{len(unreadable)} of {len(names)} images in {folder} cannot be read: {_listed(unreadable)}; {remedy}"
        )
    return ImageSet(stack.images(), _labels(kept), kept, n_ignored, unreadable)


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
        elif picture.ndim == 3 and self._array.ndim == 3:
            self._array = np.repeat(self._array[..., None], 3, axis=3)
        self._array[self._filled] = picture if picture.ndim == self._array.ndim - 1 else picture[..., None]
        self._filled += 1

    def images(self) -> npt.NDArray[np.uint8]:
        return self._array[: self._filled]


def _decode(file: Path, size: Size | None, grey: bool | None) -> npt.NDArray[np.uint8]:
    """Return one picture, (height, width) or (height, width, 3)."""
    pillow, operations = load_pillow()
    with pillow.open(file, formats=_FORMATS) as opened:
        picture = operations.exif_transpose(opened)
    mode = picture.mode
    if mode.startswith("I;16") or (mode == "I" and opened.format == "PNG"):  # some pillows open 16 bits as 32
        picture = pillow.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))
    elif mode in ("I", "F"):
        raise ValueError(f"its pixels (mode {mode}) have no known scale")
    if picture.has_transparency_data:
        white = pillow.new("RGBA", picture.size, "white")
        picture = pillow.alpha_composite(white, picture.convert("RGBA"))
    if grey is None:
        is_grey = mode in ("1", "L", "LA", "La") or mode.startswith("I") or (mode == "P" and _has_grey_palette(picture))
    else:
        is_grey = grey
    picture = picture.convert("RGB").convert("L") if is_grey else picture.convert("RGB")
    if size is not None:
        picture = operations.fit(picture, size, method=pillow.Resampling.LANCZOS)
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


def _map_array(file: Path) -> Images:
    try:
        return check_images(np.lib.format.open_memmap(file, mode="r"))
    except (ValueError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{file} is no .npy file of images: {error}") from None


def _cause(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "no image of a known format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def warn_of_unreadable(found: ImageSet) -> None:
    """Name what was left out."""
    if found.unreadable:
        warn(f"left out what cannot be read: {_listed(found.unreadable)}", UserWarning)


def _listed(causes: dict[str, str]) -> str:
    """Return the first names with their causes, and the number of the others."""
    shown = [f"{_shown(name)} ({_shown(cause)})" for name, cause in list(causes.items())[:_MOST_NAMED]]
    more = len(causes) - _MOST_NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _shown(text: str) -> str:
    """Text from files without what would steer a terminal."""
    return text if text.isprintable() else ascii(text)


def load_pillow() -> tuple[Any, Any]:
    """Return pillow's modules Image and ImageOps."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading and writing pictures needs Pillow: pip install 'fastgmm[images]'") from error
    return Image, ImageOps
