"""mlpack's `gmm_train`, which takes no start and therefore no part."""

from __future__ import annotations

import mlpack  # noqa: F401  an absent package is reported as absent

from benchmarks.contenders import Fit, NotComparableError


def load(n_threads: int) -> Fit:
    """Raise NotComparableError: seen with mlpack 4.8, where the result depends on `seed`, not on `input_model`."""
    raise NotComparableError("gmm_train starts from its own k-means even where an input_model is given")
