"""The mixture of factor analysers: Gaussians of low rank plus noise, for rows of hundreds or thousands of features."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..callbacks import Callback
from ..model.by_hand import check_factors
from ..model.factors.maximisation import FactorMaximiser, NoisePrior
from ..model.factors.parameters import FactorParameters
from ..model.factors.scoring import FactorDensity
from ..model.factors.stacking import stacked
from ..optimization.em import EMIteration, EMResult
from ..optimization.factor_problem import FactorProblem
from ..optimization.factor_start import factor_start
from ..rows.atomic import StrPath
from ..rows.source import Source
from ..rows.summary import ColumnSummary
from ..storage.container import ModelReader
from ..storage.factors import load_settings, pack_factor_mixture, read_factor_mixture
from ..threads import thread_limit
from .base import InformationCriteria
from .fit_warnings import warn_about_constant_columns, warn_about_result
from .fitting import COMMON_CONSTRAINTS, EMEstimator, FitPlan
from .saving import Packed, pack_facts, unpack_facts, unpack_settings
from .sklearn_base import InvalidParameterError

PRIOR_SHARE = 0.3  # of a column's variance, the mode of the noise under noise_prior='auto'
OBS_NOISE = [check.AT_LEAST_0]
FIRST_SETTINGS = ("noise_type", "shared_noise", "noise_floor", "obs_noise")
CONSTRAINTS = COMMON_CONSTRAINTS | {
    "n_factors": [check.integer(1)],
    "noise_type": [check.one_of("diagonal", "isotropic")],
    "shared_noise": check.BOOLEAN,
    "noise_floor": [check.POSITIVE],
    "noise_prior": [check.NONE, check.one_of("auto"), check.ARRAY_LIKE],
    "obs_noise": OBS_NOISE,
    "init_params": [check.one_of("kmeans", "random"), check.ARRAY_LIKE],
    "missing": [check.one_of("raise", "em")],
}


class MixtureOfFactorAnalyzers(InformationCriteria, EMEstimator):
    """Mixture of Gaussians with covariances loadings loadings^T + diag(noise), fitted by exact EM in factor space.

    A row of component k is x = mean_k + loadings_k z + e, with factors z ~ N(0, I) and noise e ~ N(0, diag(noise_k)).
    Memory and time grow with n_features x n_factors, never with n_features^2: for images and other rows of hundreds
    or thousands of features, of which a component has fewer rows than features. There is one pass over the rows per
    iteration; rows with a negligible share in a component cost nothing in its M-step. float32 rows are read as such
    and summed in float64.

    Parameters
    ----------
    n_components : int, default=1
    n_factors : int, default=2
        Columns of the loadings of each component, at most n_features.
    noise_type : {'diagonal', 'isotropic'}, default='diagonal'
        'isotropic': one noise variance per component, a mixture of probabilistic principal component analysers.
    shared_noise : bool, default=False
        All components have the same noise.
    noise_floor : float, default=1e-6
        Least noise variance, in squared units of the rows. Where it is active, the likelihood may fall a little. It
        decides what a model of images is good for: for pixels in [0, 1] about 1e-5 for densities, 1e-2 to complete or
        classify images.
    noise_prior : (float, float), 'auto' or None, default=None
        Shape and scale of an inverse-gamma prior of every free noise variance: maximum a posteriori. With residual sum
        of squares S over N rows, the variance is (S + 2 scale) / (N + 2 shape + 2). 'auto' has shape 0, and for scale
        0.3 of the variance of the column (isotropic: of the mean column): it weighs like two rows. On 4,000 digits
        it took the bits per pixel of held-out ones from 6.4 to 5.1 at a floor of 1e-5 (`python -m benchmarks.images`).
    obs_noise : float, default=0.0
        Variance of independent noise that rows to score, label or complete have in addition to the model's own; `fit`
        and `sample` do not use it. To be changed by `set_params` without a new fit.
    tol : float, default=1e-3
        EM stops when the mean log-likelihood per row (with a prior: log-posterior) rises by less than `tol` nats.
    max_iter : int, default=100
    n_init : int, default=1
        Number of starts; the one of largest bound is kept.
    init_params : {'kmeans', 'random'} or array-like of shape (n_samples,), default='kmeans'
        Each component starts from the principal components of a cluster of k-means (of at most max(10,000,
        300 n_components) rows and max(256, n_features / 8) features, drawn at random, in the units of the data; up to
        256 MiB), of a random group of rows, or of the rows with its label among the rows drawn.
    missing : {'raise', 'em'}, default='raise'
        'em': NaN is a value that was not observed, in `fit` (exact EM for the visible values) and in scoring.
    random_state : int, RandomState or None, default=None
    warm_start : bool, default=False
        Start `fit` from the previous parameters; `n_init` is then ignored.
    verbose : int, default=0
    verbose_interval : int, default=10
    n_jobs : int or None, default=None
        Threads; None and -1 mean all that the process may use. Results are the same bits for any number.
    callback : callable, object or None, default=None
        As in `GaussianMixture`.
    max_seconds, checkpoint, checkpoint_every, resume
        As in `GaussianMixture`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    loadings_ : ndarray of shape (n_components, n_features, n_factors)
        Determined but for a rotation of the factors.
    noise_variance_ : ndarray of shape (n_components, n_features)
        All in the dtype of X (float32 or float64).
    converged_, stop_reason_, n_iter_, lower_bound_, lower_bounds_, log_likelihood_ : as in `GaussianMixture`
    n_features_in_ : int
    feature_names_in_ : ndarray of str, only for frames with string column names

    References
    ----------
    Z. Ghahramani and G. E. Hinton (1996), The EM algorithm for mixtures of factor analyzers, CRG-TR-96-1.
    M. E. Tipping and C. M. Bishop (1999), Mixtures of probabilistic principal component analysers, Neural Computation
    11(2).
    E. Richardson and Y. Weiss (2018), On GANs and GMMs, NeurIPS.

    Examples
    --------
    >>> from fastgmm import MixtureOfFactorAnalyzers
    >>> from fastgmm.datasets import load_digits
    >>> X = load_digits()[0].reshape(-1, 64)
    >>> X = X[:, X.std(axis=0) > 0]  # three pixels are always black
    >>> mixture = MixtureOfFactorAnalyzers(10, 4, noise_floor=1e-2, random_state=0, tol=0.1).fit(X)
    >>> mixture.loadings_.shape
    (10, 61, 4)
    """

    _constraints = CONSTRAINTS
    _models = ("MixtureOfFactorAnalyzers", "ImageGenerator")
    _defining = ("weights_", "means_", "loadings_", "noise_variance_")
    loadings_: NDArray[Any]
    noise_variance_: NDArray[Any]

    def __init__(
        self,
        n_components: int = 1,
        n_factors: int = 2,
        *,
        noise_type: str = "diagonal",
        shared_noise: bool = False,
        noise_floor: float = 1e-6,
        noise_prior: tuple[float, float] | str | None = None,
        obs_noise: float = 0.0,
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str | ArrayLike = "kmeans",
        missing: str = "raise",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
        callback: Callback | None = None,
        max_seconds: float | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        resume: bool = False,
    ) -> None:
        self.n_components = n_components
        self.n_factors = n_factors
        self.noise_type = noise_type
        self.shared_noise = shared_noise
        self.noise_floor = noise_floor
        self.noise_prior = noise_prior
        self.obs_noise = obs_noise
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.missing = missing
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_jobs = n_jobs
        self.callback = callback
        self.max_seconds = max_seconds
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.resume = resume

    def fit_predict(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, executor: Any = None
    ) -> NDArray[np.int64]:
        """Fit and return the label of each row, shape (n_samples,): equal to `fit(X).predict(X)`."""
        return np.asarray(self.fit(X, y, sample_weight, executor=executor).predict(X))

    @classmethod
    def from_parameters(
        cls, weights: ArrayLike, means: ArrayLike, loadings: ArrayLike, noise_variance: ArrayLike, **params: Any
    ) -> Self:
        """Return a mixture with these parameters, ready to predict and sample.

        Parameters
        ----------
        weights : array-like of shape (n_components,), summing to 1
        means : array-like of shape (n_components, n_features)
        loadings : array-like of shape (n_components, n_features, n_factors)
        noise_variance : array-like, above 0
            Of a shape that broadcasts to (n_components, n_features).
        **params
            Further constructor parameters.
        """
        n_components, n_features = np.shape(means) if np.ndim(means) == 2 else (np.size(weights), 1)
        means = check.check_means(means, n_components, n_features)
        weights = check.check_weights(weights, n_components)
        loadings = np.asarray(loadings)
        if loadings.ndim != 3 or loadings.shape[:2] != means.shape or not 1 <= loadings.shape[2] <= n_features:
            raise ValueError(
                f"loadings must have shape ({n_components}, {n_features}, n_factors) with n_factors from 1 to "
                f"{n_features}, but got {loadings.shape}"
            )
        noise = np.asarray(noise_variance)
        if not (np.all(noise > 0) and np.isfinite(noise).all() and np.isfinite(loadings).all()):
            raise ValueError("loadings must be finite and noise_variance finite and above 0")
        dtype = np.result_type(weights, means, np.float32 if loadings.dtype == np.float32 else np.float64)
        self = cls(n_components, loadings.shape[2], **params)
        noise = np.broadcast_to(noise, means.shape).astype(np.float64)
        arrays = [np.asarray(array, np.float64) for array in (weights, means, loadings)]
        self._set_factors(FactorParameters(arrays[0], arrays[1], arrays[2], noise), dtype)
        self.n_features_in_ = n_features
        return self

    @classmethod
    def stack(
        cls, mixtures: Sequence["MixtureOfFactorAnalyzers"], X: Any, noise_levels: Sequence[float] = (0.0,)
    ) -> Self:
        """Return one mixture of several, each at several levels of additional noise, weighted to fit new rows best.

        A mixture with little noise is sharp, but gives a row that is unlike all others a density next to nothing; the
        same mixture with more noise is there for those rows. Several mixtures together are better than the best.

        Parameters
        ----------
        mixtures : sequence of MixtureOfFactorAnalyzers
            Fitted to rows of the same features.
        X : array-like of shape (n_samples, n_features)
            Rows that none of the mixtures was fitted to: the weights maximise their likelihood.
        noise_levels : sequence of float, default=(0.0,)
            Variances added to the noise of each mixture.

        References
        ----------
        P. Smyth and D. Wolpert (1999), Linearly combining density estimators via stacking, Machine Learning 36.
        """
        if not mixtures or not all(np.isfinite(level) and level >= 0 for level in noise_levels) or not noise_levels:
            raise ValueError("stack needs at least one mixture and finite noise levels of at least 0.")
        source = mixtures[0]._score_input(X)
        for number, mixture in enumerate(mixtures):
            if mixture.means_.shape[1] != source.n_features:
                raise ValueError(
                    f"mixture {number} has {mixture.means_.shape[1]} features, but X has {source.n_features}."
                )
        each = [mixture._parameters() for mixture in mixtures]
        parts = [parameters.with_observation_noise(float(level)) for parameters in each for level in noise_levels]
        with thread_limit(mixtures[0].n_jobs), mixtures[0]._naming_nonfinite(source, may_miss=False):
            parameters = stacked(parts, source)
        self = cls(len(parameters.weights), parameters.n_factors, n_jobs=mixtures[0].n_jobs)
        self._set_factors(parameters, np.result_type(*(mixture.means_ for mixture in mixtures)))
        self.n_features_in_ = source.n_features
        return self

    def sample(self, n_samples: int = 1, *, noise: bool = True) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows from the mixture; see `GaussianMixture.sample`.

        Parameters
        ----------
        n_samples : int, default=1
        noise : bool, default=True
            Without, rows are mean + loadings z: images without grain.
        """
        return self._sampled(n_samples, noise=noise)

    def reconstruct(self, X: Any, mode: str = "mean") -> NDArray[Any]:
        """Return the rows without what the model takes for noise: mean + loadings z of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN is a value that was not observed. With `obs_noise`, this denoises.
        mode : {'mean', 'sample'}, default='mean'
            The expectation given the row, or a draw of component and factors from their posterior.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32 if X and the model are, else float64
        """
        return self._filled(X, mode, "reconstructor")

    def get_covariance(self, component: int) -> NDArray[Any]:
        """Return the covariance matrix of a component, (n_features, n_features)."""
        self._check_is_fitted()
        loadings = self.loadings_[component]
        return np.asarray(loadings @ loadings.T + np.diag(self.noise_variance_[component]))

    def _n_parameters(self) -> int:
        (n_components, n_features), n_factors = self.means_.shape, self.loadings_.shape[2]
        rotations = n_factors * (n_factors - 1) // 2
        noise = (1 if self.shared_noise else n_components) * (1 if self.noise_type == "isotropic" else n_features)
        return n_components * (n_features * (n_factors + 1) - rotations + 1) - 1 + noise

    def _density(self) -> FactorDensity:
        name, values = type(self).__name__, {"obs_noise": self.obs_noise}  # it may have been set since the fit
        check.check_parameters(name, values, {"obs_noise": OBS_NOISE}, InvalidParameterError)
        parameters = self._parameters()
        check_factors(parameters)
        return FactorDensity(parameters, self._may_miss, float(self.obs_noise))

    def _density_of(self, parameters: FactorParameters) -> FactorDensity:
        return FactorDensity(parameters, self._may_miss)

    def _parameters(self) -> FactorParameters:
        """The fitted arrays as they stand now."""
        weights, means, loadings, noise = (np.asarray(getattr(self, name), np.float64) for name in self._defining)
        return FactorParameters(weights, means, loadings, noise)

    def _set_factors(self, parameters: FactorParameters, dtype: Any) -> None:
        self.weights_ = parameters.weights.astype(dtype)
        self.means_ = parameters.means.astype(dtype)
        self.loadings_ = parameters.loadings.astype(dtype)
        self.noise_variance_ = np.maximum(parameters.noise_variance, np.finfo(dtype).tiny).astype(dtype)

    def _pack(self, path: StrPath) -> Packed:
        self._check_is_fitted()
        # In metadata of their own, where the first release looks for them.
        own = {name: str(getattr(self, name)) for name in FIRST_SETTINGS}
        return pack_factor_mixture(path, self._parameters(), self.means_.dtype, pack_facts(self) | own)

    @classmethod
    def _unpack(cls, reader: ModelReader) -> Self:
        parameters = read_factor_mixture(reader)
        settings = load_settings(reader.path, reader.metadata)
        settings |= unpack_settings(reader, CONSTRAINTS)
        self = cls(*parameters.loadings.shape[::2], **settings)
        self._set_factors(parameters, np.dtype(reader.metadata["dtype"]))
        unpack_facts(self, reader)
        return self

    def _problem(self, source: Source, y: Any, sample_weight: ArrayLike | None) -> FactorProblem:
        """Check rows, weights and settings."""
        weight = self._check_rows(source, sample_weight)
        if self.noise_prior is not None:
            check.check_weight_range(weight, "with a noise_prior, whose counts are in rows of weight 1")
        unit = check.weight_unit(weight)
        weight = check.in_units(weight, unit)
        if self.n_factors > source.n_features:
            raise ValueError(f"n_factors = {self.n_factors} is more than n_features = {source.n_features}.")
        columns = self._summary(source, weight)
        at_floor = self.noise_type == "diagonal" and self.noise_prior is None
        variance = f"noise_floor = {self.noise_floor:g}" if at_floor else "noise alone"
        warn_about_constant_columns(columns, variance, self._column_names())
        maximise = FactorMaximiser(
            self.noise_type == "isotropic", bool(self.shared_noise), float(self.noise_floor), self._prior(columns)
        )
        sizes = columns.has_missing, int(self.n_factors)
        return FactorProblem(source, columns, weight, int(self.n_components), maximise, *sizes, weight_unit=unit)

    def _objective(self) -> str:
        return "log-likelihood" if self.noise_prior is None else "log-posterior"

    def _prior(self, columns: ColumnSummary) -> NoisePrior | None:
        if self.noise_prior is None:
            return None
        if isinstance(self.noise_prior, str):
            variance = np.maximum(columns.variance, self.noise_floor)
            return NoisePrior(0.0, PRIOR_SHARE * (variance.mean() if self.noise_type == "isotropic" else variance))
        values = np.asarray(self.noise_prior, np.float64)
        if values.shape != (2,) or not np.all(values > 0) or not np.isfinite(values).all():
            raise ValueError(f"noise_prior must be a shape and a scale, both above 0. Got {self.noise_prior!r}.")
        return NoisePrior(*values.tolist())

    def _plan(self, problem: FactorProblem) -> FitPlan:
        rng = check.check_random_state(self.random_state)
        init = self.init_params
        if not isinstance(init, str):
            init = check_labels(init, problem)

        def start() -> FactorParameters:
            problem.maximise.restarts.clear()
            return factor_start(problem, init, check.generator_from(rng))

        return FitPlan(start, EMIteration, rng, self._objective())

    def _set_result(self, result: EMResult, plan: FitPlan, problem: FactorProblem) -> None:
        self._set_factors(result.parameters, problem.source.dtype)

    def _warn_about(self, result: EMResult, plan: FitPlan) -> None:
        warn_about_result(result, f"noise_floor = {self.noise_floor:g}", plan.objective, may_empty=False)

    def _previous_parameters(self, n_features: int) -> FactorParameters:
        shape = (self.n_components, n_features, self.n_factors)
        if self.loadings_.shape != shape:
            raise ValueError(
                f"warm_start=True continues a fit with loadings of shape {self.loadings_.shape}, but n_components, "
                f"n_factors and X now ask for {shape}. Set warm_start=False to start anew."
            )
        return self._parameters()


def check_labels(labels: Any, problem: FactorProblem) -> NDArray[np.int64]:
    """Return starting labels of shape (n_samples,), from 0 to n_components - 1."""
    array = np.asarray(labels)
    check.check_shape(array, (problem.source.n_samples,), "init_params")
    is_int = array.dtype.kind in "iu"
    if not is_int or array.min() < 0 or array.max() >= problem.n_components:
        got = f" from {array.min()} to {array.max()}" if is_int else ""
        raise ValueError(
            f"init_params, as labels, must be ints from 0 to n_components - 1 = {problem.n_components - 1}. Got "
            f"{array.dtype}{got}."
        )
    return array.astype(np.int64)
