"""fastgmm: Gaussian mixture models for CPUs.

Fit millions of rows, generate new data, trust the answer. The names below load at first use, so that importing the
package compiles nothing and costs a few milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._homes import find
from ._moved import install as _install_moved
from ._version import __version__

if TYPE_CHECKING:
    from . import batch
    from ._terminal import progress
    from .estimators.bayesian_gaussian_mixture import BayesianGaussianMixture
    from .estimators.factor_mixture import MixtureOfFactorAnalyzers
    from .estimators.fit_many import fit_many
    from .estimators.gaussian_mixture import GaussianMixture
    from .estimators.gaussian_mixture_regressor import GaussianMixtureRegressor
    from .estimators.interop import from_sklearn, patch_sklearn, sklearn_compatibility, unpatch_sklearn
    from .estimators.linear_regressions import MixtureOfLinearRegressions
    from .estimators.many_mixtures import ManyMixtures
    from .estimators.outlier_detector import MixtureOutlierDetector
    from .estimators.standardised import StandardisedMixture
    from .loading import load
    from .model.map_prior import ConjugatePrior
    from .rows.open import open_source

_install_moved()

__all__ = [
    "BayesianGaussianMixture",
    "ConjugatePrior",
    "GaussianMixture",
    "GaussianMixtureRegressor",
    "ManyMixtures",
    "MixtureOfFactorAnalyzers",
    "MixtureOfLinearRegressions",
    "MixtureOutlierDetector",
    "StandardisedMixture",
    "__version__",
    "batch",
    "fit_many",
    "from_sklearn",
    "load",
    "open_source",
    "patch_sklearn",
    "progress",
    "sklearn_compatibility",
    "unpatch_sklearn",
]


_MODULES = (
    *("algebra", "batch", "callbacks", "datasets", "distributed", "engine", "exceptions", "images", "metrics"),
    *("plot", "representation"),
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"fastgmm.{name}")
    if name in __all__:
        return find(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
