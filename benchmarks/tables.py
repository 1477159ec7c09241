"""Markdown tables of one report: a function per kind, `iteration_table(report)` and so on. No numbers of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.cases import KINDS
from benchmarks.roofline import roofline
from benchmarks.scaling import describe_linearity, duration, sweeps

Report = dict[str, Any]
Row = dict[str, Any]
NUMPY_VARIANTS = ("numpy", "numpy-pool", "numpy-packed")
CASE_TITLES = ("rows x features", "components", "covariance", "dtype")


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]], n_words: int) -> str:
    """A table whose first n_words columns are aligned left, the others right."""
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * n_words + "--:|" * (len(titles) - n_words)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def case_cells(row: Row) -> list[str]:
    shape = f"{row['n_samples']:,} x {row['n_features']}"
    return [shape, str(row["n_components"]), row["covariance_type"], row["dtype"]]


def median(row: Row, name: str) -> float | None:
    """Median seconds of a contender, None if it was not timed."""
    seconds = row["contenders"].get(name, {}).get("seconds")
    return seconds["median"] if seconds else None


def fastest_numpy(row: Row) -> float | None:
    """Median seconds of the fastest NumPy variant."""
    times = [time for name in NUMPY_VARIANTS if (time := median(row, name)) is not None]
    return min(times) if times else None


def nanoseconds_per_pair(row: Row, seconds: float) -> float:
    return 1e9 * seconds / (row["n_samples"] * row["n_components"])


def times(other: float | None, own: float | None) -> str:
    """A ratio such as 12x, 4.2x, 0.85x; a dash where one is missing."""
    if other is None or own is None:
        return "-"
    ratio = other / own
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.1f}x" if ratio >= 0.995 else f"{ratio:.2f}x"


def seconds_text(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def spread_text(row: Row, name: str = "fastgmm") -> str:
    """Distance of the quartiles relative to the median."""
    seconds = row["contenders"].get(name, {}).get("seconds")
    if not seconds:
        return "-"
    return f"{(seconds['q3'] - seconds['q1']) / seconds['median']:.0%}"


def others(report: Report, kind: str) -> list[str]:
    """Names of the contenders other than fastgmm that were timed in any row, in the order of the report."""
    timed = {name for row in report[kind] for name, cell in row["contenders"].items() if "seconds" in cell}
    return [name for name in report["contenders"] if name in timed and name != "fastgmm"]


def ratio_titles(report: Report, names: Sequence[str]) -> list[str]:
    return [f"{report['contenders'][name]['title']} / fastgmm" for name in names]


def iteration_table(report: Report) -> str:
    names = others(report, "iteration")
    titles = [*CASE_TITLES, "ns per pair", "spread", *ratio_titles(report, names)]
    rows = []
    for row in report["iteration"]:
        own = median(row, "fastgmm")
        speed = "failed" if own is None else f"{nanoseconds_per_pair(row, own):.2f}"
        ratios = [times(median(row, name), own) for name in names]
        rows.append([*case_cells(row), speed, spread_text(row), *ratios])
    return markdown(titles, rows, 4)


def roofline_table(report: Report) -> str:
    """Useful work of fastgmm's iterations against what the machine can do."""
    titles = [*CASE_TITLES, "flops per row", "exps per row", "bytes per row", "flops per byte", "GF/s", "Gexp/s"]
    titles += ["of FMA peak", "limit GF/s", "of limit"]
    rows = []
    for row in report["iteration"]:
        own = median(row, "fastgmm")
        if own is None:
            continue
        r = roofline(row, own, report["peaks"])
        counts = [f"{r['flops_per_row']:,.0f}", f"{r['exps_per_row']:,}", f"{r['bytes_per_row']:,}"]
        rates = [f"{r['flops_per_byte']:.1f}", f"{r['gflops']:.0f}", f"{r['gexps']:.2f}", f"{r['share_of_peak']:.0%}"]
        rows.append([*case_cells(row), *counts, *rates, f"{r['limit_gflops']:.0f}", f"{r['share_of_limit']:.0%}"])
    return markdown(titles, rows, 4)


def scoring_table(report: Report) -> str:
    names = others(report, "scoring")
    titles = ["method", *CASE_TITLES, "ns per pair", "spread", *ratio_titles(report, names)]
    rows = []
    for row in sorted(report["scoring"], key=lambda row: row["method"]):
        own = median(row, "fastgmm")
        speed = "failed" if own is None else f"{nanoseconds_per_pair(row, own):.2f}"
        ratios = [times(median(row, name), own) for name in names]
        rows.append([row["method"], *case_cells(row), speed, spread_text(row), *ratios])
    return markdown(titles, rows, 5)


def sample_table(report: Report) -> str:
    names = others(report, "sample")
    titles = [*CASE_TITLES, "fastgmm", "ns per number", *ratio_titles(report, names)]
    rows = []
    for row in report["sample"]:
        own = median(row, "fastgmm")
        speed = "-" if own is None else f"{1e9 * own / (row['n_samples'] * row['n_features']):.2f}"
        rows.append([*case_cells(row), seconds_text(own), speed, *(times(median(row, name), own) for name in names)])
    return markdown(titles, rows, 4)


def start_table(report: Report) -> str:
    names = [name for name in report["contenders"] if any(name in row["contenders"] for row in report["start"])]
    titles = [*CASE_TITLES]
    for name in names:
        titles += [report["contenders"][name]["title"], "in its EM iterations"]
    rows = []
    for row in report["start"]:
        line = case_cells(row)
        for name in names:
            seconds = median(row, name)
            cell = row["contenders"].get(name, {})
            units = "-" if seconds is None else f"{seconds / cell['iteration_seconds']:.1f}"
            line += [seconds_text(seconds), units]
        rows.append(line)
    return markdown(titles, rows, 4)


def cold_table(report: Report) -> str:
    states = ("fastgmm-cold", "fastgmm-cached", "fastgmm-warm", "fastgmm-import")
    titles = ["covariance", "dtype", "first fit, empty cache", "first fit, second process", "second fit", "import"]
    rows = []
    for row in report["cold"]:
        seconds = [seconds_text(median(row, state)) for state in states]
        rows.append([row["covariance_type"], row["dtype"], *seconds])
    return markdown(titles, rows, 2)


def threads_table(report: Report) -> str:
    n_threads = report["n_threads"]
    titles = [*CASE_TITLES, "1 thread, ns per pair", f"{n_threads} threads, ns per pair", "speed-up", "efficiency"]
    rows = []
    for row in report["threads"]:
        one, all_threads = median(row, "fastgmm-1-thread"), median(row, "fastgmm")
        if one is None or all_threads is None:
            continue
        speeds = [f"{nanoseconds_per_pair(row, seconds):.2f}" for seconds in (one, all_threads)]
        speed_up = one / all_threads
        rows.append([*case_cells(row), *speeds, f"{speed_up:.2f}x", f"{speed_up / n_threads:.0%}"])
    return markdown(titles, rows, 4)


def fit_table(report: Report) -> str:
    """Per contender: medians over seeds, the range of log-likelihoods, and how many seeds came near the best known."""
    titles = [*CASE_TITLES, "contender", "default fit", "iterations", "log-likelihood per row, best seed", "below best"]
    titles += ["seeds within the gap", "time to the gap"]
    rows = []
    for row in report["fit"]:
        for name, cell in row["contenders"].items():
            fits = cell["fits"]
            values = [fit["log_likelihood_per_row"] for fit in fits]
            below = [row["best_log_likelihood_per_row"] - value for value in values]
            reached = sorted(fit["seconds_to_quality"] for fit in fits if fit["seconds_to_quality"] is not None)
            time = seconds_text(reached[len(reached) // 2]) if reached else "not reached"
            iterations = sorted(fit["n_iter"] for fit in fits)
            counts = f"{iterations[0]}-{iterations[-1]}" if len(fits) > 1 else str(iterations[0])
            line = [*case_cells(row), report["contenders"][name]["title"], seconds_text(cell["seconds"]["median"])]
            line += [counts, f"{max(values):.5f}", f"{min(below):.5f} to {max(below):.5f}"]
            rows.append([*line, f"{len(reached)} of {len(fits)}", time])
    return markdown(titles, rows, 5)


def scaling_table(report: Report) -> str:
    """Each sweep, then how far its times are from a straight line."""
    parts = []
    for axis in ("n_samples", "n_components"):
        for rows in sweeps(report["scaling"], axis):
            lines = []
            for row in rows:
                own = median(row, "fastgmm")
                speed = "failed" if own is None else f"{nanoseconds_per_pair(row, own):.2f}"
                lines.append([*case_cells(row), seconds_text(own), speed, spread_text(row)])
            parts.append(markdown([*CASE_TITLES, "per iteration", "ns per pair", "spread"], lines, 4))
            parts.append(describe_linearity(rows, axis))
    return "\n\n".join(parts)


def not_timed_list(report: Report) -> str:
    """Whoever took no part, and the cells without a time, with the reason; equal reasons together."""
    reasons: dict[str, list[str]] = {}
    for record in report["contenders"].values():
        for key, word in (("absent", "absent"), ("not_comparable", "not comparable")):
            if key in record:
                reasons.setdefault(f"{record['title']}: {word}: {record[key]}", [])
    for kind in KINDS:
        for row in report.get(kind, []):
            for name, cell in row["contenders"].items():
                reason = cell.get("failure") or cell.get("skipped")
                if reason:
                    title = report["contenders"].get(name, {}).get("title", name)
                    reasons.setdefault(f"{title}, {kind}: {reason}", []).append(row["case"])
    for failed in report["failed_cases"]:
        reasons.setdefault(f"{failed['kind']}: {failed['failure']}", []).append(failed["case"])
    return "\n".join(f"- {reason}" + (f" ({', '.join(cases)})" if cases else "") for reason, cases in reasons.items())


def provenance(report: Report) -> str:
    """Where, with what and by which command this was measured."""
    versions = dict(report["versions"])
    versions |= {name: record["version"] for name, record in report["contenders"].items() if "version" in record}
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    lines = [f"{report['machine']}; {report['n_threads']} threads; {packages}; {report['date'][:10]}."]
    if "peaks" in report:
        peaks = report["peaks"]
        fma = ", ".join(f"{peak:.0f} GF/s {dtype}" for dtype, peak in peaks["fma_gflops"].items())
        memory = f"{peaks['read_gb_per_s']:.0f} GB/s read, {peaks['triad_gb_per_s']:.0f} GB/s triad"
        lines.append(f"FMA peak {fma}; memory {memory}.")
    return "\n".join([*lines, f"Measured by `{report['command']}`."])
