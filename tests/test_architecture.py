"""The layers import downwards only, and only the named modules know Numba, scikit-learn or optional packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastgmm

PACKAGE = Path(__file__).resolve().parents[1] / "fastgmm"
LAYERS = {
    "kernels": 0,
    "exceptions": 0,
    "datasets": 1,
    "representation": 1,
    "model": 1,
    "threads": 2,
    "distributed": 3,
    "optimization": 3,
    "estimators": 4,
    "engine": 5,
    "images": 5,
    "metrics": 5,
    "loading": 6,
    "batch": 6,
    "plot": 5,
    "cli": 6,
    "_demo": 6,
    "_progress": 6,
}
NAMES = set(fastgmm.__all__) - set(LAYERS)  # classes and functions of the package, not modules
OWNERS = {
    "numba": {"kernels", "threads"},
    "sklearn": {"estimators/_base.py", "estimators/interop.py"},
    "matplotlib": {"plot"},
    "typer": {"cli"},
    "rich": {"_progress.py"},
    "pyarrow": {"representation/arrow.py", "representation/csv.py", "representation/parquet_output.py"},
    "zarr": {"representation/stores.py"},
    "h5py": {"representation/stores.py"},
    "dask": {"distributed/clusters.py"},
    "distributed": set(),
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path):
    """Absolute names of everything a module imports, also inside functions."""
    package = path.parent.relative_to(PACKAGE.parent).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(package[: len(package) - node.level + 1])
            if node.module:
                yield f"{base}.{node.module}"
            else:
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def layer(name):
    return LAYERS[name.split(".")[1]]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    own = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for name in imports(path):
        if name.startswith("fastgmm.") and name.split(".")[1] not in NAMES:
            assert layer(name) <= layer(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_named_modules_know_their_dependency(path):
    own = path.relative_to(PACKAGE)
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        if owners is not None:
            assert own.parts[0] in owners or str(own) in owners, f"{own} imports {name}"


def test_covariance_types_are_told_apart_in_one_table_only():
    words = {"full", "tied", "diag", "spherical"}
    for path in modules():
        if path.name == "covariance.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
                assert not words & {c for c in constants if isinstance(c, str)}, f"{path}:{node.lineno}"


def test_modules_and_functions_stay_small():
    for path in modules():
        text = path.read_text()
        assert text.count("\n") <= 420, f"{path} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = [n for n in node.body if not isinstance(n, ast.FunctionDef)]
                lines = sum(n.end_lineno - n.lineno + 1 for n in body)
                assert lines <= 80, f"{path}:{node.name} has {lines} lines"


def test_public_names_are_importable():
    for name in fastgmm.__all__:
        assert getattr(fastgmm, name) is not None
    assert set(dir(fastgmm)) >= set(fastgmm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Mixture'"):
        _ = fastgmm.Mixture


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'numba', 'sklearn', 'scipy', 'matplotlib', 'rich', 'typer', 'pyarrow'}"
    code = f"import sys, fastgmm; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
