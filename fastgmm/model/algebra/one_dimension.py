"""Distribution function and quantiles of a mixture along a line."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtri_exp

from ..parameters import Array
from .components import LOG_2_PI, Components
from .shape import blocks_of

MAX_STEPS = 2000  # bisections of the widest bracket included
EPS = float(np.finfo(np.float64).eps)
LOG_HALF = float(np.log(0.5))


@dataclass(frozen=True, eq=False)
class Line:
    """A mixture of normal distributions of numbers, and uniform noise.

    Attributes
    ----------
    log_weights, centres, scales : ndarrays of shape (n_components,)
    noise : (weight, low, high); the weight is 0 without noise
    """

    log_weights: Array
    centres: Array
    scales: Array
    noise: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def mirrored(self) -> "Line":
        """The mixture of -x."""
        weight, low, high = self.noise
        return replace(self, centres=-self.centres, noise=(weight, -high, -low))

    def log_cdf(self, x: Array) -> Array:
        """Log P(X <= x), (n,)."""
        out = np.empty(len(x))
        weight, low, high = self.noise
        for rows in blocks_of(x, len(self.centres)):
            logs = self.log_weights + log_ndtr((x[rows, None] - self.centres) / self.scales)
            out[rows] = logsumexp(logs, axis=1)
        if weight > 0:
            with np.errstate(divide="ignore"):
                out = np.logaddexp(out, np.log(weight * np.clip((x - low) / (high - low), 0, 1)))
        return out

    def cdf(self, x: Array) -> Array:
        """P(X <= x), (n,); from the nearer tail, so that it ends at 1 to the bit."""
        logs = self.log_cdf(x)
        out, large = np.exp(logs), logs > LOG_HALF
        out[large] = 1 - np.exp(self.mirrored().log_cdf(-x[large]))
        return out

    def log_pdf(self, x: Array) -> Array:
        """Log-density, (n,)."""
        out = np.empty(len(x))
        weight, low, high = self.noise
        for rows in blocks_of(x, len(self.centres)):
            z = (x[rows, None] - self.centres) / self.scales
            with np.errstate(over="ignore"):
                logs = self.log_weights - np.log(self.scales) - 0.5 * (z**2 + LOG_2_PI)
            out[rows] = logsumexp(logs, axis=1)
        if weight > 0:
            inside = (x >= low) & (x <= high)
            out = np.where(inside, np.logaddexp(out, np.log(weight / (high - low))), out)
        return out

    def lower_quantile(self, log_p: Array) -> Array:
        """The x with log P(X <= x) = log_p, at most log(1/2): Newton's method on the logarithm between brackets.

        A quantile of the mixture lies between the least and the greatest of the components'.
        """
        z = ndtri_exp(log_p)
        low, high = np.full(len(z), np.inf), np.full(len(z), -np.inf)
        for centre, scale in zip(self.centres, self.scales, strict=True):
            own = centre + scale * z
            low, high = np.minimum(low, own), np.maximum(high, own)
        if self.noise[0] > 0:
            own = self.noise[1] + np.exp(log_p) * (self.noise[2] - self.noise[1])
            low, high = np.minimum(low, own), np.maximum(high, own)
        x = 0.5 * low + 0.5 * high
        active = np.flatnonzero(np.isfinite(x) & (low < high))
        for _ in range(MAX_STEPS):
            if len(active) == 0:
                break
            here = x[active]
            log_cdf = self.log_cdf(here)
            miss = log_cdf - log_p[active]
            above = miss > 0
            high[active] = np.where(above, here, high[active])
            low[active] = np.where(above, low[active], here)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                new = here - miss * np.exp(log_cdf - self.log_pdf(here))
            inside = (new > low[active]) & (new < high[active])
            middle = 0.5 * low[active] + 0.5 * high[active]
            # Below its own rounding the miss says nothing more.
            settled = np.abs(miss) <= 2 * EPS * np.maximum(1.0, np.abs(log_p[active]))
            new = np.where(inside, new, np.where(settled, here, middle))
            x[active] = new
            done = settled | (np.abs(new - here) <= np.spacing(np.abs(here)))
            done |= high[active] - low[active] <= np.spacing(np.abs(middle))
            active = active[~done]
        return x

    def quantile(self, p: Array, upper: bool) -> Array:
        """The x with P(X <= x) = p, or P(X > x) = p; from the nearer tail, so that no digit of p is lost."""
        out, small = np.empty(len(p)), p <= 0.5
        for index, from_below in ((np.flatnonzero(small), not upper), (np.flatnonzero(~small), upper)):
            tail = p[index] if small[index].all() else 1 - p[index]
            with np.errstate(divide="ignore"):
                x = (self if from_below else self.mirrored()).lower_quantile(np.log(tail))
            out[index] = x if from_below else -x
        return out


def along(mixture: Components, direction: Array) -> Line:
    """The mixture of direction . x; noise needs a direction along a column, where it stays uniform."""
    centres = mixture.means @ direction
    scales = np.linalg.norm(direction @ mixture.lower, axis=1)
    line = Line(mixture.log_weights, centres, scales)
    if mixture.noise is None:
        return line
    (column,) = np.flatnonzero(direction)
    low, high = np.sort(mixture.noise.bounds[:, column] * direction[column])
    return replace(line, noise=(mixture.noise.weight, float(low), float(high)))
