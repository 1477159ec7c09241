"""Files that appear only when they are complete, in the place of nothing but files: no device, and no input."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

StrPath = str | os.PathLike[str]


def check_target(path: StrPath, inputs: Iterable[StrPath] = ()) -> Path:
    """Return the file that writing to `path` would make or replace, behind links.

    Raises OSError for what is no file, or in no folder, and for one of the `inputs`, by whatever name.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {Path(path).parent} to write {target.name} into; make it first.")
    if not target.exists():
        return target
    if not target.is_file():
        mode = target.stat().st_mode
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise OSError(f"{path} is a {kind}, not a file that can be replaced by a complete one; name a file.")
    for given in inputs:
        if os.path.exists(given) and os.path.samefile(given, target):
            raise FileExistsError(f"{path} is an input ({given}), which is never replaced; name another file.")
    return target


@contextlib.contextmanager
def replace_atomically(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it onto `path` on success, delete it on any error.

    Whoever reads `path` sees the old content or the whole new one, also after a crash or a full disk. A link stays one,
    to the new file, which has the mode of the old one; another hard link to the old file keeps the old content. Raises
    OSError where there is something else than a file.
    """
    target = check_target(path)
    # Not `tempfile`: its files are readable by their owner only, whatever the umask says.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    try:
        yield temporary
        if mode is not None:
            os.chmod(temporary, mode)
        with open(temporary, "rb") as file:  # also where the mode forbids to write
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
