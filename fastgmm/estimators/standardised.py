"""A mixture together with the standardisation of its columns: one model, one file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._homes import MODELS, find
from ..distributed.sources import distribute_if_asked
from ..model.wrapped import Rescaled
from ..representation.scaling import Standardisation
from ..representation.transformed import TransformedSource
from ..rows.atomic import StrPath
from ..rows.source import Source
from ..storage import container as files
from ..storage.container import ModelReader, fail
from ..storage.gaussian import LOG_LIKELIHOOD_OF_ROWS, STANDARDISATION, check_standardisation, read_standardisation
from ..threads import thread_limit
from ..validation import check_sample_weight, in_units, weight_unit
from .base import InformationCriteria
from .fitting import EMEstimator
from .saving import Packed

# Attributes of the mixture that say the same of the whole.
SHARED = (
    *("weights_", "converged_", "n_iter_", "stop_reason_", "diagnostics_", "n_features_in_", "feature_names_in_"),
    *("n_jobs", "random_state"),
)


class StandardisedMixture(InformationCriteria):
    """A mixture of rows whose columns are brought to mean 0 and variance 1 first, in the original units outside.

    Columns in different units then weigh the same in the start, in `reg_covar` and in `noise_floor`. Densities are
    those of the original rows, and so are samples; `mixture` itself, with its bounds and whatever it was told of means
    and covariances, lives in standardised units. A file holds both. Rows are standardised in blocks as they are read,
    in memory or not, and nowhere copied as a whole.

    Parameters
    ----------
    mixture : GaussianMixture, BayesianGaussianMixture or MixtureOfFactorAnalyzers
        Fitted by `fit`, or before to what `standardisation` makes of the rows.
    standardisation : Standardisation or None, default=None
        A fitted one, where `mixture` is fitted already. `fit` puts a new one here, except for a warm start, which goes
        on in the units of the fit before.

    Attributes
    ----------
    weights_, converged_, n_iter_, stop_reason_, diagnostics_, n_features_in_, feature_names_in_ : of `mixture`
    means_ : ndarray of shape (n_components, n_features)
        In the units of X.
    log_likelihood_ : float
        Of the (weighted) training rows in the units of X, in nats.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture, StandardisedMixture
    >>> X = np.random.default_rng(0).normal([1e6, 0.0], [1e3, 1e-3], size=(500, 2))
    >>> model = StandardisedMixture(GaussianMixture(1)).fit(X)
    >>> model.sample(3)[0].shape
    (3, 2)
    """

    _models = ("StandardisedMixture",)
    log_likelihood_: float

    def __init__(self, mixture: Any, standardisation: Standardisation | None = None) -> None:
        self.mixture = mixture
        self.standardisation = Standardisation() if standardisation is None else standardisation

    def __getattr__(self, name: str) -> Any:
        if name in SHARED:
            return getattr(self.mixture, name)
        if name == "means_":
            return self.standardisation.inverse_transform(self.mixture.means_)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __sklearn_is_fitted__(self) -> bool:
        """Whether both parts are fitted."""
        return hasattr(self.standardisation, "mean_") and self.mixture.__sklearn_is_fitted__()

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, executor: Any = None) -> Self:
        """Fit the standardisation in one pass, then the mixture to the standardised rows; weights count in both.

        Parameters and errors are those of `mixture.fit`.
        """
        self._fit("fit", distribute_if_asked(X, executor), y, sample_weight)
        return self

    def fit_predict(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, executor: Any = None
    ) -> NDArray[np.int64]:
        """Fit and return the label of each row, shape (n_samples,): equal to `fit(X).predict(X)`."""
        return np.asarray(self._fit("fit_predict", distribute_if_asked(X, executor), y, sample_weight))

    def _fit(self, method: str, X: Any, y: Any, sample_weight: ArrayLike | None) -> Any:
        """Fit by this method of the mixture, and return what it returns; a fit that fails leaves all as it was."""
        self._kind()
        mixture = self.mixture
        with mixture._keeping_names():
            source = mixture._read(X, reset=True, min_samples=2)
            weight = check_sample_weight(sample_weight, source.n_samples)
            unit, standardisation = weight_unit(weight), self.standardisation
            with thread_limit(mixture._setting("n_jobs")):
                columns = mixture._summary(source, in_units(weight, unit))
            if not (mixture._goes_on() and hasattr(standardisation, "mean_")):
                standardisation = Standardisation().fit_summary(columns)
            rows = TransformedSource(source, standardisation, mixture._column_names())
            result = getattr(mixture, method)(rows, y, weight)
        self.standardisation = standardisation
        log_abs_det = -float(columns.present @ np.log(standardisation.scale_))  # of the values that there are
        self.log_likelihood_ = mixture.log_likelihood_ + log_abs_det * unit
        return result

    def _setting(self, name: str) -> Any:
        return self.mixture._setting(name)

    @property
    def _may_miss(self) -> bool:
        return bool(self.mixture._may_miss)

    @contextmanager
    def _naming_nonfinite(self, source: Source, may_miss: bool) -> Iterator[None]:
        """In standardised units: these may leave the floating-point range."""
        with self.mixture._naming_nonfinite(TransformedSource(source, self.standardisation, source.names), may_miss):
            yield

    def _score_input(self, X: Any, may_keep: bool = False) -> Source:
        self._check_is_fitted()
        source: Source = self.mixture._score_input(X, may_keep)
        return source

    def _density(self) -> Rescaled:
        return Rescaled(self.mixture._density(), self.standardisation)

    def _n_parameters(self) -> int:
        """Those of the mixture: mean and scale of the columns are not counted."""
        if not isinstance(self.mixture, InformationCriteria):
            raise AttributeError(f"a {type(self.mixture).__name__} has no information criteria")
        return self.mixture._n_parameters()

    def _kind(self) -> str:
        """Name of the class of the mixture; TypeError if it cannot be one."""
        if not isinstance(self.mixture, EMEstimator):
            raise TypeError(f"mixture must be one of {_mixtures()}, got a {type(self.mixture).__name__}")
        return str(self.mixture._models[0])

    def _pack(self, path: StrPath) -> Packed:
        kind = self._kind()
        tensors, header = self.mixture._pack(path)
        self.standardisation._check_fitted()
        values = (self.standardisation.mean_, self.standardisation.scale_)
        arrays = files.contiguous(dict(zip(STANDARDISATION, values, strict=True)))
        check_standardisation(path, arrays, tensors["means"].shape[1])
        own = {"model": self._models[0], "mixture": kind}
        if hasattr(self, "log_likelihood_"):
            own[LOG_LIKELIHOOD_OF_ROWS] = str(self.log_likelihood_)
        return tensors | arrays, header | own

    @classmethod
    def _unpack(cls, reader: ModelReader) -> Self:
        kind = reader.metadata.get("mixture", "")
        if kind not in _mixtures():
            fail(reader.path, f"metadata 'mixture' must be one of {_mixtures()}, got {kind[:100]!r}")
        reader.set_aside(STANDARDISATION)
        mixture = find(kind)._unpack(reader)
        standardisation = Standardisation()
        standardisation.n_features_in_ = mixture.n_features_in_
        standardisation.mean_, standardisation.scale_ = read_standardisation(reader, mixture.n_features_in_)
        self = cls(mixture, standardisation)
        text = reader.metadata.get(LOG_LIKELIHOOD_OF_ROWS)
        if text is not None:
            try:
                self.log_likelihood_ = float(text)
            except ValueError:
                fail(reader.path, f"metadata {LOG_LIKELIHOOD_OF_ROWS!r} is no number: {text[:100]!r}")
        return self


def _mixtures() -> list[str]:
    """Names of the mixtures that may be fitted to standardised rows."""
    return [name for name, home in MODELS.items() if home.startswith("estimators.") and name != "StandardisedMixture"]
