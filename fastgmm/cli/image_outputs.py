"""Where commands put images: an array, a table, a contact sheet or a folder of PNG files, whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from typer import BadParameter, Option

from .options import check_output

MOST_ON_A_SHEET = 400

Images = npt.NDArray[np.float64]
Write = Callable[[Images], None]  # takes the next images
ImageOutput = Annotated[
    Path,
    Option(
        "-o",
        "--output",
        help=f"What to write: NAME.npy (an array), NAME.parquet (a column per pixel), NAME.png (a contact sheet of at "
        f"most {MOST_ON_A_SHEET} images) or a folder of PNG files.",
    ),
]
AsFloat = Annotated[bool, Option("--float", help="Write float32 from 0 to 1 instead of uint8 (.npy, .parquet).")]
ImageForce = Annotated[
    bool, Option("--force", help="Replace the output if it exists; a folder only if it holds nothing but PNG files.")
]
Kind = Enum("Kind", {"ARRAY": ".npy", "TABLE": ".parquet", "SHEET": ".png", "FOLDER": ""})


@dataclass(frozen=True)
class Output:
    """Where a command puts images of this shape."""

    path: Path
    shape: tuple[int, ...]
    force: bool
    as_float: bool

    def check(self, source: Path, n_images: int = 1) -> None:
        """Refuse an output that would fail, destroy something or not hold the images, before any work is done."""
        from ..images.pictures import load_pillow
        from ..images.png import check_replaceable

        path, kind = self.path, _kind(self.path)
        is_file_of_numbers = kind in (Kind.ARRAY, Kind.TABLE)
        if self.as_float and not is_file_of_numbers:
            raise BadParameter(
                "only .npy and .parquet files hold floats; pictures have 256 levels", param_hint="--float"
            )
        read, written = source.resolve(), path.resolve()
        if written in (read, *read.parents):
            raise _bad_output(f"{path} is or holds what is read ({source}); name another")
        if source.is_dir() and read in written.parents:
            raise _bad_output(f"{path} is in the folder that is read ({source}); name another")
        if is_file_of_numbers:
            check_output(path, self.force)
            return
        load_pillow()
        if len(self.shape) == 3 and self.shape[2] not in (1, 3):
            raise _bad_output(f"images of {self.shape[2]} channels cannot be pictures; write a .npy or .parquet file")
        if kind is Kind.SHEET:
            check_output(path, self.force)
            if n_images > MOST_ON_A_SHEET:
                raise _bad_output(
                    f"a contact sheet holds at most {MOST_ON_A_SHEET} images, not {n_images}; write a folder, a .npy "
                    "or a .parquet file"
                )
            return
        if not path.absolute().parent.is_dir():
            raise _bad_output(f"{path} is in no existing folder")
        try:
            check_replaceable(path, self.force)
        except OSError as error:
            raise _bad_output(str(error)) from None

    def open(self, n_images: int, name_of: Callable[[int], str]) -> AbstractContextManager[Write]:
        """Return what yields the function that writes the next images, and replaces what was there at the end.

        `name_of` gives the name of each file of a folder.
        """
        kind = _kind(self.path)
        if kind is Kind.SHEET:
            return _sheet(self.path)
        if kind is Kind.FOLDER:
            return _folder(self.path, name_of, self.force)
        from ..images.output import open_images_file

        return open_images_file(self.path, n_images, self.shape, as_float=self.as_float, overwrite=self.force)


@contextmanager
def _sheet(path: Path) -> Iterator[Write]:
    from ..images import save_grid

    blocks: list[Images] = []
    yield blocks.append
    images = np.concatenate(blocks)
    columns = 10 if len(images) <= 100 else 20
    scale = max(1, min(4, 128 // max(images.shape[1:3])))
    save_grid(path, images, n_columns=min(columns, len(images)), scale=scale)


@contextmanager
def _folder(path: Path, name_of: Callable[[int], str], force: bool) -> Iterator[Write]:
    from ..images.png import replace_folder, save_png_files, to_bytes

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


def _bad_output(cause: str) -> BadParameter:
    return BadParameter(cause, param_hint="--output")
