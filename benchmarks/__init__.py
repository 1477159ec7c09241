"""fastgmm beside a strong NumPy implementation and scikit-learn; see `python -m benchmarks --help`."""
