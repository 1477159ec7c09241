"""Two folders of kernels mirror each other, and one module chooses between them."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from fastgmm.kernels import backend
from fastgmm.model.covariance import STRUCTURES

FOLDER = Path(backend.__file__).parent
TYPE = ("KEEPS_DISTANCES", "compute_resp", "accumulate_block")
OFFERED = {
    "blocks": ("load_block", "sum_rows", "padded_features"),
    "e_step": ("find_labels", "make_e_step"),
    **dict.fromkeys(("full", "tied", "diag", "spherical"), TYPE),
    "low_rank": ("KEEPS_DISTANCES", "compute_resp", "add_group"),
}


@pytest.mark.parametrize("name", OFFERED)
@pytest.mark.parametrize("folder", ["tiled", "portable"])
def test_both_folders_offer_the_same(folder, name):
    module = import_module(f"fastgmm.kernels.{folder}.{name}")
    assert [n for n in OFFERED[name] if not hasattr(module, n)] == []


def test_only_the_backend_chooses():
    assert {path.stem for path in FOLDER.glob("tiled/*.py")} >= set(OFFERED)
    for path in FOLDER.glob("*.py"):
        if path.name != "backend.py":
            text = path.read_text()
            words = ("LANE_BYTES", "import simd", "from .tiled", "from .portable")
            assert not any(word in text for word in words), path


@pytest.mark.parametrize("switch", ["FASTGMM_SIMD=0", "NUMBA_DISABLE_JIT=1"])
def test_switches_choose_the_portable_kernels_and_load_no_others(switch):
    code = """
import sys
from fastgmm.kernels import backend, kmeans, low_rank, passes
from fastgmm.model.covariance import STRUCTURES
print(*(structure.kernels.__name__ for structure in STRUCTURES.values()))
print(*(name for name in sys.modules if "kernels.tiled" in name))
"""
    environment = {**os.environ, **dict([switch.split("=")])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    types, others = run.stdout.split("\n")[:2]
    assert types.split() == [f"fastgmm.kernels.portable.{name}" for name in STRUCTURES]
    assert others == ""
