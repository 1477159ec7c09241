"""Quasi-Newton points of a mixture in NumPy, straight from the formulas; nothing here is fastgmm's."""

from __future__ import annotations

import numpy as np


class LocalCoordinates:
    """Unconstrained coordinates of mixtures about `origin`, in which the complete data's Fisher information is one.

    A mixture is (weights, means, factors). Per component of weight w, mean mu and factor U (U U^T = precision) of the
    origin: sqrt(w) times the change of log-weight, sqrt(w) U^T times the change of mean, and sqrt(w) times
    T = U^-1 U', with sqrt(2) times logarithms on the diagonal (w is 1 for a factor all components share). Factors are
    matrices, (k, d, d) or (d, d), or inverse standard deviations, (k, d) or (k,).
    """

    def __init__(self, origin, is_matrix):
        self.weights, self.means, self.factors = origin
        self.n_components, self.n_features = self.means.shape
        self.is_matrix = is_matrix
        roots = np.sqrt(self.weights)
        if is_matrix and self.factors.ndim == 2:
            self.factor_roots = np.ones(1)
        elif is_matrix or self.factors.ndim == 2:
            self.factor_roots = roots
        else:  # a spherical variance counts once per feature
            self.factor_roots = roots * np.sqrt(self.n_features)

    def of(self, mixture):
        weights, means, factors = mixture
        parts = [np.sqrt(self.weights) * np.log(weights / self.weights)]
        for k in range(self.n_components):
            factor = self._factor(self.factors, k)
            parts.append(np.sqrt(self.weights[k]) * factor.T @ (means[k] - self.means[k]))
        for k, root in enumerate(self.factor_roots):
            if self.is_matrix:
                relative = np.linalg.inv(self._factor(self.factors, k)) @ self._factor(factors, k)
                np.fill_diagonal(relative, np.sqrt(2) * np.log(np.diag(relative)))
                parts.append(root * relative[np.triu_indices(self.n_features)])
            else:
                parts.append(root * np.sqrt(2) * np.log(np.atleast_1d(factors[k] / self.factors[k])))
        return np.concatenate(parts)

    def mixture(self, point):
        k, d = self.n_components, self.n_features
        weights = self.weights * np.exp(point[:k] / np.sqrt(self.weights))
        means, factors, rest = self.means.copy(), self.factors.copy(), point[k + k * d :]
        for j in range(k):
            move = point[k + j * d : k + (j + 1) * d] / np.sqrt(self.weights[j])
            means[j] += np.linalg.solve(self._factor(self.factors, j).T, move)
        size = len(rest) // len(self.factor_roots)
        for j, root in enumerate(self.factor_roots):
            values = rest[j * size : (j + 1) * size] / root
            if self.is_matrix:
                relative = np.zeros((d, d))
                relative[np.triu_indices(d)] = values
                np.fill_diagonal(relative, np.exp(np.diag(relative) / np.sqrt(2)))
                product = self._factor(self.factors, j) @ relative
                factors[(j,) if factors.ndim == 3 else ...] = product
            else:
                factors[j] = factors[j] * np.exp(values.reshape(factors[j].shape) / np.sqrt(2))
        return weights / weights.sum(), means, factors

    def _factor(self, factors, k):
        if self.is_matrix:
            return factors[k] if factors.ndim == 3 else factors
        return np.eye(self.n_features) * factors[k]


def quasi_newton_step(points, steps, least_cosine=1e-10):
    """L-BFGS step from the last of `points`, where EM would do the last of `steps`; both (n_points, n_coordinates).

    The inverse Hessian's update, as a matrix (Nocedal and Wright, 2006, equation 6.17). None where no pair has positive
    curvature.
    """
    moves, falls = np.diff(points, axis=0), -np.diff(steps, axis=0)
    scale = np.linalg.norm(moves, axis=1) * np.linalg.norm(falls, axis=1)
    usable = [i for i in range(len(moves)) if moves[i] @ falls[i] > least_cosine * scale[i]]
    if not usable:
        return None
    last = usable[-1]
    identity = np.eye(points.shape[1])
    inverse = identity * (moves[last] @ falls[last]) / (falls[last] @ falls[last])
    for i in usable:
        rho = 1 / (moves[i] @ falls[i])
        left = identity - rho * np.outer(moves[i], falls[i])
        inverse = left @ inverse @ left.T + rho * np.outer(moves[i], moves[i])
    return inverse @ steps[-1]


def quasi_newton_point(history, is_matrix, radius):
    """Where a step no longer than `radius` leads from the last pair (point, update), and step times direction."""
    coordinates = LocalCoordinates(history[-1][0], is_matrix)
    points = np.array([coordinates.of(point) for point, _ in history])
    steps = np.array([coordinates.of(updated) for _, updated in history]) - points
    direction = quasi_newton_step(points, steps)
    if direction is None:
        return None, steps[-1] @ steps[-1]
    shortened = direction * min(1.0, radius / np.linalg.norm(direction))
    return coordinates.mixture(shortened), steps[-1] @ direction
