"""Measure (`run`), show (`report`) and compare (`compare`) how fast fastgmm is, beside NumPy and other libraries."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# A preset of these makes OpenBLAS use another processor's kernels (up to twice slower), which would handicap every
# contender that rests on BLAS. OpenBLAS reads them when NumPy is imported, so the process starts over without them.
BLAS_PRESETS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def parse_arguments() -> argparse.Namespace:
    from benchmarks.cases import KINDS, PROFILES

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("--profile", choices=PROFILES, default="standard")
    run.add_argument("--kinds", nargs="+", choices=KINDS, help="default: the profile's")
    run.add_argument("--contenders", nargs="+", metavar="NAME", help="default: all that are installed")
    run.add_argument("--threads", type=int, default=available_cores(), help="default: all this process may use")
    run.add_argument("--cases", default="", metavar="REGEX", help="only cases whose name matches, such as -full-")
    run.add_argument("--repeats", type=int, default=5, help="rounds of all contenders")
    run.add_argument("--seconds", type=float, default=0.2, help="of extra iterations in each timed fit")
    run.add_argument("--rest", type=float, default=0.2, help="seconds before each timing, for the threads of others")
    run.add_argument("--output", type=Path, metavar="JSON", help="write the report to this file")
    real = commands.add_parser("real", help="measure whole default fits on rows that people have, or show them")
    real.add_argument("--sets", default="", metavar="REGEX", help="only sets whose name matches, such as iris")
    real.add_argument("--seeds", type=int, default=10)
    real.add_argument("--budget", type=float, default=120.0, help="seconds for the seeds of a contender on a set")
    real.add_argument("--threads", type=int, default=available_cores(), help="default: all this process may use")
    real.add_argument("--contenders", nargs="+", metavar="NAME", help="default: all that are installed")
    real.add_argument("--output", type=Path, metavar="JSON", help="write the report to this file")
    real.add_argument("--show", type=Path, metavar="JSON", help="measure nothing; print the table of this report")
    real.add_argument("--figure", type=Path, metavar="PNG", help="with --show, likelihood against time")
    real.add_argument("--readme", type=Path, help="with --show, rewrite the block of real rows with the short table")
    real.add_argument("--details", type=Path, help="with --show, rewrite the block of real rows with the long table")
    report = commands.add_parser("report", help="print the tables of reports as Markdown")
    report.add_argument("files", type=Path, nargs="+", metavar="JSON")
    report.add_argument("--output-dir", type=Path, metavar="DIR", help="write the plots there")
    report.add_argument("--readme", type=Path, help="rewrite the marked block of this file with the main cells")
    report.add_argument("--details", type=Path, help="rewrite the marked block of this file with all tables")
    compare = commands.add_parser("compare", help="exit with 1 if the new report is slower beyond the noise")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    compare.add_argument("--normalise", choices=("peak", "numpy", "none"), default="peak", help="default: peak")
    return parser.parse_args()


def available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main() -> int:
    arguments = parse_arguments()
    if arguments.command == "run":
        return in_clean_process(arguments, run)
    if arguments.command == "real":
        from benchmarks.real_report import show

        return show(arguments) if arguments.show else in_clean_process(arguments, measure_real)
    if arguments.command == "report":
        from benchmarks.report import write_report

        write_report(arguments.files, arguments.output_dir, arguments.readme, arguments.details)
        return 0
    from benchmarks.compare import compare_reports

    old, new = (json.loads(path.read_text()) for path in (arguments.old, arguments.new))
    return compare_reports(old, new, arguments.normalise)


def write_json(report: dict[str, object], path: Path | None) -> None:
    """Write a report, if a path is given, in one step: whoever interrupts the run finds the last whole one."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report, indent=1) + "\n")
    part.replace(path)


def in_clean_process(arguments: argparse.Namespace, measure: Callable[[argparse.Namespace], int]) -> int:
    """Measure in a process with clean variables; its exit code."""
    wanted = {key: value for key, value in os.environ.items() if key not in BLAS_PRESETS}
    wanted |= dict.fromkeys(THREAD_VARIABLES, str(arguments.threads))
    if wanted != dict(os.environ):
        return subprocess.run([sys.executable, *sys.orig_argv[1:]], env=wanted, check=False).returncode
    return measure(arguments)


def measure_real(arguments: argparse.Namespace) -> int:
    """1 if fastgmm failed on a set."""
    from benchmarks.real import run_real

    report = run_real(
        *(arguments.sets, arguments.seeds, arguments.budget, arguments.threads, arguments.contenders),
        lambda report: write_json(report, arguments.output),
    )
    failed = [row["case"] for row in report["real"] if row["contenders"]["fastgmm"]["failure"]]
    print("\n".join(["failed:", *failed]) if failed else "no failures")
    return 1 if failed else 0


def run(arguments: argparse.Namespace) -> int:
    """Measure cells; 1 if fastgmm or the reference failed."""
    from benchmarks import measure
    from benchmarks.contenders import CONTENDERS
    from benchmarks.run import failures, run_profile

    measure.SETTLE = arguments.rest

    unknown = set(arguments.contenders or ()) - set(CONTENDERS)
    if unknown:
        print(f"unknown contenders: {', '.join(sorted(unknown))}; choose from {', '.join(CONTENDERS)}")
        return 2
    report = run_profile(
        arguments.profile,
        arguments.threads,
        arguments.kinds,
        arguments.contenders,
        arguments.cases,
        arguments.repeats,
        arguments.seconds,
        lambda report: write_json(report, arguments.output),
    )
    failed = failures(report)
    print("\n".join(["failed:", *failed]) if failed else "no failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
