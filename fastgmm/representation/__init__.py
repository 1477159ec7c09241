"""Invertible transforms of rows, each of which keeps account of their density.

A density of transformed rows becomes one of the original rows by adding `log_abs_det`; see `Transform`.
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
