"""Where the public names live: the one table of what the package offers and of the models that files may hold."""

from importlib import import_module
from typing import Any

# What `fastgmm.load` reads; files name the class.
MODELS = {
    "BayesianGaussianMixture": "estimators.bayesian_gaussian_mixture",
    "GaussianMixture": "estimators.gaussian_mixture",
    "ImageGenerator": "images.generator",
    "ManyMixtures": "estimators.many_mixtures",
    "MixtureOfFactorAnalyzers": "estimators.factor_mixture",
    "StandardisedMixture": "estimators.standardised",
}
HOMES = MODELS | {
    "ConjugatePrior": "model.map_prior",
    "MixtureOutlierDetector": "estimators.outlier_detector",
    "GaussianMixtureRegressor": "estimators.gaussian_mixture_regressor",
    "MixtureOfLinearRegressions": "estimators.linear_regressions",
    "fit_many": "estimators.fit_many",
    "from_sklearn": "estimators.interop",
    "load": "loading",
    "open_source": "rows.open",
    "patch_sklearn": "estimators.interop",
    "progress": "_terminal",
    "sklearn_compatibility": "estimators.interop",
    "unpatch_sklearn": "estimators.interop",
}


def find(name: str) -> Any:
    """Import what is called so; KeyError for what nobody is."""
    return getattr(import_module(f".{HOMES[name]}", __package__), name)
