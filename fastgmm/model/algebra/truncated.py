"""The normal distribution between two bounds, in logarithms: tails of 1e-300 keep their digits."""

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from ..parameters import Array
from .components import LOG_2_PI

NARROW = 1e-3  # width times steepness below which the density is expanded about the middle: 5e-16 of the integral left
LINEAR = 1e-6  # below which its logarithm is linear: 1e-13 left


def log_difference(larger: Array, smaller: Array) -> Array:
    """log(exp(larger) - exp(smaller)), -inf where they are equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = smaller - larger
        near = np.log(-np.expm1(np.maximum(gap, -1.0)))
        out = larger + np.where(gap > -1, near, np.log1p(-np.exp(gap)))
    return np.where(np.isneginf(larger), -np.inf, out)


def log_mass(low: Array, high: Array) -> Array:
    """log(Phi(high) - Phi(low)) for low <= high, elementwise."""
    low, high = np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64))
    mirrored = low > 0
    a, b = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    across = (a <= 0) & (b > 0)  # both tails are subtracted from 1
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        out = np.where(
            across,
            np.log1p(-np.exp(log_ndtr(a)) - np.exp(log_ndtr(-b))),
            log_difference(log_ndtr(b), log_ndtr(a)),
        )
        width, middle = b - a, 0.5 * (a + b)
        narrow = np.isfinite(width) & (width * np.maximum(1.0, np.abs(middle)) < NARROW)
        if narrow.any():
            bend = np.log1p((middle**2 - 1) * width**2 / 24)
            out = np.where(narrow, -0.5 * (middle**2 + LOG_2_PI) + np.log(width) + bend, out)
    return np.asarray(out)


def truncated_normal(log_u: Array, log_rest: Array, low: Array, high: Array) -> Array:
    """Quantiles in [low, high] of the normal distribution restricted to it; log u and log(1 - u), elementwise."""
    mirrored = low > 0
    a, b = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    lower, upper = np.where(mirrored, log_rest, log_u), np.where(mirrored, log_u, log_rest)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        # The share u above a in the lower tail; for quantiles far above 0 the share 1 - u below b in the upper one.
        from_low = np.logaddexp(log_ndtr(a) + upper, log_ndtr(b) + lower)
        from_high = np.logaddexp(log_ndtr(-a) + upper, log_ndtr(-b) + lower)
        z = np.copysign(1.0, from_high - from_low) * ndtri_exp(np.minimum(from_low, from_high))
        width, middle = b - a, 0.5 * (a + b)
        narrow = np.isfinite(width) & (width * np.maximum(1.0, np.abs(middle)) < LINEAR)
        if narrow.any():
            steep, u = -middle * width, np.exp(lower)
            rising = np.abs(steep) > 1e-12
            share = np.where(rising, np.log1p(u * np.expm1(steep)) / np.where(rising, steep, 1.0), u)
            z = np.where(narrow, a + width * share, z)
    z = np.clip(z, a, b)
    return np.where(mirrored, -z, z)


def log_uniform(normal: Array) -> tuple[Array, Array]:
    """Log u and log(1 - u) of a uniform number for each standard normal one."""
    return log_ndtr(normal), log_ndtr(-normal)
