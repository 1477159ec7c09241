"""Two plots of reports: time per iteration against rows, and share of the FMA peak against features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.roofline import roofline
from benchmarks.scaling import sweeps

# Okabe and Ito's colours, which colour-blind readers tell apart; the markers differ too.
COLOURS = {"full": "#0072B2", "tied": "#D55E00", "diag": "#009E73", "spherical": "#CC79A7"}
MARKERS = {"full": "o", "tied": "s", "diag": "^", "spherical": "D"}
LINES = {"fastgmm": "-", "numpy": "--", "scikit-learn": ":"}
FONT_SIZE = 9
Report = dict[str, Any]
Row = dict[str, Any]


def write_plots(reports: list[Report], folder: Path) -> list[Path]:
    """Write those plots that the reports have the rows for; return their paths."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"benchmark_rows.png": plot_rows, "benchmark_features.png": plot_features}
    return [folder / name for name, plot in plots.items() if plot(reports, folder / name)]


def plot_rows(reports: list[Report], path: Path) -> bool:
    """Seconds per EM iteration against rows: full and diag covariances, three contenders."""
    figure, axes = _figure()
    ends = []
    for covariance_type in ("full", "diag"):
        report, rows = longest_row_sweep(reports, covariance_type)
        for name, line in LINES.items():
            timed = [row for row in rows if "seconds" in row["contenders"].get(name, {})]
            if not timed:
                continue
            sizes = [row["n_samples"] for row in timed]
            seconds = [row["contenders"][name]["seconds"]["median"] for row in timed]
            style = {"color": COLOURS[covariance_type], "marker": MARKERS[covariance_type]}
            axes.loglog(sizes, seconds, line, markersize=4, linewidth=1.6, **style)
            title = report["contenders"].get(name, {"title": name})["title"]
            ends.append((sizes[-1], seconds[-1], f"{title}, {covariance_type}", style["color"]))
            shape = f"{rows[0]['n_features']} features, {rows[0]['n_components']} components, {rows[0]['dtype']}"
            axes.set_title(f"{shape}, {report['n_threads']} threads", loc="left", fontsize=FONT_SIZE + 1)
    axes.set_xlabel("rows")
    axes.set_ylabel("time per EM iteration (s)")
    return _finish(figure, axes, ends, path)


def plot_features(reports: list[Report], path: Path) -> bool:
    """Share of the FMA peak against features, fastgmm, a line per covariance type."""
    figure, axes = _figure()
    axes.set_xscale("log", base=2)
    ends = []
    for covariance_type, colour in COLOURS.items():
        report, rows = longest_feature_sweep(reports, covariance_type)
        if not rows:
            continue
        features = [row["n_features"] for row in rows]
        seconds = [row["contenders"]["fastgmm"]["seconds"]["median"] for row in rows]
        shares = [100 * roofline(*pair, report["peaks"])["share_of_peak"] for pair in zip(rows, seconds, strict=True)]
        axes.plot(features, shares, color=colour, marker=MARKERS[covariance_type], markersize=4.5, linewidth=1.6)
        ends.append((features[-1], shares[-1], covariance_type, colour))
        axes.set_xticks(features, [str(number) for number in features])
        title = f"fastgmm, {rows[0]['n_components']} components, {rows[0]['dtype']}, {report['n_threads']} threads"
        axes.set_title(f"{title}; exponentials are not counted", loc="left", fontsize=FONT_SIZE + 1)
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_xlabel("features")
    axes.set_ylabel("useful flops, share of the FMA peak (%)")
    return _finish(figure, axes, ends, path)


def longest_row_sweep(reports: list[Report], covariance_type: str) -> tuple[Report, list[Row]]:
    """The float64 sweep over rows with the most sizes; of iterations rather than scaling, which has fastgmm alone."""
    found: tuple[Report, list[Row]] = (reports[0], [])
    for kind in ("iteration", "scaling"):
        for report in reports:
            for rows in sweeps(report.get(kind, []), "n_samples"):
                matches = rows[0]["covariance_type"] == covariance_type and rows[0]["dtype"] == "float64"
                if matches and len(rows) > len(found[1]):
                    found = (report, rows)
        if found[1]:
            break
    return found


def longest_feature_sweep(reports: list[Report], covariance_type: str) -> tuple[Report, list[Row]]:
    """The float64 rows, timed for fastgmm, of the number of components that has the most feature counts."""
    found: tuple[Report, list[Row]] = (reports[0], [])
    for report in reports:
        groups: dict[int, dict[int, Row]] = {}
        for row in report.get("iteration", []):
            timed = "seconds" in row["contenders"].get("fastgmm", {})
            if timed and (row["covariance_type"], row["dtype"]) == (covariance_type, "float64"):
                group = groups.setdefault(row["n_components"], {})
                d = row["n_features"]
                group[d] = max(row, group.get(d, row), key=lambda row: row["n_samples"])
        for group in groups.values():
            if len(group) >= 3 and len(group) > len(found[1]):
                found = (report, [group[d] for d in sorted(group)])
    return found


def _figure() -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.4), dpi=110, layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _finish(figure: Any, axes: Any, ends: list[tuple[float, float, str, str]], path: Path) -> bool:
    """Name each line behind its last point, names pushed apart where they would overlap, and save; False if empty."""
    from matplotlib import pyplot

    if ends:
        figure.canvas.draw()
        points_per_pixel = 72 / figure.dpi
        previous = -float("inf")
        for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
            height = axes.transData.transform((x, y))[1] * points_per_pixel
            previous = max(height, previous + 1.2 * FONT_SIZE)
            offset = (7, previous - height)
            style = {"color": colour, "fontsize": FONT_SIZE, "va": "center"}
            axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", **style)
        figure.savefig(path)
    pyplot.close(figure)
    return bool(ends)
