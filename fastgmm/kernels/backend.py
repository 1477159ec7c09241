"""Which kernels do the work, decided here alone: those in tiles of vectors (tiled/), or in plain loops (portable/).

The two folders mirror each other. `blocks` offers load_block, sum_rows and padded_features; a covariance type
compute_resp, KEEPS_DISTANCES and accumulate_block (low_rank, whose statistics have a pass of their own, add_group).
Where padded_features gives two, a type's narrow_compute_resp and narrow_accumulate_block are used if it has them.
"""

import os
from importlib import import_module
from types import ModuleType

import numba
from llvmlite import binding


def _lane_bytes():
    """Width of the vectors that Numba's target offers, 0 unless there are 32 of 64 bytes."""
    if os.environ.get("FASTGMM_SIMD", "1") == "0" or numba.config.DISABLE_JIT:
        return 0
    features = numba.config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten() if numba.config.CPU_NAME is None else ""
    return 64 if "+avx512f" in features.split(",") else 0


# 0 where the portable kernels do the work: without AVX-512 (whose 32 registers the tiles count on), without
# compilation, or with FASTGMM_SIMD=0.
LANE_BYTES = _lane_bytes()
NAME = "tiled" if LANE_BYTES else "portable"


def module(name: str) -> ModuleType:
    """Return the module of this name of the kernels that do the work, imported at first use."""
    return import_module(f".{NAME}.{name}", __package__)
