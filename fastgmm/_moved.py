"""Names of modules of version 0.1.0, which pickles and users' code may hold: they import what has moved.

Only old pickles ask for them; tests/test_version_0_1_0.py loads some.
"""

import sys
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
    "model.checkpoints": ("storage.checkpoint",),
    "model.conjugate": ("model.map_prior",),
    "model.files": ("exceptions", "storage.container"),
    "representation.arrow": ("rows.arrow",),
    "representation.csv": ("rows.csv",),
    "representation.files": ("rows.npy",),
    "representation.open": ("rows.open",),
    "representation.source": ("rows.source", "rows.summary"),
    "representation.streams": ("rows.streams",),
}


def _home(name: str, attribute: str) -> Any:
    """What a module that has moved is asked for."""
    for module in () if attribute.startswith("__") else MOVED[name]:
        found = getattr(import_module(f"{_PACKAGE}.{module}"), attribute, None)
        if found is not None:
            return found
    raise AttributeError(f"module '{_PACKAGE}.{name}' has no attribute {attribute!r}")


class _Finder(MetaPathFinder, Loader):
    """Puts an empty module, which looks things up where they are, in the place of one that has moved."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, inner = name.partition(".")
        return ModuleSpec(name, self) if package == _PACKAGE and inner in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        inner = module.__name__.partition(".")[2]
        module.__getattr__ = lambda attribute: _home(inner, attribute)  # type: ignore[method-assign]


def install() -> None:
    """Let the old names be imported; a module that is there comes first."""
    sys.meta_path.append(_Finder())
