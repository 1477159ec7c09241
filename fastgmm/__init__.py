"""fastgmm: Gaussian mixture models for CPUs, compiled with Numba."""

__version__ = "0.1.0"
