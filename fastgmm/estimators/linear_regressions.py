"""A mixture of linear regressions: rows lie about one of several lines or planes, and nobody says about which."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..distributed.sources import distribute_if_asked
from ..exceptions import InvalidParameterError, warn
from ..model.regressions import LinearMaximiser, LinearParameters, LinearStatistics, conditionals_of, regressed
from ..rows.source import ArraySource, Source
from ..rows.summary import summarise_columns
from ..threads import thread_limit
from ..validation import (
    ARRAY_LIKE,
    AT_LEAST_0,
    BOOLEAN,
    NONE,
    as_source,
    check_parameters,
    check_random_state,
    check_sample_weight,
    check_weights,
    in_units,
    integer,
    one_of,
    raise_nonfinite,
    weight_unit,
)
from .conditioning import Conditional
from .mixture_regressor import MixtureRegressor, required
from .sklearn_base import ConvergenceWarning

CONSTRAINTS = {
    "n_components": [integer(1)],
    "gate": [one_of("constant", "softmax")],
    "noise": [one_of("free", "shared")],
    "weights": [one_of("free", "equal"), ARRAY_LIKE],
    "alpha": [AT_LEAST_0],
    "fit_intercept": BOOLEAN,
    "hard_assignment": BOOLEAN,
    "noise_floor": [AT_LEAST_0],
    "tol": [AT_LEAST_0],
    "max_iter": [integer(1)],
    "n_init": [integer(1)],
    "fixed": [ARRAY_LIKE, NONE],
}
SAMPLE_ROWS = 10_000  # that starts are tried on
SHORT = 15  # iterations of each start
EQUAL = 1e-9  # starts that end so near to each other are one, and the first is kept
Array = NDArray[np.float64]
Index = NDArray[np.int64]


class MixtureOfLinearRegressions(MixtureRegressor):
    """Each row belongs to one of several linear regressions, by maximum likelihood (EM).

    p(y | x) = sum over k of pi_k(x) N(y; intercept_k + coef_k x, noise_variance_k): projections onto one of K lines.

    Parameters
    ----------
    n_components : int, default=2
    gate : {'constant', 'softmax'}, default='constant'
        Whether the probabilities of the components depend on the features, by a softmax of linear functions (a mixture
        of experts). For probabilities that follow the density of the features see `GaussianMixtureRegressor`.
    noise : {'free', 'shared'}, default='free'
        Whether each component has its own noise, or all have the same.
    weights : {'free', 'equal'} or array-like of shape (n_components,), default='free'
        Given class priors are kept.
    alpha : float, default=0.0
        Ridge penalty on the slopes: that of so many more rows of each component, in units of the features' variances.
    fit_intercept : bool, default=True
    fixed : array-like of shape (n_components, n_features + 1), default=None
        Coefficients that are known, the intercept first; NaN where they are not. (n_components, n_outputs,
        n_features + 1) for several targets.
    hard_assignment : bool, default=False
        Whether a row counts for its most probable component alone (classification EM), as by indicators.
    noise_floor : float, default=1e-6
        Least variance of the noise, in units of the targets' variances; without, a line through few rows has an
        unbounded likelihood.
    tol : float, default=1e-6
        EM stops when the mean log-likelihood per row, in nats, rises by less.
    max_iter : int, default=1000
    n_init : int, default=20
        Starts: planes through a few rows drawn at random, each improved by some iterations on a sample; the best goes
        on. Lines that cross are found so, which a clustering of the rows does not find.
    random_state : int, RandomState or None, default=None
    n_jobs : int or None, default=None

    Attributes
    ----------
    coef_ : ndarray of shape (n_components, n_features), or (n_components, n_outputs, n_features)
    intercept_ : ndarray of shape (n_components,), or (n_components, n_outputs)
    noise_variance_ : ndarray of shape (n_components,), or (n_components, n_outputs, n_outputs)
    weights_ : ndarray of shape (n_components,)
        Mean probabilities of the components over the training rows; those of a constant gate.
    gate_coef_, gate_intercept_ : ndarrays of shape (n_components, n_features) and (n_components,)
        Of the softmax.
    log_likelihood_ : float
        Of the (weighted) training rows, in nats.
    n_iter_ : int
    converged_ : bool
    n_features_in_, n_outputs_ : int

    References
    ----------
    R. D. De Veaux (1989), Mixtures of linear regressions, CSDA 8. M. I. Jordan and R. A. Jacobs (1994), Hierarchical
    mixtures of experts and the EM algorithm, Neural Computation 6. D. Boehning (1992), Multinomial logistic regression
    algorithm, AISM 44.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import MixtureOfLinearRegressions
    >>> rng = np.random.default_rng(0)
    >>> x, line = rng.uniform(-1, 1, size=(400, 1)), rng.integers(2, size=400)
    >>> y = np.where(line == 0, 1 + 2 * x[:, 0], -1 * x[:, 0]) + rng.normal(0, 0.05, size=400)
    >>> model = MixtureOfLinearRegressions(2, random_state=0).fit(x, y)
    >>> model.coef_[np.argsort(model.intercept_)].round(1).tolist()
    [[-1.0], [2.0]]
    """

    coef_: Array
    intercept_: Array
    noise_variance_: Array
    weights_: Array
    _parameters: LinearParameters

    def __init__(
        self,
        n_components: int = 2,
        *,
        gate: str = "constant",
        noise: str = "free",
        weights: Any = "free",
        alpha: float = 0.0,
        fit_intercept: bool = True,
        fixed: Any = None,
        hard_assignment: bool = False,
        noise_floor: float = 1e-6,
        tol: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 20,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.gate = gate
        self.noise = noise
        self.weights = weights
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.fixed = fixed
        self.hard_assignment = hard_assignment
        self.noise_floor = noise_floor
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        labels: ArrayLike | None = None,
        executor: Any = None,
    ) -> Self:
        """Fit by EM.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), a frame, or rows from files or elsewhere (`open_source`)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), or the name or number of the target's column
            among those of X, or a list of them
        sample_weight : array-like of shape (n_samples,), default=None
        labels : array-like of int of shape (n_samples,), default=None
            Known components of rows, -1 where they are not known.
        executor : executor or Dask client, default=None
            On whose workers the rows are; see `GaussianMixture.fit`.
        """
        settings = {name: getattr(self, name) for name in CONSTRAINTS}
        check_parameters(type(self).__name__, settings, CONSTRAINTS, InvalidParameterError)
        required(self, y)
        joint, names, n_outputs, single = self._joint(X, y)
        source = as_source(distribute_if_asked(joint, executor), type(self).__name__, 1, np.float64)
        weight = check_sample_weight(sample_weight, source.n_samples)
        unit = weight_unit(weight)
        weight, known = in_units(weight, unit), self._checked_labels(labels, source.n_samples)
        with thread_limit(self.n_jobs):
            self._run(source, weight, known, n_outputs)
        self.log_likelihood_ *= unit
        self._remember(names, source.n_features - n_outputs, n_outputs, single)
        self._set_attributes(single)
        return self

    def component_proba(self, X: Any, y: ArrayLike | None = None) -> Array:
        """Probabilities of the components, (n_samples, n_components): given the features, or with y given both."""
        source = self._rows(X)
        if y is None:
            return self._conditional().predict_proba(source)
        return self._of_rows(source, y, "resp")

    def predict_component(self, X: Any, y: ArrayLike) -> Index:
        """The most probable component of each row, (n_samples,)."""
        return np.argmax(self.component_proba(X, y), axis=1)

    def _run(self, source: Source, weight: Array | None, labels: Index | None, n_outputs: int) -> None:
        """Set what a fit finds."""
        n_features = source.n_features - n_outputs
        columns = summarise_columns(source, weight)
        if not columns.finite:
            raise_nonfinite(source, type(self).__name__, None if source.names is None else np.array(source.names))
        shift, variance = columns.mean, columns.variance
        if not self.fit_intercept:
            shift = np.zeros_like(shift)
        scale = np.where(variance[:n_features] > 0, variance[:n_features], 1.0)
        unit = np.where(variance[n_features:] > 0, variance[n_features:], 1.0)
        maximise = LinearMaximiser(
            unit, float(self.noise_floor), self.noise == "shared", float(self.alpha), bool(self.fit_intercept),
            self._held_weights(), self.gate, self._held_coefficients(n_outputs, n_features, shift), scale,
        )  # fmt: skip
        parameters = self._start(source, weight, labels, n_outputs, shift, maximise)
        before, self.converged_, history = -np.inf, False, []
        total = float(source.n_samples if weight is None else weight.sum())
        for iteration in range(1, self.max_iter + 1):
            statistics = _pass(source, parameters, bool(self.hard_assignment), weight, labels)
            history.append(statistics.log_likelihood / total)
            self.n_iter_, self.log_likelihood_ = iteration, statistics.log_likelihood
            self._parameters, self.weights_ = parameters, _shares(statistics)
            if iteration > 1 and history[-1] - before < self.tol:
                self.converged_ = True
                break
            before, parameters = history[-1], maximise(statistics, parameters)
        self.lower_bounds_ = history
        if not self.converged_:
            warn(
                f"EM stopped at max_iter={self.max_iter} before the mean log-likelihood rose by less than "
                f"tol={self.tol:g}. Raise max_iter or tol.",
                ConvergenceWarning,
            )

    def _start(
        self, source: Source, weight: Array | None, labels: Index | None, n_outputs: int, shift: Array,
        maximise: LinearMaximiser,
    ) -> LinearParameters:  # fmt: skip
        """The best of short runs from planes through a few rows each, on a sample."""
        rng, n_components = check_random_state(self.random_state), self.n_components
        index = np.arange(source.n_samples)
        if source.n_samples > SAMPLE_ROWS:
            index = np.sort(rng.choice(source.n_samples, SAMPLE_ROWS, replace=False))
        rows = np.ascontiguousarray(source.take(index), np.float64)
        here = None if weight is None else np.ascontiguousarray(weight[index])
        known = None if labels is None else np.ascontiguousarray(labels[index])
        usable = np.arange(len(rows)) if here is None else np.flatnonzero(here > 0)
        n_inputs = rows.shape[1] - n_outputs + 1
        flat = LinearParameters(
            shift,
            np.zeros((n_components, n_outputs, n_inputs)),
            np.tile(np.diag(maximise.variance), (n_components, 1, 1)),
            np.zeros((n_components, n_inputs)),
            self.gate == "softmax",
        )
        sample, best, highest = ArraySource(rows), flat, -np.inf
        size = min(len(usable), n_inputs + 1)
        centred = rows - shift
        for _ in range(self.n_init if n_components > 1 else 1):
            coefficients = np.zeros_like(flat.coefficients)
            for k in range(n_components):
                own = usable if known is None or not (known == k).any() else np.flatnonzero(known == k)
                chosen = centred[rng.choice(own, min(size, len(own)), replace=False)]
                inputs = np.column_stack([np.ones(len(chosen)), chosen[:, : n_inputs - 1]])
                if not self.fit_intercept:
                    inputs[:, 0] = 0.0
                coefficients[k] = np.linalg.lstsq(inputs, chosen[:, n_inputs - 1 :], rcond=1e-10)[0].T
            if n_components == 1:
                coefficients[:] = 0.0
            parameters = _with_held(replace(flat, coefficients=coefficients), maximise)
            value = -np.inf
            for _ in range(SHORT):
                statistics = _pass(sample, parameters, bool(self.hard_assignment), here, known)
                value, parameters = statistics.log_likelihood, maximise(statistics, parameters)
            if value > highest + EQUAL * abs(highest) or not np.isfinite(highest):
                best, highest = parameters, value
        return best

    def _held_weights(self) -> Array | None:
        if isinstance(self.weights, str):
            return None if self.weights == "free" else np.full(self.n_components, 1.0 / self.n_components)
        if self.gate == "softmax":
            raise ValueError("weights cannot be held where gate='softmax' makes them depend on the features.")
        return np.asarray(check_weights(self.weights, self.n_components), np.float64)

    def _held_coefficients(self, n_outputs: int, n_features: int, shift: Array) -> Array | None:
        """Fixed coefficients, as those of shifted rows."""
        if self.fixed is None:
            return None
        fixed = np.array(self.fixed, np.float64)
        if fixed.ndim == 2:
            fixed = fixed[:, None]
        expected = (self.n_components, n_outputs, n_features + 1)
        if fixed.shape != expected or np.isinf(fixed).any():
            raise ValueError(f"fixed must have shape {expected}, without infinities, got shape {np.shape(self.fixed)}.")
        slopes, held = fixed[:, :, 1:], ~np.isnan(fixed[:, :, 0])
        if (held & np.isnan(slopes).any(axis=2)).any() and np.any(shift):
            raise ValueError(
                "fixed holds an intercept whose slopes are free, which is for features of mean 0 alone; hold the "
                "slopes too, or set fit_intercept=False on rows that are shifted by the intercept."
            )
        moved = np.nan_to_num(slopes) @ shift[:n_features] - shift[n_features:]
        fixed[:, :, 0] = np.where(held, fixed[:, :, 0] + moved, np.nan)
        return fixed

    def _checked_labels(self, labels: Any, n_samples: int) -> Index | None:
        if labels is None:
            return None
        known = np.asarray(labels)
        if known.shape != (n_samples,) or known.dtype.kind not in "iu":
            raise ValueError(f"labels must be {n_samples} whole numbers, got {known.dtype} of shape {known.shape}.")
        if known.min() < -1 or known.max() >= self.n_components:
            raise ValueError(
                f"labels must lie between -1 and {self.n_components - 1}, got {known.min()} to {known.max()}."
            )
        return known.astype(np.int64)

    def _set_attributes(self, single: bool) -> None:
        parameters, n_features = self._parameters, self.n_features_in_
        shift = parameters.shift
        slopes = parameters.coefficients[:, :, 1:]
        intercepts = parameters.coefficients[:, :, 0] + shift[n_features:] - slopes @ shift[:n_features]
        self.coef_ = slopes[:, 0] if single else slopes
        self.intercept_ = intercepts[:, 0] if single else intercepts
        self.noise_variance_ = parameters.covariances[:, 0, 0] if single else np.array(parameters.covariances)
        self.gate_coef_ = parameters.gates[:, 1:] - parameters.gates[:, 1:].mean(axis=0)
        gates = parameters.gates[:, 0] - parameters.gates[:, 1:] @ shift[:n_features]
        self.gate_intercept_ = gates - gates.mean()

    def _conditional(self) -> Conditional:
        self._check_is_fitted()
        n_features = self.n_features_in_
        given, wanted = np.arange(n_features), np.arange(n_features, n_features + self.n_outputs_)
        return Conditional(self, conditionals_of(self._parameters), given, wanted)

    def _of_rows(self, source: Source, y: ArrayLike, what: str) -> Any:
        target = np.asarray(y, np.float64).reshape(source.n_samples, -1)
        rows = np.concatenate([block for _, block in source.chunks()])
        joint = as_source(np.column_stack([rows, target]), type(self).__name__, 1, np.float64)
        with thread_limit(self.n_jobs):
            return regressed(joint, self._parameters, False, what)


def _pass(
    source: Source, parameters: LinearParameters, hard: bool, weight: Array | None, labels: Index | None
) -> LinearStatistics:
    """Statistics of all rows, wherever they are."""
    parts = source.map_parts(regressed, parameters, hard, "", per_row=(weight, labels))
    total = None
    for part in parts:
        total = part if total is None else total + part
    assert total is not None
    return total


def _shares(statistics: LinearStatistics) -> Array:
    counts = statistics.moments[:, 0, 0]
    return np.asarray(counts / counts.sum())


def _with_held(parameters: LinearParameters, maximise: LinearMaximiser) -> LinearParameters:
    """The same with the coefficients that are held."""
    if maximise.fixed is None:
        return parameters
    held = ~np.isnan(maximise.fixed)
    return replace(parameters, coefficients=np.where(held, maximise.fixed, parameters.coefficients))
