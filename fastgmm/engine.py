"""The engine for other libraries: densities, responsibilities, statistics and M-steps over arrays.

No estimator objects, no state. A mixture is a `MixtureParameters` from `mixture`; statistics are
`SufficientStatistics`, which add over blocks of rows, processes and machines (`a + b`, same parameters). Every function
takes `n_threads` (None: all that the process may use; the bits are the same for any number) and writes into `out`
where that is given.

A worked example: the E-step of a hidden Markov model whose states emit from mixtures (hmmlearn's `GMMHMM`). The
log-likelihoods of each row under each state go to the forward-backward recursion; the posterior of the states comes
back as weights of the rows, and each state's mixture gets its weighted statistics, sequence after sequence:

>>> import numpy as np
>>> from fastgmm import engine
>>> rng = np.random.default_rng(0)
>>> sequence = rng.normal(size=(500, 2)) + np.repeat([[0.0, 0], [6, 6]], 250, axis=0)
>>> covariances = np.tile(np.eye(2), (2, 1, 1))
>>> states = [engine.mixture([0.5, 0.5], [[c - 1.0, c], [c + 1.0, c]], covariances) for c in (0.0, 5.0)]
>>> framelogprob = np.column_stack([engine.log_likelihood(sequence, state) for state in states])
>>> stay, n = np.log([[0.99, 0.01], [0.01, 0.99]]), len(sequence)
>>> forward, backward = np.empty((n, 2)), np.zeros((n, 2))
>>> forward[0] = np.log(0.5) + framelogprob[0]
>>> for t in range(1, n):
...     forward[t] = np.logaddexp.reduce(forward[t - 1] + stay.T, axis=1) + framelogprob[t]
>>> for t in range(n - 2, -1, -1):
...     backward[t] = np.logaddexp.reduce(stay + framelogprob[t + 1] + backward[t + 1], axis=1)
>>> posterior = np.exp(forward + backward - np.logaddexp.reduce(forward[-1]))
>>> statistics = [engine.statistics(sequence, s, sample_weight=posterior[:, i]) for i, s in enumerate(states)]
>>> [float(s.sum_resp.sum().round()) for s in statistics]
[250.0, 250.0]
>>> states = [engine.m_step(s) for s in statistics]
>>> float((states[1].weights @ states[1].means).mean().round())
6.0

Another: Fisher vectors (Perronnin, Sanchez and Mensink, 2010), the gradient of an image's log-likelihood in the means
and standard deviations of a vocabulary of diagonal Gaussians. One pass gives all sums:

>>> def fisher_vector(descriptors, vocabulary):
...     s = engine.statistics(descriptors, vocabulary)
...     scale = np.sqrt(vocabulary.weights)[:, None] * len(descriptors)
...     by_mean = s.sum_diff * vocabulary.precisions_cholesky / scale
...     squares = s.sum_outer * vocabulary.precisions_cholesky**2
...     by_deviation = (squares - s.sum_resp[:, None]) / (np.sqrt(2) * scale)
...     return np.concatenate([by_mean.ravel(), by_deviation.ravel()])
>>> words = engine.mixture([0.5, 0.5], [[0.0, 0], [6, 6]], np.ones((2, 2)), covariance_type="diag")
>>> fisher_vector(sequence, words).shape
(8,)
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import validation as check
from .exceptions import InvalidParameterError
from .model.bridge import MixtureKernels
from .model.by_hand import check_mixture
from .model.covariance import STRUCTURES
from .model.expectation import StatisticsPass
from .model.maximisation import Maximiser
from .model.parameters import MixtureParameters
from .model.statistics import SufficientStatistics
from .optimization.em import check_range
from .rows.source import Source
from .threads import thread_limit

__all__ = [
    "MixtureParameters",
    "SufficientStatistics",
    "labels",
    "log_densities",
    "log_likelihood",
    "m_step",
    "mixture",
    "responsibilities",
    "statistics",
]


def mixture(
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike | None = None,
    *,
    precisions_cholesky: ArrayLike | None = None,
    covariance_type: str = "full",
) -> MixtureParameters:
    """Return checked parameters in float64; give covariances, or `precisions_cholesky` to save their factorisation.

    Parameters
    ----------
    weights : array-like of shape (n_components,), in [0, 1] and summing to 1
    means : array-like of shape (n_components, n_features)
    covariances : array-like or None
        full: (n_components, n_features, n_features); tied: (n_features, n_features); diag: (n_components, n_features);
        spherical: (n_components,).
    precisions_cholesky : array-like or None
        Same shape: the upper triangular U with U U^T = precision (diag, spherical: its square root); taken as it is.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'

    Raises
    ------
    ValueError
        For wrong shapes, weights that do not sum to 1, covariances that are not positive definite.
    """
    structure = _structure(covariance_type)
    array = np.asarray(means, np.float64)
    if array.ndim != 2:
        raise ValueError(f"means should have the shape of (n_components, n_features), but got {array.shape}")
    array = np.asarray(check.check_means(array, *array.shape), np.float64)
    shape = structure.shape(*array.shape)
    checked = np.asarray(check.check_weights(weights, len(array)), np.float64)
    if (covariances is None) == (precisions_cholesky is None):
        raise ValueError("Give either covariances or precisions_cholesky.")
    if precisions_cholesky is not None:
        factors = np.asarray(precisions_cholesky, np.float64)
        check.check_shape(factors, shape, "precisions_cholesky")
        return MixtureParameters(checked, array, factors, covariance_type)
    matrices = np.asarray(check.check_covariances(covariances, structure, shape), np.float64)
    return MixtureParameters(checked, array, structure.cholesky(matrices), covariance_type, matrices)


def log_densities(
    X: ArrayLike,
    mixture: MixtureParameters,
    *,
    weighted: bool = True,
    out: NDArray[Any] | None = None,
    n_threads: int | None = None,
) -> NDArray[Any]:
    """Return log(weight_k N(x_i | k)), or log N(x_i | k) if not `weighted`, shape (n_samples, n_components), in nats.

    `out` has the dtype of X (float32 or float64; other dtypes are computed in float64).
    """
    if not weighted:
        mixture = replace(mixture, log_weights=np.zeros(len(mixture.weights)), noise=None)
    return _score("log_prob", X, mixture, out, n_threads)


def log_likelihood(
    X: ArrayLike, mixture: MixtureParameters, *, out: NDArray[Any] | None = None, n_threads: int | None = None
) -> NDArray[Any]:
    """Return the log-density of each row, shape (n_samples,), in nats."""
    return _score("log_prob_norm", X, mixture, out, n_threads, of_rows=True)


def responsibilities(
    X: ArrayLike, mixture: MixtureParameters, *, out: NDArray[Any] | None = None, n_threads: int | None = None
) -> NDArray[Any]:
    """Return the probability of each component for each row, shape (n_samples, n_components)."""
    return _score("resp", X, mixture, out, n_threads)


def labels(
    X: ArrayLike, mixture: MixtureParameters, *, out: NDArray[np.int64] | None = None, n_threads: int | None = None
) -> NDArray[np.int64]:
    """Return the most probable component of each row, shape (n_samples,), int64."""
    return _score("labels", X, mixture, out, n_threads, of_rows=True)


def statistics(
    X: ArrayLike,
    mixture: MixtureParameters,
    *,
    sample_weight: ArrayLike | None = None,
    resp: ArrayLike | None = None,
    n_threads: int | None = None,
) -> SufficientStatistics:
    """E-step of a block of rows: weighted sums about the means of `mixture`, and the log-likelihood, in float64.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    mixture : MixtureParameters
    sample_weight : array-like of shape (n_samples,) or None
        Such as a hidden Markov model's posterior of a state.
    resp : array-like of shape (n_samples, n_components) or None
        Responsibilities to use instead of the mixture's own; the log-likelihood is then 0.
    n_threads : int or None
    """
    source = _rows(X, mixture)
    weight = check.check_sample_weight(sample_weight, source.n_samples)
    given = None
    if resp is not None:
        given = np.asarray(resp, np.float64)
        check.check_shape(given, (source.n_samples, len(mixture.weights)), "resp")
    # The same shift for every block, so that statistics add.
    shift = mixture.weights @ mixture.means
    with thread_limit(n_threads):
        result = StatisticsPass(source, shift, weight)(mixture, given)
    check_range(result)
    return result


def m_step(
    statistics: SufficientStatistics, covariance_type: str = "full", reg_covar: float = 1e-6
) -> MixtureParameters:
    """Return the mixture of maximum likelihood given the statistics, with `reg_covar` added to every variance.

    Raises SingularCovarianceError, naming component and column, where a covariance has no inverse.
    """
    expected = _structure(covariance_type).shape(*statistics.means.shape)
    if statistics.sum_outer.shape != expected:
        raise ValueError(
            f"These statistics hold second moments of shape {statistics.sum_outer.shape}; covariance_type="
            f"{covariance_type!r} takes {expected}. Pass the covariance_type of the mixture they were made with."
        )
    return Maximiser(covariance_type, reg_covar, np.zeros(statistics.means.shape[1]))(statistics)


def _structure(covariance_type: str) -> Any:
    if covariance_type not in STRUCTURES:
        raise InvalidParameterError(f"covariance_type must be one of {sorted(STRUCTURES)}. Got {covariance_type!r}.")
    return STRUCTURES[covariance_type]


def _rows(X: ArrayLike, mixture: MixtureParameters) -> Source:
    """Check a block of rows: finite, two-dimensional, as wide as the mixture."""
    check_mixture(mixture, "")
    source = check.as_source(X, "fastgmm.engine")
    if source.n_features != mixture.means.shape[1]:
        raise ValueError(f"X has {source.n_features} features, but the mixture has {mixture.means.shape[1]}.")
    check.check_finite(source, "fastgmm.engine", None)
    return source


def _score(
    name: str,
    X: ArrayLike,
    mixture: MixtureParameters,
    out: NDArray[Any] | None,
    n_threads: int | None,
    of_rows: bool = False,
) -> NDArray[Any]:
    """Fill this output of the kernels, a value for each row or for each row and component: `out`, or a new array."""
    source = _rows(X, mixture)
    shape = (source.n_samples,) if of_rows else (source.n_samples, len(mixture.weights))
    dtype = np.dtype(np.int64) if name == "labels" else source.dtype
    if out is None:
        out = np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(
            f"out must be a writable C-contiguous {dtype} array of shape {shape}. Got {out.dtype} of shape {out.shape}."
        )
    with thread_limit(n_threads):
        MixtureKernels(mixture, source.dtype).score(source.chunks(), **{name: out})
    return out
