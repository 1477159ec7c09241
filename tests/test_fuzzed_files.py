"""Files of rows and pictures with changed bytes are read or refused by name, in little memory.

Model files and checkpoints: test_model_files.py, test_hostile_checkpoints.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz_files import KINDS


def check(kind, first, count):
    command = [sys.executable, "-m", "tests.fuzz_files", kind, str(first), str(count)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["read"] + found["refused"] == count
    assert found["refused"] > 0
    assert found["mib"] < (100 if kind.startswith("rows") else 1000)  # pillow refuses more than 90 million pixels


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_are_read_or_refused_by_name(kind):
    check(kind, 0, 120)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_changed_bytes_are_read_or_refused_by_name(kind):
    check(kind, 1000, 8000)
