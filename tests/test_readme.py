"""What the README and the docstrings show must run as shown."""

import doctest
import importlib
import json
import pkgutil
from pathlib import Path

import pytest

import fastgmm
from benchmarks.report import main_block

ROOT = Path(__file__).parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(fastgmm.__path__, "fastgmm.") if ".kernels" not in m.name)


def test_the_sessions_in_the_readme_give_what_they_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.attempted >= 10
    assert result.failed == 0
    assert (tmp_path / "digits.png").stat().st_size > 1000


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_give_what_they_show(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_readme_names_only_files_that_exist():
    text = (ROOT / "README.md").read_text()
    for name in (
        "docs/gallery/generated.png",
        "benchmarks/numpy_reference.py",
        "tests/test_architecture.py",
        "tests/reference.py",
    ):
        assert name in text
        assert (ROOT / name).exists()


def test_the_readmes_commands_are_the_ones_ci_runs():
    command = "pip install -e '.[test]' && pytest"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_table_is_the_one_the_committed_results_give():
    """`python -m benchmarks report benchmarks/results/standard.json --readme README.md` writes it."""
    report = json.loads((ROOT / "benchmarks" / "results" / "standard.json").read_text())
    assert main_block(report) in (ROOT / "README.md").read_text()
