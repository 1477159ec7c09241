"""The layers import downwards only, and only the named modules know Numba, scikit-learn or optional packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastgmm

PACKAGE = Path(__file__).resolve().parents[1] / "fastgmm"
# From the bottom to the top: a module imports from its own layer and from those before it.
LAYERS = (
    *("_version", "_homes", "_moved", "exceptions", "callbacks", "kernels", "threads", "rows", "validation"),
    *(
        "representation",
        "model",
        "storage",
        "distributed",
        "optimization",
        "estimators",
        "engine",
        "algebra",
        "datasets",
    ),
    *("metrics", "plot", "images", "loading", "batch", "_terminal", "cli", "__main__"),
)
NAMES = set(fastgmm.__all__) - set(LAYERS)  # classes and functions of the package, not modules
OWNERS = {
    "numba": {"kernels", "threads"},
    "sklearn": {"estimators/sklearn_base.py", "estimators/sklearn_conversion.py", "estimators/interop.py"},
    "matplotlib": {"plot"},
    "typer": {"cli"},
    "rich": {"_terminal.py"},
    "pyarrow": {"rows/arrow.py", "rows/csv.py", "rows/text.py", "rows/parquet_output.py"},
    "zarr": {"rows/stores.py"},
    "h5py": {"rows/stores.py"},
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
    return LAYERS.index(name.split(".")[1])


def own_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imported_modules(path, found):
    """Modules of the package that a module imports, those among the names of a `from` import included."""
    package = path.parent.relative_to(PACKAGE.parent).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in found else base


def circle(arrows):
    """A circle of arrows {name: names}, as a list of names, or None."""
    done = set()

    def walk(name, trail):
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for other in sorted(arrows.get(name, ())):
            if round_trip := walk(other, [*trail, name]):
                return round_trip
        done.add(name)
        return None

    return next((found for name in sorted(arrows) if (found := walk(name, []))), None)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    own = own_name(path)
    for name in imports(path):
        if name.startswith("fastgmm.") and name.split(".")[1] not in NAMES:
            assert layer(name) <= layer(own), f"{own} imports {name}"


def test_every_module_and_package_has_a_layer_of_its_own():
    rooms = {path.stem if path.suffix else path.name for path in PACKAGE.iterdir()} - {"__init__", "__pycache__", "py"}
    assert sorted(LAYERS) == sorted(rooms)
    assert len(set(LAYERS)) == len(LAYERS)


def test_modules_and_packages_form_no_circle():
    """Not even by imports inside functions."""
    found = {own_name(path).removesuffix(".__init__") for path in modules()}
    of_modules, of_packages = {}, {}
    for path in modules():
        own = own_name(path).removesuffix(".__init__")
        for name in imported_modules(path, found):
            of_modules.setdefault(own, set()).add(name)
            one, other = own.rpartition(".")[0], name if name + ".__init__" in found else name.rpartition(".")[0]
            if one != other and not one.startswith(f"{other}.") and not other.startswith(f"{one}."):
                of_packages.setdefault(one, set()).add(other)
    assert circle(of_modules) is None
    assert circle(of_packages) is None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_modules_and_names_are_used_by_their_own_package_alone(path):
    package = path.parent.relative_to(PACKAGE.parent).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
        for name in [[*base, alias.name] for alias in node.names]:
            private = next((i for i, part in enumerate(name) if part.startswith("_") and not part.endswith("__")), None)
            if private is not None:
                assert package[:private] == tuple(name[:private]), f"{own_name(path)} imports {'.'.join(name)}"


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


def test_public_modules_need_no_import_of_their_own():
    script = "import fastgmm; print(fastgmm.metrics.evaluate, *(getattr(fastgmm, name) for name in dir(fastgmm)))"
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    public = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert {name for name in public if not name.startswith("_")} & set(dir(fastgmm)) >= {"engine", "metrics", "images"}


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'numba', 'sklearn', 'scipy', 'matplotlib', 'rich', 'typer', 'pyarrow'}"
    code = f"import sys, fastgmm; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
