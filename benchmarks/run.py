"""Run the kinds of a profile and return one JSON report; every row is printed as it comes.

Every kind gives a list of rows: the case, and in "contenders" one cell per name. A cell has "seconds" (min, q1, median,
q3, max, rounds; per EM iteration or per call), or "skipped" or "failure" with the reason.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

import fastgmm
from benchmarks.calls import METHODS, measure_sample, measure_scoring, measure_start
from benchmarks.cases import PROFILES, Case, Profile
from benchmarks.contenders import CONTENDERS, Fit, load_contenders
from benchmarks.fits import measure_fit
from benchmarks.measure import measure_iterations
from benchmarks.peak import measure_bandwidth, measure_fma_peak
from benchmarks.processes import measure_cold

FORMAT = 2
ESTIMATING = ("fastgmm", "numpy", "scikit-learn")  # who can do more than iterate; the others load slowly
PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "scikit-learn")
Row = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """What one run has: the profile, the contenders that loaded, threads, and how long to measure."""

    profile: Profile
    fits: dict[str, Fit]
    n_threads: int
    repeats: int
    seconds: float

    @property
    def names(self) -> list[str]:
        """Of the contenders that take part."""
        return list(self.fits)


def iteration_rows(case: Case, session: Session) -> list[Row]:
    fits = {name: fit for name, fit in session.fits.items() if CONTENDERS[name].runs(case)}
    return [{"contenders": measure_iterations(case, fits, session.repeats, session.seconds)}]


def scoring_rows(case: Case, session: Session) -> list[Row]:
    rows = measure_scoring(case, session.names, session.n_threads, session.repeats, session.seconds)
    return [{"method": method, "contenders": rows[method]} for method in METHODS]


def sample_rows(case: Case, session: Session) -> list[Row]:
    cells = measure_sample(case, session.names, session.n_threads, session.repeats, session.seconds)
    return [{"contenders": cells}]


def start_rows(case: Case, session: Session) -> list[Row]:
    cells = measure_start(case, session.names, session.n_threads, session.repeats, session.seconds)
    return [{"contenders": cells}]


def cold_rows(case: Case, session: Session) -> list[Row]:
    return [{"contenders": measure_cold(case)}]


def threads_rows(case: Case, session: Session) -> list[Row]:
    """Fastgmm alone, with one thread and with all; nothing where there is one thread."""
    if session.n_threads == 1:
        return []
    fits = {"fastgmm-1-thread": CONTENDERS["fastgmm"].load(1), "fastgmm": CONTENDERS["fastgmm"].load(session.n_threads)}
    return [{"contenders": measure_iterations(case, fits, session.repeats, session.seconds)}]


def fit_rows(case: Case, session: Session) -> list[Row]:
    return [measure_fit(case, session.names, session.n_threads, session.profile.fit_seeds)]


def scaling_rows(case: Case, session: Session) -> list[Row]:
    """Fastgmm alone."""
    fits = {"fastgmm": CONTENDERS["fastgmm"].load(session.n_threads)}
    return [{"contenders": measure_iterations(case, fits, session.repeats, session.seconds)}]


ROWS: dict[str, Callable[[Case, Session], list[Row]]] = {
    "iteration": iteration_rows,
    "scoring": scoring_rows,
    "sample": sample_rows,
    "start": start_rows,
    "cold": cold_rows,
    "threads": threads_rows,
    "fit": fit_rows,
    "scaling": scaling_rows,
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
        "format": FORMAT,
        "machine": f"{processor}, {os.cpu_count()} logical cores, {platform.system()} {platform.machine()}",
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "versions": versions,
        "blas": sorted(blas),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
    }


def measure_peaks(n_threads: int, seconds: float) -> dict[str, Any]:
    """The machine's limits: fma_gflops by dtype, read_gb_per_s and triad_gb_per_s."""
    fma = {dtype: measure_fma_peak(dtype, n_threads, seconds) for dtype in ("float64", "float32")}
    return {"fma_gflops": fma, **measure_bandwidth(n_threads, seconds)}


def best_peaks(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The larger of two measurements: a peak measured while something else ran would flatter the shares."""
    fma = {dtype: max(peak, after["fma_gflops"][dtype]) for dtype, peak in before["fma_gflops"].items()}
    return {"fma_gflops": fma} | {key: max(before[key], after[key]) for key in before if key != "fma_gflops"}


def run_profile(
    name: str,
    n_threads: int,
    kinds: list[str] | None,
    contenders: list[str] | None,
    cases: str,
    repeats: int,
    seconds: float,
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run the kinds of a profile (its own if None) with the contenders (its own if None) on cases that match.

    `cases` is a regular expression, searched for in names such as 300000x16-k32-full-float64.
    `save` gets the report after every case, so that a run that is interrupted leaves what it measured.
    """
    profile = PROFILES[name]
    kinds = kinds or list(profile.kinds)
    installed = CONTENDERS if "iteration" in kinds else ESTIMATING
    names = contenders or profile.contenders or installed
    fits, records = load_contenders(names, n_threads)
    session = Session(profile, fits, n_threads, repeats, seconds)
    report = describe_machine() | {"profile": name, "n_threads": n_threads, "contenders": records}
    peaks = measure_peaks(n_threads, seconds)
    fma = ", ".join(f"{peak:.0f} GF/s {dtype}" for dtype, peak in peaks["fma_gflops"].items())
    print(f"{report['machine']}; {n_threads} threads; load average {report['load_average']}")
    print(f"FMA peak {fma}; read {peaks['read_gb_per_s']:.0f} GB/s, triad {peaks['triad_gb_per_s']:.0f} GB/s")
    for contender, record in records.items():
        reason = record.get("absent") or record.get("not_comparable")
        if reason:
            print(f"{contender}: takes no part: {reason}")
    report |= {"peaks": peaks, "failed_cases": []}
    for kind in kinds:
        report[kind] = []
        for case in (case for case in profile.cases[kind] if re.search(cases, str(case))):
            try:
                rows = ROWS[kind](case, session)
            except Exception as error:  # a case that fails as a whole is a result, and the long run goes on
                failure = f"{type(error).__name__}: {error}"
                report["failed_cases"].append({"kind": kind, "case": str(case), "failure": failure})
                print(f"{kind:9} {case!s:34} FAILED: {failure}", flush=True)
                continue
            for row in rows:
                report[kind].append({"case": str(case), **vars(case), **row})
                print("\n".join(describe_row(kind, report[kind][-1])), flush=True)
            save(report)
    report["peaks"] = best_peaks(peaks, measure_peaks(n_threads, seconds))
    save(report)
    return report


def describe_row(kind: str, row: Row) -> list[str]:
    """One printed line per contender: milliseconds, how far the middle half of the rounds spreads, ratio to fastgmm."""
    own = row["contenders"].get("fastgmm", {}).get("seconds")
    lines = []
    for name, cell in row["contenders"].items():
        line = f"{kind:9} {row['case']:34} {row.get('method', ''):13} {name:16} "
        if "seconds" not in cell:
            lines.append(line + ("SKIPPED: " + cell["skipped"] if "skipped" in cell else "FAILED: " + cell["failure"]))
            continue
        seconds = cell["seconds"]
        spread = (seconds["q3"] - seconds["q1"]) / seconds["median"]
        line += f"{1e3 * seconds['median']:11.3f} ms, spread {spread:4.0%} of {seconds['rounds']}"
        lines.append(line + (f", {seconds['median'] / own['median']:7.2f} x fastgmm" if own else ""))
    return lines


def failures(report: dict[str, Any]) -> list[str]:
    """What failed or disagreed of fastgmm and the NumPy reference; a peer's disagreement is a result."""
    failed = [f"{failed['kind']} {failed['case']}: {failed['failure']}" for failed in report["failed_cases"]]
    for kind in ROWS:
        for row in report.get(kind, []):
            for name, cell in row["contenders"].items():
                if "failure" in cell and name.startswith(("fastgmm", "numpy")):
                    failed.append(f"{kind} {row['case']} {name}: {cell['failure']}")
    return failed
