"""The Bayesian Gaussian mixture estimator: scikit-learn's interface on the compiled engine."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..callbacks import Callback
from ..model.by_hand import check_mixture
from ..model.covariance import STRUCTURES
from ..model.maximisation import Maximiser
from ..model.parameters import MixtureParameters
from ..model.variational_prior import WEIGHT_PRIORS, MixturePosterior, MixturePrior, expected_log_weights
from ..optimization.em import EMIteration, EMResult
from ..optimization.initialization import initial_statistics
from ..optimization.problem import MixtureProblem
from ..optimization.variational import AcceleratedVariational, Pruning, VariationalIteration, posterior_of
from ..rows.atomic import StrPath
from ..rows.source import Source
from ..storage.container import ModelReader, fail
from ..storage.gaussian import TENSORS
from ..storage.posterior import POSTERIOR, PRIOR, pack_posterior, read_posterior
from .covariance_estimator import COVARIANCE_CONSTRAINTS, CovarianceEstimator
from .fit_warnings import warn_about_columns
from .fitting import FitPlan
from .saving import Packed, pack_facts, unpack_facts, unpack_settings

CONSTRAINTS = COVARIANCE_CONSTRAINTS | {
    "acceleration": [check.one_of("lbfgs"), check.NONE],
    "prune": check.BOOLEAN,
    "weight_concentration_prior_type": [check.one_of(*WEIGHT_PRIORS)],
    "weight_concentration_prior": [check.NONE, check.POSITIVE],
    "mean_precision_prior": [check.NONE, check.POSITIVE],
    "mean_prior": [check.NONE, check.ARRAY_LIKE],
    "degrees_of_freedom_prior": [check.NONE, check.POSITIVE],
    "covariance_prior": [check.NONE, check.ARRAY_LIKE, check.POSITIVE],
}


class BayesianGaussianMixture(CovarianceEstimator):
    """Gaussian mixture fitted by variational inference: components that the data do not need lose their weight.

    A drop-in for `sklearn.mixture.BayesianGaussianMixture` (1.9): same parameters, attributes, methods and messages,
    plus sample weights, more starts, threads, and memory that does not grow with n_samples x n_components. Components
    without rows sit most iterations out.

    Parameters
    ----------
    n_components : int, default=1
        The most that may be used.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    tol : float, default=1e-3
        In nats of the whole lower bound, of which a prior is worth a few whatever the number of rows. Plain updates
        stop when they gain less (scikit-learn's rule). Accelerated ones, whose end a plateau must not feign, when two
        passes in a row, one of them plain, gain less than a thousandth of it and no more is expected.
    reg_covar : float, default=1e-6
        Added to every empirical variance; accelerated in the E-step and the bound too, as a variance by which the rows
        are known to be blurred, so that the bound never falls. (scikit-learn's E-step leaves it out.)
    max_iter : int, default=500
        Most passes over the rows. (100 in scikit-learn, which takes several hundred to converge.)
    n_init : int, default=1
        Number of starts; the one of largest lower bound is kept.
    init_params : str, array-like or callable, default='kmeans'
        As in `GaussianMixture`, 'auto' being 'kmeans'; rows that a sample stands for are counted in.
    weight_concentration_prior_type : {'dirichlet_process', 'dirichlet_distribution'}, default='dirichlet_process'
        Weights from broken sticks, or from a Dirichlet distribution.
    weight_concentration_prior : float or None, default=None
        Smaller values favour fewer components; None is 1 / n_components.
    mean_precision_prior : float or None, default=None
        How many rows' worth the prior of the means is; None is 1.
    mean_prior : array-like of shape (n_features,) or None, default=None
        None is the (weighted) mean of X.
    degrees_of_freedom_prior : float or None, default=None
        How many rows' worth the prior of the covariances is, above n_features - 1; None is n_features.
    covariance_prior : float, array-like or None, default=None
        full, tied: (n_features, n_features); diag: (n_features,); spherical: a number. None is the empirical
        covariance of X, with a denominator of one row less.
    random_state : int, RandomState or None, default=None
    warm_start : bool, default=False
        Start `fit` from the previous posterior; `n_init` is then ignored.
    verbose : int, default=0
    verbose_interval : int, default=10
    n_jobs : int or None, default=None
        Threads; None and -1 mean all that the process may use. Results are the same bits for any number.
    acceleration : {'lbfgs'} or None, default='lbfgs'
        Quasi-Newton steps from the updates' own, taken only where they do not lower the bound: a tenth of the passes
        to the same end, or to another maximum where there are several. None: plain updates, scikit-learn's numbers
        after every iteration. See `fastgmm.optimization.variational`.
    prune : bool, default=False
        Where the fit has converged, try to do without one component after the other, the smallest first, and go on
        from there if the bound is higher: higher bounds with fewer components, by up to three passes a trial.
    callback : callable, object or None, default=None
        As in `GaussianMixture`; `info.lower_bound` is the lower bound per row.
    max_seconds, checkpoint, checkpoint_every, resume
        As in `GaussianMixture`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Expected weights, normalised.
    means_ : ndarray of shape (n_components, n_features)
    covariances_, precisions_, precisions_cholesky_ : ndarray
        Of the expected precisions; shapes as in `GaussianMixture`, in the dtype of X (float32 or float64).
    weight_concentration_ : tuple of two ndarrays of shape (n_components,), or ndarray of shape (n_components,)
        Beta parameters of the sticks, or Dirichlet parameters.
    mean_precision_ : ndarray of shape (n_components,)
    degrees_of_freedom_ : ndarray of shape (n_components,), or a number for 'tied'
    weight_concentration_prior_, mean_precision_prior_, mean_prior_, degrees_of_freedom_prior_, covariance_prior_
        The priors as used.
    converged_, stop_reason_, n_iter_ : as in `GaussianMixture`
    lower_bound_ : float
        Lower bound of the evidence of all rows, in nats, but for a constant of the priors (as in scikit-learn).
    lower_bounds_ : list of float
        Its history over the iterations of the best start.
    log_likelihood_ : float
        Sum of `score_samples` over the (weighted) training rows, in nats.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, only for frames with string column names

    References
    ----------
    Bishop (2006), Pattern recognition and machine learning, section 10.2.
    Blei and Jordan (2006), Variational inference for Dirichlet process mixtures, Bayesian Analysis 1(1).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import BayesianGaussianMixture
    >>> X = np.random.default_rng(0).normal([[0, 0]] * 500 + [[9, 9]] * 500)
    >>> mixture = BayesianGaussianMixture(n_components=8, random_state=0).fit(X)
    >>> int((mixture.weights_ > 0.01).sum())
    2
    """

    _constraints = CONSTRAINTS
    _models = ("BayesianGaussianMixture",)
    _bound_is_per_row = False

    def __init__(
        self,
        *,
        n_components: int = 1,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 500,
        n_init: int = 1,
        init_params: str | ArrayLike | Callable[..., Any] = "kmeans",
        weight_concentration_prior_type: str = "dirichlet_process",
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: float | ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
        acceleration: str | None = "lbfgs",
        prune: bool = False,
        callback: Callback | None = None,
        max_seconds: float | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        resume: bool = False,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_jobs = n_jobs
        self.acceleration = acceleration
        self.prune = prune
        self.callback = callback
        self.max_seconds = max_seconds
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.resume = resume

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the arrays that predictions need are there."""
        return super().__sklearn_is_fitted__() and all(hasattr(self, f"{name}_") for name in POSTERIOR)

    def _pack(self, path: StrPath) -> Packed:
        self._check_is_fitted()
        names = TENSORS + POSTERIOR + PRIOR
        missing = [f"{name}_" for name in names if not hasattr(self, f"{name}_")]
        if missing:
            fail(path, f"the mixture has no {missing[0]}: only fitted ones can be saved")
        values = {name: getattr(self, f"{name}_") for name in names}
        prior = self.weight_concentration_prior_type
        return pack_posterior(path, values, self.covariance_type, prior, pack_facts(self))

    @classmethod
    def _unpack(cls, reader: ModelReader) -> Self:
        settings = unpack_settings(reader, CONSTRAINTS)
        file = read_posterior(reader)
        mixture, arrays, kind = file.mixture, file.arrays, file.weight_prior
        settings["weight_concentration_prior_type"] = kind
        self = cls(n_components=len(mixture.weights), covariance_type=mixture.covariance_type, **settings)
        known: dict[str, Any] = vars(mixture) | {name: arrays[name] for name in POSTERIOR}
        del known["metadata"]
        concentration, mean_precision, dof = (float(arrays[f"{name}_prior"]) for name in POSTERIOR)
        used = MixturePrior(
            WEIGHT_PRIORS[kind], concentration, mean_precision, arrays["mean_prior"], dof, arrays["covariance_prior"]
        )
        self._set_posterior(MixturePosterior(**known), used, mixture.dtype)
        unpack_facts(self, reader)
        return self

    def _objective(self) -> str:
        return "evidence lower bound"

    def _problem(self, source: Source, y: Any, sample_weight: ArrayLike | None) -> MixtureProblem:
        weight = self._check_rows(source, sample_weight)
        check.check_weight_range(weight, "with priors, whose counts are in rows of weight 1")
        columns, ridge = self._summary(source, weight), float(self.reg_covar)
        warn_about_columns(columns, ridge, self._column_names())
        maximise = Maximiser(self.covariance_type, ridge, columns.variance)
        kind = MixturePosterior
        return MixtureProblem(source, columns, weight, int(self.n_components), maximise, parameters_kind=kind)

    def _plan(self, problem: MixtureProblem) -> FitPlan:
        """Variational inference from the posterior of `init_params`."""
        prior, ridge = self._prior(problem), float(self.reg_covar)
        rng = check.check_random_state(self.random_state)

        def start() -> MixtureParameters:
            statistics, _ = initial_statistics(problem, self.init_params, rng)
            return posterior_of(prior, statistics, problem.covariance_type, ridge)

        kind = VariationalIteration if self._setting("acceleration") is None else AcceleratedVariational
        inner = partial(kind, prior=prior, ridge=ridge)
        iterate: Callable[..., EMIteration] = partial(Pruning, inner=inner) if self._setting("prune") else inner
        return FitPlan(start, iterate, rng, self._objective(), prior)

    def _prior(self, problem: MixtureProblem) -> MixturePrior:
        """The hyperparameters: what the user gave, checked, and what the rows say in place of None."""
        n_features = problem.source.n_features
        concentration, precision = self.weight_concentration_prior, self.mean_precision_prior
        mean = problem.columns.mean
        if self.mean_prior is not None:
            mean = check.check_means(self.mean_prior, n_features)
        dof = self.degrees_of_freedom_prior
        if dof is not None and dof <= n_features - 1:
            raise ValueError(
                f"The parameter 'degrees_of_freedom_prior' should be greater than {n_features - 1}, but got {dof:.3f}."
            )
        return MixturePrior(
            WEIGHT_PRIORS[self.weight_concentration_prior_type],
            1.0 / self.n_components if concentration is None else float(concentration),
            1.0 if precision is None else float(precision),
            np.asarray(mean, np.float64),
            float(n_features if dof is None else dof),
            self._covariance_prior(problem),
        )

    def _covariance_prior(self, problem: MixtureProblem) -> NDArray[np.float64]:
        structure, n_features = STRUCTURES[self.covariance_type], problem.source.n_features
        if self.covariance_prior is not None:
            shape = structure.shape(1, n_features)
            shape = shape if structure.pools_components else shape[1:]
            given = check.check_covariance_prior(self.covariance_prior, structure, shape)
            return np.asarray(given, np.float64)
        total = problem.total_weight
        if not total > 1:
            raise ValueError(
                f"covariance_prior=None is the covariance of the rows, which takes weights of more than 1 in all. Got "
                f"{total:g}; scale sample_weight or pass covariance_prior."
            )
        return structure.sample_covariance(
            problem.columns.variance * (total / (total - 1)), lambda: problem.data_pass().data_scatter() / (total - 1)
        )

    def _set_result(self, result: EMResult, plan: FitPlan, problem: MixtureProblem) -> None:
        assert isinstance(result.parameters, MixturePosterior)
        assert plan.prior is not None
        self._set_posterior(result.parameters, plan.prior, problem.source.dtype)

    def _set_posterior(self, parameters: MixturePosterior, prior: MixturePrior, dtype: Any) -> None:
        self._set_mixture(parameters, dtype)
        concentration = parameters.weight_concentration.astype(dtype)
        self.weight_concentration_ = concentration if concentration.ndim == 1 else tuple(concentration)
        self.mean_precision_ = parameters.mean_precision.astype(dtype)
        self.degrees_of_freedom_ = parameters.degrees_of_freedom.astype(dtype)[()]
        self.weight_concentration_prior_ = prior.weight_concentration
        self.mean_precision_prior_ = prior.mean_precision
        self.mean_prior_ = prior.mean.astype(dtype)
        self.degrees_of_freedom_prior_ = prior.degrees_of_freedom
        self.covariance_prior_ = np.asarray(prior.covariance).astype(dtype)[()]

    def _parameters(self) -> MixturePosterior:
        mixture = super()._parameters()
        check_mixture(mixture)
        posterior: dict[str, Any] = {name: np.asarray(getattr(self, f"{name}_"), np.float64) for name in POSTERIOR}
        weights = WEIGHT_PRIORS[self.weight_concentration_prior_type]
        concentration, precision, dof = posterior.values()
        log_weights = expected_log_weights(weights, concentration, precision, dof, mixture.means.shape[1])
        return MixturePosterior(**vars(replace(mixture, log_weights=log_weights)), **posterior)
