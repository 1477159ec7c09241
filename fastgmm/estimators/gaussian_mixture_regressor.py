"""Regression by a joint mixture: the distribution of the targets given the features, not only its mean."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..distributed.sources import distribute_if_asked
from ..exceptions import InvalidParameterError
from ..rows.source import Source
from ..rows.wrappers import ChosenColumns
from ..validation import check_parameters
from .base import MixtureEstimator
from .conditioning import Conditional
from .gaussian_mixture import GaussianMixture
from .mixture_regressor import MixtureRegressor, required
from .standardised import StandardisedMixture

SETTINGS = ("n_components", "covariance_type", "reg_covar", "n_init", "missing")  # those of the joint mixture
Array = NDArray[np.float64]


class GaussianMixtureRegressor(MixtureRegressor):
    """Regression by a Gaussian mixture of features and targets together.

    Given the features, the targets follow a mixture whose components and their probabilities depend on these: it may
    have several peaks, be skewed, and spread more here than there. With one component it is linear regression.

    Parameters
    ----------
    n_components : int, default=1
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        Of the joint mixture, on standardised columns.
    reg_covar : float, default=1e-6
        Added to the variances of the standardised columns.
    n_init : int, default=1
    missing : {'raise', 'em'}, default='raise'
        With 'em', NaN among the features is a value that is not known, in `fit` and in predictions.
    mixture : estimator, default=None
        An unfitted mixture of any kind for the joint rows, features before targets, instead of the standardised
        `GaussianMixture` that the settings above describe.
    random_state : int, RandomState or None, default=None
    n_jobs : int or None, default=None
        Threads; None: all that the process may use.

    Attributes
    ----------
    mixture_ : the fitted joint mixture, whose last columns are the targets
        `mixture_.save` keeps it in a file, `from_mixture` makes a regressor of it.
    n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X has names.

    References
    ----------
    Z. Ghahramani and M. I. Jordan (1994), Supervised learning from incomplete data via an EM approach, NIPS 6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixtureRegressor
    >>> x = np.random.default_rng(0).uniform(-3, 3, size=(3000, 1))
    >>> y = np.abs(x[:, 0]) + np.random.default_rng(1).normal(0, 0.1, size=3000)
    >>> model = GaussianMixtureRegressor(4, random_state=0).fit(x, y)
    >>> model.predict([[-2.0], [2.0]]).round(1).tolist()
    [2.0, 2.0]
    >>> model.predict_quantiles([[2.0]], [0.1, 0.9]).round(1).tolist()
    [[1.9, 2.1]]
    """

    mixture_: Any

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        reg_covar: float = 1e-6,
        n_init: int = 1,
        missing: str = "raise",
        mixture: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.n_init = n_init
        self.missing = missing
        self.mixture = mixture
        self.random_state = random_state
        self.n_jobs = n_jobs

    @classmethod
    def from_mixture(cls, mixture: Any, n_outputs: int = 1) -> Self:
        """Return a regressor that predicts the last `n_outputs` columns of a fitted mixture from the others."""
        mixture._check_is_fitted()
        n_features = mixture.means_.shape[1]
        if not 1 <= n_outputs < n_features:
            raise ValueError(f"n_outputs must be from 1 to {n_features - 1}, got {n_outputs}.")
        self = cls(len(mixture.means_), mixture=mixture, random_state=mixture.random_state, n_jobs=mixture.n_jobs)
        self.mixture_, names = mixture, mixture._column_names()
        kept = None if names is None else list(names[:-n_outputs])
        self._remember(kept, n_features - n_outputs, n_outputs, single=n_outputs == 1)
        return self

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, executor: Any = None) -> Self:
        """Fit the joint mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), a frame, or rows from files or elsewhere (`open_source`)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs); for rows from files or elsewhere, and for
            frames, the name or number of the column among those of X that is the target, or a list of them
        sample_weight : array-like of shape (n_samples,), default=None
        executor : executor or Dask client, default=None
            On whose workers the rows are; see `GaussianMixture.fit`.
        """
        settings = {name: getattr(self, name) for name in SETTINGS}
        constraints = {name: GaussianMixture._constraints[name] for name in SETTINGS}
        check_parameters(type(self).__name__, settings, constraints, InvalidParameterError)
        required(self, y)
        joint, names, n_outputs, single = self._joint(X, y)
        mixture = self._joint_mixture()
        mixture.fit(distribute_if_asked(joint, executor), None, sample_weight)
        self.mixture_ = mixture
        self._remember(names, mixture.n_features_in_ - n_outputs, n_outputs, single)
        return self

    def conditional(self, X: Any) -> Any:
        """Return the mixture of the targets for one row of features, (n_features,) or (1, n_features)."""
        values = np.asarray(X, np.float64).reshape(-1)
        self._check_is_fitted()
        return self.mixture_.condition(np.arange(self.n_features_in_), values)

    @property
    def _may_miss(self) -> bool:  # type: ignore[override]
        mixture = getattr(self, "mixture_", self.mixture)
        return bool(self.missing == "em" if mixture is None else getattr(mixture, "_may_miss", False))

    def _joint_mixture(self) -> Any:
        """An unfitted mixture for the joint rows."""
        if self.mixture is not None:
            if not isinstance(self.mixture, MixtureEstimator):
                raise TypeError(f"mixture must be a mixture of fastgmm, got a {type(self.mixture).__name__}.")
            made = type(self.mixture)(**self.mixture.get_params(deep=False))
            if isinstance(made, StandardisedMixture):
                made.mixture = type(made.mixture)(**made.mixture.get_params(deep=False))
            return made
        return StandardisedMixture(
            GaussianMixture(
                self.n_components,
                covariance_type=self.covariance_type,
                reg_covar=self.reg_covar,
                n_init=self.n_init,
                missing=self.missing,
                random_state=self.random_state,
                n_jobs=self.n_jobs,
            )
        )

    def _conditional(self) -> Conditional:
        self._check_is_fitted()
        n_features = self.n_features_in_
        given, wanted = np.arange(n_features), np.arange(n_features, n_features + self.n_outputs_)
        return Conditional(self, self.mixture_._density().conditionals(given, wanted), given, wanted)

    def _ask(self, source: Source, question: str, option: Any = None) -> Array:
        """What the mixture says of the targets, (n_samples, n_outputs[, ...])."""
        if not self._may_miss:
            return super()._ask(source, question, option)
        joint = WithUnknown(source, self.n_outputs_)
        every = Conditional(self, self.mixture_._density(), None, np.arange(joint.n_features))
        return every._ask(joint, question, option, checked=True)[:, self.n_features_in_ :]


class WithUnknown(ChosenColumns):
    """Rows with columns of NaN behind them."""

    def __init__(self, source: Source, n_unknown: int) -> None:
        super().__init__(source, np.arange(source.n_features))
        self.n_features, self._n_unknown = source.n_features + n_unknown, n_unknown
        self.names = None

    def read_as(self, dtype: Any) -> "WithUnknown":
        """Return the same rows in this precision."""
        return WithUnknown(self._source.read_as(dtype), self._n_unknown)

    def _made_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([rows, np.full((len(rows), self._n_unknown), np.nan, rows.dtype)], axis=1)
