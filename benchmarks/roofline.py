"""What an EM iteration needs and what the machine could do: useful flops, exponentials, bytes, and the roofline.

Counts per row and component, a multiply-add being two flops, exploiting symmetry (half of x x^T, half of a precision):

- full: D^2 + 3D for the scores and as many for the statistics; scikit-learn executes about 4D^2
- tied: 2D + 4 and 2D + 2, and D^2 + D per row to whiten it; the scatter matrix is summed once per fit
- diag: 4D + 2 and 4D + 2; spherical: 2D + 4 and 2D + 4

One exponential per row and component and one logarithm per row are counted apart, not as flops. A fused iteration
reads each row once and writes nothing. The roofline of a cell is min(FMA peak, flops per byte x read bandwidth).
"""

from __future__ import annotations

from typing import Any

import numpy as np


def useful_flops(n_features: int, n_components: int, covariance_type: str) -> float:
    """Flops that one EM iteration needs per row and component."""
    d = n_features
    e_and_m = {
        "full": 2 * (d * d + 3 * d),
        "tied": (2 * d + 4) + (2 * d + 2),
        "diag": 2 * (4 * d + 2),
        "spherical": 2 * (2 * d + 4),
    }[covariance_type]
    per_row = d * d + d if covariance_type == "tied" else 0
    return e_and_m + per_row / n_components


def roofline(row: dict[str, Any], seconds: float, peaks: dict[str, Any]) -> dict[str, float]:
    """Rates of one iteration of a case that takes `seconds`, and shares of what `peaks` allows.

    gflops: useful GF/s; gexps: 1e9 exponentials/s; flops_per_byte: of rows read once; limit_gflops: the roofline;
    share_of_peak and share_of_limit: fractions.
    """
    flops_per_row = row["n_components"] * useful_flops(row["n_features"], row["n_components"], row["covariance_type"])
    bytes_per_row = row["n_features"] * np.dtype(row["dtype"]).itemsize
    peak = peaks["fma_gflops"][row["dtype"]]
    intensity = flops_per_row / bytes_per_row
    limit = min(peak, intensity * peaks["read_gb_per_s"])
    gflops = row["n_samples"] * flops_per_row / seconds / 1e9
    return {
        "flops_per_row": flops_per_row,
        "exps_per_row": row["n_components"],
        "bytes_per_row": bytes_per_row,
        "gflops": gflops,
        "gexps": row["n_samples"] * row["n_components"] / seconds / 1e9,
        "flops_per_byte": intensity,
        "limit_gflops": limit,
        "share_of_peak": gflops / peak,
        "share_of_limit": gflops / limit,
    }
