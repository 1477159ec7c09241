"""How sure a mixture is of the component of each row."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..model.parameters import Array
from ._canvas import NEUTRAL, Display, component_colours, rgb, shown
from ._marginal import check_mixture, check_most, resolve_features, rows_to_show, scored

MAX_POINTS = {"bars": 1_000, "points": 5_000}
UNSURE = 0.9  # rows whose largest responsibility is less


class ResponsibilitiesDisplay(Display):
    """The responsibilities of the components for rows: as bars side by side, or in the colours of points.

    Parameters
    ----------
    responsibilities : array-like of shape (n_rows, n_components)
        What they lack to 1 is the noise's.
    X : array-like of shape (n_rows, 2) or None, default=None
        Two features of the rows, for `kind='points'`.
    n_samples : int or None, default=None
        How many rows these were drawn from.
    feature_names : sequence of two str, default=('feature 0', 'feature 1')

    Attributes
    ----------
    responsibilities, X, n_samples, feature_names : as given
    noise : ndarray of shape (n_rows,)
    labels : ndarray of shape (n_rows,)
        The likeliest component, -1 where the noise is.
    entropy : ndarray of shape (n_rows,)
        Of the responsibilities, noise included, in nats.
    order : ndarray of int, shape (n_rows,)
        As the bars show the rows: by label, noise last; the surest in the middle, those that might be of a component
        to the left (right) left (right) of them.
    ax_, figure_, note_ : as in every display
    bars_ : list of matplotlib PolyCollection, one per component and one for noise, or empty
    points_ : matplotlib PathCollection or None

    Examples
    --------
    >>> from fastgmm.plot import ResponsibilitiesDisplay
    >>> display = ResponsibilitiesDisplay([[0.4, 0.6], [0.9, 0.1], [0.2, 0.8]])
    >>> display.order.tolist(), display.entropy.round(2).tolist()
    ([1, 0, 2], [0.67, 0.33, 0.5])
    """

    _kinds = ("bars", "points")
    bars_: list[Any]
    points_: Any

    def __init__(
        self,
        responsibilities: ArrayLike,
        *,
        X: ArrayLike | None = None,
        n_samples: int | None = None,
        feature_names: Sequence[str] = ("feature 0", "feature 1"),
    ) -> None:
        resp = np.asarray(responsibilities, np.float64)
        if resp.ndim != 2 or not resp.size:
            raise ValueError(f"responsibilities must have shape (n_rows, n_components). Got {resp.shape}.")
        if not (np.all(resp >= 0) and np.all(resp.sum(axis=1) <= 1 + 1e-4)):
            raise ValueError("responsibilities must be at least 0 and sum to at most 1 in each row.")
        self.responsibilities = resp
        self.X = None if X is None else np.asarray(X)
        if self.X is not None and self.X.shape != (len(resp), 2):
            raise ValueError(f"X must have shape {(len(resp), 2)}: two features of each row. Got {self.X.shape}.")
        self.n_samples = len(resp) if n_samples is None else n_samples
        self.feature_names = list(feature_names)
        noise = 1 - resp.sum(axis=1)
        self.noise = np.where(noise > 1e-6, noise, 0.0)
        shares = np.column_stack([resp, self.noise])
        label = shares.argmax(axis=1)
        self.labels = np.where(label < resp.shape[1], label, -1)
        self.entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=1)
        runner_up = np.argsort(shares, axis=1)[:, -2]
        side = np.where(runner_up > label, 1, -1)
        self.order = np.lexsort((-side * shares.max(axis=1), side, label))

    @classmethod
    def from_estimator(
        cls,
        mixture: Any,
        X: Any,
        *,
        kind: str = "bars",
        features: Any = None,
        max_points: int | None = None,
        feature_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the responsibilities of a fitted mixture for rows.

        Parameters
        ----------
        mixture : GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers or StandardisedMixture
        X : array-like of shape (n_samples, n_features)
        kind : {'bars', 'points'}, default='bars'
            'bars': a thin bar per row, divided as its responsibilities are, rows by label, the surest in the middle.
            Clear-cut components are blocks of one colour; a slope shows how many rows they share, and with which.
            'points': rows in two features, their colour mixed from those of the components by responsibility; the
            less sure, the larger.
        features : sequence of two int or str, default=None
            'points': columns or their names; None: the first two.
        max_points : int or None, default=None
            Rows drawn, even at random but always the same; None: 1,000 bars or 5,000 points.
        feature_names : sequence of two str or None, default=None
            'points': labels of the axes.
        ax : matplotlib Axes or None, default=None
        **kwargs
            Of `Axes.stackplot` or `Axes.scatter`.
        """
        cls._check_kind(kind)
        most = check_most(max_points, MAX_POINTS[kind])
        check_mixture(mixture)
        columns, names = None, ["feature 0", "feature 1"]
        if kind == "points":
            columns, names = resolve_features(mixture, features)
            if len(columns) != 2:
                raise ValueError(f"kind='points' needs two features. Got {len(columns)}; kind='bars' needs none.")
        rows, n_samples = rows_to_show(mixture, X, most)
        display = cls(
            scored(mixture, rows, "resp"),
            X=None if columns is None else rows[:, columns],
            n_samples=n_samples,
            feature_names=names if feature_names is None else feature_names,
        )
        return display.plot(ax, kind=kind, **kwargs)

    def plot(self, ax: Any = None, *, kind: str = "bars", **kwargs: Any) -> Self:
        """Draw; parameters as in `from_estimator`."""
        self._check_kind(kind)
        if kind == "points" and self.X is None:
            raise ValueError("kind='points' needs two features of the rows: pass X.")
        ax = self._begin(ax, (4.8, 2.6) if kind == "bars" else (4.8, 3.8))
        self.bars_, self.points_ = [], None
        colours = np.vstack([component_colours(self.responsibilities.shape[1]), rgb(NEUTRAL)])
        shares = np.column_stack([self.responsibilities, self.noise])
        if kind == "bars":
            self._plot_bars(ax, shares[self.order], colours, kwargs)
        else:
            self._plot_points(ax, np.clip(shares @ colours, 0, 1), colours, kwargs)
        unsure = float(np.mean(shares.max(axis=1) < UNSURE))
        note = f"{100 * unsure:.2g} % of them less than {100 * UNSURE:g} % sure"
        self.note_ = self._note([f"{shown(len(shares), self.n_samples)}, {note}"])
        return self

    def _plot_bars(self, ax: Any, shares: Array, colours: Array, kwargs: dict[str, Any]) -> None:
        n = len(shares)
        edges = np.repeat(np.arange(n + 1), 2)[1:-1]  # a step per row
        style = {"colors": colours, "linewidth": 0, "rasterized": True}
        self.bars_ = ax.stackplot(edges, np.repeat(shares, 2, axis=0).T, **(style | kwargs))
        labels = self.labels[self.order]
        starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
        ends = np.append(starts[1:], n)
        names = ["noise" if labels[i] < 0 else str(labels[i]) for i in starts]
        wide = (ends - starts) >= 0.045 * n  # enough for a number below
        ax.set_xticks(((starts + ends) / 2)[wide], [name for name, is_wide in zip(names, wide, strict=True) if is_wide])
        ax.tick_params(axis="x", length=0)
        for start in starts[1:]:
            ax.axvline(start, color="white", linewidth=0.8)
        ax.set(xlim=(0, n), ylim=(0, 1), xlabel="rows, by their likeliest component", ylabel="responsibility")

    def _plot_points(self, ax: Any, mixed: Array, colours: Array, kwargs: dict[str, Any]) -> None:
        from matplotlib.lines import Line2D

        assert self.X is not None
        unsure = self.entropy / np.log(max(2, self.responsibilities.shape[1]))
        small = float(np.clip(6000 / len(self.X), 4, 12))
        order = np.argsort(self.entropy)  # the unsure on top
        style: dict[str, Any] = {"c": mixed[order], "s": (small * (1 + 3 * unsure))[order], "alpha": 0.8}
        style |= {"linewidths": 0, "rasterized": True}
        self.points_ = ax.scatter(*self.X[order].T, **(style | kwargs))
        present = np.unique(self.labels)
        present = np.append(present[present >= 0], present[present < 0])
        if len(present) <= 12:
            dots = [Line2D([], [], linestyle="", marker="o", markersize=5, color=colours[k]) for k in present]
            names = ["noise" if k < 0 else str(k) for k in present]
            place = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if self._own_figure else {"loc": "best"}
            ax.legend(dots, names, fontsize="small", framealpha=0.8, edgecolor="none", handletextpad=0.1, **place)
        ax.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1])
