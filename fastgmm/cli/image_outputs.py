"""Where commands put images: an array, a table, a contact sheet or a folder of PNG files, whole or not at all."""

import contextlib
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from .options import check_output

MOST_ON_A_SHEET = 400

Images = npt.NDArray[np.float64]
Write = Callable[[Images], None]  # takes the next images
ImageOutput = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help=f"What to write: NAME.npy (an array), NAME.parquet (a column per pixel), NAME.png (a contact sheet of at "
        f"most {MOST_ON_A_SHEET} images) or a folder of PNG files.",
    ),
]
ImageForce = Annotated[
    bool,
    typer.Option("--force", help="Replace the output if it exists; a folder only if it holds nothing but PNG files."),
]


class Kind(Enum):
    """Kinds of outputs."""

    ARRAY = ".npy"
    TABLE = ".parquet"
    SHEET = ".png"
    FOLDER = ""


def check_images_output(
    path: Path, shape: tuple[int, ...], n_images: int = 1, *, force: bool, as_float: bool = False, source: Path
) -> None:
    """Refuse an output that would fail, destroy something or not hold the images, before any work is done."""
    from ..images.pictures import check_replaceable, load_pillow

    kind = _kind(path)
    is_file_of_numbers = kind in (Kind.ARRAY, Kind.TABLE)
    if as_float and not is_file_of_numbers:
        raise typer.BadParameter(
            "only .npy and .parquet files hold floats; pictures have 256 levels", param_hint="--float"
        )
    if path.resolve() in (source.resolve(), *source.resolve().parents):
        raise _bad_output(f"{path} is or holds what is read ({source}); name another")
    if is_file_of_numbers:
        check_output(path, force)
        return
    load_pillow()
    if len(shape) == 3 and shape[2] not in (1, 3):
        raise _bad_output(f"images of {shape[2]} channels cannot be pictures; write a .npy or .parquet file")
    if kind is Kind.SHEET:
        check_output(path, force)
        if n_images > MOST_ON_A_SHEET:
            raise _bad_output(
                f"a contact sheet holds at most {MOST_ON_A_SHEET} images, not {n_images}; write a folder, a .npy or "
                "a .parquet file"
            )
        return
    if not path.absolute().parent.is_dir():
        raise _bad_output(f"{path} is in no existing folder")
    try:
        check_replaceable(path, force)
    except OSError as error:
        raise _bad_output(str(error)) from None


@contextlib.contextmanager
def open_images_output(
    path: Path, n_images: int, shape: tuple[int, ...], name_of: Callable[[int], str], *, force: bool, as_float: bool
) -> Iterator[Write]:
    """Yield the function that writes the next images; what was there before is replaced at the end.

    `name_of` gives the name of each file of a folder.
    """
    kind = _kind(path)
    if kind in (Kind.ARRAY, Kind.TABLE):
        from ..images.output import open_images_file

        with open_images_file(path, n_images, shape, as_float=as_float, overwrite=force) as write:
            yield write
    elif kind is Kind.SHEET:
        with _sheet(path) as write:
            yield write
    else:
        with _folder(path, name_of, force) as write:
            yield write


@contextlib.contextmanager
def _sheet(path: Path) -> Iterator[Write]:
    from ..images import save_grid

    blocks: list[Images] = []
    yield blocks.append
    images = np.concatenate(blocks)
    columns = 10 if len(images) <= 100 else 20
    scale = max(1, min(4, 128 // max(images.shape[1:3])))
    save_grid(path, images, n_columns=min(columns, len(images)), scale=scale)


@contextlib.contextmanager
def _folder(path: Path, name_of: Callable[[int], str], force: bool) -> Iterator[Write]:
    from ..images.pictures import replace_folder, save_png_files, to_bytes

    with replace_folder(path, force=force) as temporary:
        first = 0

        def write(images: Images) -> None:
            nonlocal first
            names = [name_of(i) for i in range(first, first + len(images))]
            save_png_files(temporary, to_bytes(images), names)
            first += len(images)

        yield write


def _kind(path: Path) -> Kind:
    if path.is_dir():
        return Kind.FOLDER
    try:
        return Kind(path.suffix.lower())
    except ValueError:
        raise _bad_output(
            f"{path} must end in .npy, .parquet or .png, or be a folder: a name without an ending"
        ) from None


def _bad_output(cause: str) -> typer.BadParameter:
    return typer.BadParameter(cause, param_hint="--output")
