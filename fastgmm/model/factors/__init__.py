"""Mixtures of factor analysers: the counterpart of what `model` has for covariances that are arrays."""
