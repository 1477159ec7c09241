"""Names of modules of version 0.1.0, which pickles and users' code may hold: they import what has moved.

Only old pickles ask for them; tests/test_version_0_1_0.py loads some.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = __name__.rpartition(".")[0]
# Where the names of a module are now: the first of these modules that has it.
MOVED: dict[str, tuple[str, ...]] = {
    "_progress": ("_terminal",),
    "estimators._base": ("estimators.sklearn_base",),
    "estimators._progress": ("callbacks",),
    "estimators._stream": ("estimators.gaussian.stream",),
    "model.conjugate": ("model.map_prior",),
    "model.files": ("exceptions", "storage.container"),
    "representation.arrow": ("rows.arrow",),
    "representation.csv": ("rows.csv",),
    "representation.files": ("rows.npy",),
    "representation.open": ("rows.open",),
    "representation.source": ("rows.source", "rows.summary"),
    "representation.streams": ("rows.streams",),
}


class _MovedModule(ModuleType):
    """Stands where a module was."""

    def __getattr__(self, name: str) -> Any:
        homes = () if name.startswith("__") else MOVED[self.__name__.removeprefix(f"{_PACKAGE}.")]
        for home in homes:
            try:
                return getattr(import_module(f"{_PACKAGE}.{home}"), name)
            except AttributeError:
                pass
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Describe a module that has moved."""
        package, _, inner = name.partition(".")
        return ModuleSpec(name, self) if package == _PACKAGE and inner in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make what stands in its place."""
        return _MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run."""


def install() -> None:
    """Let the old names be imported; a module that is there comes first."""
    sys.meta_path.append(_Finder())
