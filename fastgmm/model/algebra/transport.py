"""Optimal transport between mixtures that keeps to mixtures: MW2 (Delon and Desolneux, 2020).

Everything follows from one alignment: with L and L' factors of two covariances and Q the orthogonal factor of the polar
decomposition of L'^T L, the optimal map between the two Gaussians is A = L' Q L^-1, its cost |L - L' Q|^2, and the way
between them has the factors (1 - t) L + t L' Q. No square root of a matrix, and nothing is subtracted that cancels.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

from ..parameters import Array
from .components import BLOCK_VALUES, Components, symmetrised

BARYCENTER_TOLERANCE = 1e-13  # of the last step, relative to the factor
MAX_STEPS = 1000  # of the barycentre of covariances, which converges linearly


def aligned(target: Array, lower: Array) -> Array:
    """The factor target Q that lies nearest to `lower` among all orthogonal Q; stacks of matrices."""
    u, _, vt = np.linalg.svd(target.mT @ lower)
    return target @ (u @ vt)


def squared_costs(a: Components, b: Components) -> Array:
    """Squared Wasserstein distance of each component of a from each of b."""
    out = np.empty((len(a.weights), len(b.weights)))
    step = max(1, BLOCK_VALUES // max(1, b.covariances.size))
    for first in range(0, len(out), step):
        rows = slice(first, first + step)
        spread = a.lower[rows, None] - aligned(b.lower[None], a.lower[rows, None])
        apart = a.means[rows, None] - b.means
        out[rows] = (apart**2).sum(axis=-1) + (spread**2).sum(axis=(-2, -1))
    return out


def optimal_plan(costs: Array, a: Array, b: Array) -> Array:
    """The coupling of least cost of weights a and b, (len(a), len(b))."""
    if len(a) == len(b) and np.ptp(a) == 0 and np.ptp(b) == 0:  # a permutation is optimal, and is found exactly
        plan = np.zeros(costs.shape)
        rows, columns = linear_sum_assignment(costs)
        plan[rows, columns] = a
        return plan
    return multimarginal_plan(costs, [a, b])


def multimarginal_plan(costs: Array, weights: list[Array]) -> Array:
    """The joint distribution of least cost with these marginals, shaped as costs; of few positive entries."""
    shape, size = costs.shape, costs.size
    places = np.unravel_index(np.arange(size), shape)
    blocks = [
        sparse.csr_array((np.ones(size), (place, np.arange(size))), shape=(n, size))
        for place, n in zip(places, shape, strict=True)
    ]
    scale = float(costs.max()) or 1.0
    # The last equation of every further marginal follows from the others, and rounding must not contradict it.
    rows = [blocks[0], *(block[:-1] for block in blocks[1:])]
    sums = [weights[0], *(w[:-1] for w in weights[1:])]
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    result = linprog(
        costs.ravel() / scale, A_eq=sparse.vstack(rows), b_eq=np.concatenate(sums), method="highs-ds", options=options
    )
    if result.x is None:
        raise RuntimeError(f"the linear program of the transport was not solved: {result.message}")
    plan = np.maximum(result.x, 0.0).reshape(shape)
    for axis, w in enumerate(weights):  # the last digits of the marginals
        sums_now = plan.sum(axis=tuple(i for i in range(plan.ndim) if i != axis))
        ratio = np.divide(w, sums_now, out=np.ones_like(w), where=sums_now > 0)
        plan = plan * ratio.reshape([-1 if i == axis else 1 for i in range(plan.ndim)])
    return plan


def geodesic(a: Components, b: Components, plan: Array, t: float) -> Components:
    """The mixture at t between a (0) and b (1) along the plan."""
    rows, columns = np.nonzero(plan > 0)
    lower = a.lower[rows]
    factor = (1 - t) * lower + t * aligned(b.lower[columns], lower)
    means = a.means[rows] + t * (b.means[columns] - a.means[rows])
    weights = plan[rows, columns]
    return Components(weights / weights.sum(), means, symmetrised(factor @ factor.mT))


def pair_maps(a: Components, b: Components, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Array:
    """The linear parts of the optimal maps from component rows[i] of a to columns[i] of b, (n, d, d), symmetric."""
    return symmetrised(aligned(b.lower[columns], a.lower[rows]) @ a.upper_precision[rows].mT)


def mapped(a: Components, b: Components, plan: Array, X: Array, uniform: Array | None) -> Array:
    """Rows X moved along the plan: the mean of where they may go, or with uniform numbers (n_rows,) one of these.

    Each pair of components takes a row by its optimal map, with the probability that the row is of the first times the
    share of the pair in it.
    """
    rows, columns = np.nonzero(plan > 0)
    slopes = pair_maps(a, b, rows, columns)
    share = plan[rows, columns] / plan.sum(axis=1)[rows]
    resp = a.responsibilities(X)[:, rows] * share
    out = np.zeros_like(X)
    if uniform is None:
        for i, (k, j) in enumerate(zip(rows, columns, strict=True)):
            out += resp[:, i : i + 1] * (b.means[j] + (X - a.means[k]) @ slopes[i])
        return out
    cumulative = resp.cumsum(axis=1)
    pair = (cumulative <= (uniform * cumulative[:, -1])[:, None]).sum(axis=1).clip(max=len(rows) - 1)
    for i, (k, j) in enumerate(zip(rows, columns, strict=True)):
        chosen = pair == i
        out[chosen] = b.means[j] + (X[chosen] - a.means[k]) @ slopes[i]
    return out


def gaussian_barycenters(lowers: list[Array], shares: Array) -> Array:
    """Factors of the Wasserstein barycentres of stacks of covariances, one stack (n, d, d) for each share.

    Fixed point of Alvarez-Esteban et al. (2016), which is here the mean of the factors, aligned to the last one.
    """
    factors = np.array(lowers[int(np.argmax(shares))])
    active = np.arange(len(factors))
    for _ in range(MAX_STEPS):
        old = factors[active]
        pairs = zip(shares, lowers, strict=True)
        new = np.asarray(sum(share * aligned(lower[active], old) for share, lower in pairs))
        factors[active] = new
        moved = ((new - old) ** 2).sum(axis=(-2, -1)) > BARYCENTER_TOLERANCE**2 * (old**2).sum(axis=(-2, -1))
        active = active[moved]
        if len(active) == 0:
            break
    return factors


def barycenter(mixtures: list[Components], shares: Array) -> Components:
    """The mixture whose weighted mean of squared MW2 distances from all of these is least, exactly."""
    shape = tuple(len(mixture.weights) for mixture in mixtures)
    index = np.unravel_index(np.arange(int(np.prod(shape))), shape)
    lowers = [mixture.lower[k] for mixture, k in zip(mixtures, index, strict=True)]
    origin = mixtures[0].means[0]
    places = [mixture.means[k] - origin for mixture, k in zip(mixtures, index, strict=True)]
    means = np.asarray(sum(share * place for share, place in zip(shares, places, strict=True)))
    factors = gaussian_barycenters(lowers, shares)
    costs = np.zeros(len(means))
    for share, lower, place in zip(shares, lowers, places, strict=True):
        spread = factors - aligned(lower, factors)
        costs += share * (((means - place) ** 2).sum(axis=1) + (spread**2).sum(axis=(1, 2)))
    plan = multimarginal_plan(costs.reshape(shape), [mixture.weights for mixture in mixtures]).ravel()
    keep = np.flatnonzero(plan > 0)
    covariances = symmetrised(factors[keep] @ factors[keep].mT)
    return Components(plan[keep] / plan[keep].sum(), means[keep] + origin, covariances)
