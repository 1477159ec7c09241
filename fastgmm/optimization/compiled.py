"""Small problems: the start and all iterations of a fit in a few calls of compiled code (kernels/begin.py, iterate.py).

A small problem has the same answer, bit for bit, wherever its rows lie and whoever watches: there is no other way to
fit it, but for steps that compiled code leaves to Python's (kernels/m_step.py), and those that follow one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..model.bridge import block_functions_of, read_only
from ..model.maximisation import Maximiser
from ..model.parameters import Array, MixtureParameters
from ..rows.source import ArraySource, Source
from .convergence import NOISE

# All in floating-point operations of passes over the rows (`KernelStructure.flops_per_row`).
MOST_WORK = 1e8  # of a small problem's pass, 2 to 4 ms
WORK_PER_CALL = 4e9  # control returns to Python several times a second
THREADED_WORK = 2e6  # below, starting threads takes longer than they save
# Few steps choose wrongly among starts: after three the one that ends highest is often behind. A run ends early where a
# step gains less than GAIN, in nats per row.
STEPS, GAIN = 20, 1e-2


def sample_size(n_components: int) -> int:
    """Rows that a start looks at: 500 per component, at least 10,000."""
    return max(10_000, 500 * n_components)


def is_small(n_samples: int, n_components: int, work: float) -> bool:
    """Whether a problem is solved here: its start looks at all rows, and a pass takes a few ms."""
    return n_samples <= sample_size(n_components) and work <= MOST_WORK


class Steps(NamedTuple):
    """Iterations that were done: where they led, the bound before each, and whether the next one is left to Python.

    log_likelihood: of the parameters, in nats; None if it was not asked for, or a row is out of range.
    """

    parameters: MixtureParameters
    bounds: list[float]
    is_left: bool
    log_likelihood: float | None


class CompiledEM:
    """The start and the iterations of a fit of complete rows, of which nothing but their weights is known.

    Parameters
    ----------
    source : Source
        Brought into memory.
    sample_weight : ndarray of shape (n_samples,) or None
    shift : ndarray of shape (n_features,)
        Means of the columns.
    n_components : int
    maximise : Maximiser
        Without prior, noise, floor and fixed parameters.
    """

    def __init__(
        self, source: Source, sample_weight: Array | None, shift: Array, n_components: int, maximise: Maximiser
    ) -> None:
        from ..kernels import group, m_step

        X = source.X if isinstance(source, ArraySource) else source.take(np.arange(source.n_samples))
        X = np.ascontiguousarray(X, source.dtype)
        (n_samples, n_features), structure = X.shape, maximise.structure
        self._covariance_type, self.dtype, self._n_components = maximise.covariance_type, X.dtype, n_components
        self._kind = m_step.KINDS.index(structure.name)
        self._shape = structure.shape(n_components, n_features)
        self._cube = group.factor_shape(self._kind, n_components, n_features)
        work = n_samples * structure.flops_per_row(n_components, n_features)
        self.steps_per_call = max(1, int(WORK_PER_CALL / work))
        self._threaded = work > THREADED_WORK
        weight = np.empty(0) if sample_weight is None else np.ascontiguousarray(sample_weight, np.float64)
        self._rows = read_only(X), read_only(weight)
        self._columns = m_step.Columns(
            np.ascontiguousarray(shift),
            np.zeros(n_features) + maximise.ridge,
            maximise.least_variance,
            self._scatter(X, sample_weight, shift) if structure.pools_components else np.empty((0, 0)),
        )
        self._limits = np.zeros(group.N_LIMITS)
        self._limits[m_step.LEAN + 1 : m_step.LEAN + 3] = np.finfo(X.dtype).eps, maximise.least_pivot
        self._functions = block_functions_of(structure, n_features, X.dtype)
        self._bytes = group.room_bytes(self._kind, n_samples, n_features, n_components, X.itemsize)

    def begin(self, starts: Sequence[str], scales: Array, seed: int) -> MixtureParameters | None:
        """The best of some starts after a short run each; None where compiled code can follow none of them.

        starts: names in `kernels.begin.STARTS`; scales: (2, n_features), what columns are divided by for the first, and
        for the others.
        """
        from ..kernels import begin, iterate

        numbers = np.array([GAIN, STEPS, NOISE[self.dtype], n_exchanges(self._n_components)])
        choice = begin.Choice(np.array([begin.STARTS.index(name) for name in starts]), scales, numbers)
        mixture = self._empty()
        course = self._run(mixture, 0, choice, STEPS, seed)
        return None if course.outcome[1] >= iterate.LEFT else self._parameters(mixture)

    def iterate(self, parameters: MixtureParameters, most: int, tol: float, bound: float, evaluates: bool) -> Steps:
        """Do at most `most` iterations, until the bound, last `bound`, changes by less than `tol`.

        evaluates: whether the log-likelihood is wanted of the parameters that they end at.
        """
        from ..kernels import begin, group, iterate

        mixture = self._empty()
        mixture.weights[:], mixture.means[:] = parameters.weights, parameters.means
        mixture.factors[:] = parameters.precisions_cholesky.reshape(self._cube)
        self._limits[group.TOL], self._limits[group.BEFORE] = tol, bound
        nothing = begin.Choice(np.empty(0, np.int64), np.empty((0, 0)), np.empty(0))
        course = self._run(mixture, most, nothing, most, 0, evaluates)
        n_done, code, _ = course.outcome.tolist()
        is_left = code >= iterate.LEFT
        log_likelihood = float(self._limits[group.TOTAL]) if evaluates and not is_left else np.nan
        reached = self._parameters(mixture) if n_done else parameters
        known = None if np.isnan(log_likelihood) else log_likelihood
        return Steps(reached, course.bounds[:n_done].tolist(), is_left, known)

    def _run(self, mixture: Any, most: int, choice: Any, n_bounds: int, seed: int, evaluates: bool = False) -> Any:
        """`kernels.group.fit_group`; returns its Course."""
        from ..kernels import group, iterate, parallel

        course = iterate.Course(self._limits, np.empty(n_bounds), np.zeros(3, np.int64))
        state = np.array([seed], np.uint64)
        data = (*self._rows, self._columns, mixture, choice, course, self._functions, state)
        address, at = group.fit_addresses(self._kind, *data)
        parallel.run_leader(
            *(group.fit_group_slot, *self._bytes, self._threaded, address, self._kind, most, int(evaluates)),
            *(*data, at),
            kind=self.dtype,
        )
        return course

    def _empty(self) -> Any:
        from ..kernels.m_step import Mixture

        n_components, n_features = self._n_components, len(self._columns.shift)
        shapes = ((n_components,), (n_components, n_features), self._cube, self._cube)
        return Mixture(*(np.empty(shape) for shape in shapes))

    @staticmethod
    def _scatter(X: NDArray[Any], sample_weight: Array | None, shift: Array) -> Array:
        """Sum of squares about the shift."""
        diff = X - shift
        return np.ascontiguousarray((diff if sample_weight is None else diff * sample_weight[:, None]).T @ diff)

    def _parameters(self, mixture: Any) -> MixtureParameters:
        return MixtureParameters(
            *(mixture.weights, mixture.means, mixture.factors.reshape(self._shape)),
            *(self._covariance_type, mixture.covariances.reshape(self._shape)),
        )


def n_exchanges(n_components: int) -> int:
    """Steps of local search after the seeding: one candidate per component, at least 8 and at most 32.

    Each costs a pass over the distances, and an exchange as much as one of Lloyd's iterations.
    """
    return min(max(n_components, 8), 32) if n_components > 1 else 0
