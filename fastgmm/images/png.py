"""Images written as PNG files, into a new folder that appears complete or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from ..exceptions import clipped
from .pictures import load_pillow
from .pixels import as_floats, check_images


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
            raise FileExistsError(f"{target} holds other files than PNG, as {clipped(file.name)}; remove it yourself")


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
