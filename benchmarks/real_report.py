"""The table and the figure of fits on rows that people have."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import replace_block
from benchmarks.tables import Report, duration, markdown, provenance, times

COLOURS = {"fastgmm": "C0", "scikit-learn": "C1", "onedal": "C2", "numpy": "C7"}
LOWER = 1e-3  # nats per row
TITLES = ("rows", "shape", "k", "covariance", "time", "passes")


def lost(own: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """In what fastgmm lost against scikit-learn: the mean or the worst likelihood, the held-out one, the time."""
    seeds = min(len(own["fitted"]), len(other["fitted"]))
    mine, theirs = (np.array([cell["fitted"][:seeds], cell["held_out"][:seeds]]) for cell in (own, other))
    losses = {
        "mean": mine[0].mean() < theirs[0].mean() - LOWER,
        "worst": mine[0].min() < theirs[0].min() - LOWER,
        "held out": mine[1].mean() < theirs[1].mean() - LOWER,
        "time": np.median(own["seconds"]) > np.median(other["seconds"]),
    }
    return [name for name, is_loss in losses.items() if is_loss]


def rivals_of(report: Report) -> list[str]:
    """Contenders other than fastgmm that took part in any set."""
    names = [name for name in report["contenders"] if name != "fastgmm"]
    return [name for name in names if any(name in row["contenders"] for row in report["real"])]


def names_of(row: dict[str, Any]) -> list[str]:
    """What the set is called, its shape, components and covariance."""
    name = row["set"] + (", standardised" if row["standardised"] else "")
    return [name, f"{row['n_samples']:,} x {row['n_features']}", str(row["n_components"]), row["covariance_type"]]


def times_of(row: dict[str, Any], rivals: list[str]) -> list[str]:
    """Median time and passes of fastgmm, and the ratios of the others' times."""
    own = row["contenders"]["fastgmm"]
    time = float(np.median(own["seconds"]))
    cells = [duration(time), f"{np.median(own['passes']):.0f}"]
    for rival in rivals:
        seconds = row["contenders"].get(rival, {"seconds": []})["seconds"]
        cells.append(times(float(np.median(seconds)) if seconds else None, time))
    return cells


def real_table(report: Report) -> str:
    """A row per set: fastgmm's time and passes, ratios of time, likelihoods beside scikit-learn's, and losses."""
    rivals = rivals_of(report)
    titles = [*TITLES, *(f"{report['contenders'][name]['title']} / fastgmm" for name in rivals)]
    titles += [
        "mean",
        "worst",
        "best",
        "held out",
        "scikit-learn: mean",
        "worst",
        "best",
        "held out",
        "lower or slower",
    ]
    rows = []
    for row in report["real"]:
        own, peer = row["contenders"]["fastgmm"], row["contenders"].get("scikit-learn", {"seconds": []})
        if not own["seconds"]:
            rows.append([*names_of(row), "failed", *["-"] * (len(titles) - 6), own["failure"]])
            continue
        cells = names_of(row) + times_of(row, rivals)
        for cell in (own, peer):
            cells += likelihoods(cell)
        rows.append([*cells, ", ".join(lost(own, peer)) if peer["seconds"] else "-"])
    return markdown(titles, rows, 4)


def likelihoods(cell: dict[str, Any]) -> list[str]:
    """Mean, worst and best of the fitted rows and the mean of the held-out ones, in nats per row."""
    if not cell["seconds"]:
        return ["-"] * 4
    values = [np.mean(cell["fitted"]), min(cell["fitted"]), max(cell["fitted"]), np.mean(cell["held_out"])]
    seeds = f" ({len(cell['fitted'])})" if len(cell["fitted"]) < 10 else ""
    return [f"{values[0]:.3f}{seeds}", *(f"{value:.3f}" for value in values[1:])]


def summary(report: Report) -> str:
    """Counts over all sets, losses included."""
    pairs = [(row, row["contenders"]["fastgmm"], row["contenders"].get("scikit-learn")) for row in report["real"]]
    pairs = [(row, own, peer) for row, own, peer in pairs if own["seconds"] and peer and peer["seconds"]]
    lines = []
    for what, text in (("mean", "mean"), ("worst", "worst"), ("held out", "mean held-out")):
        names = [label(row) for row, own, peer in pairs if what in lost(own, peer)]
        lines.append(
            f"- {text} log-likelihood below scikit-learn's by more than {LOWER:g} nats per row: {listed(names)}"
        )
    ratios = [(float(np.median(peer["seconds"]) / np.median(own["seconds"])), label(row)) for row, own, peer in pairs]
    if ratios:
        mean = np.exp(np.mean([np.log(ratio) for ratio, _ in ratios]))
        low, high = min(ratios), max(ratios)
        spread = f"{times(low[0], 1.0)} ({low[1]}) to {times(high[0], 1.0)} ({high[1]})"
        lines.append(f"- scikit-learn's time / fastgmm's: {times(mean, 1.0)} in the geometric mean, {spread}.")
        lines.append(f"- slower than scikit-learn: {listed([name for ratio, name in ratios if ratio < 1])}")
    return "\n".join(lines)


def listed(names: list[str]) -> str:
    return f"{len(names)} ({'; '.join(names)})" if names else "none"


def label(row: dict[str, Any]) -> str:
    return f"{row['set']}, k {row['n_components']}, {row['covariance_type']}"


def short_table(report: Report) -> str:
    """The README's: times as ratios, likelihoods as differences from scikit-learn's in nats per row."""
    rivals = rivals_of(report)
    titles = [*TITLES, *(f"{report['contenders'][name]['title']} / fastgmm" for name in rivals)]
    titles += ["likelihood, mean", "worst", "best", "held out"]
    rows = []
    for row in report["real"]:
        own, peer = row["contenders"]["fastgmm"], row["contenders"].get("scikit-learn", {"seconds": []})
        if not own["seconds"] or not peer["seconds"]:
            continue
        cells = names_of(row) + times_of(row, rivals)
        seeds = min(len(own["fitted"]), len(peer["fitted"]))
        mine, theirs = (np.array([cell["fitted"][:seeds], cell["held_out"][:seeds]]) for cell in (own, peer))
        values = [numbers(kept) for numbers in (np.mean, np.min, np.max) for kept in (mine[0], theirs[0])]
        values += [mine[1].mean(), theirs[1].mean()]
        rows.append([*cells, *(f"{own - other:+.3f}" for own, other in zip(values[::2], values[1::2], strict=True))])
    return markdown(titles, rows, 4)


def show(arguments: argparse.Namespace) -> int:
    """Print the tables, or write the short or the long one into a file, and draw the figure."""
    report = json.loads(arguments.show.read_text())
    if arguments.figure:
        plot_real(report, arguments.figure)
    for path, option, table in ((arguments.readme, "readme", short_table), (arguments.details, "details", real_table)):
        if path:
            command = f"python -m benchmarks real --show {arguments.show.as_posix()} --{option} {path.as_posix()}"
            text = "\n\n".join([table(report), summary(report), provenance(report)])
            replace_block(path, command, text, "real rows")
    if not arguments.readme and not arguments.details:
        print("\n\n".join([short_table(report), real_table(report), summary(report), provenance(report)]))
    return 0


def plot_real(report: Report, path: Path) -> None:
    """Likelihood against time: each contender's median time and mean likelihood per set, beside scikit-learn's."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.4), dpi=110, layout="constrained")
    for name, colour in COLOURS.items():
        points = []
        for row in report["real"]:
            cell, peer = row["contenders"].get(name), row["contenders"].get("scikit-learn")
            if name != "scikit-learn" and cell and cell["seconds"] and peer and peer["seconds"]:
                time = np.median(cell["seconds"]) / np.median(peer["seconds"])
                seeds = min(len(cell["fitted"]), len(peer["fitted"]))
                points.append((time, np.mean(cell["fitted"][:seeds]) - np.mean(peer["fitted"][:seeds])))
        if points:
            title = report["contenders"][name]["title"]
            axes.plot(*zip(*points, strict=True), "o", color=colour, alpha=0.8, markersize=5, label=title)
    axes.axvline(1, color=COLOURS["scikit-learn"], linewidth=1)
    axes.axhline(0, color=COLOURS["scikit-learn"], linewidth=1)
    axes.plot(1, 0, "s", color=COLOURS["scikit-learn"], label="scikit-learn")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_xlabel("time / scikit-learn's")
    axes.set_ylabel("mean log-likelihood - scikit-learn's, nats per row")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)
