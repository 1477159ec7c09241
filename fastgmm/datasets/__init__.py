"""Data to try a mixture on: real handwritten digits, and seeded mixtures with known parameters."""

from .digits import load_digits
from .mnist import load_mnist
from .synthetic import SyntheticMixture, make_mixture

__all__ = ["SyntheticMixture", "load_digits", "load_mnist", "make_mixture"]
