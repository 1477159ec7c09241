"""A mixture in one or two of its features: ellipses, density contours, or histogram and component densities."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.parameters import Array, UniformNoise
from ._canvas import BLUES, EDGE, INK, NEUTRAL, Display, component_colours, halo, legible, rgb, shown
from ._marginal import MarginalMixture, check_mixture, check_most, marginal, resolve_features, rows_to_show, scored

LEVELS = (0.5, 0.9, 0.99)
MAX_POINTS = (1_000_000, 5_000)  # of a histogram, and of a scatter plot
MOST_NUMBERS = 30  # components that are numbered in the plot
NUMBER = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": "small", "fontweight": "bold"}
MAX_BINS = 100
GRID = 160  # lines per side, besides those about the means
WIDEST = 4.0  # standard deviations that a curve is drawn over


class MixtureDisplay(Display):
    """The mixture of one or two features.

    Parameters
    ----------
    weights : array-like of shape (n_components,)
    means : array-like of shape (n_components, d)
        Of the features shown, d = 1 or 2.
    covariances : array-like of shape (n_components, d, d)
    X : array-like of shape (n_rows, d) or None, default=None
        Rows to show.
    labels : array-like of shape (n_rows,) or None, default=None
        Their components, -1 for noise.
    n_samples : int or None, default=None
        How many rows X was drawn from.
    noise : UniformNoise or None, default=None
    feature_names : sequence of str, default=('feature 0', 'feature 1')

    Attributes
    ----------
    mixture : MarginalMixture
        `density(points)` and `component_density(component, points)` are the curves and contours drawn.
    X, labels, n_samples, feature_names : as given
    histogram : (ndarray, ndarray) or None
        One dimension with X: densities of the bins, which integrate to 1, and the edges of the bins.
    ax_, figure_ : as in every display
    note_ : matplotlib Text
        Levels, rows shown, weight of the noise and components left out.
    points_ : matplotlib PathCollection or None
    ellipses_ : list of matplotlib Ellipse
        By component, then by level.
    contours_, shades_ : matplotlib QuadContourSet or None
    bars_ : matplotlib StepPatch or None, lines_ : list of matplotlib Line2D
        One dimension: the histogram; a line per component, then the noise if there is one, then the sum.

    References
    ----------
    R. J. Hyndman (1996), Computing and graphing highest density regions, The American Statistician 50(2).
    M. Okabe and K. Ito (2008), Color universal design.
    """

    _kinds = ("ellipses", "density")
    points_: Any
    contours_: Any
    shades_: Any
    bars_: Any
    ellipses_: list[Any]
    lines_: list[Any]

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        X: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        n_samples: int | None = None,
        noise: UniformNoise | None = None,
        feature_names: Sequence[str] = ("feature 0", "feature 1"),
    ) -> None:
        as_float = (np.asarray(array, np.float64) for array in (weights, means, covariances))
        self.mixture = MarginalMixture(next(as_float), next(as_float), next(as_float), noise)
        n_features = _dimensions(self.mixture)
        self.X = None if X is None else np.asarray(X)
        self.labels = None if labels is None else np.asarray(labels)
        if self.X is not None:
            if self.X.ndim != 2 or self.X.shape[1] != n_features:
                raise ValueError(f"X must have shape (n_rows, {n_features}), like means. Got {self.X.shape}.")
            observed = np.isfinite(self.X).all(axis=1)
            self.X = self.X[observed]
            self.labels = None if self.labels is None else self.labels[observed]
        self.n_samples = n_samples
        self.feature_names = list(feature_names)[:n_features]
        if len(self.feature_names) != n_features:
            raise ValueError(f"feature_names must be {n_features} names. Got {feature_names!r}.")
        self.histogram = None if self.X is None or n_features == 2 or not len(self.X) else _histogram(self.X[:, 0])

    @classmethod
    def from_estimator(
        cls,
        mixture: Any,
        X: Any = None,
        *,
        features: Any = None,
        kind: str = "ellipses",
        levels: Sequence[float] = LEVELS,
        max_points: int | None = None,
        feature_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a fitted mixture, and rows with it.

        Parameters
        ----------
        mixture : GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers or StandardisedMixture
        X : array-like of shape (n_samples, n_features) or None, default=None
            Rows with all features of the mixture. Those without a value of a feature shown are left out.
        features : int, str or a sequence of one or two of them, default=None
            Columns or their names; None: the first two, or the only one. The others are integrated out.
        kind : {'ellipses', 'density'}, default='ellipses'
            In two dimensions, an ellipse per component and level, with the share `level` of the component (chi-square
            with two degrees of freedom), or the smallest regions with the share `level` of the whole mixture. One
            dimension is drawn as histogram, weighted densities of the components and their sum.
        levels : sequence of float, default=(0.5, 0.9, 0.99)
        max_points : int or None, default=None
            Rows drawn, even at random but always the same; None: 5,000 points, or 1,000,000 rows of a histogram.
        feature_names : sequence of str or None, default=None
            Labels of the axes, for those that want units.
        ax : matplotlib Axes or None, default=None
        **kwargs
            Of `plot`.
        """
        cls._check_kind(kind)
        check_levels(levels)
        columns, names = resolve_features(check_mixture(mixture), features)
        parts = marginal(mixture, columns)
        most = check_most(max_points, MAX_POINTS[len(columns) - 1])
        drawn: dict[str, Any] = {"feature_names": names if feature_names is None else feature_names}
        if X is not None:
            rows, n_samples = rows_to_show(mixture, X, most)
            drawn |= {"X": rows[:, columns], "n_samples": n_samples}
            drawn |= {"labels": scored(mixture, rows, "labels")} if len(columns) == 2 else {}
        display = cls(parts.weights, parts.means, parts.covariances, noise=parts.noise, **drawn)
        return display.plot(ax, kind=kind, levels=levels, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "ellipses",
        levels: Sequence[float] = LEVELS,
        min_weight: float = 1e-3,
        numbers: bool = True,
        **point_kwargs: Any,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax, kind, levels : as in `from_estimator`
        min_weight : float, default=1e-3
            Components of less weight have no ellipse or curve, such as those that a Bayesian fit has emptied.
        numbers : bool, default=True
            Write the index of each component at its mean, where there are at most 30.
        **point_kwargs
            Of `Axes.scatter` (one dimension: of `Axes.stairs`).
        """
        self._check_kind(kind)
        levels = check_levels(levels)
        two = self.mixture.means.shape[1] == 2
        ax = self._begin(ax, (4.8, 3.8) if two else (4.8, 3.2))
        self.points_ = self.contours_ = self.shades_ = self.bars_ = None
        self.ellipses_, self.lines_ = [], []
        drawn = np.flatnonzero(self.mixture.weights >= min_weight)
        colours = component_colours(len(self.mixture.weights))
        if two:
            self._plot_points(ax, kind, colours, point_kwargs)
            if kind == "ellipses":
                self._plot_ellipses(ax, levels, drawn, colours)
            else:
                self._plot_density(ax, levels, drawn)
            ax.set_ylabel(self.feature_names[1])
        else:
            self._plot_curves(ax, drawn, colours, point_kwargs)
            ax.set_ylabel("probability density")
        ax.set_xlabel(self.feature_names[0])
        if numbers and len(drawn) <= MOST_NUMBERS:
            self._number(ax, drawn, colours if kind == "ellipses" or not two else None)
        self.note_ = self._note(self._remarks(kind if two else "curves", levels, len(drawn)))
        return self

    def _plot_points(self, ax: Any, kind: str, colours: Array, point_kwargs: dict[str, Any]) -> None:
        if self.X is None or not len(self.X):
            return
        n = len(self.X)
        style: dict[str, Any] = {"linewidths": 0, "rasterized": True, "zorder": 1.5, "color": "#4D4D4D"}
        style |= {"s": float(np.clip(6000 / n, 2.5, 14)), "alpha": float(np.clip(900 / n, 0.35, 0.75))}
        if kind == "ellipses" and self.labels is not None:
            style["color"] = np.where((self.labels >= 0)[:, None], colours[self.labels], rgb(NEUTRAL))
        if {"c", "color"} & set(point_kwargs):
            del style["color"]
        self.points_ = ax.scatter(*self.X.T, **(style | point_kwargs))

    def _plot_ellipses(self, ax: Any, levels: Sequence[float], drawn: NDArray[Any], colours: Array) -> None:
        from matplotlib.patches import Ellipse

        shapes = [self.mixture.ellipses(level) for level in levels]
        for k in drawn:
            share = float(np.sqrt(self.mixture.weights[k] / self.mixture.weights.max()))
            for i, (axes, angles) in enumerate(shapes):
                ellipse = Ellipse(
                    self.mixture.means[k],
                    *axes[k],
                    angle=angles[k],
                    facecolor=(*colours[k], 0.07 + 0.06 * (i == 0)),
                    edgecolor=(*colours[k], 0.45 + 0.55 * share),
                    linewidth=(0.6 + 1.2 * share) * (1 - 0.5 * i / len(levels)),
                    zorder=2.5,
                )
                self.ellipses_.append(ax.add_patch(ellipse))
        ax.autoscale_view()

    def _plot_density(self, ax: Any, levels: Sequence[float], drawn: NDArray[Any]) -> None:
        from matplotlib.patches import Patch

        x, y = self._grid(levels, drawn)
        points = np.stack(np.meshgrid(x, y), axis=-1)
        values = self.mixture.density(points.reshape(-1, 2)).reshape(points.shape[:2])
        heights = np.sort(self.mixture.highest_density_levels(levels))
        # Levels that the plateau of the noise spans have one height, and are drawn as the largest of them.
        kept = np.append(True, np.diff(heights) > 1e-12 * heights[-1])
        top = max(values.max(), heights[-1]) * 1.01
        fills = [BLUES[round(i)] for i in np.linspace(0, len(BLUES) - 1, len(levels))]
        shades = [fill for fill, keep in zip(fills, kept, strict=True) if keep]
        self.shades_ = ax.contourf(x, y, values, [*heights[kept], top], colors=shades, zorder=0.9)
        self.contours_ = ax.contour(x, y, values, heights[kept], colors=EDGE, linewidths=0.8, zorder=2.5)
        names = [f"{100 * level:g} %" for level, keep in zip(levels[::-1], kept, strict=True) if keep]
        patches = [Patch(facecolor=shade, edgecolor=EDGE, linewidth=0.8) for shade in shades]
        ax.legend(patches[::-1], names[::-1], fontsize="small", framealpha=0.8, edgecolor="none")
        ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))

    def _grid(self, levels: Sequence[float], drawn: NDArray[Any]) -> tuple[Array, Array]:
        """Lines that are evenly spaced over all that is shown, and closer about the means."""
        means = self.mixture.means[drawn]
        spread = np.sqrt(np.einsum("kdd->kd", self.mixture.covariances[drawn]))
        reach = np.sqrt(-2 * np.log1p(-max(levels))) * spread
        corners = [means - reach, means + reach]
        if self.X is not None and len(self.X):
            corners += [self.X.min(axis=0)[None], self.X.max(axis=0)[None]]
        if self.mixture.noise is not None:
            corners.append(self.mixture.noise.bounds)
        ends = np.concatenate(corners)
        low, high = ends.min(axis=0), ends.max(axis=0)
        margin = 0.04 * (high - low)
        steps = np.linspace(-3, 3, int(np.clip(240 // max(1, len(drawn)), 0, 25)))
        lines = []
        for d in range(2):
            fine = (means[:, d, None] + spread[:, d, None] * steps).ravel()
            even = np.linspace(low[d] - margin[d], high[d] + margin[d], GRID)
            fine = fine[(fine > even[0]) & (fine < even[-1])]
            lines.append(np.unique(np.concatenate([even, fine])))
        return lines[0], lines[1]

    def _plot_curves(self, ax: Any, drawn: NDArray[Any], colours: Array, bar_kwargs: dict[str, Any]) -> None:
        mean, spread = self.mixture.means[:, 0], np.sqrt(self.mixture.covariances[:, 0, 0])
        if self.histogram is not None:
            style = {"fill": True, "color": "#D5D5D5", "label": "rows", "zorder": 1}
            self.bars_ = ax.stairs(*self.histogram, **(style | bar_kwargs))
        low, high = (mean - WIDEST * spread)[drawn].min(), (mean + WIDEST * spread)[drawn].max()
        noise = self.mixture.noise
        edges: list[float] = []
        if noise is not None:
            width = noise.bounds[1, 0] - noise.bounds[0, 0]
            edges = [end + side * 1e-9 * width for end in noise.bounds[:, 0] for side in (-1, 1)]
            low, high = min(low, edges[0]), max(high, edges[-1])
        steps = np.linspace(-WIDEST, WIDEST, 81)
        fine = (mean[drawn, None] + spread[drawn, None] * steps).ravel()
        x = np.unique(np.concatenate([np.linspace(low, high, 400), fine, edges]))
        for k in drawn:
            y = self.mixture.component_density(int(k), x[:, None])
            near = np.abs(x - mean[k]) <= WIDEST * spread[k]
            ax.fill_between(x[near], y[near], color=colours[k], alpha=0.12, linewidth=0, zorder=1.5)
            self.lines_ += ax.plot(x[near], y[near], color=colours[k], linewidth=1.3)
        if noise is not None:
            y = self.mixture.noise_density(x[:, None])
            self.lines_ += ax.plot(x, y, color=NEUTRAL, linewidth=1.3, linestyle=":", label="noise")
        total = self.mixture.density(x[:, None])
        self.lines_ += ax.plot(x, total, color=INK, linewidth=1.6, linestyle=(0, (4, 1.5)), label="mixture")
        ax.set_ylim(bottom=0)
        ax.legend(frameon=False, fontsize="small")

    def _number(self, ax: Any, drawn: NDArray[Any], colours: Array | None) -> None:
        one = self.mixture.means.shape[1] == 1
        for k in drawn:
            mean = self.mixture.means[k]
            place = (mean[0], float(self.mixture.component_density(int(k), mean[None])[0])) if one else tuple(mean)
            colour = INK if colours is None else legible(colours)[k]
            ax.annotate(str(k), place, xytext=(0, 5 * one), color=colour, path_effects=halo(), zorder=4, **NUMBER)

    def _remarks(self, kind: str, levels: Sequence[float], n_drawn: int) -> list[str]:
        shares = [f"{100 * level:g}" for level in levels]
        listed = shares[0] if len(shares) == 1 else f"{', '.join(shares[:-1])} and {shares[-1]}"
        of = {"ellipses": "each component", "density": "the mixture"}
        remarks = [f"{listed} % of {of[kind]}"] if kind in of else []
        if self.X is not None:
            remarks.append(shown(len(self.X), len(self.X) if self.n_samples is None else self.n_samples))
        if self.mixture.noise is not None:
            remarks.append(f"noise {100 * self.mixture.noise.weight:.2g} %")
        n_components = len(self.mixture.weights)
        if n_drawn < n_components and kind != "density":
            remarks.append(f"{n_drawn} of {n_components} components, the others too light")
        return remarks


def _dimensions(mixture: MarginalMixture) -> int:
    """1 or 2; ValueError where the arrays do not fit each other."""
    shape = mixture.means.shape
    n_features = shape[1] if len(shape) == 2 else 0
    if n_features not in (1, 2):
        raise ValueError(f"means must have shape (n_components, 1) or (n_components, 2). Got {shape}.")
    if mixture.weights.shape != shape[:1] or mixture.covariances.shape != (*shape, n_features):
        raise ValueError(
            f"weights and covariances must have shapes {shape[:1]} and {(*shape, n_features)}, like means. Got "
            f"{mixture.weights.shape} and {mixture.covariances.shape}."
        )
    return n_features


def check_levels(levels: Any) -> list[float]:
    """Rising different levels, all above 0 and below 1."""
    values = np.unique(np.asarray(levels, np.float64))
    if not len(values) or not np.all((values > 0) & (values < 1)):
        raise ValueError(f"levels must be shares between 0 and 1. Got {levels!r}.")
    return [float(value) for value in values]


def _histogram(x: NDArray[Any]) -> tuple[Array, Array]:
    """Densities and edges of bins: Freedman and Diaconis's, but at least Rice's 2 n^(1/3) and at most 100.

    Of data in several clusters, the quartiles are too far apart for the former alone.
    """
    x = x.astype(np.float64)
    rice = min(MAX_BINS, int(np.ceil(2 * len(x) ** (1 / 3))))
    quarter, three_quarters = np.percentile(x, [25, 75])
    width = 2 * (three_quarters - quarter) / len(x) ** (1 / 3)
    n_bins = MAX_BINS if width == 0 else int(np.clip(np.ceil(np.ptp(x) / width), rice, MAX_BINS))
    return np.histogram(x, n_bins, density=True)
