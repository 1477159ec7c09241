"""The Gaussian mixture estimator: scikit-learn's interface on the compiled engine."""

import json
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..callbacks import Callback
from ..model.covariance import STRUCTURES
from ..model.map_prior import ConjugatePrior
from ..model.parameters import MixtureParameters, UniformNoise
from ..model.structure import CovarianceStructure
from ..optimization.collapse import Reseeding
from ..optimization.diagnostics import FitDiagnostics, diagnose
from ..optimization.em import EMResult, MStep
from ..optimization.initialization import initial_parameters
from ..optimization.problem import MixtureProblem
from ..optimization.solvers import ACCELERATIONS, SOLVERS
from ..rows.atomic import StrPath
from ..rows.source import Source
from ..storage.container import ModelReader, fail
from ..storage.gaussian import TENSORS, load_noise, pack_mixture, read_mixture
from .base import InformationCriteria
from .covariance_estimator import COVARIANCE_CONSTRAINTS, CovarianceEstimator
from .fitting import FitPlan
from .gaussian.knowledge import resolve_fixed
from .gaussian.problem import is_prior, make_problem, solver_iteration, user_start
from .gaussian.stream import Stream, learn, stream_of
from .saving import Packed, pack_facts, unpack_facts, unpack_settings
from .sklearn_base import InvalidParameterError

CONSTRAINTS = COVARIANCE_CONSTRAINTS | {
    "weights_init": [check.ARRAY_LIKE, check.NONE],
    "means_init": [check.ARRAY_LIKE, check.NONE],
    "precisions_init": [check.ARRAY_LIKE, check.NONE],
    "reg_covar": [check.or_auto(check.AT_LEAST_0)],
    "solver": [check.one_of(*SOLVERS)],
    "solver_options": [check.DICT, check.NONE],
    "prior": [check.one_of("conjugate"), check.Constraint("a ConjugatePrior", is_prior), check.NONE],
    "missing": [check.one_of("raise", "em")],
    "semi_supervised": check.BOOLEAN,
    "fixed": [check.DICT, check.NONE],
    "noise": [check.NONE, *check.BOOLEAN, check.SHARE, check.ARRAY_LIKE],
    "covariance_floor": [check.AT_LEAST_0],
    "on_singular": [check.one_of("raise", "regularize", "restart")],
    "acceleration": [check.one_of(*ACCELERATIONS), check.NONE],
}


class GaussianMixture(InformationCriteria, CovarianceEstimator):
    """Gaussian mixture fitted by maximum likelihood with expectation-maximisation.

    A drop-in for `sklearn.mixture.GaussianMixture` (1.9): same parameters, attributes, methods and messages, plus
    sample weights, more starts, threads, and memory that does not grow with n_samples x n_components.

    Parameters
    ----------
    n_components : int, default=1
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    tol : float, default=1e-3
        EM stops when the mean log-likelihood per row rises by less than `tol` nats.
    reg_covar : float or 'auto', default=1e-6
        Added to every variance. Absolute: a `RegularizationWarning` names columns whose variance is not large
        against it. 'auto' is 1e-6 times each column's variance.
    max_iter : int, default=100
        0 keeps the starting values.
    n_init : int, default=1
        Number of starts; the one of largest likelihood is kept.
    init_params : str, array-like or callable, default='auto'
        'auto': k-means on columns in their own units, K random rows, k-means on standardised columns; some steps of EM
        from each, and the one of largest likelihood goes on (Biernacki, Celeux and Govaert, 2003). With labels, noise,
        missing values, fixed or given parameters it is 'kmeans': k-means++ seeding, local search and Lloyd's
        iterations. Or 'k-means++' (seeding only), 'random_from_data' (random rows as centres), 'random' (random
        responsibilities): on standardised columns, clusters found on a sample of at most max(10000, 50 n_components)
        rows, the first M-step from at most max(10000, 500 n_components) rows ('random': the smaller sample). Or integer
        labels (n_samples,), or responsibilities (n_samples, n_components), or a callable
        `f(X, n_components, random_state)` that returns either of these or means (n_components, n_features). A start
        ends with one M-step; with 'auto' and 'kmeans', from more rows than that, EM on growing samples of the rows
        follows (Meek, Thiesson and Heckerman, 2002), which leaves fewer iterations for all rows. What starts do counts
        neither for `n_iter_` nor for `max_iter`.
    weights_init, means_init, precisions_init : array-like or None, default=None
        Overwrite what the start estimated; shapes as the fitted attributes. With all three, no start is computed.
    random_state : int, RandomState or None, default=None
    warm_start : bool, default=False
        Start `fit` from the previous solution; `n_init` is then ignored.
    verbose : int, default=0
        1 prints starts and every `verbose_interval`-th iteration, 2 adds times and changes.
    verbose_interval : int, default=10
    n_jobs : int or None, default=None
        Threads; None and -1 mean all that the process may use. Results are the same bits for any number.
    acceleration : {'lbfgs'} or None, default=None
        'lbfgs' needs several times fewer iterations where components overlap and `tol` is small: quasi-Newton steps
        from EM's own, taken only where they do not lower the likelihood (Jamshidian and Jennrich, 1997). It begins
        once EM gains less than 1e-3 nats per row and may find another local maximum than plain EM. At `tol` >= 1e-3
        it goes on a little beyond the point where plain EM stops. See `fastgmm.optimization.acceleration`.
    solver : {'em', 'hard', 'annealed', 'stepwise', 'gradient'}, default='em'
        'em': expectation-maximisation. 'hard': classification EM, every row in one component. 'annealed': EM whose
        responsibilities harden slowly, for bad starts. 'stepwise': parameters after every mini-batch, then EM.
        'gradient': gradient ascent with a decaying learning rate. An iteration is a pass over the rows.
    solver_options : dict or None, default=None
        hard: `polish` (EM afterwards, False); annealed: `beta_start`, `beta_growth`, `n_steps`; stepwise, gradient: see
        `fastgmm.optimization.stepwise.StepwiseOptions` and `fastgmm.optimization.gradient.GradientOptions`.
    prior : ConjugatePrior, 'conjugate' or None, default=None
        Maximum a posteriori under a Dirichlet prior of the weights and a normal-inverse-Wishart (diag, spherical:
        normal-inverse-gamma) prior of each component; 'conjugate' is `ConjugatePrior()`, the defaults of Fraley and
        Raftery (2007). The bound is then the log-posterior per row but for a constant, and `reg_covar` is not added:
        the prior does its work.
    missing : {'raise', 'em'}, default='raise'
        What NaN means: an error, or a value missing at random, in `fit` as in scoring (exact EM; rows are grouped by
        the columns they miss).
    semi_supervised : bool, default=False
        Read `y` of `fit` as the component of each row, -1 for unknown. Otherwise `y` is ignored, as in scikit-learn.
    fixed : dict or None, default=None
        Parameters that stay as they are: `weights` (n_components,) or 'equal', `means`, `covariances`, in the shapes
        of the fitted attributes, NaN in the components that are free.
    noise : None, True, float or array-like of shape (2, n_features), default=None
        A component of outliers, uniform over the box of the rows (or over these bounds), beginning with a weight of 0.1
        (or of this number). Its label is -1.
    covariance_floor : float, default=0
        Least eigenvalue of covariances, as a share of each column's variance.
    on_singular : {'raise', 'regularize', 'restart'}, default='raise'
        What happens to a component whose covariance becomes singular: an error; its eigenvalues are raised to 1e-4 of
        the columns' variances; or it is put elsewhere (as is one that loses all rows), at most ten times.
    callback : callable, object or None, default=None
        Called as `callback(info)` after each iteration, or an object with some of the methods `begin(info)`,
        `iteration(info)` and `end(info)`: `info.init`, `n_iter`, `lower_bound`, `change`, `elapsed`, `rows_per_second`
        and more (`fastgmm.callbacks.IterationInfo`). True after an iteration stops the fit.
    max_seconds : float or None, default=None
        The fit stops after the first iteration that ends later than this.
    checkpoint : path-like or None, default=None
        File for the state of the fit, from which `resume` goes on; the one before is kept as `<checkpoint>.previous`.
        The last complete iteration is written however the fit ends, also on Ctrl-C. Not for `partial_fit`.
    checkpoint_every : float or int, default=60.0
        A float: seconds between checkpoints. An int: iterations.
    resume : bool, default=False
        Go on from `checkpoint`, to the same bits as without an interruption; start anew if there is none. Settings and
        data must be those of the checkpoint, but a single start may go on with another `max_iter`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    covariances_, precisions_, precisions_cholesky_ : ndarray
        full: (n_components, n_features, n_features); tied: (n_features, n_features); diag: (n_components,
        n_features); spherical: (n_components,). `precisions_cholesky_` is the upper triangular U with
        U U^T = precision (its square root for diag and spherical). All have the dtype of X if that is float32 or
        float64. Prediction reads `weights_`, `means_` and `precisions_cholesky_`, sampling `covariances_`; they may be
        set by hand.
    converged_ : bool
        True only if the last change was in (-tol / 100, tol): a fall that small is rounding.
    stop_reason_ : str
        'converged', 'max_iter', 'decreased' (the likelihood fell by less than tol: see `reg_covar`), 'callback',
        'max_seconds' or 'passes' (stepwise EM without polish, `partial_fit`).
    n_iter_ : int
        Passes over the rows; accelerated, those whose parameters were rejected included.
    lower_bound_ : float
        Mean log-likelihood per row in nats before the last M-step, as in scikit-learn.
    lower_bounds_ : list of float
        Its history over the iterations of the best start.
    log_likelihood_ : float
        Total log-likelihood in nats of the (weighted) training rows under the returned parameters.
    diagnostics_ : FitDiagnostics
        Sizes and condition numbers of the components, which of them are at the edge of what can be estimated, restarts,
        and how much the objective might still gain; see `fastgmm.optimization.diagnostics`.
    noise_weight_ : float, noise_bounds_ : ndarray of shape (2, n_features)
        With `noise`; `weights_` and `noise_weight_` sum to 1.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, only for frames with string column names

    References
    ----------
    Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm, JRSS B 39(1).
    Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA.
    Lattanzi and Sohler (2019), A better k-means++ algorithm via local search, ICML.
    Jamshidian and Jennrich (1997), Acceleration of the EM algorithm by using quasi-Newton methods, JRSS B 59(3).
    Celeux and Govaert (1992), A classification EM algorithm for clustering and two stochastic versions, CSDA 14(3).
    Ueda and Nakano (1998), Deterministic annealing EM algorithm, Neural Networks 11(2).
    Cappe and Moulines (2009), On-line expectation-maximization algorithm for latent data models, JRSS B 71(3).
    Fraley and Raftery (2007), Bayesian regularization for normal mixture estimation, Journal of Classification 24(2).
    Ghahramani and Jordan (1994), Supervised learning from incomplete data via an EM approach, NIPS 6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> mixture.means_[mixture.predict([[0, 0], [12, 3]])].round(6)
    array([[ 1.,  2.],
           [10.,  2.]])
    """

    _constraints = CONSTRAINTS
    _models = ("GaussianMixture",)
    diagnostics_: FitDiagnostics
    noise_weight_: float
    noise_bounds_: NDArray[np.float64]
    _stream: Stream

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float | str = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str | ArrayLike | Callable[..., Any] = "auto",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
        acceleration: str | None = None,
        solver: str = "em",
        solver_options: dict[str, Any] | None = None,
        prior: ConjugatePrior | str | None = None,
        missing: str = "raise",
        semi_supervised: bool = False,
        fixed: dict[str, Any] | None = None,
        noise: bool | float | ArrayLike | None = None,
        covariance_floor: float = 0.0,
        on_singular: str = "raise",
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
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_jobs = n_jobs
        self.acceleration = acceleration
        self.solver = solver
        self.solver_options = solver_options
        self.prior = prior
        self.missing = missing
        self.semi_supervised = semi_supervised
        self.fixed = fixed
        self.noise = noise
        self.covariance_floor = covariance_floor
        self.on_singular = on_singular
        self.callback = callback
        self.max_seconds = max_seconds
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.resume = resume

    @classmethod
    def from_parameters(
        cls, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, covariance_type: str = "full", **params: Any
    ) -> Self:
        """Return a mixture with these parameters, ready to predict and sample.

        Parameters
        ----------
        weights : array-like of shape (n_components,), summing to 1
        means : array-like of shape (n_components, n_features)
        covariances : array-like, shaped as `covariance_type` says
        covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        **params
            Further constructor parameters.
        """
        structure = _structure(covariance_type)
        n_components, n_features = np.shape(means) if np.ndim(means) == 2 else (np.size(weights), 1)
        means = check.check_means(means, n_components, n_features)
        weights = check.check_weights(weights, n_components)
        covariances = check.check_covariances(covariances, structure, structure.shape(*means.shape))
        self = cls(len(weights), covariance_type=covariance_type, **params)
        parameters = MixtureParameters(
            weights.astype(np.float64),
            means.astype(np.float64),
            structure.cholesky(covariances.astype(np.float64)),
            covariance_type,
            covariances.astype(np.float64),
        )
        self._set_mixture(parameters, np.result_type(weights, means, covariances))
        self.n_features_in_ = means.shape[1]
        return self

    def _pack(self, path: StrPath) -> Packed:
        self._check_is_fitted()
        metadata, weights = pack_facts(self), self.weights_
        if hasattr(self, "noise_weight_"):  # the file's weights sum to 1
            noise = {"weight": float(self.noise_weight_), "bounds": self.noise_bounds_.tolist()}
            metadata["noise"] = json.dumps(noise | {"weights": weights.tolist()})
            weights = weights / weights.sum()
        values = {name: getattr(self, f"{name}_") for name in TENSORS} | {"weights": weights}
        return pack_mixture(path, values, self.covariance_type, metadata)

    @classmethod
    def _unpack(cls, reader: ModelReader) -> Self:
        file = read_mixture(reader)
        settings = unpack_settings(reader, CONSTRAINTS)
        self = cls(len(file.weights), covariance_type=file.covariance_type, **settings)
        try:
            resolve_fixed(self._setting("fixed"), self.covariance_type, file.means.shape, "noise" in file.metadata)
        except ValueError as error:
            fail(reader.path, str(error))
        parameters: MixtureParameters = file
        if "noise" in file.metadata:
            noise, weights = load_noise(reader.path, file)
            parameters = replace(file, weights=weights, noise=noise)
            if not settings:
                self.set_params(noise=noise.bounds)
        self._set_mixture(parameters, file.dtype)
        unpack_facts(self, reader)
        return self

    def _n_parameters(self) -> int:
        n_components, n_features = self.means_.shape
        structure, noise = _structure(self.covariance_type), hasattr(self, "noise_weight_")
        fixed = self._setting("fixed")
        held = resolve_fixed(fixed, self.covariance_type, (n_components, n_features), noise)
        return structure.n_parameters(n_components, n_features) + noise - held.n_held(structure)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from a piece of a stream by stepwise EM (Cappe and Moulines, 2009).

        After `fit` it goes on from the fitted mixture, whose rows count as so many batches; otherwise from a start of
        its own. The columns' scales, a default prior and the box of the noise are taken from the first piece, as is the
        start: give it some hundred rows per component. Later pieces, at best of about a batch's size, move the running
        statistics by (t + t0)^-kappa after batch t, and never less than `forgetting`; these are `solver_options` of
        solver='stepwise', whose defaults apply otherwise. Statistics are carried over exactly. `fit` starts anew. All
        other settings are those of the first piece.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`
            Pieces longer than `batch_size` are cut into batches. Files and other sources are learned block by block;
            so are iterators and generators of arrays, which come without `y` and `sample_weight`, and of which the
            first 50 rows per component, and at least 512, make up the first piece.

        Returns
        -------
        self
        """
        learn(self, X, y, sample_weight)
        return self

    def _objective(self) -> str:
        return SOLVERS[self._setting("solver")].objective_name(has_prior=self._setting("prior") is not None)

    def _parameters(self) -> MixtureParameters:
        parameters = super()._parameters()
        if not hasattr(self, "noise_weight_"):
            return parameters
        return replace(parameters, noise=UniformNoise(float(self.noise_weight_), self.noise_bounds_))

    def _plan(self, problem: MixtureProblem) -> FitPlan:
        """The solver, from the user's start completed by `init_params`."""
        given = user_start(self, problem.source.n_features)
        rng = check.check_random_state(self.random_state)
        m_step: MStep = problem.maximise
        if self._setting("on_singular") == "restart":
            m_step = Reseeding(problem, check.generator_from(rng))

        def start() -> MixtureParameters:
            if isinstance(m_step, Reseeding):
                m_step.begin()
            return initial_parameters(problem, self._chosen_start(), given, rng, m_step, alone=self.max_iter == 0)

        return FitPlan(start, solver_iteration(self, problem, rng), rng, self._objective(), m_step=m_step)

    def _chosen_start(self) -> Any:
        """What `init_params` means; the classes that replace scikit-learn's read its default otherwise."""
        return self.init_params

    def _problem(self, source: Source, y: Any, sample_weight: ArrayLike | None) -> MixtureProblem:
        """Check everything that is known of the rows."""
        weight = self._check_rows(source, sample_weight)
        if self._setting("prior") is not None:
            check.check_weight_range(weight, "with a prior, whose counts are in rows of weight 1")
        unit = check.weight_unit(weight)
        return replace(make_problem(self, source, y, check.in_units(weight, unit)), weight_unit=unit)

    def _set_result(self, result: EMResult, plan: FitPlan, problem: MixtureProblem) -> None:
        self._set_mixture(result.parameters, problem.source.dtype)
        total_weight = float(problem.total_weight) * problem.weight_unit
        self.diagnostics_ = diagnose(result, problem.maximise, total_weight)
        if stream_of(self) is not None:
            del self._stream

    def _set_mixture(self, parameters: MixtureParameters, dtype: Any) -> None:
        super()._set_mixture(parameters, dtype)
        for name in ("noise_weight_", "noise_bounds_"):
            self.__dict__.pop(name, None)
        if parameters.noise is not None:
            self.noise_weight_, self.noise_bounds_ = parameters.noise.weight, parameters.noise.bounds


def _structure(covariance_type: str) -> CovarianceStructure:
    """Look a covariance type up; InvalidParameterError for an unknown one."""
    given, allowed = {"covariance_type": covariance_type}, {"covariance_type": CONSTRAINTS["covariance_type"]}
    check.check_parameters("GaussianMixture", given, allowed, InvalidParameterError)
    return STRUCTURES[covariance_type]
