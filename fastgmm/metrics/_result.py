"""What every metric returns: a number beside the number that says how to read it."""

from typing import NamedTuple


class Measured(NamedTuple):
    """A metric, and the same metric of held-out real data.

    Attributes
    ----------
    value : float
        Of the generated rows; for `log_likelihood`, of the held-out rows.
    baseline : float
        What real rows that no model has seen get in their place, at the same numbers of rows; for `log_likelihood`,
        what the training rows get. A generator that equals the data has a value near its baseline.

    Examples
    --------
    >>> from fastgmm.metrics import Measured
    >>> print(Measured(value=0.0151, baseline=0.0021))
    0.0151 (baseline 0.0021)
    """

    value: float
    baseline: float

    def __str__(self) -> str:
        return f"{self.value:.4g} (baseline {self.baseline:.4g})"
