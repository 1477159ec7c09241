"""Writes the model files beside it: `python -m tests.data.models.write FOLDER`, once per version of the format.

Files once committed are never written again: tests/test_model_files.py loads each of them, for ever.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

import fastgmm
from fastgmm.images import ImageGenerator

FOLDER = Path(__file__).parent


def rows():
    rng = np.random.default_rng(7)
    return rng.normal(size=(120, 3)) * [1.0, 2.0, 0.1] + np.repeat([[0.0, 0, 0], [5, -3, 0.5]], 60, axis=0)


def images():
    pixels = np.random.default_rng(8).integers(0, 256, (40, 4, 3), dtype=np.uint8)
    return pixels, np.where(np.arange(40) % 2, "odd", "even")


def models():
    X = rows()
    for kind in ("full", "tied", "diag", "spherical"):
        yield f"gaussian_{kind}", fastgmm.GaussianMixture(2, covariance_type=kind, random_state=0).fit(X)
    yield "gaussian_float32", fastgmm.GaussianMixture(2, random_state=0).fit(X.astype(np.float32))
    yield "gaussian_noise", fastgmm.GaussianMixture(2, noise=0.05, random_state=0).fit(X)
    factors = fastgmm.MixtureOfFactorAnalyzers(2, 1, random_state=0, noise_floor=1e-3, shared_noise=True)
    yield "factor_analysers", factors.fit(X)
    yield "images", ImageGenerator(2, n_factors=2, random_state=0).fit(images()[0], labels=images()[1])
    if hasattr(fastgmm.BayesianGaussianMixture, "save"):
        for kind in ("full", "tied", "diag", "spherical"):
            yield (
                f"bayesian_{kind}",
                fastgmm.BayesianGaussianMixture(n_components=3, covariance_type=kind, random_state=0).fit(X),
            )
        yield (
            "bayesian_distribution",
            fastgmm.BayesianGaussianMixture(
                n_components=3, weight_concentration_prior_type="dirichlet_distribution", random_state=0
            ).fit(X),
        )
        yield "standardised", fastgmm.StandardisedMixture(fastgmm.GaussianMixture(2, random_state=0)).fit(X)


def scores(model):
    """What a model says of the first rows (images)."""
    return model.score_samples(images()[0][:5] if isinstance(model, ImageGenerator) else rows()[::30])


def write(folder):
    folder.mkdir()
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model in models():
            model.save(folder / f"{name}.safetensors")
            found[name] = {"class": type(model).__name__, "scores": scores(model).tolist()}
    (folder / "scores.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write(FOLDER / sys.argv[1])
