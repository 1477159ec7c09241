"""What is worth knowing of a fit besides its parameters."""

from dataclasses import dataclass

import numpy as np

from ..model.covariance import EPS, covariances_of
from ..model.maximisation import REGULARISED, Maximiser
from ..model.parameters import Array
from .em import EMResult

ILL_CONDITIONED = 1e10


@dataclass(frozen=True)
class FitDiagnostics:
    """How healthy the components of a fit are, and how much it might still gain.

    Attributes
    ----------
    effective_sizes : ndarray of shape (n_components,)
        Weight of each component times the weight of all rows.
    condition_numbers : ndarray of shape (n_components,), (1,) for a tied covariance
        Largest over smallest eigenvalue of the covariances, columns in units of their standard deviation.
    boundary : dict of int to list of str
        Components at the edge of what can be estimated, and why: 'empty', 'fewer rows than parameters',
        'covariance at its floor', 'ill-conditioned'. A tied covariance is component -1.
    restarts : list of int
        Components re-seeded during the fit (`on_singular='restart'`), in order.
    remaining_gain : float
        Aitken's estimate of what the objective per row would still gain, in nats, from its last three values; NaN where
        they do not shrink geometrically.
    """

    effective_sizes: Array
    condition_numbers: Array
    boundary: dict[int, list[str]]
    restarts: list[int]
    remaining_gain: float


def diagnose(result: EMResult, maximise: Maximiser, total_weight: float) -> FitDiagnostics:
    """Diagnose the result of a fit to rows of this weight."""
    parameters, structure = result.parameters, maximise.structure
    n_features = parameters.means.shape[1]
    unit = np.where(maximise.column_variance > 0, maximise.column_variance, 1.0)
    lowest, highest = structure.eigenvalue_range(covariances_of(parameters), unit)
    conditions = np.divide(highest, lowest, out=np.full_like(highest, np.inf), where=lowest > 0)
    with np.errstate(over="ignore"):  # of weights beyond the range of numbers
        sizes = parameters.weights * total_weight
    floors = [maximise.floor, REGULARISED if maximise.regularises else 0.0]
    at_floor = np.any([np.abs(lowest - floor) <= 1e-6 * floor for floor in floors if floor > 0], axis=0)
    # A shared covariance has the rows of all components; an own one needs as many as it has numbers per column.
    rows = 1.0 if structure.pools_components else structure.n_covariance_parameters(1, n_features) / n_features + 1
    boundary: dict[int, list[str]] = {}
    for reason, flags, of_covariance in (
        ("empty", parameters.weights < EPS, False),
        ("fewer rows than parameters", (parameters.weights >= EPS) & (sizes < rows), False),
        ("covariance at its floor", np.broadcast_to(at_floor, lowest.shape), True),
        ("ill-conditioned", ~(conditions < ILL_CONDITIONED), True),
    ):
        for k in np.flatnonzero(flags):
            boundary.setdefault(-1 if of_covariance and structure.pools_components else int(k), []).append(reason)
    return FitDiagnostics(sizes, conditions, boundary, list(result.restarts), _aitken(result.lower_bounds))


def _aitken(lower_bounds: list[float]) -> float:
    """Remaining gain of a geometrically converging sequence (Aitken, 1926), in its own units."""
    if len(lower_bounds) < 3:
        return float("nan")
    before, last = np.diff(lower_bounds[-3:])
    if not 0 < last < before:
        return 0.0 if last == 0 else float("nan")
    ratio = last / before
    return float(last * ratio / (1 - ratio))
