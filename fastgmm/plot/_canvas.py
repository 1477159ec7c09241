"""What the displays share: matplotlib at first use, figures without pyplot, colours."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito (2008), which colour-blind readers tell apart; yellow, the weakest on white, comes last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
# The ninth component has the first colour half way to white, the seventeenth half way to black, and so on.
TINTS = ((1.0, 0.5), (0.0, 0.45), (1.0, 0.75))
BLUES = ("#E4EEF7", "#CBE0F0", "#ACCDE6", "#8AB8DB", "#66A1CF")  # outermost to innermost; points stay visible on them
EDGE = "#0B4F86"
NEUTRAL = "#8C8C8C"
INK = "#262626"
NOTE = {"loc": "left", "fontsize": "small", "color": "#595959"}
CHARACTER = 0.5  # mean width of a letter, in font sizes
Size = tuple[float, float]


def require_matplotlib() -> None:
    """ImportError with the remedy where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'fastgmm[plot]'") from error


def rgb(colour: str) -> list[float]:
    """Red, green and blue of '#RRGGBB', in [0, 1]."""
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def component_colours(n_components: int) -> NDArray[np.float64]:
    """RGB of each component, (n_components, 3), in [0, 1]; 32 of them differ."""
    pure = np.array([rgb(colour) for colour in PALETTE])
    colours = np.concatenate([pure, *(pure + share * (end - pure) for end, share in TINTS)])
    return colours[np.arange(n_components) % len(colours)]


def legible(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same colours, (n_colours, 3), dark enough for text on white."""
    brightness = colours @ [0.299, 0.587, 0.114]
    return colours * np.minimum(1, 0.42 / np.maximum(brightness, 0.01))[:, None]


class Display:
    """A plot: its axes and figure once it is drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    note_ : matplotlib Text
        What stands above the axes.
    """

    ax_: Any
    figure_: Any
    note_: Any
    _own_figure = False
    _kinds: tuple[str, ...]

    @classmethod
    def _check_kind(cls, kind: Any) -> None:
        """ImportError without matplotlib, ValueError for a kind that there is not."""
        require_matplotlib()
        if kind not in cls._kinds:
            raise ValueError(f"kind must be {' or '.join(map(repr, cls._kinds))}. Got {kind!r}.")

    def _begin(self, ax: Any, size: Size) -> Any:
        """The axes to draw on: the caller's, or those of a new figure of this size in inches."""
        self._own_figure = ax is None
        if ax is None:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=size, dpi=120, layout="constrained")
            FigureCanvasAgg(figure)
            ax = figure.add_subplot()
            ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _note(self, parts: Sequence[str]) -> Any:
        """Say above the axes what is not seen in them, in as many lines as their width needs."""
        text = self.ax_.set_title("", **NOTE)
        points = self.ax_.get_position().width * self.figure_.bbox.width / self.figure_.dpi * 72
        width = max(24, int(points / (CHARACTER * text.get_fontsize())))
        whole = "; ".join(part for part in parts if part).replace(" %", "\u00a0%").replace("noise ", "noise\u00a0")
        text.set_text(textwrap.fill(whole, width, break_on_hyphens=False).replace("\u00a0", " "))
        return text

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows; nothing for axes of the caller, which it shows anyway."""
        if not self._own_figure:
            return None
        buffer = io.BytesIO()
        self.figure_.savefig(buffer, format="png")
        return buffer.getvalue()


def shown(n_rows: int, n_samples: int) -> str:
    """How many rows are drawn, in words."""
    return f"{n_rows:,} rows" if n_rows == n_samples else f"{n_rows:,} of {n_samples:,} rows"


def halo(width: float = 2.5) -> list[Any]:
    """A white edge that keeps text and lines legible on points and shades."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white")]
