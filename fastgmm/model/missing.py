"""Rows with missing values: exact EM, densities and imputation (Ghahramani and Jordan, 1994; Little and Rubin, 2019).

Values are missing at random. Rows are grouped by which columns they miss. Within a group the observed columns follow
the marginal mixture, so that the kernels for complete rows give its responsibilities and statistics; expected
statistics of all columns are linear in those: with B_k the regression of the missing on the observed columns, a row's
expected deviation is (I, B_k) times its observed one, and the missing columns vary by what the regression leaves.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows.source import ArraySource, Source, blocks
from .bridge import MixtureKernels, Resp, Rows
from .covariance import STRUCTURES, covariances_of
from .expectation import StatisticsPass
from .log_density import complete_log_likelihood
from .parameters import Array, MixtureParameters
from .resumable import Resumable
from .sampling import Draws, drawn_components
from .statistics import SufficientStatistics

BLOCK_ROWS = 65536  # whose gaps are looked at together


@dataclass(frozen=True)
class Pattern:
    """Rows that miss the same columns.

    Attributes
    ----------
    index : ndarray of int64
        Their places among all rows, increasing.
    observed, missing : ndarrays of int64
        Columns.
    """

    index: NDArray[np.int64]
    observed: NDArray[np.int64]
    missing: NDArray[np.int64]


def find_patterns(rows: Rows, n_features: int) -> list[Pattern]:
    """Group rows by the columns they miss, in a fixed order; rows that miss all of them are in no group."""
    codes = []
    for _, block in blocks(rows, BLOCK_ROWS):
        codes.append(np.packbits(np.isnan(block), axis=1))
    bits = np.ascontiguousarray(np.concatenate(codes))
    _, firsts, group = np.unique(bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_inverse=True)
    order = np.argsort(group.astype(np.min_scalar_type(len(firsts))), kind="stable")  # narrow integers sort by radix
    stops = np.cumsum(np.bincount(group))
    patterns = []
    for start, stop, code in zip([0, *stops[:-1]], stops, bits[firsts], strict=True):
        is_missing = np.unpackbits(code)[:n_features].astype(bool)
        if not is_missing.all():
            patterns.append(Pattern(order[start:stop], np.flatnonzero(~is_missing), np.flatnonzero(is_missing)))
    return patterns


def marginal(parameters: MixtureParameters, columns: NDArray[np.int64]) -> MixtureParameters:
    """The mixture of these columns."""
    structure = STRUCTURES[parameters.covariance_type]
    covariances = np.ascontiguousarray(structure.marginal(covariances_of(parameters), columns))
    noise = parameters.noise
    return replace(
        parameters,
        means=np.ascontiguousarray(parameters.means[:, columns]),
        covariances=covariances,
        precisions_cholesky=structure.cholesky(covariances),
        noise=None if noise is None else replace(noise, bounds=noise.bounds[:, columns]),
    )


def _visible(parameters: MixtureParameters, pattern: Pattern) -> MixtureParameters:
    """The mixture of what a group of rows shows."""
    return marginal(parameters, pattern.observed) if len(pattern.missing) else parameters


def with_covariances(parameters: MixtureParameters) -> MixtureParameters:
    """The same mixture, its covariances computed if need be."""
    return replace(parameters, covariances=covariances_of(parameters))


class MissingPass(Resumable):
    """An EM pass over rows with missing values, NaN.

    Of an array it holds a copy of the observed values, group by group; other rows are grouped anew in every pass, block
    by block.

    Parameters
    ----------
    source : Source
    sample_weight : ndarray of shape (n_samples,) or None
    shift : ndarray of shape (n_features,)
    """

    changing = ("passes",)
    is_pass = True

    def __init__(self, source: Source, sample_weight: Array | None, shift: Array) -> None:
        self.source, self.sample_weight, self.shift = source, sample_weight, shift
        self.groups: list[tuple[Pattern, StatisticsPass]] = []
        self._unseen = np.empty(0, np.int64)
        if not isinstance(source, ArraySource):
            return
        X = np.concatenate([block for _, block in source.chunks()]) if source.n_samples else source.X
        self._unseen = np.flatnonzero(np.isnan(X).all(axis=1))
        for pattern in find_patterns([(0, X)], len(shift)):
            weight = None if sample_weight is None else np.ascontiguousarray(sample_weight[pattern.index])
            if weight is None or weight.any():
                rows = ArraySource(_observed(X, pattern), source.dtype)
                self.groups.append((pattern, StatisticsPass(rows, shift[pattern.observed], weight)))

    def __call__(
        self, parameters: MixtureParameters, resp: Resp | None = None, hard: bool = False
    ) -> SufficientStatistics:
        """Return the expected statistics of all rows under `parameters`.

        Under responsibilities given for an array, the log-likelihood is that of rows and components together. Rows
        without any value say nothing, and count nowhere unless their component is known.
        """
        parameters = with_covariances(parameters)
        total = _nothing(parameters)
        if not isinstance(self.source, ArraySource):
            for first, block in self.source.chunks():
                weight = None if self.sample_weight is None else self.sample_weight[first : first + len(block)]
                total = total + MissingPass(ArraySource(block), weight, self.shift)(parameters, hard=hard)
        for pattern, estimate in self.groups:
            part = _visible(parameters, pattern)
            statistics = estimate(part, None if resp is None else resp[pattern.index], hard)
            if resp is not None:
                at_means = statistics.about(part.means, STRUCTURES[part.covariance_type])
                statistics = replace(statistics, log_likelihood=complete_log_likelihood(part, at_means))
            total = total + completed(statistics, parameters, pattern)
        return total if resp is None or not len(self._unseen) else total + self._of_unseen(parameters, resp)

    def _of_unseen(self, parameters: MixtureParameters, resp: Resp) -> SufficientStatistics:
        """Statistics of rows of known components without any value: they count in the weights, and vary as expected."""
        structure, n_features = STRUCTURES[parameters.covariance_type], parameters.means.shape[1]
        share = resp[self._unseen]
        counts = share.sum(axis=0) if self.sample_weight is None else self.sample_weight[self._unseen] @ share
        present = counts > 0
        return replace(
            _nothing(parameters),
            log_likelihood=float(counts[present] @ np.log(parameters.weights[present])),
            sum_resp=counts,
            sum_outer=structure.denominator(counts, n_features) * covariances_of(parameters),
        )

    @property
    def passes(self) -> list[StatisticsPass]:
        """Those over the groups."""
        return [estimate for _, estimate in self.groups]


def _nothing(parameters: MixtureParameters) -> SufficientStatistics:
    """Statistics of no rows."""
    structure, means = STRUCTURES[parameters.covariance_type], parameters.means
    empty = np.zeros(structure.shape(*means.shape))
    return SufficientStatistics(0.0, np.zeros(len(means)), np.zeros_like(means), empty, means)


def completed(
    statistics: SufficientStatistics, parameters: MixtureParameters, pattern: Pattern
) -> SufficientStatistics:
    """Expected statistics of all columns, about the parameters' means, from those of the observed columns."""
    structure = STRUCTURES[parameters.covariance_type]
    statistics = statistics.about(parameters.means[:, pattern.observed], structure)
    observed, missing = pattern.observed, pattern.missing
    if len(missing) == 0:
        return statistics
    sum_diff, covariances = np.zeros(parameters.means.shape), covariances_of(parameters)
    sum_diff[:, observed] = statistics.sum_diff
    coefficients = structure.regression(covariances, observed, missing)
    if coefficients is not None:
        sum_diff[:, missing] = (coefficients @ statistics.sum_diff[:, :, None])[:, :, 0]
    sum_outer = structure.completed_outer(
        statistics.sum_outer, statistics.sum_resp, covariances, observed, missing, coefficients
    )
    return replace(statistics, sum_diff=sum_diff, sum_outer=sum_outer, means=parameters.means)


def score_missing(X: NDArray[Any], parameters: MixtureParameters, **outputs: NDArray[Any]) -> None:
    """`MixtureKernels.score` for rows with missing values, by their observed columns.

    A row without any value has density 1, the weights as responsibilities, and the label of the largest, which like
    those of the kernels is n_components if that is the noise's.
    """
    parameters = with_covariances(parameters)
    weights, noise = parameters.weights, parameters.noise
    likeliest = int(np.argmax(weights if noise is None else np.append(weights, noise.weight)))
    nothing = {"log_prob_norm": 0.0, "labels": likeliest, "resp": weights}
    for name, output in outputs.items():
        output[:] = nothing[name]
    for pattern in find_patterns([(0, X)], X.shape[1]):
        values = _observed(X, pattern)
        parts = {name: np.empty((len(values), *output.shape[1:]), output.dtype) for name, output in outputs.items()}
        MixtureKernels(_visible(parameters, pattern), X.dtype).score([(0, values)], **parts)
        for name, part in parts.items():
            outputs[name][pattern.index] = part


def _observed(X: NDArray[Any], pattern: Pattern) -> NDArray[Any]:
    """The observed values of a group of rows, C-contiguous."""
    rows = X[pattern.index]
    return rows if len(pattern.missing) == 0 else np.ascontiguousarray(rows[:, pattern.observed])


def impute(X: NDArray[Any], parameters: MixtureParameters, draws: Draws | None) -> NDArray[Any]:
    """Return a copy of X with its gaps filled: by conditional means, or by draws if there are any.

    The conditional mean of a row is its components' regressions weighted by responsibilities; a draw picks a component
    by responsibilities, then the missing values from its conditional Gaussian. Rows without any value get the mean of
    the mixture or a draw from it.
    """
    parameters = replace(with_covariances(parameters), noise=None)
    weights = parameters.weights / parameters.weights.sum()
    out = X.copy()
    numbers = None if draws is None else draws.numbers(X.shape[1])
    for pattern in find_patterns([(0, X)], X.shape[1]):
        if len(pattern.missing) == 0:
            continue
        values = _observed(X, pattern)
        resp = np.empty((len(values), len(weights)), X.dtype)
        MixtureKernels(_visible(parameters, pattern), X.dtype).score([(0, values)], resp=resp)
        filled = _conditional(values, resp.astype(np.float64), parameters, pattern, numbers)
        out[pattern.index[:, None], pattern.missing] = filled
    empty = np.flatnonzero(np.isnan(X).all(axis=1))
    if len(empty):
        nothing = Pattern(empty, np.arange(0), np.arange(X.shape[1]))
        resp = np.broadcast_to(weights, (len(empty), len(weights)))
        out[empty] = _conditional(X[empty, :0], resp, parameters, nothing, numbers)
    return out


def _conditional(
    values: NDArray[Any],
    resp: Array,
    parameters: MixtureParameters,
    pattern: Pattern,
    numbers: tuple[Array, list[Array]] | None,
) -> Array:
    """Conditional means of the missing columns of a group, (n_rows, n_missing), or draws by `numbers` of the block."""
    dense = STRUCTURES[parameters.covariance_type].dense(covariances_of(parameters), parameters.means.shape[1])
    observed, missing = pattern.observed, pattern.missing
    shares = resp
    if numbers is not None:
        uniform, (normal,) = numbers
        shares = np.eye(resp.shape[1])[drawn_components(resp, uniform[pattern.index])]
    filled = np.zeros((len(values), len(missing)))
    for k, mean in enumerate(parameters.means):
        covariance = dense[k % len(dense)]
        across = covariance[observed[:, None], missing]
        coefficients = np.linalg.solve(covariance[observed[:, None], observed], across)
        here = np.flatnonzero(shares[:, k])
        expected = mean[missing] + (values[here] - mean[observed]) @ coefficients
        if numbers is not None:
            left = covariance[missing[:, None], missing] - across.T @ coefficients
            expected += normal[pattern.index[here][:, None], missing] @ np.linalg.cholesky(left).T
        filled[here] += shares[here, k : k + 1] * expected
    return filled
