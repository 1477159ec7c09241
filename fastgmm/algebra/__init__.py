"""The algebra of fitted mixtures: what follows from their parameters, without rows, and draws under constraints.

Every function takes any fitted mixture of the package; results that are mixtures are `GaussianMixture` objects with
full covariances. All is computed in float64, logarithms are natural, and densities are those that `sample` draws from.
"""

from ._arguments import Estimate
from .comparison import Transport, cauchy_schwarz_divergence, kl_divergence, l2_distance, transport
from .draws import (
    sample_at_distance,
    sample_box,
    sample_ellipsoid,
    sample_hdr,
    sample_near,
    sample_slab,
    sample_within,
)
from .mixtures import affine, barycenter, product, reduce, sum_of
from .probability import box_probability, cdf, gradient, hdr_level, hessian, in_hdr, modes, quantile

__all__ = [
    "Estimate",
    "Transport",
    "affine",
    "barycenter",
    "box_probability",
    "cauchy_schwarz_divergence",
    "cdf",
    "gradient",
    "hdr_level",
    "hessian",
    "in_hdr",
    "kl_divergence",
    "l2_distance",
    "modes",
    "product",
    "quantile",
    "reduce",
    "sample_at_distance",
    "sample_box",
    "sample_ellipsoid",
    "sample_hdr",
    "sample_near",
    "sample_slab",
    "sample_within",
    "sum_of",
    "transport",
]
