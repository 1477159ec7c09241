"""One pass over the columns of the data: what validation and regularisation need to know before a fit."""

import numpy as np

from ._compile import jit


@jit(entry=True)
def summarise_columns_slot(X, sample_weight, shift, summary, slot):
    """Summarise the rows of a slot.

    summary[slot]: (5, n_features), overwritten: minimum, maximum, weighted sum of x - shift and of its square (rows of
    positive weight), and a value that is finite if and only if the column is.
    """
    n_slots = summary.shape[0]
    rows = summary[slot]
    rows[0] = np.inf
    rows[1] = -np.inf
    rows[2:] = 0
    for i in range(slot * X.shape[0] // n_slots, (slot + 1) * X.shape[0] // n_slots):
        row = X[i]
        weight = sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
        for d in range(row.shape[0]):
            value = np.float64(row[d])
            rows[4, d] += value * 0.0  # NaN from the first NaN or infinity on
            if weight > 0:
                diff = value - shift[d]
                rows[0, d] = min(rows[0, d], value)
                rows[1, d] = max(rows[1, d], value)
                rows[2, d] += weight * diff
                rows[3, d] += weight * diff * diff
