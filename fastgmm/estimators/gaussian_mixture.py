"""The Gaussian mixture estimator: scikit-learn's interface on the compiled engine."""

import math
from collections.abc import Callable
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..model.covariance import STRUCTURES, CovarianceStructure
from ..model.parameters import MixtureParameters
from ..optimization.acceleration import ITERATIONS
from ..optimization.initialization import StartProblem, UserStart, initial_parameters
from . import _validation as check
from ._base import InvalidParameterError
from ._em import COMMON_CONSTRAINTS, EMEstimator, FitPlan
from ._progress import Callback

CONSTRAINTS = COMMON_CONSTRAINTS | {
    "weights_init": [check.ARRAY_LIKE, check.NONE],
    "means_init": [check.ARRAY_LIKE, check.NONE],
    "precisions_init": [check.ARRAY_LIKE, check.NONE],
    "acceleration": [check.one_of(*(name for name in ITERATIONS if name is not None)), check.NONE],
}


class GaussianMixture(EMEstimator):
    """Gaussian mixture fitted by maximum likelihood with expectation-maximisation.

    A drop-in for `sklearn.mixture.GaussianMixture` (1.9): same parameters, attributes, methods and messages, plus
    sample weights, more starts, threads, and memory that does not grow with n_samples x n_components.

    Parameters
    ----------
    n_components : int, default=1
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    tol : float, default=1e-3
        EM stops when the mean log-likelihood per row rises by less than `tol` nats.
    reg_covar : float, default=1e-6
        Added to every variance. Absolute: a `RegularizationWarning` names columns whose variance is not large
        against it.
    max_iter : int, default=100
        0 keeps the starting values.
    n_init : int, default=1
        Number of starts; the one of largest likelihood is kept.
    init_params : str, array-like or callable, default='kmeans'
        'kmeans' (k-means++ seeding, local search and Lloyd's iterations), 'k-means++' (seeding only),
        'random_from_data' (random rows as centres), 'random' (random responsibilities): on standardised columns,
        clusters found on a sample of at most max(25000, 50 n_components) rows, the first M-step from at most
        max(25000, 500 n_components) rows ('random': the smaller sample). Or integer labels (n_samples,), or
        responsibilities (n_samples, n_components), or a callable `f(X, n_components, random_state)` that returns
        either of these or means (n_components, n_features). A start ends with one M-step.
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
    callback : callable or None, default=None
        Called as `callback(info)` after each iteration, with `info.init`, `n_iter`, `max_iter`, `lower_bound`,
        `change` and `n_samples`; returning True stops the fit.

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
        True only if the last change was in [0, tol).
    stop_reason_ : str
        'converged', 'max_iter', 'decreased' (the likelihood fell by less than tol: see `reg_covar`) or 'callback'.
    n_iter_ : int
        Passes over the rows; accelerated, those whose parameters were rejected included.
    lower_bound_ : float
        Mean log-likelihood per row in nats before the last M-step, as in scikit-learn.
    lower_bounds_ : list of float
        Its history over the iterations of the best start.
    log_likelihood_ : float
        Total log-likelihood in nats of the (weighted) training rows under the returned parameters.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, only for frames with string column names

    References
    ----------
    Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm, JRSS B 39(1).
    Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA.
    Lattanzi and Sohler (2019), A better k-means++ algorithm via local search, ICML.
    Jamshidian and Jennrich (1997), Acceleration of the EM algorithm by using quasi-Newton methods, JRSS B 59(3).

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

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str | ArrayLike | Callable[..., Any] = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
        acceleration: str | None = None,
        callback: Callback | None = None,
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
        self.callback = callback

    def aic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Akaike's information criterion on X: -2 log-likelihood + 2 n_parameters; smaller is better."""
        return -2 * self._log_likelihood(X, sample_weight)[0] + 2 * self._n_parameters()

    def bic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion on X: -2 log-likelihood + n_parameters log(total weight)."""
        total, weight = self._log_likelihood(X, sample_weight)
        return -2 * total + self._n_parameters() * math.log(weight)

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        covariance_type: str = "full",
        **params: Any,
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
        covariances = check.check_covariances(covariances, covariance_type, structure.shape(*means.shape))
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

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted mixture to a safetensors file, atomically; see `fastgmm.model.persistence`."""
        from ..model.persistence import save_mixture

        self._check_is_fitted()
        metadata = {"dtype": str(self.means_.dtype)}
        for name in ("converged_", "n_iter_", "lower_bound_", "log_likelihood_", "stop_reason_"):
            if hasattr(self, name):
                metadata[name.rstrip("_")] = str(getattr(self, name))
        save_mixture(
            path,
            weights=self.weights_,
            means=self.means_,
            covariances=self.covariances_,
            precisions_cholesky=self.precisions_cholesky_,
            covariance_type=self.covariance_type,
            metadata=metadata,
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a mixture written by `save`, validated; `FormatError` says what is wrong with a bad file."""
        from ..model.persistence import load_mixture

        file = load_mixture(path)
        self = cls(len(file.weights), covariance_type=file.covariance_type)
        parameters = MixtureParameters(
            file.weights, file.means, file.precisions_cholesky, file.covariance_type, file.covariances
        )
        self._set_mixture(parameters, np.dtype(file.metadata.get("dtype", "float64")))
        self.n_features_in_ = file.means.shape[1]
        return self

    def _n_parameters(self) -> int:
        """Number of free parameters."""
        n_components, n_features = self.means_.shape
        return _structure(self.covariance_type).n_parameters(n_components, n_features)

    def _plan(self, problem: StartProblem) -> FitPlan:
        """EM from the user's start, completed by `init_params`."""
        user = self._user_start(problem.source.n_features)
        rng = check.check_random_state(self.random_state)
        return FitPlan(lambda: initial_parameters(problem, self.init_params, user, rng), ITERATIONS[self.acceleration])

    def _set_result(self, parameters: MixtureParameters, plan: FitPlan, dtype: Any) -> None:
        self._set_mixture(parameters, dtype)

    def _user_start(self, n_features: int) -> UserStart:
        """Check the user's starting values; like scikit-learn, the checked arrays replace what was passed."""
        structure = _structure(self.covariance_type)
        weights, means, factors = None, None, None
        if self.weights_init is not None:
            self.weights_init = check.check_weights(self.weights_init, self.n_components)
            weights = self.weights_init.astype(np.float64)
        if self.means_init is not None:
            self.means_init = check.check_means(self.means_init, self.n_components, n_features)
            means = self.means_init.astype(np.float64)
        if self.precisions_init is not None:
            shape = structure.shape(self.n_components, n_features)
            self.precisions_init = check.check_precisions(self.precisions_init, self.covariance_type, shape)
            factors = structure.cholesky_of_precisions(self.precisions_init.astype(np.float64))
        return UserStart(weights, means, factors)


def _structure(covariance_type: str) -> CovarianceStructure:
    """Look a covariance type up; InvalidParameterError for an unknown one."""
    check.check_parameters(
        "GaussianMixture",
        {"covariance_type": covariance_type},
        {"covariance_type": CONSTRAINTS["covariance_type"]},
        InvalidParameterError,
    )
    return STRUCTURES[covariance_type]
