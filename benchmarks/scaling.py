"""Is the time of an iteration linear in the rows, and in the components? Sweeps along one axis of the cases."""

from __future__ import annotations

from typing import Any

import numpy as np

Row = dict[str, Any]
AXES = ("n_samples", "n_features", "n_components")
LIMITS = {"n_samples": 0.15, "n_components": 0.25}  # the promise: largest deviation from a straight line
WORDS = {"n_samples": "rows", "n_components": "components"}


def duration(seconds: float) -> str:
    """Three digits and a unit from ns to s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e9 * seconds:.3g} ns"


def sweeps(rows: list[Row], axis: str) -> list[list[Row]]:
    """Groups of at least three rows, by fastgmm timed or not, that differ along `axis` alone, sorted along it."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in (*AXES, "covariance_type", "dtype") if name != axis)
        groups.setdefault(key, []).append(row)
    return [sorted(group, key=lambda row: row[axis]) for group in groups.values() if len(group) >= 3]


def fit_line(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
    """(constant, slope, largest relative deviation) of seconds = constant + slope size, least squares of the ratios.

    The constant is what an iteration costs whatever its size, most of it Python; it is not negative.
    """
    scaled = np.stack([1 / seconds, sizes / seconds], axis=1)
    constant, slope = np.linalg.lstsq(scaled, np.ones(len(sizes)), rcond=None)[0]
    if constant < 0:
        constant, slope = 0.0, float((sizes / seconds).sum() / np.square(sizes / seconds).sum())
    deviation = float(np.max(np.abs(constant + slope * sizes - seconds) / seconds))
    return float(constant), float(slope), deviation


def describe_linearity(rows: list[Row], axis: str) -> str:
    """One sentence: the line, the largest deviation from it, and whether that is within the promise."""
    timed = [row for row in rows if "seconds" in row["contenders"].get("fastgmm", {})]
    if len(timed) < 3:
        return "Too few sizes were timed."
    sizes = np.array([row[axis] for row in timed], dtype=float)
    seconds = np.array([row["contenders"]["fastgmm"]["seconds"]["median"] for row in timed])
    constant, slope, deviation = fit_line(sizes, seconds)
    limit = LIMITS[axis]
    verdict = "within" if deviation <= limit else "NOT within"
    return (
        f"Time per iteration = {duration(constant)} + {duration(slope)} x {WORDS[axis]}; largest deviation "
        f"{deviation:.0%}, {verdict} the promised {limit:.0%}."
    )
