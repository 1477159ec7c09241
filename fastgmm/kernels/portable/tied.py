"""Tied covariance: one triangular factor shared by all components.

A block is whitened once, so that a pair costs what it costs under a spherical covariance. Only first moments are
accumulated: the pooled scatter follows from the scatter of the data about a fixed point, computed once per fit
(model/covariance.py, which also says when that difference is too small to trust).
"""

from .._compile import jit
from .e_step import make_e_step
from .spherical import accumulate_sum_x, compute_distances
from .tiles import transform_tile


@jit()
def compute_whitened(xt, factor, white):
    """white[e] = sum_{d <= e} factor[d, e] xt[d]; white: (n_features, block), overwritten."""
    white[:] = 0
    for e in range(0, xt.shape[0], 4):
        for d in range(0, e + 4, 4):
            transform_tile(xt, d, factor, e, white, e)


@jit()
def compute_mahalanobis(xt, parameters, scratch, mahalanobis):
    """mahalanobis[k, p] = |x U - mean U|^2; offsets hold mean U; (n_components, block), overwritten."""
    n_features = xt.shape[0]
    white = scratch[:n_features]
    compute_whitened(xt, parameters.factors[0], white)
    compute_distances(white, parameters.offsets, scratch[n_features], mahalanobis)


@jit(by_address=True)
def accumulate_block(xt, resp, mean_resp, mahalanobis, active, parameters, scratch, sum_first, sum_outer):
    """Add sum_p r x (about the shift) of every component; sum_outer is left alone."""
    accumulate_sum_x(xt, resp, sum_first)


KEEPS_DISTANCES = True
compute_resp = make_e_step("tied", compute_mahalanobis)
