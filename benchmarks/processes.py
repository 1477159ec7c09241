"""The first fit of a process, with an empty cache of machine code and with a filled one, and the second fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from benchmarks.cases import Case
from benchmarks.measure import Cells, summarise

SCRIPT = """
import json, sys, time, warnings
begin = time.perf_counter()
import numpy as np
from fastgmm import GaussianMixture
imported = time.perf_counter()
n_samples, n_features, n_components, covariance_type, dtype = json.loads(sys.argv[1])
X = np.random.default_rng(0).standard_normal((n_samples, n_features)).astype(dtype)
warnings.simplefilter("ignore")
model = GaussianMixture(n_components, covariance_type=covariance_type, max_iter=5, tol=0, random_state=0)
seconds = {"import": imported - begin}
for name in ("first", "second"):
    begin = time.perf_counter()
    model.fit(X)
    seconds[name] = time.perf_counter() - begin
print(json.dumps(seconds))
"""


def measure_cold(case: Case) -> Cells:
    """Seconds of a fit of 5 iterations: compiling, loading from the cache in a second process, and warm."""
    with tempfile.TemporaryDirectory() as folder:
        cold, cached = (run_fresh(case, folder) for _ in range(2))
    return {
        "fastgmm-cold": {"seconds": summarise([cold["first"]]), "agrees": True},
        "fastgmm-cached": {"seconds": summarise([cached["first"]]), "agrees": True},
        "fastgmm-warm": {"seconds": summarise([cold["second"], cached["second"]]), "agrees": True},
        "fastgmm-import": {"seconds": summarise([cold["import"], cached["import"]]), "agrees": True},
    }


def run_fresh(case: Case, folder: str) -> dict[str, float]:
    """Seconds to import, of the first and of the second fit in a new process with that cache folder."""
    argument = json.dumps(list(vars(case).values()))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, argument],
        env=os.environ | {"FASTGMM_CACHE": folder},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)
