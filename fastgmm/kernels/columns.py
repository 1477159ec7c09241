"""One pass over the columns of the data: what validation and regularisation need to know before a fit."""

import numpy as np

from ._compile import jit


@jit(by_address=True)
def summarise_columns_slot(arguments, slot, workspace):
    """Summarise the rows of a slot; arguments[0]: X, sample_weight, labels (length 0: none), shift, summary.

    summary[slot]: (8, n_features), overwritten. Of the values that are not NaN, in rows of positive weight: minimum,
    maximum, weighted sum of x - shift and of its square. Then a value that is finite if and only if no value of the
    column is infinite, the weight of the rows whose value is not NaN, and the number of all rows whose value is. Last,
    in each column, the weight of the rows that have no value at all and whose label is not known (below 0).
    """
    X, sample_weight, labels, shift, summary = arguments[0]
    n_slots = summary.shape[0]
    rows = summary[slot]
    low, high, sums, squares, finite, present, missing = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]
    for d in range(shift.shape[0]):
        low[d], high[d] = np.inf, -np.inf
        sums[d] = squares[d] = finite[d] = present[d] = missing[d] = 0
    complete = silent = 0.0
    for i in range(slot * X.shape[0] // n_slots, (slot + 1) * X.shape[0] // n_slots):
        row = X[i]
        weight = sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
        gaps = 0  # an integer: a sum of floats would keep its order, and the loop from being vectorised
        if weight > 0:
            for d in range(row.shape[0]):
                value = np.float64(row[d])
                gaps |= np.int64(value != value)
                diff = value - shift[d] if value == value else 0.0
                low[d] = value if value < low[d] else low[d]
                high[d] = value if value > high[d] else high[d]
                sums[d] += weight * diff
                squares[d] += weight * diff * diff
        else:
            for d in range(row.shape[0]):
                value = np.float64(row[d])
                gaps |= np.int64(value != value)
                finite[d] += value * 0.0 if value == value else 0.0  # NaN from the first infinity on
        if gaps > 0:
            n_gaps = 0
            for d in range(row.shape[0]):
                gap = 0 if row[d] == row[d] else 1
                n_gaps += gap
                missing[d] += gap
                present[d] += weight * (1 - gap)
            if n_gaps == row.shape[0] and (labels.shape[0] == 0 or labels[i] < 0):
                silent += weight
        else:
            complete += weight  # of all columns at once, since most rows are complete
    for d in range(shift.shape[0]):
        present[d] += complete
        finite[d] += 0.0 if low[d] > -np.inf and high[d] < np.inf else np.nan
        rows[7, d] = silent
