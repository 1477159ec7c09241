"""A fit on a Dask cluster of processes on this machine: one worker of one thread beside two.

`python -m benchmarks.cluster` fits 16 full covariances to 1,600,000 x 32 rows, which the workers make and hold. It
prints the seconds per iteration on one and on two workers, and whether the parameters are equal to the bit. It is also
an example of how to use a cluster; for one on other machines replace LocalCluster by the address of its scheduler.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import dask.array
import numpy as np
from dask.distributed import Client, LocalCluster

from fastgmm import GaussianMixture
from fastgmm.exceptions import ConvergenceWarning

N_ROWS, N_FEATURES, N_COMPONENTS, BLOCK = 1_600_000, 32, 16, 100_000
N_ITER = 8


def fit_on(n_workers: int) -> tuple[float, Any]:
    """Seconds per iteration after the second, and the fitted model."""
    times: list[float] = []
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        rng = dask.array.random.default_rng(0)
        shape, chunks = (N_ROWS, N_FEATURES), (BLOCK, N_FEATURES)
        rows = rng.standard_normal(shape, chunks=chunks) + 2 * rng.integers(0, 2, shape, chunks=chunks)
        rows = rows.persist()  # stays in the memory of the workers
        model = GaussianMixture(
            N_COMPONENTS,
            tol=0,
            max_iter=N_ITER,
            random_state=0,
            callback=lambda info: times.append(time.perf_counter()),
        ).fit(rows)  # goes to the active client
    return float(np.median(np.diff(times)[2:])), model


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    (one, first), (two, second) = fit_on(1), fit_on(2)
    print(f"{N_ROWS:,} x {N_FEATURES} rows, {N_COMPONENTS} full covariances, in {N_ROWS // BLOCK} parts:")
    print(f"one worker {one:.3f} s per iteration, two {two:.3f} s: {one / two:.2f} times as fast")
    print("equal parameters to the bit:", np.array_equal(first.covariances_, second.covariances_))


if __name__ == "__main__":
    main()
