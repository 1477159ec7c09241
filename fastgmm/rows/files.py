"""Regular files that are read while others may change them: what has changed is an error that names the file."""

import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..exceptions import SourceError


def check_regular(path: Path) -> None:
    """Raise SourceError for what may wait for ever when it is opened: pipes, sockets and devices."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # whoever opens it says so
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise SourceError(f"{path} is a {kind}, which cannot be read again and again. Write its rows to a file first.")


def unseen(path: Path, reason: str | None = os.strerror(errno.ENOENT)) -> str:
    """Say that a worker does not see a file that the process that opened it sees, and what to do."""
    return (
        f"{path} cannot be read by the worker on host {socket.gethostname()!r}: {reason}. Workers must see the same "
        "files under the same names: put them into a folder that all hosts share; or give a Dask cluster the rows "
        "themselves, as an array in memory, which it is sent."
    )


class WatchedFile:
    """Says whether a file is still what it was at first: the same file, of the same size and time of change.

    A copy in another process, perhaps on another machine, where the file may have another number and time, knows its
    size only: that it stays the same is watched by the process that opened it (`rows/distributed.py`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first: tuple[int, ...] | None = None
        self._size: int | None = None  # elsewhere

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_first": None, "_size": self._size if self._first is None else self._first[2]}

    def check(self, where: str = "") -> None:
        """Raise SourceError if the file has changed, or is gone; `where` says how far it was read."""
        try:
            now = os.stat(self.path)
        except OSError as error:
            if self._first is None and self._size is not None:
                raise SourceError(unseen(self.path, error.strerror)) from None
            raise SourceError(
                f"{self.path} cannot be read any more{where}: {error.strerror}. A fit reads its rows again and again; "
                "leave them in their place until it has ended."
            ) from None
        found = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
        if self._first is None:
            if self._size not in (None, found[2]):
                raise SourceError(
                    f"{self.path} has {found[2]} bytes where this is read, and {self._size} where it was opened. "
                    "Workers must see the same files, which nobody changes."
                )
            self._first = found
        elif found != self._first:
            what = "was replaced" if found[:2] != self._first[:2] else "was written to"
            size = "" if found[2] == self._first[2] else f" and has {found[2]} bytes where it had {self._first[2]}"
            raise SourceError(
                f"{self.path} {what} while it was read{where}{size}. A fit reads its rows again and again; give it a "
                "copy that nobody changes."
            )


def check_files(files: Iterable[WatchedFile], where: str = "") -> None:
    """Raise SourceError for the first file that has changed."""
    for file in files:
        file.check(where)
