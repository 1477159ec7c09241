"""Invertible transforms of rows, each of which keeps account of their density.

A density of transformed rows becomes one of the original rows by adding `log_abs_det`; see `Transform`.
float32 rows give float32 rows, everything else gives float64; log-densities are float64, in nats.
"""

from .bits import bits_per_dimension
from .colour import OpponentColour
from .dequantisation import Dequantisation
from .pca import PCA
from .scaling import Scaling, Standardisation
from .transform import Chain, Transform

__all__ = [
    "PCA",
    "Chain",
    "Dequantisation",
    "OpponentColour",
    "Scaling",
    "Standardisation",
    "Transform",
    "bits_per_dimension",
]
