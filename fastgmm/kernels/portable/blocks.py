"""What every covariance type shares, in loops: loading a block and the sums of its responsibilities."""

from numba.extending import register_jitable

from .._compile import jit


@register_jitable
def padded_features(n_features):
    """Features as the block functions see them: a multiple of four."""
    return -(-n_features // 4) * 4


@jit()
def load_block(X, first, count, shift, xt):
    """xt[d, p] = X[first + p, d] - shift[d] in float64, rounded to xt's dtype; zero beyond `count` rows."""
    rows = X[first : first + count]
    for d in range(rows.shape[1]):
        column, out, s = rows[:, d], xt[d], shift[d]
        for p in range(count):
            out[p] = column[p] - s
    if count < xt.shape[1]:
        xt[:, count:] = 0


@jit()
def sum_rows(resp, block_sum):
    """block_sum[k] = sum of resp[k]; float64, as resp summed in its own dtype."""
    for k in range(resp.shape[0]):
        row = resp[k]
        s = resp.dtype.type(0)
        for p in range(row.shape[0]):
            s += row[p]
        block_sum[k] = s
