"""Files that appear only when they are complete."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

StrPath = str | os.PathLike[str]


@contextlib.contextmanager
def replace_atomically(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it onto `path` on success, delete it on any error.

    Whoever reads `path` sees the old content or the whole new one, also after a crash or a full disk.
    """
    target = Path(path)
    # Not `tempfile`: its files are readable by their owner only, whatever the umask says.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
