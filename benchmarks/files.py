"""Fits of rows in a file beside fits of the same rows in memory: rows per second, peak memory, log-likelihood.

`python -m benchmarks.files` writes 10,000,000 x 8 float32 rows (320 MB) to a temporary folder, fits 16 diagonal
components to them, each fit in a process of its own, alternately from the file (in the page cache) and from memory, and
prints a Markdown table; `--rows 100000000` is the soak (3.2 GB). Rows per second are those of the iterations after the
first, the start and the first touch of memory left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.__main__ import BLAS_PRESETS
from benchmarks.measure import Cells

N_FEATURES, N_COMPONENTS = 8, 16
BLOCK = 1_000_000
SCRIPT = """
import json, resource, sys, time, warnings
import numpy as np
from fastgmm import GaussianMixture
path, kind, n_iter = sys.argv[1], sys.argv[2], int(sys.argv[3])
X = path if kind == "file" else np.load(path)
times, warm = [], np.load(path, mmap_mode="r")[:50_000]
settings = {"covariance_type": "diag", "tol": 0, "max_iter": n_iter, "init_params": "k-means++", "random_state": 0}
warnings.simplefilter("ignore")
GaussianMixture(16, **settings).fit(np.ascontiguousarray(warm))
begin = time.perf_counter()
model = GaussianMixture(16, callback=lambda info: times.append(time.perf_counter()), **settings).fit(X)
print(json.dumps({
    "seconds": time.perf_counter() - begin,
    "seconds_per_iteration": (times[-1] - times[0]) / (len(times) - 1),
    "log_likelihood": float(model.log_likelihood_),
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def write_rows(path: Path, n_rows: int) -> None:
    """Write rows of a mixture of 16 overlapping components, block by block."""
    rng = np.random.default_rng(0)
    means = 2.0 * rng.standard_normal((N_COMPONENTS, N_FEATURES))
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, N_FEATURES)}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, n_rows, BLOCK):
            size = min(BLOCK, n_rows - first)
            block = means[rng.integers(N_COMPONENTS, size=size)] + rng.standard_normal((size, N_FEATURES))
            file.write(block.astype("<f4").data)


def fit_in_process(path: Path, kind: str, n_iter: int) -> dict[str, float]:
    """What a fit in a new process took; `kind` is file or memory."""
    with path.open("rb") as file:  # into the page cache
        while file.read(2**26):
            pass
    environment = {key: value for key, value in os.environ.items() if key not in BLAS_PRESETS}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), kind, str(n_iter)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def measure_files(n_rows: int, n_iter: int, rounds: int, folder: Path) -> Cells:
    """The cells `file` and `memory`: medians over the rounds, of memory the largest."""
    path = folder / "rows.npy"
    write_rows(path, n_rows)
    runs: dict[str, list[dict[str, float]]] = {"file": [], "memory": []}
    for _ in range(rounds):
        for kind, found in runs.items():
            found.append(fit_in_process(path, kind, n_iter))
    return {
        kind: {
            "million_rows_per_second": n_rows / median(run["seconds_per_iteration"] for run in found) / 1e6,
            "seconds": median(run["seconds"] for run in found),
            "peak_mib": max(run["peak_mib"] for run in found),
            "log_likelihood": found[0]["log_likelihood"],
        }
        for kind, found in runs.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells = measure_files(arguments.rows, arguments.iterations, arguments.rounds, Path(folder))
    print(f"{arguments.rows:,} x {N_FEATURES} float32 rows, {N_COMPONENTS} diagonal components:\n")
    print("| rows from | million rows per second | whole fit | peak memory |\n|---|--:|--:|--:|")
    for kind, cell in cells.items():
        speed, seconds, peak = cell["million_rows_per_second"], cell["seconds"], cell["peak_mib"]
        print(f"| {kind} | {speed:.1f} | {seconds:.1f} s | {peak:,.0f} MiB |")
    file, memory = cells["file"], cells["memory"]
    share = file["million_rows_per_second"] / memory["million_rows_per_second"]
    gap = abs(file["log_likelihood"] / memory["log_likelihood"] - 1)
    print(
        f"\nThe file gives {share:.0%} of the rows per second; the log-likelihoods differ by {gap:.1g} of themselves."
    )


if __name__ == "__main__":
    main()
