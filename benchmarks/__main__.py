"""`python -m benchmarks --profile standard --output FILE.json`, `python -m benchmarks table FILE.json`."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

# A preset of these makes OpenBLAS use another processor's kernels (up to twice slower), which would handicap every
# contender that rests on BLAS. OpenBLAS reads them when NumPy is imported, so the process starts over without them.
BLAS_PRESETS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--profile", choices=("smoke", "standard", "full"), default="standard")
    parser.add_argument("--output", type=Path, help="write the report to this JSON file")
    parser.add_argument("--threads", type=int, default=available_cores(), help="default: all this process may use")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of all contenders")
    parser.add_argument("--seconds", type=float, default=0.3, help="of extra iterations in each timed fit")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="default: all that are installed")
    table = parser.add_subparsers(dest="command").add_parser("table", help="print the Markdown table of a report")
    table.add_argument("report", type=Path)
    return parser.parse_args()


def available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main() -> int:
    arguments = parse_arguments()
    wanted = {key: value for key, value in os.environ.items() if key not in BLAS_PRESETS}
    wanted |= dict.fromkeys(THREAD_VARIABLES, str(arguments.threads))
    if wanted != dict(os.environ):
        return subprocess.run([sys.executable, *sys.orig_argv[1:]], env=wanted, check=False).returncode

    from benchmarks.report import markdown_table, run_profile

    if arguments.command == "table":
        print(markdown_table(json.loads(arguments.report.read_text())))
        return 0
    report = run_profile(
        arguments.profile, arguments.threads, arguments.contenders, arguments.repeats, arguments.seconds
    )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    agree = all(cell["agrees"] for case in report["cases"] for cell in case["contenders"].values())
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
