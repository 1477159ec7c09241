"""The objective of a fit against its iterations."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ._canvas import INK, PALETTE, Display
from ._marginal import check_mixture

FALL = "v"
ENDS = {
    "converged": "converged",
    "max_iter": "stopped by max_iter, not converged",
    "decreased": "stopped as the bound fell",
    "callback": "stopped by the callback",
    "passes": "all passes done",
}


class ConvergenceDisplay(Display):
    """The lower bound of a fit against its iterations.

    Parameters
    ----------
    lower_bounds : array-like of shape (n_iter,)
    objective : str, default='log-likelihood per row'
    stop_reason : str or None, default=None
    restarts : sequence of int, default=()
        Components that were re-seeded. At which iteration is not recorded, but there the bound falls, which is marked.

    Attributes
    ----------
    lower_bounds : ndarray of shape (n_iter,)
    iterations : ndarray of shape (n_iter,), from 1
    gaps : ndarray of shape (n_iter,)
        What the last bound is above each.
    falls : ndarray of int
        Indices of bounds that are lower than the one before by more than rounding.
    ax_, figure_ : as in every display
    line_ : matplotlib Line2D
    falls_ : matplotlib Line2D or None

    Examples
    --------
    >>> from fastgmm.plot import ConvergenceDisplay
    >>> display = ConvergenceDisplay([-3.0, -2.0, -1.5]).plot(kind="gap")
    >>> display.line_.get_ydata().tolist()
    [1.5, 0.5]
    """

    _kinds = ("value", "gap")
    line_: Any
    falls_: Any

    def __init__(
        self,
        lower_bounds: ArrayLike,
        *,
        objective: str = "log-likelihood per row",
        stop_reason: str | None = None,
        restarts: Sequence[int] = (),
    ) -> None:
        self.lower_bounds = np.asarray(lower_bounds, np.float64)
        if self.lower_bounds.ndim != 1 or not len(self.lower_bounds):
            raise ValueError(f"lower_bounds must be a sequence of numbers. Got shape {self.lower_bounds.shape}.")
        self.objective = objective
        self.stop_reason = stop_reason
        self.restarts = list(restarts)
        self.iterations = np.arange(1, len(self.lower_bounds) + 1)
        self.gaps = self.lower_bounds[-1] - self.lower_bounds
        rounding = 1e-9 * np.abs(self.lower_bounds).max()
        self.falls = 1 + np.flatnonzero(np.diff(self.lower_bounds) < -rounding)

    @classmethod
    def from_estimator(cls, mixture: Any, *, kind: str = "value", ax: Any = None, **line_kwargs: Any) -> Self:
        """Draw the history of the best start of a fit.

        Parameters
        ----------
        mixture : GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers or StandardisedMixture
            Of the last in the units of the rows, but for the evidence of a Bayesian mixture: that is of standardised
            ones.
        kind : {'value', 'gap'}, default='value'
            The bound, or on a logarithmic axis what it lacks to the last one: a straight line where EM converges
            geometrically. The last iterations dive, as their own limit is not the one that they are compared with.
        ax : matplotlib Axes or None, default=None
        **line_kwargs
            Of `Axes.plot`; several fits on the same `ax` are told apart by `label`.
        """
        cls._check_kind(kind)
        check_mixture(mixture)
        fitted = getattr(mixture, "mixture", mixture)  # of a StandardisedMixture, which keeps no history itself
        is_standardised = fitted is not mixture
        lower_bounds = np.asarray(getattr(fitted, "lower_bounds_", ()), np.float64)
        if not len(lower_bounds):
            name = type(mixture).__name__
            raise ValueError(
                f"this {name} has no history of iterations: it was made from parameters, fitted with max_iter=0, or "
                "loaded from a file without one. Call 'fit' to record one."
            )
        objective, shift = fitted._objective(), 0.0
        if fitted._bound_is_per_row:
            objective += " per row"
            shift = mixture.standardisation.row_log_abs_det if is_standardised else 0.0
        elif is_standardised:
            objective = f"standardised {objective}"
        restarts = fitted.diagnostics_.restarts if hasattr(fitted, "diagnostics_") else ()
        reason = fitted.stop_reason_
        display = cls(lower_bounds + shift, objective=objective, stop_reason=reason, restarts=restarts)
        return display.plot(ax, kind=kind, **line_kwargs)

    def plot(self, ax: Any = None, *, kind: str = "value", **line_kwargs: Any) -> Self:
        """Draw; parameters as in `from_estimator`."""
        self._check_kind(kind)
        ax = self._begin(ax, (4.8, 3.2))
        values = self.lower_bounds if kind == "value" else self.gaps
        drawn = np.ones(len(values), bool) if kind == "value" else values > 0
        few = drawn.sum() <= 40
        style: dict[str, Any] = {"linewidth": 1.5, "marker": "o" if few else None, "markersize": 3.5}
        earlier = sum(line.get_marker() != FALL for line in ax.lines)
        style["color"] = PALETTE[earlier % len(PALETTE)]
        (self.line_,) = ax.plot(self.iterations[drawn], values[drawn], **(style | line_kwargs))
        self._mark_falls(ax, values, drawn)
        ax.set_xlabel("iteration")
        if kind == "gap":
            ax.set_yscale("log")
            ax.set_ylabel("gap to the last value (nats)")
        else:
            ax.set_ylabel(f"{self.objective} (nats)")
            ax.ticklabel_format(axis="y", useOffset=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
        if "label" in line_kwargs or self.falls_ is not None:
            ax.legend(frameon=False, fontsize="small")
        if "label" not in line_kwargs:
            n_iter = len(self.lower_bounds)
            end = f"{n_iter} iteration{'s' if n_iter > 1 else ''}"
            if self.stop_reason is not None:
                end += f", {ENDS.get(self.stop_reason, self.stop_reason)}"
            seeds = ", ".join(map(str, self.restarts))
            of = self.objective if kind == "gap" else ""
            self.note_ = self._note([of, end, seeds and f"re-seeded components: {seeds}"])
        return self

    def _mark_falls(self, ax: Any, values: Any, drawn: Any) -> None:
        self.falls_ = None
        falls = self.falls[drawn[self.falls]]
        if len(falls):
            named = any(line.get_marker() == FALL for line in ax.lines)
            style = {"linestyle": "", "marker": FALL, "markersize": 5, "color": "white", "markeredgecolor": INK}
            label = "_fell" if named else "bound fell"
            (self.falls_,) = ax.plot(self.iterations[falls], values[falls], label=label, **style)
