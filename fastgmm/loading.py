"""`fastgmm.load`: read whichever model a file holds."""

from os import PathLike
from typing import Any

from ._homes import MODELS, find
from .storage.container import fail, held_model
from .storage.text import open_model


def load(path: str | PathLike[str]) -> Any:
    """Return the model that a file holds, an instance of the class that wrote it.

    Nothing in the file is trusted: it is checked before it is used, and no code in it is ever run.

    Parameters
    ----------
    path : path-like
        Written by the `save` of any estimator, or of `fastgmm.images.ImageGenerator`, in this version or an older one;
        or holding the text of `to_json`.

    Raises
    ------
    FormatError
        A ValueError that says what is wrong with the file.
    OSError
        The file cannot be read.
    """
    with open_model(path) as reader:
        held = held_model(reader.metadata)
        if held not in MODELS:
            fail(path, f"holds a {held[:100]!r}, unknown to this version; was it written by a newer one?")
        return find(held)._read_checked(reader)
