"""What a fit warns about: columns beforehand, the outcome afterwards. Columns are named."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import (
    ConstantColumnWarning,
    EmptyComponentWarning,
    RegularizationWarning,
    SingularCovarianceError,
    warn,
)
from ..model.covariance import EPS
from ..optimization.em import EMResult
from ..rows.summary import ColumnSummary
from ..validation import column_name
from .sklearn_base import ConvergenceWarning

Names = NDArray[Any] | None

REG_COVAR_SHARE = 1e-2  # of a column's variance
LARGEST = 1e150  # squares of larger spreads, and inverses of smaller ones, leave the float64 range
SMALLEST = 1e-150
MOST_NAMED = 20  # of constant columns, of which images have hundreds


def check_columns(columns: ColumnSummary, names: Names) -> None:
    """Raise ValueError for a column whose spread has no square or inverse square in float64."""
    spread = columns.maximum - columns.minimum
    for d in np.flatnonzero((spread > 0) & ((spread < SMALLEST) | (spread > LARGEST) | ~np.isfinite(spread))):
        raise ValueError(
            f"Column {column_name(int(d), names)} spreads over {spread[d]:.3g}, whose square leaves the floating-point "
            "range, so that variances overflow or underflow. Rescale the data, for instance to unit variance."
        )


def check_observed(columns: ColumnSummary, names: Names) -> None:
    """Raise ValueError for a column all of whose values are missing, and for rows of which nothing is known."""
    empty = np.isinf(columns.minimum)
    if empty.all():
        raise ValueError("Every row misses all its values, so that there is nothing to fit.")
    if empty.any():
        name = column_name(int(np.argmax(empty)), names)
        raise ValueError(f"Column {name} has no values: all are missing. Drop it.")


def warn_about_constant_columns(columns: ColumnSummary, variance: str, names: Names) -> None:
    """Warn of constant columns, naming what the fit takes for their variance."""
    constant = [column_name(int(d), names) for d in np.flatnonzero(columns.constant)]
    if constant:
        more = f" and {len(constant) - MOST_NAMED} more" if len(constant) > MOST_NAMED else ""
        warn(
            f"X has no variance along column {', column '.join(constant[:MOST_NAMED])}{more}: its fitted variance is "
            f"{variance}, and it tells the components nothing. Drop it.",
            ConstantColumnWarning,
        )


def warn_about_columns(columns: ColumnSummary, reg_covar: float, names: Names, relative: bool = False) -> None:
    """Warn of constant columns, and of a reg_covar that is not small against a column's variance.

    A `relative` one is a share of each column's variance (of 1 for a constant column).
    """
    if reg_covar == 0:
        return
    warn_about_constant_columns(columns, f"reg_covar = {reg_covar:g}", names)
    share = np.full(len(columns.variance), 0.0)
    varying = ~columns.constant
    with np.errstate(divide="ignore"):
        share[varying] = reg_covar / columns.variance[varying]
    if share.max() > REG_COVAR_SHARE and not relative:
        worst = int(share.argmax())
        warn(
            f"reg_covar = {reg_covar:g} is {share[worst]:.3g} times the variance of column {column_name(worst, names)}"
            f" ({columns.variance[worst]:.3g}), so it changes the result. Rescale the data or lower reg_covar.",
            RegularizationWarning,
        )


def warn_about_labels(y: Any) -> None:
    """Warn of a y that looks like labels and is ignored."""
    if y is None:
        return
    labels = np.asarray(y)
    if labels.dtype.kind == "i" and labels.size and labels.min() == -1:
        warn(
            "y holds -1, as labels of which some are unknown do, but is ignored; set semi_supervised=True to use it.",
            UserWarning,
        )


def warn_about_result(result: EMResult, cause: str, objective: str, may_empty: bool) -> None:
    """Warn of a fit that did not converge, of an objective that fell, and of empty components.

    `cause` is the setting that may let the objective fall, with its value. With a prior on the weights, components are
    meant to empty.
    """
    empty = np.flatnonzero(result.parameters.weights < EPS)
    if len(empty) and not may_empty:
        warn(
            f"Components {empty.tolist()} are empty: no row belongs to them. Use fewer components.",
            EmptyComponentWarning,
        )
    if result.halted == "max_seconds":
        what = "a start that had not converged" if result.stop_reason == "max_seconds" else "the starts that were left"
        warn(
            f"The fit reached max_seconds and gave up {what}. Allow more time, or go on later with checkpoint and "
            "resume=True.",
            ConvergenceWarning,
        )
    if result.largest_fall > 0 and result.stop_reason != "converged":
        warn(
            f"The {objective} fell by up to {result.largest_fall:.3g} nats per row. EM with {cause} does not "
            f"maximise it: lower {cause.split()[0]} or rescale the data.",
            ConvergenceWarning,
        )
    elif not result.converged and result.stop_reason not in ("callback", "passes", "max_seconds"):
        warn(
            "Best performing initialization did not converge. Try different init parameters, or increase max_iter, "
            "tol, or check for degenerate data.",
            ConvergenceWarning,
        )


def name_column(error: SingularCovarianceError, names: Names, dtype: Any) -> SingularCovarianceError:
    """Add the column's name, and for float32 data the hint that float64 has more digits."""
    message = str(error)
    if names is not None:
        message = f"{message.rstrip('.')} ({names[error.column]!r})."
    if np.dtype(dtype) == np.float32:
        message += " The numerical accuracy can also be improved by passing float64 data instead of float32."
    return SingularCovarianceError(message, component=error.component, column=error.column)
