"""Time whole EM iterations of every contender, check what each reached, and print ratios and shares of peak.

Timing: every fit is run with two iteration counts and the times are subtracted, so that validation, copies and the
closing pass of an estimator cancel; compilation happens in a first fit outside the clock. Contenders take turns.
Checking: the total log-likelihood of the parameters each contender returns is recomputed here, in float64, from
its weights, means and covariances alone; a contender that does not agree with the NumPy reference fails its cell.
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp
from threadpoolctl import threadpool_info

import fastgmm
from benchmarks import numpy_reference
from benchmarks.cases import PROFILES, Case, Start, make_data, make_start
from benchmarks.contenders import Fit, contenders
from benchmarks.numpy_reference import Mixture
from benchmarks.peak import measure_fma_peak

CHECKED_ITERATIONS = 5
# Mean log-likelihoods after CHECKED_ITERATIONS from one start. Contenders differ by rounding alone, which float32
# parameters (24 bits) and the iterations amplify.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "scikit-learn")


def total_log_likelihood(X: np.ndarray, mixture: Mixture, covariance_type: str) -> float:
    """Sum over rows of the log-density in nats, in float64, through SciPy's Cholesky factors of the covariances."""
    n_components, n_features = mixture.means.shape
    covariances = np.asarray(mixture.covariances, dtype=np.float64)
    matrices = {
        "full": lambda: covariances,
        "tied": lambda: np.broadcast_to(covariances, (n_components, n_features, n_features)),
        "diag": lambda: covariances[:, :, None] * np.eye(n_features),
        "spherical": lambda: covariances[:, None, None] * np.eye(n_features),
    }[covariance_type]()
    factors = [cholesky(matrix, lower=True) for matrix in matrices]
    total = 0.0
    for first in range(0, len(X), 10_000):
        rows = X[first : first + 10_000].astype(np.float64)
        log_prob = np.empty((n_components, len(rows)))
        for k, factor in enumerate(factors):
            whitened = solve_triangular(factor, (rows - mixture.means[k]).T, lower=True)
            log_det = np.log(np.diag(factor)).sum()
            log_prob[k] = -0.5 * (n_features * np.log(2 * np.pi) + np.square(whitened).sum(axis=0)) - log_det
        total += float(logsumexp(log_prob.T + np.log(mixture.weights.astype(np.float64)), axis=1).sum())
    return total


def useful_flops(case: Case) -> float:
    """Flops that one EM iteration needs per row and component: symmetric halves once, exp and log not counted."""
    d = case.n_features
    e_and_m = {
        "full": 2 * (d * d + 3 * d),
        "tied": (2 * d + 4) + (2 * d + 2),
        "diag": 2 * (4 * d + 2),
        "spherical": 2 * (2 * d + 4),
    }[case.covariance_type]
    per_row = d * d + d if case.covariance_type == "tied" else 0
    return e_and_m + per_row / case.n_components


def check_contenders(X: np.ndarray, start: Start, fits: dict[str, Fit], tolerance: float) -> dict[str, dict[str, Any]]:
    """Fit every contender for CHECKED_ITERATIONS; whether it agrees with the reference, or why it failed."""

    def reached(fit: Fit) -> float:
        return total_log_likelihood(X, fit(X, start, CHECKED_ITERATIONS), start.covariance_type)

    expected = reached(numpy_reference.fit_fixed)
    # Where the log-likelihood happens to be near zero, relative to one nat per row.
    scale = max(abs(expected), len(X))
    cells = {}
    for name, fit in fits.items():
        try:
            log_likelihood = reached(fit)
        except (RuntimeError, ValueError) as error:
            # One contender's failure is a result, and no reason to lose the other cells of a long run.
            cells[name] = {"agrees": False, "failure": f"{type(error).__name__}: {error}"}
            continue
        error = abs(log_likelihood - expected) / scale
        cells[name] = {"log_likelihood": log_likelihood, "relative_error": error, "agrees": error <= tolerance}
        if error > tolerance:
            cells[name]["failure"] = f"log-likelihood off by {error:.1e} (relative)"
    return cells


def time_iterations(
    X: np.ndarray, start: Start, fits: dict[str, Fit], repeats: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Seconds per EM iteration of each contender, minimum and median over `repeats` rounds of all contenders.

    The extra iterations of a fit take at least `seconds`, and at least as long as the rest of the fit, whose noise the
    difference inherits. A contender that has used ten times `repeats * seconds` sits out after its second round.
    """

    def clock(fit: Fit, n_iter: int) -> float:
        begin = perf_counter()
        fit(X, start, n_iter)
        return perf_counter() - begin

    extra = dict.fromkeys(fits, 2)
    for name, fit in fits.items():
        shortest = clock(fit, 1)
        while extra[name] < 512 and clock(fit, 1 + extra[name]) < shortest + max(seconds, shortest):
            extra[name] *= 2
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in fits}
    for _ in range(repeats):
        for name, fit in fits.items():
            used = sum(short + long for short, long in rounds[name])
            if len(rounds[name]) < 2 or used < 10 * repeats * seconds:
                rounds[name].append((clock(fit, 1), clock(fit, 1 + extra[name])))
    cells = {}
    for name, pairs in rounds.items():
        short, long = np.array(pairs).T
        cells[name] = {
            "seconds_min": float(long.min() - short.min()) / extra[name],
            "seconds_median": float(np.median(long - short)) / extra[name],
            "timed_iterations": extra[name],
            "rounds": len(pairs),
        }
    return cells


def run_case(case: Case, n_threads: int, names: list[str] | None, repeats: int, seconds: float) -> dict[str, Any]:
    """Check every contender, then time those that agree: a wrong answer gets no time that it could win with."""
    X = make_data(case)
    start = make_start(case, X)
    fits = {name: fit for name, fit in contenders(case, n_threads).items() if names is None or name in names}
    cells = check_contenders(X, start, fits, TOLERANCE[case.dtype])
    agreeing = {name: fit for name, fit in fits.items() if cells[name]["agrees"]}
    pairs = case.n_samples * case.n_components
    for name, timing in time_iterations(X, start, agreeing, repeats, seconds).items():
        for kind in ("min", "median"):
            timing[f"ns_per_pair_{kind}"] = 1e9 * timing.pop(f"seconds_{kind}") / pairs
        cells[name] |= timing
    return {
        "case": str(case),
        **vars(case),
        "useful_flops_per_pair": useful_flops(case),
        "contenders": cells,
    }


def describe_machine() -> dict[str, Any]:
    """What a reader needs to judge the numbers: processor, load, versions, BLAS kernels, date and command."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = lines[0] if lines else processor
    versions = {"python": platform.python_version(), "fastgmm": fastgmm.__version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    blas = {
        f"{library['internal_api']} {library['version']} with {library.get('architecture', 'unknown')} kernels"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }
    return {
        "machine": f"{processor}, {os.cpu_count()} logical cores, {platform.system()} {platform.machine()}",
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "versions": versions,
        "blas": sorted(blas),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
    }


def run_profile(profile: str, n_threads: int, names: list[str] | None, repeats: int, seconds: float) -> dict[str, Any]:
    """Run every case of a profile, print its rows as they come, and return the whole report as JSON types."""
    report = describe_machine() | {"profile": profile, "n_threads": n_threads}
    cases = PROFILES[profile]
    dtypes = sorted({case.dtype for case in cases})
    peaks = {dtype: measure_fma_peak(dtype, n_threads, seconds) for dtype in dtypes}
    report["cases"] = []
    print(f"{report['machine']}; {n_threads} threads; load average {report['load_average']}")
    print(", ".join(f"FMA peak {dtype} {peak:.0f} GF/s" for dtype, peak in peaks.items()))
    print(HEADER)
    for case in cases:
        row = run_case(case, n_threads, names, repeats, seconds)
        report["cases"].append(row)
        print("\n".join(format_rows(row, peaks[case.dtype])), flush=True)
    # Once more, so that a peak measured while something else ran does not flatter the shares.
    report["fma_peak_gflops"] = {
        dtype: max(peak, measure_fma_peak(dtype, n_threads, seconds)) for dtype, peak in peaks.items()
    }
    return report


HEADER = f"{'case':36} {'contender':13} {'ns/pair min':>11} {'median':>8} {'/fastgmm':>9} {'GF/s':>7} {'% peak':>6}"


def gflops(row: dict[str, Any], name: str) -> float:
    """Useful GF/s of a contender at its fastest."""
    return float(row["useful_flops_per_pair"] / row["contenders"][name]["ns_per_pair_min"])


def slowdown(row: dict[str, Any], name: str) -> float | None:
    """Time of a contender over the time of fastgmm; None unless both were timed."""
    times = [row["contenders"].get(key, {}).get("ns_per_pair_min") for key in (name, "fastgmm")]
    return None if None in times else times[0] / times[1]


def format_rows(row: dict[str, Any], peak: float) -> list[str]:
    """One printed line per contender of a case."""
    lines = []
    for name, cell in row["contenders"].items():
        line = f"{row['case']:36} {name:13} "
        if not cell["agrees"]:
            lines.append(f"{line}FAILED: {cell['failure']}")
            continue
        ratio, rate = slowdown(row, name), gflops(row, name)
        line += f"{cell['ns_per_pair_min']:11.3f} {cell['ns_per_pair_median']:8.3f} "
        line += f"{ratio:9.2f} " if ratio else f"{'-':>9} "
        lines.append(f"{line}{rate:7.1f} {100 * rate / peak:6.1f}")
    return lines


def markdown_table(report: dict[str, Any]) -> str:
    """The README's table, with the line that says where and how it was measured."""
    columns = {
        "numpy": "NumPy",
        "numpy-pool": "NumPy, pool of threads",
        "numpy-packed": "NumPy, packed",
        "scikit-learn": "scikit-learn",
    }
    titles = ["rows x features", "components", "covariance", "dtype", "ns per pair", "GF/s", "of FMA peak"]
    titles += [f"{title} / fastgmm" for title in columns.values()]
    lines = ["| " + " | ".join(titles) + " |", "|---|--:|---|---|" + "--:|" * (len(titles) - 4)]
    for row in report["cases"]:
        shape = f"{row['n_samples']:,} x {row['n_features']}"
        cells = [shape, str(row["n_components"]), row["covariance_type"], row["dtype"]]
        if slowdown(row, "fastgmm") is None:
            cells += ["failed"] * 3
        else:
            rate = gflops(row, "fastgmm")
            share = rate / report["fma_peak_gflops"][row["dtype"]]
            cells += [f"{row['contenders']['fastgmm']['ns_per_pair_min']:.2f}", f"{rate:.0f}", f"{share:.0%}"]
        ratios = [slowdown(row, name) for name in columns]
        cells += ["-" if ratio is None else f"{ratio:.1f}x" for ratio in ratios]
        lines.append("| " + " | ".join(cells) + " |")
    packages = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines += ["", f"{report['machine']}; {report['n_threads']} threads; {packages}; {report['date'][:10]}."]
    lines += [f"Measured by `{report['command']}`."]
    return "\n".join(lines)
