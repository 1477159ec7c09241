"""How good generated rows and densities are; every figure comes with the one that real rows reach."""

from ..representation.bits import bits_per_dimension
from ._evaluate import Report, evaluate
from ._result import Measured
from .bins import Bins, jensen_shannon, number_of_different_bins
from .distances import maximum_mean_discrepancy, sliced_wasserstein
from .likelihood import TrivialBits, log_likelihood, trivial_bits
from .neighbours import (
    Memorisation,
    PrecisionRecallDensityCoverage,
    memorisation,
    nearest_distances,
    precision_recall_density_coverage,
    two_sample_accuracy,
)

__all__ = [
    "Bins",
    "Measured",
    "Memorisation",
    "PrecisionRecallDensityCoverage",
    "Report",
    "TrivialBits",
    "bits_per_dimension",
    "evaluate",
    "jensen_shannon",
    "log_likelihood",
    "maximum_mean_discrepancy",
    "memorisation",
    "nearest_distances",
    "number_of_different_bins",
    "precision_recall_density_coverage",
    "sliced_wasserstein",
    "trivial_bits",
    "two_sample_accuracy",
]
