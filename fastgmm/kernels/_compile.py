"""The one place where compilation options and the on-disk cache are decided.

Flags. `FASTMATH` lets LLVM reorder sums (vectorised reductions) and contract multiply-adds. `nnan` and `ninf` are
left out for good: log-weights are legitimately -inf, and both flags turn finite-checks into constants. `EXACT` has no
`reassoc`, which would cancel the two-constant range reduction of exp (tests/test_kernels.py). `AS_WRITTEN` is for
tiles, whose code says itself what is fused.

Cache. Numba keys a cached function by its own source file only, so an edit in a helper of another file leaves stale
callers behind. Here the cache folder is keyed by a hash of every file in this package instead. `FASTGMM_CACHE=0`
switches it off, `FASTGMM_CACHE=DIR` moves it; an unwritable folder or a damaged file never stops a fit.
The files are pickles: whoever can write to the folder can run code, so never point it at a world-writable place.
"""

import hashlib
import os
import pickle
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.compiler import Compiler
from numba.misc.appdirs import AppDirs

from ._parts import PartCompiler

AS_WRITTEN: frozenset[str] = frozenset()
FASTMATH = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
EXACT = frozenset({"nsz", "contract"})


@cache
def source_hash() -> str:
    """Hash the sources of this package and its switch; every cached function is stale when one of them changes."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(os.environ.get("FASTGMM_SIMD", "1").encode())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path | None:
    """Return the writable folder of cached machine code, or None (after one warning) where there is none."""
    setting = os.environ.get("FASTGMM_CACHE", "1")
    if setting == "0":
        return None
    if setting == "1":
        base = Path(os.environ.get("NUMBA_CACHE_DIR") or AppDirs("fastgmm", appauthor=False).user_cache_dir)
    else:
        base = Path(setting)
    folder = base / f"kernels-{source_hash()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        warnings.warn(
            f"fastgmm cannot keep compiled code in {folder} ({error.strerror or error}); every process compiles "
            "again. Set FASTGMM_CACHE to a writable folder, or to 0 to silence this.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return folder


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


class _Cache(FunctionCache):
    """Numba's cache, except that damaged files are dropped and that closures are keyed by their qualified name.

    Numba keys a closure by a pickle of its cells, which for compiled helpers differs in every process. Ours are told
    apart by `__qualname__` (see passes.py) and by the source hash.
    """

    _impl_class = _CacheImpl

    def _index_key(self, sig, codegen):
        return (sig, codegen.magic_tuple())

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except (
            pickle.UnpicklingError,
            EOFError,
            AttributeError,
            ImportError,
            IndexError,
            ValueError,
            TypeError,
        ):
            self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:
            self.disable()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError):
            self.flush()
            super().save_overload(sig, data)


def jit(*, fastmath=FASTMATH, parallel=False, inline=False, entry=False, by_address=False, name=None):
    """Decorate a kernel: nopython, GIL released, division without checks.

    entry: for the functions that Python calls, which contain the others: kept on disk. Only they get wrappers for
        Python, which would double the time to compile the others.
    by_address: for functions called through calls.py; also kept on disk.
    inline: for functions that take or return tiles (simd.py), which must not pass through memory.
    name: needed by functions made in another function: machine code from the cache is linked by name, and the first of
        two equal names would serve both (tests/test_kernels.py).

    All other functions become part of their callers. Linked instead, they would differ in their last bits between a
    process that compiles and one that reads the cache, because each copy is contracted to suit its surroundings.
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
            pipeline_class=Compiler if entry or by_address else PartCompiler,
            _nrt=entry,
        )(function)
        # Under NUMBA_DISABLE_JIT=1 the dispatcher is the function itself.
        if (entry or by_address) and dispatcher is not function and cache_folder() is not None:
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate
