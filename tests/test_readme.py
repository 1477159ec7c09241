"""What the README and the docstrings show must run as shown."""

import doctest
import importlib
import json
import pkgutil
import re
import shlex
import shutil
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

import fastgmm
from benchmarks.report import main_block
from fastgmm import cli

ROOT = Path(__file__).parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(fastgmm.__path__, "fastgmm.") if ".kernels" not in m.name)


def test_the_sessions_in_the_readme_give_what_they_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.attempted >= 10
    assert result.failed == 0
    assert (tmp_path / "digits.png").stat().st_size > 1000


@pytest.mark.parametrize("guide", ["algebra", "anomalies", "conditioning"])
def test_the_sessions_in_a_guide_give_what_they_show(guide, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testfile(str(ROOT / "docs" / f"{guide}.md"), module_relative=False)
    assert result.attempted >= 15
    assert result.failed == 0


def transcript(text):
    """Yield (arguments, printed) for every line `$ fastgmm ...` of the blocks of shell, with the lines below it."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = command.partition("\n")
            program, *arguments = shlex.split(line)
            assert program == "fastgmm"
            yield arguments, printed


def test_the_commands_in_the_readme_print_what_it_shows(tmp_path, monkeypatch, capsys):
    """Where the README has `...`, anything may stand, to the next of its characters or the end of the line."""
    monkeypatch.chdir(tmp_path)
    for name in ("faithful", "wine"):
        shutil.copy(ROOT / "tests" / "data" / f"{name}.csv", tmp_path)
    pyarrow.parquet.write_table(pyarrow.csv.read_csv("faithful.csv"), "faithful.parquet")
    commands = list(transcript((ROOT / "README.md").read_text()))
    assert {arguments[0] for arguments, _ in commands} >= {"fit", "score", "predict", "sample", "plot"}
    for arguments, printed in commands:
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert not stop.value.code, arguments
        pattern = ".*".join(map(re.escape, printed.split("...")))
        out = capsys.readouterr().out
        assert re.fullmatch(pattern, out), f"{arguments} printed\n{out}"
        assert Path(arguments[arguments.index("-o") + 1]).stat().st_size > 0


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
