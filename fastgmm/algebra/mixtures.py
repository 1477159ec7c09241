"""Mixtures made of mixtures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..estimators.gaussian_mixture import GaussianMixture
from ..model.algebra import maps, reduction
from ..model.algebra import transport as optimal
from ._arguments import check_count, components_of, mixture_of, pair_of, vector_of

MAX_TUPLES = 20_000  # of components, one of each mixture of a barycentre


def affine(mixture: Any, matrix: ArrayLike, offset: ArrayLike = 0.0) -> GaussianMixture:
    """Return the mixture of `matrix @ x + offset` for rows x of a mixture: marginals, sums and contrasts of columns.

    Parameters
    ----------
    mixture : fitted mixture
    matrix : array-like of shape (n_out, n_features), or float
        Of rank n_out; a number multiplies all columns, a vector of shape (n_features,) gives one column.
    offset : array-like of shape (n_out,), or float, default=0
        For example `affine(m, np.eye(2)[[1]])` is the second column alone.

    Returns
    -------
    GaussianMixture
        Of n_out features, float64, exact.

    Raises
    ------
    ValueError
        For wrong shapes, and for a matrix of lower rank than n_out: the image would have no density.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[1.0, 2.0]], [[[1.0, 0.5], [0.5, 2.0]]])
    >>> total = algebra.affine(m, [1.0, 1.0])
    >>> total.means_.tolist(), total.covariances_.tolist()
    ([[3.0]], [[[4.0]]])
    """
    components = components_of(mixture)
    d = components.n_features
    array = np.asarray(matrix, np.float64)
    array = array * np.eye(d) if array.ndim == 0 else np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != d or array.size == 0:
        raise ValueError(f"matrix must have the shape (n_out, {d}) or be a number, but got {np.shape(matrix)}.")
    if not np.isfinite(array).all():
        raise ValueError("matrix must be finite.")
    try:
        return mixture_of(maps.affine(components, array, vector_of(offset, len(array), "offset")))
    except np.linalg.LinAlgError:
        raise ValueError(
            f"matrix must have full row rank, {len(array)}: otherwise the image has no density. Leave out rows that "
            "depend on the others."
        ) from None


def sum_of(a: Any, b: Any) -> GaussianMixture:
    """Return the mixture of x + y for independent rows x of a and y of b, also called their convolution.

    Parameters
    ----------
    a, b : fitted mixtures of the same number of features

    Returns
    -------
    GaussianMixture
        Of n_components(a) times n_components(b) components, exact; `reduce` makes it smaller.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [1.0]], [[[1.0]], [[1.0]]])
    >>> algebra.sum_of(m, m).means_.ravel().tolist()
    [0.0, 1.0, 1.0, 2.0]
    """
    return mixture_of(maps.convolution(*pair_of(a, b)))


def product(a: Any, b: Any) -> tuple[GaussianMixture, float]:
    """Return the mixture whose density is in proportion to p_a(x) p_b(x), and the log of the integral of that product.

    Two independent findings about one x are combined so (Bayes' rule with b as the likelihood).

    Parameters
    ----------
    a, b : fitted mixtures of the same number of features

    Returns
    -------
    mixture : GaussianMixture
        Of a component for each pair, exact; pairs whose weight underflows are left out.
    log_constant : float
        Log of the integral of p_a p_b, in nats, of float64's range also where the integral is not.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    >>> both, log_constant = algebra.product(m, algebra.affine(m, 1.0, 2.0))
    >>> round(float(both.means_[0, 0]), 12), round(float(both.covariances_[0, 0, 0]), 12), round(log_constant, 4)
    (1.0, 0.5, -2.2655)
    """
    components, log_constant = maps.product(*pair_of(a, b))
    return mixture_of(components), log_constant


def reduce(
    mixture: Any, n_components: int | None = None, max_kl: float | None = None, *, return_bound: bool = False
) -> Any:
    """Return a mixture of fewer components with the same mean and covariance.

    Components are merged, always the two that cost least by Runnalls' bound (2007); then each goes to the group it is
    nearest to by KL divergence, as long as this lowers the bound (Goldberger and Roweis, 2004).

    Parameters
    ----------
    mixture : fitted mixture
    n_components : int or None
        How many to keep; give this or `max_kl`, or both: merging then ends at whichever comes first.
    max_kl : float or None
        Merge as long as KL(mixture || result), in nats, is certain to stay at or below this.
    return_bound : bool, default=False
        Also return the bound of KL(mixture || result) in nats.

    Returns
    -------
    GaussianMixture, or (GaussianMixture, float)

    Notes
    -----
    Time O(K^2 d^3) for K components of d features, memory O(K^2).

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.4, 0.1, 0.5], [[0.0], [0.1], [9.0]], [[[1.0]]] * 3)
    >>> small, bound = algebra.reduce(m, max_kl=0.01, return_bound=True)
    >>> small.weights_.round(6).tolist(), bound < 0.01
    ([0.5, 0.5], True)
    """
    components = components_of(mixture)
    if n_components is None and max_kl is None:
        raise ValueError("Give n_components, max_kl or both: how far to reduce.")
    least = 1 if n_components is None else check_count(n_components, "n_components")
    most = np.inf if max_kl is None else float(max_kl)
    if not most >= 0:
        raise ValueError(f"max_kl must be at least 0, in nats, got {max_kl!r}.")
    result, bound = reduction.reduced(components, least, most)
    return (mixture_of(result), bound) if return_bound else mixture_of(result)


def barycenter(mixtures: Sequence[Any], weights: ArrayLike | None = None) -> GaussianMixture:
    """Return the mixture between several ones: the weighted mean of squared MW2 distances from it is least.

    Parameters
    ----------
    mixtures : sequence of fitted mixtures of the same number of features
    weights : array-like of shape (n_mixtures,) or None
        Not negative; divided by their sum. None: equal ones.

    Returns
    -------
    GaussianMixture
        Of at most sum of n_components - n_mixtures + 1 components; exact (Delon and Desolneux, 2020, section 5).

    Raises
    ------
    ValueError
        Also where the mixtures have more than 20,000 tuples of components, one of each: `reduce` them first.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [8.0]], [[[1.0]], [[1.0]]])
    >>> middle = algebra.barycenter([m, algebra.affine(m, 1.0, 2.0), algebra.affine(m, 1.0, 4.0)])
    >>> sorted(middle.means_.ravel().round(6).tolist())
    [2.0, 10.0]
    """
    if len(mixtures) == 0:
        raise ValueError("mixtures must hold at least one mixture.")
    found = [pair_of(mixtures[0], m, ("mixtures[0]", f"mixtures[{i}]"))[1] for i, m in enumerate(mixtures)]
    shares = np.ones(len(found)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(found),) or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
        raise ValueError(f"weights must be {len(found)} numbers, not negative and not all 0, got {weights!r}.")
    n_tuples = float(np.prod([float(len(m.weights)) for m in found]))
    if n_tuples > MAX_TUPLES:
        raise ValueError(
            f"mixtures have {n_tuples:g} tuples of components, more than {MAX_TUPLES}: reduce them first, such as by "
            "algebra.reduce(mixture, n_components=5)."
        )
    keep = shares > 0
    shares = shares[keep] / shares.sum()
    return mixture_of(optimal.barycenter([m for m, k in zip(found, keep, strict=True) if k], shares))
