"""A mixture together with the standardisation of its columns: one model, one file."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model import files
from ..model.files import ModelReader, StrPath, fail
from ..model.persistence import STANDARDISATION, check_standardisation, read_standardisation
from ..representation.scaling import Standardisation
from ._base import DensityEstimator
from ._persistence import Packed, Saveable
from .bayesian_gaussian_mixture import BayesianGaussianMixture
from .factor_mixture import MixtureOfFactorAnalyzers
from .gaussian_mixture import GaussianMixture

MIXTURES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers)
}


class StandardisedMixture(Saveable, DensityEstimator):
    """A mixture of rows whose columns are brought to mean 0 and variance 1 first, in the original units outside.

    Columns in different units then weigh the same in the start, in `reg_covar` and in `noise_floor`. Densities are
    those of the original rows, and so are samples; `mixture` itself lives in standardised units. A file holds both.

    Parameters
    ----------
    mixture : GaussianMixture, BayesianGaussianMixture or MixtureOfFactorAnalyzers
        Fitted by `fit`, or before to what `standardisation` makes of the rows.
    standardisation : Standardisation or None, default=None
        A fitted one, where `mixture` is fitted already.

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

    def __init__(self, mixture: Any, standardisation: Standardisation | None = None) -> None:
        self.mixture = mixture
        self.standardisation = Standardisation() if standardisation is None else standardisation

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the standardisation, then the mixture to the standardised rows; weights count in the mixture only."""
        self.mixture.fit(self.standardisation.fit(X).transform(X), y, sample_weight)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the mixture is there; the standardisation comes with it."""
        return bool(self.mixture.__sklearn_is_fitted__())

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the most probable component of each row, shape (n_samples,)."""
        return np.asarray(self.mixture.predict(self.standardisation.transform(X)))

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return the probability of each component for each row, shape (n_samples, n_components)."""
        return np.asarray(self.mixture.predict_proba(self.standardisation.transform(X)))

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-density of each row in nats, in the units of X, shape (n_samples,)."""
        Z = self.standardisation.transform(X)
        return np.asarray(self.mixture.score_samples(Z) + self.standardisation.log_abs_det(X))

    def score(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the (weighted) mean log-density per row, in nats."""
        shift = -float(np.log(self.standardisation.scale_).sum())
        return float(self.mixture.score(self.standardisation.transform(X), y, sample_weight)) + shift

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows, in the units of X, and their components; see `mixture.sample`."""
        Z, labels = self.mixture.sample(n_samples)
        return self.standardisation.inverse_transform(Z), labels

    def _pack(self, path: StrPath) -> Packed:
        kind = getattr(self.mixture, "_models", ("",))[0]
        if kind not in MIXTURES:
            raise TypeError(f"mixture must be one of {sorted(MIXTURES)}, got a {type(self.mixture).__name__}")
        tensors, header = self.mixture._pack(path)
        self.standardisation._check_fitted()
        values = (self.standardisation.mean_, self.standardisation.scale_)
        arrays = files.contiguous(dict(zip(STANDARDISATION, values, strict=True)))
        check_standardisation(path, arrays, tensors["means"].shape[1])
        return tensors | arrays, header | {"model": self._models[0], "mixture": kind}

    @classmethod
    def _unpack(cls, reader: ModelReader) -> Self:
        kind = reader.metadata.get("mixture", "")
        if kind not in MIXTURES:
            fail(reader.path, f"metadata 'mixture' must be one of {sorted(MIXTURES)}, got {kind[:100]!r}")
        reader.set_aside(STANDARDISATION)
        mixture = MIXTURES[kind]._unpack(reader)
        standardisation = Standardisation()
        standardisation.n_features_in_ = mixture.n_features_in_
        standardisation.mean_, standardisation.scale_ = read_standardisation(reader, mixture.n_features_in_)
        return cls(mixture, standardisation)
