"""How far mixtures are apart, and the way from one to the other."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..estimators.gaussian_mixture import GaussianMixture
from ..model.algebra import divergences
from ..model.algebra import transport as optimal
from ..model.algebra.components import Components
from ..model.sampling import numbers_of_rows
from ._arguments import Estimate, check_count, drawer, mixture_of, pair_of, rows_of, seed_of


def kl_divergence(
    p: Any, q: Any, method: str = "monte-carlo", n_samples: int = 100_000, random_state: Any = None
) -> Estimate:
    """Return the Kullback-Leibler divergence KL(p || q), the mean of log p(x) - log q(x) over rows of p, in nats.

    It has no closed form for mixtures.

    Parameters
    ----------
    p, q : fitted mixtures of the same number of features
    method : {'monte-carlo', 'variational'}, default='monte-carlo'
        Draws of p, with their standard error; or the approximation of Hershey and Olsen (2007), which is exact for
        single Gaussians, has an unknown error, and may be negative.
    n_samples : int, default=100000
        Draws.
    random_state : int, RandomState or None

    Returns
    -------
    Estimate
        (value, standard_error), in nats; the error is NaN for 'variational'.

    Notes
    -----
    The mean over draws is unbiased, and may fall below 0 by chance. Uniform noise is taken into account by
    'monte-carlo' alone.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> p = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    >>> q = algebra.affine(p, 1.0, 1.0)
    >>> algebra.kl_divergence(p, q, method="variational").value
    0.5
    >>> value, error = algebra.kl_divergence(p, q, random_state=0)
    >>> abs(value - 0.5) < 4 * error
    True
    """
    if method not in ("monte-carlo", "variational"):
        raise ValueError(f"method must be 'monte-carlo' or 'variational'. Got {method!r}.")
    if method == "variational":
        return Estimate(divergences.variational_kl(*pair_of(p, q, ("p", "q"))), math.nan)
    n_samples = check_count(n_samples, "n_samples", 2)
    first, second = pair_of(p, q, ("p", "q"), noise=True)
    return Estimate(*divergences.monte_carlo_kl(first, second, drawer(first, random_state), n_samples))


def l2_distance(a: Any, b: Any) -> float:
    """Return the square root of the integral of (p_a(x) - p_b(x))^2, in closed form.

    Its square is the integrated squared error. For mixtures that are nearly, but not exactly equal it is right to about
    1e-8 of the norms of the densities.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [3.0]], [[[1.0]], [[2.0]]])
    >>> algebra.l2_distance(m, m)
    0.0
    """
    return divergences.l2_distance(*pair_of(a, b))


def cauchy_schwarz_divergence(a: Any, b: Any) -> float:
    """Return -log(<p_a, p_b> / (|p_a| |p_b|)), in nats, in closed form: 0 for equal mixtures, symmetric.

    Unlike `l2_distance` it stays informative in many dimensions and far apart, since it is computed in logarithms.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    >>> round(algebra.cauchy_schwarz_divergence(m, algebra.affine(m, 1.0, 100.0)), 9)
    2500.0
    """
    return divergences.cauchy_schwarz(*pair_of(a, b))


class Transport:
    """The way from a mixture to another that `transport` found.

    Attributes
    ----------
    distance : float
        MW2, in the units of the columns: a metric, zero for equal mixtures only; never below the Wasserstein-2 distance
        and equal to it between single Gaussians.
    plan : ndarray of shape (n_components of a, n_components of b)
        How much of each component of a goes to each of b: sums to the weights of both. Components of weight 0 are left
        out.
    """

    def __init__(self, a: Components, b: Components) -> None:
        self._a, self._b = a, b
        costs = optimal.squared_costs(a, b)
        self.plan: NDArray[np.float64] = optimal.optimal_plan(costs, a.weights, b.weights)
        self.distance = math.sqrt(math.fsum((self.plan * costs).ravel()))

    def __repr__(self) -> str:
        return f"Transport(distance={self.distance:.6g})"

    def map(self, X: ArrayLike, random_state: Any = None, *, random: bool = False) -> NDArray[np.float64]:
        """Return rows of a moved to where they are rows of b, shape (n_samples, n_features), float64.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        random_state : int, RandomState or None
            Of `random=True`; the number of a row and the seed decide where it goes.
        random : bool, default=False
            False: the mean of where a row may go, a function of x, under which rows of a need not follow b exactly.
            True: one of these places at random, under which rows of a are rows of b (Delon and Desolneux, 2020,
            section 6.3).
        """
        rows = rows_of(X, self._a)
        uniform = numbers_of_rows(seed_of(random_state), range(len(rows)), ())[0] if random and len(rows) else None
        return optimal.mapped(self._a, self._b, self.plan, rows, uniform)

    def geodesic(self, t: float) -> GaussianMixture:
        """Return the mixture at t in [0, 1] on the way: `distance` times t from a, and (1 - t) from b."""
        if not 0 <= t <= 1:
            raise ValueError(f"t must lie in [0, 1], got {t!r}.")
        return mixture_of(optimal.geodesic(self._a, self._b, self.plan, float(t)))


def transport(a: Any, b: Any) -> Transport:
    """Return the optimal transport from a to b among those that stay mixtures (MW2; Delon and Desolneux, 2020).

    Parameters
    ----------
    a, b : fitted mixtures of the same number of features

    Returns
    -------
    Transport
        With `distance`, `plan`, `map(X)` and `geodesic(t)`.

    Notes
    -----
    A linear program over pairs of components: milliseconds for a hundred of them.

    Examples
    --------
    >>> from fastgmm import GaussianMixture, algebra
    >>> m = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [8.0]], [[[1.0]], [[4.0]]])
    >>> way = algebra.transport(m, algebra.affine(m, 1.0, 3.0))
    >>> way.distance, way.map([[1.0]]).round(6).tolist()
    (3.0, [[4.0]])
    """
    return Transport(*pair_of(a, b))
