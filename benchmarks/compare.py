"""Is a new report slower than an old one? Ratios of fastgmm's medians, normalised by the speed of the machine.

A cell is slower (or faster) where its ratio leaves the noise band: the middle halves of both runs' rounds, added in
quadrature, and at least SMALLEST_BAND, the drift between two runs on one machine that rounds within a run do not see.
"""

from __future__ import annotations

import math
from typing import Any

from benchmarks.cases import KINDS

SMALLEST_BAND = 0.05
BAND_OF_FEW_ROUNDS = 0.30  # fewer than three rounds tell nothing about their noise


def cells(report: dict[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Row and cell of everything of fastgmm that was timed, by a label."""
    timed = {}
    for kind in KINDS:
        for row in report.get(kind, []):
            for name, cell in row["contenders"].items():
                if name.startswith("fastgmm") and "seconds" in cell:
                    timed[" ".join(filter(None, (kind, row["case"], row.get("method"), name)))] = (row, cell)
    return timed


def relative_spread(seconds: dict[str, float]) -> float:
    """Half the distance between the quartiles, relative to the median."""
    if seconds["rounds"] < 3:
        return BAND_OF_FEW_ROUNDS
    return (seconds["q3"] - seconds["q1"]) / (2 * seconds["median"])


def machine_ratio(
    old_row: dict[str, Any], new_row: dict[str, Any], old: dict[str, Any], new: dict[str, Any], normalise: str
) -> tuple[float, float]:
    """How many times longer the new run's machine took for the same work, and the noise of that number.

    `numpy` falls back to the peak where a cell has no NumPy reference.
    """
    if normalise == "none":
        return 1.0, 0.0
    references = [row["contenders"].get("numpy", {}).get("seconds") for row in (old_row, new_row)]
    if normalise == "numpy" and None not in references:
        return references[1]["median"] / references[0]["median"], math.hypot(*map(relative_spread, references))
    peaks = [report["peaks"]["fma_gflops"][old_row["dtype"]] for report in (old, new)]
    return peaks[0] / peaks[1], 0.0


def compare_reports(old: dict[str, Any], new: dict[str, Any], normalise: str = "peak") -> int:
    """Print a line per cell that both reports have; 1 if any is slower beyond its band, 2 if none is shared."""
    for key in ("machine", "n_threads"):
        if old[key] != new[key]:
            print(f"not the same {key}: {old[key]!r} and {new[key]!r}")
    old_cells, new_cells = cells(old), cells(new)
    verdicts = []
    for label in (label for label in old_cells if label in new_cells):
        (old_row, old_cell), (new_row, new_cell) = old_cells[label], new_cells[label]
        before, after = old_cell["seconds"], new_cell["seconds"]
        machine, machine_noise = machine_ratio(old_row, new_row, old, new, normalise)
        ratio = after["median"] / before["median"] / machine
        band = max(SMALLEST_BAND, math.hypot(relative_spread(before), relative_spread(after), machine_noise))
        verdict = "slower" if ratio > 1 + band else "faster" if ratio < 1 / (1 + band) else "same"
        verdicts.append(verdict)
        times = f"{1e3 * before['median']:10.3f} -> {1e3 * after['median']:10.3f} ms"
        print(f"{label:70} {times}  ratio {ratio:5.2f}  band {band:4.0%}  {verdict}")
    only = len(old_cells.keys() ^ new_cells.keys())
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("slower", "faster", "same"))
    print(f"{counts}; {only} cells in one report only")
    if not verdicts:
        return 2
    return 1 if "slower" in verdicts else 0
