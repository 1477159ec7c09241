"""Folders without permission to write, also for the superuser, whom permissions do not bind otherwise."""

import stat
from contextlib import contextmanager


@contextmanager
def read_only_folder(folder):
    """The folder and what is in it, as a user without special rights finds it whose permissions say read-only."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in paths:
        path.chmod(modes[path] & ~0o222)
    try:
        yield folder
    finally:
        for path in paths:
            path.chmod(modes[path])


# For the beginning of a program that runs in a read-only folder. Permissions bind the superuser too, once a process has
# no right to override them; giving it up takes effect for the next program, so that the interpreter starts again.
BOUND = """
import ctypes, os, sys
if os.geteuid() == 0 and not os.environ.pop("BOUND", None):
    for capability in (1, 2, 3):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    os.execve(sys.executable, sys.orig_argv, os.environ | {"BOUND": "1"})
try:
    open("probe", "w")
    sys.exit("the folder is not read-only")
except PermissionError:
    pass
"""
