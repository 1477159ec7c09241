"""Turn JSON reports into Markdown: all tables, or the README's block; write them between markers in a file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.tables import Report, Row, fastest_numpy, median, times

SECTIONS = {
    "iteration": ("EM iterations", tables.iteration_table),
    "roofline": ("Roofline of the iterations", tables.roofline_table),
    "scoring": ("Scoring", tables.scoring_table),
    "sample": ("Drawing rows", tables.sample_table),
    "start": ("The k-means start", tables.start_table),
    "fit": ("Whole fits to equal quality", tables.fit_table),
    "threads": ("Threads", tables.threads_table),
    "cold": ("The first fit of a process", tables.cold_table),
    "scaling": ("Scaling", tables.scaling_table),
}
MAIN_TYPES = ("full", "diag")


def full_report(reports: list[Report]) -> str:
    """All tables of all reports."""
    parts = []
    for report in reports:
        parts += [f"## Profile {report['profile']}", tables.provenance(report)]
        for kind, (title, table) in SECTIONS.items():
            if report.get("iteration" if kind == "roofline" else kind):
                parts += [f"### {title}", table(report)]
        not_timed = tables.not_timed_list(report)
        if not_timed:
            parts += ["### Not timed", not_timed]
    return "\n\n".join(parts)


def main_block(report: Report) -> str:
    """The README's table: full and diag in float64, then the range of each ratio over all cells of the report."""
    titles = ["rows x features", "components", "covariance", "ns per pair", "in float32", "GF/s", "of FMA peak"]
    several = any(name.startswith("numpy-") for name in tables.others(report, "iteration"))
    rivals: dict[str, Any] = {"NumPy, fastest variant" if several else "NumPy": fastest_numpy}
    for name in ("onedal", "scikit-learn"):
        if name in tables.others(report, "iteration"):
            title = report["contenders"][name]["title"]
            rivals[title] = lambda row, name=name: median(row, name)
    rows = []
    for row in report["iteration"]:
        if row["dtype"] != "float64" or row["covariance_type"] not in MAIN_TYPES:
            continue
        own = median(row, "fastgmm")
        cells = [*tables.case_cells(row)[:3]]
        if own is None:
            rows.append([*cells, "failed", *["-"] * (len(titles) - 4 + len(rivals))])
            continue
        limits = tables.roofline(row, own, report["peaks"])
        single = median(float32_twin(report, row), "fastgmm")
        speeds = [own, single]
        cells += ["-" if s is None else f"{tables.nanoseconds_per_pair(row, s):.2f}" for s in speeds]
        cells += [f"{limits['gflops']:.0f}", f"{limits['share_of_peak']:.0%}"]
        rows.append([*cells, *(times(rival(row), own) for rival in rivals.values())])
    table = tables.markdown([*titles, *(f"{title} / fastgmm" for title in rivals)], rows, 3)
    ranges = [describe_range(report, title, rival) for title, rival in rivals.items()]
    return "\n".join([table, "", *ranges, "", tables.provenance(report)])


def float32_twin(report: Report, row: Row) -> Row:
    """The same case in float32; an empty row where it was not measured."""
    keys = ("n_samples", "n_features", "n_components", "covariance_type")
    for other in report["iteration"]:
        if other["dtype"] == "float32" and all(other[key] == row[key] for key in keys):
            return other
    return {"contenders": {}}


def describe_range(report: Report, title: str, rival: Any) -> str:
    """Geometric mean, smallest and largest ratio over all cells, with the cell of the smallest."""
    ratios = []
    for row in report["iteration"]:
        own, other = median(row, "fastgmm"), rival(row)
        if own is not None and other is not None:
            ratios.append((other / own, row["case"]))
    if not ratios:
        return f"- {title}: not timed."
    (low, worst), (high, _) = min(ratios), max(ratios)
    lost = sum(ratio < 1 for ratio, _ in ratios)
    losses = f"; faster than fastgmm in {lost}" if lost else ""
    mean = float(np.exp(np.mean([np.log(ratio) for ratio, _ in ratios])))
    span = f"{times(mean, 1.0)} in the geometric mean, {times(low, 1.0)} ({worst}) to {times(high, 1.0)}"
    return f"- {title} / fastgmm over all {len(ratios)} cells: {span}{losses}."


def write_report(files: list[Path], output_dir: Path | None, readme: Path | None, details: Path | None) -> None:
    """Print all tables, or rewrite the blocks of `readme` (first file only) and `details`; plots go to output_dir."""
    reports = [json.loads(path.read_text()) for path in files]
    text = full_report(reports)
    plots: list[Path] = []
    if output_dir:
        from benchmarks.plots import write_plots

        plots = write_plots(reports, output_dir)
    if readme:
        command = f"python -m benchmarks report {files[0].as_posix()} --readme {readme.as_posix()}"
        replace_block(readme, command, main_block(reports[0]))
    if details:
        names = " ".join(path.as_posix() for path in files)
        command = f"python -m benchmarks report {names} --details {details.as_posix()}"
        if output_dir:
            command += f" --output-dir {output_dir.as_posix()}"
        folder = details.resolve().parent
        links = [f"![{path.stem.replace('_', ' ')}]({_relative(path, folder)})" for path in plots]
        replace_block(details, command, "\n\n".join([*links, text]))
    if not readme and not details:
        print(text)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder)).as_posix()


def replace_block(path: Path, command: str, text: str, kind: str = "table") -> None:
    """Replace what stands between the markers of a kind; ValueError if a file does not have exactly one such block."""
    old, block = path.read_text(), re.compile(rf"<!-- {kind}: (.*?) -->\n.*?\n<!-- end of {kind} -->", re.DOTALL)
    if len(block.findall(old)) != 1:
        raise ValueError(f"{path} needs one block `<!-- {kind}: ... -->` ... `<!-- end of {kind} -->`")
    path.write_text(block.sub(lambda _: f"<!-- {kind}: {command} -->\n{text}\n<!-- end of {kind} -->", old))
