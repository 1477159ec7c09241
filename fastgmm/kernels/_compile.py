"""The one place where compilation options and the on-disk cache are decided.

Flags. `FASTMATH` lets LLVM reorder sums (vectorised reductions) and contract multiply-adds. `nnan` and `ninf` are
left out for good: log-weights are legitimately -inf, and both flags turn finite-checks into constants. `EXACT` has no
`reassoc`, which would cancel the two-constant range reduction of exp (tests/test_kernels.py). `AS_WRITTEN` is for
tiles, whose code says itself what is fused.

Cache. Numba keys a cached function by its own source file only, so an edit in a helper of another file leaves stale
callers behind. Here the cache folder is keyed by a hash of every file in this package instead. `FASTGMM_CACHE=0`
switches it off, `FASTGMM_CACHE=DIR` moves it; a folder filled beforehand may be read-only. An unwritable folder, a
damaged file or other processes that compile at the same time never stop or change a fit.
The files are pickles: whoever can write to the folder can run code. A folder or file of another user than this one and
root, or that others may write to, is not used.
"""

import hashlib
import os
import pickle
import tempfile
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.compiler import Compiler
from numba.misc.appdirs import AppDirs

from ..exceptions import warn
from .linked import LinkedCompiler

AS_WRITTEN: frozenset[str] = frozenset()
FASTMATH = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
EXACT = frozenset({"nsz", "contract"})


@cache
def source_hash() -> str:
    """Hash the sources of this package and its switch; every cached function is stale when one of them changes."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    digest.update(os.environ.get("FASTGMM_SIMD", "1").encode())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path | None:
    """Return the folder of cached machine code, or None (after one warning) where none can be kept or read."""
    setting = os.environ.get("FASTGMM_CACHE", "1")
    if setting == "0":
        return None
    if setting == "1":
        base = Path(os.environ.get("NUMBA_CACHE_DIR") or AppDirs("fastgmm", appauthor=False).user_cache_dir)
        if base.parts[0] == "~":  # not a name of a folder: `expanduser` found no home
            _warn_not_kept(base, "this user has no home folder")
            return None
    else:
        base = Path(setting)
    folder = base / f"kernels-{source_hash()}"
    for known in (base, folder):
        danger = _danger(known)
        if danger is not None:  # before anything in it is looked at
            _warn_not_kept(known, f"{danger}, who could put machine code there")
            return None
    try:
        for made in (
            base,
            folder,
        ):  # no others may write there, whatever the umask; a cache of root's is for all to read
            if not made.exists():
                made.mkdir(mode=0o755, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if not any(folder.glob(f"*{_MachineCode.suffix}")):
            _warn_not_kept(folder, error.strerror or str(error))
            return None
    return folder


def _danger(path: Path) -> str | None:
    """Say who else than this user and root may write to a folder or file; None if nobody, or there is none."""
    if not hasattr(os, "getuid"):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    if status.st_uid not in (os.getuid(), 0):
        return f"it belongs to user {status.st_uid}"
    return "it is writable by others" if status.st_mode & 0o022 else None


@cache
def _warn_not_kept(folder: Path, reason: str) -> None:
    """Warn, once, that what is compiled is lost."""
    warn(
        f"fastgmm cannot keep compiled code in {folder} ({reason}); every process compiles again what is not there. "
        "Set FASTGMM_CACHE to a writable folder, or to 0 to silence this.",
        RuntimeWarning,
    )


class _Locator(_CacheLocator):
    """Keeps all functions of this package in one folder, stamped by the hash of the whole package."""

    def __init__(self, py_func, py_file):
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno

    def get_cache_path(self):
        return str(cache_folder())

    def get_source_stamp(self):
        return source_hash()

    def get_disambiguator(self):
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func, py_file)


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _MachineCode(IndexDataCacheFile):
    """One file for each function, signature and processor: a checksum, then Numba's pickle.

    Numba itself numbers the files of a function and keeps an index of them. Two processes that compile different
    signatures at once then take the same number, and the index of the one names the code of the other. Here the name
    of a file is a hash of what it is for. The checksum covers that too: a file that is not exactly what was written for
    this function, signature and processor counts as absent, and is written anew.
    """

    suffix = ".nbc"

    def __init__(self, cache_path, filename_base, source_stamp):
        super().__init__(cache_path, filename_base, source_stamp)
        self._name = filename_base

    def load(self, key):
        path = self._path(key)
        try:
            content = path.read_bytes() if _danger(path) is None else b""
        except OSError:
            return None
        checksum, data = content[:32], content[32:]
        return pickle.loads(data) if checksum == self._checksum(key, data) else None

    def save(self, key, data):
        data = self._dump(data)
        with self._open_for_write(self._path(key)) as file:
            file.write(self._checksum(key, data) + data)
        path = self._path(key)
        path.chmod(path.stat().st_mode & 0o755)

    def flush(self):
        for path in Path(self._cache_path).glob(f"{self._name}.*{self.suffix}"):
            path.unlink(missing_ok=True)

    def _identity(self, key):
        """The types of a signature print all that tells them apart."""
        return repr((self._version, self._source_stamp, key)).encode()

    def _path(self, key):
        return Path(
            self._cache_path, f"{self._name}.{hashlib.sha256(self._identity(key)).hexdigest()[:16]}{self.suffix}"
        )

    def _checksum(self, key, data):
        return hashlib.sha256(self._identity(key) + data).digest()


class _Cache(FunctionCache):
    """Numba's cache with files of our own, in which closures are keyed by their qualified name.

    Numba keys a closure by a pickle of its cells, which for compiled helpers differs in every process. Ours are told
    apart by `__qualname__` (see passes.py) and by the source hash.
    """

    _impl_class = _CacheImpl

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _MachineCode(self.cache_path, self._impl.filename_base, source_hash())

    def _index_key(self, sig, codegen):
        return (sig, codegen.magic_tuple())

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_not_kept(Path(self.cache_path), error.strerror or str(error))


def jit(*, fastmath=FASTMATH, parallel=False, inline=False, entry=False, by_address=False, name=None):
    """Decorate a kernel: nopython, GIL released, division without checks.

    entry: for the functions that Python calls, which contain the others: kept on disk. Only they get wrappers for
        Python, which would double the time to compile the others.
    by_address: for functions called through calls.py; also kept on disk.
    inline: for functions that take or return tiles (tiled/simd.py), which must not pass through memory.
    name: needed by functions made in another function: machine code from the cache is linked by name, and the first of
        two equal names would serve both (tests/test_kernels.py).

    All other functions are linked into their callers (linked.py) and inlined there. As functions of their own, they
    would differ in their last bits between a process that compiles and one that reads the cache, because each copy is
    contracted to suit its surroundings.
    """

    def decorate(function):
        if name is not None:
            function.__qualname__ = name
        dispatcher = numba.njit(
            fastmath=set(fastmath),
            parallel=parallel,
            inline="always" if inline else "never",
            forceinline=not (entry or by_address),
            no_cpython_wrapper=not entry,
            no_cfunc_wrapper=True,
            nogil=True,
            error_model="numpy",
            boundscheck=False,
            pipeline_class=Compiler if entry or by_address else LinkedCompiler,
            _nrt=entry,
        )(function)
        # Under NUMBA_DISABLE_JIT=1 the dispatcher is the function itself.
        if (entry or by_address) and dispatcher is not function and cache_folder() is not None:
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate
