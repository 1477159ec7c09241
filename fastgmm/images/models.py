"""What an image generator fits to rows of pixels: three models, each of which ends as a mixture of factor analysers.

A Gaussian over principal components, plus isotropic noise for the others, is one with loadings along the principal
components and the same noise everywhere: one algebra then generates, scores, completes and classifies.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..estimators.factor_mixture import MixtureOfFactorAnalyzers
from ..estimators.gaussian_mixture import GaussianMixture
from ..exceptions import ConstantColumnWarning, ConvergenceWarning, FewRowsWarning, RegularizationWarning, warn
from ..model.covariance import STRUCTURES
from ..representation.pca import PCA

Rows = npt.NDArray[np.floating]
IMAGES_PER_COMPONENT, MOST_COMPONENTS = 80, 50  # where the number of components is not given
FEW = 3  # images for each factor and the mean; 17 photographs and 6 factors gave blends of two photographs


@dataclass(frozen=True)
class FitSettings:
    """What `ImageGenerator` passes on; see there."""

    n_components: int | None
    n_factors: int
    noise_floor: float
    noise_prior: Any
    pca_components: int | float
    reg_covar: float
    tol: float
    max_iter: int
    n_init: int
    n_jobs: int | None

    def components(self, n_images: int) -> int:
        """Number of components for so many images."""
        if self.n_components is not None:
            return self.n_components
        return max(1, min(MOST_COMPONENTS, n_images // IMAGES_PER_COMPONENT))

    def warn_of_few(self, groups: list[tuple[str, int]], model: str) -> None:
        """Warn of the group, (how to name it, its images), whose components of factors have the fewest images each."""
        each, name = min((n_images / self.components(n_images), name) for name, n_images in groups)
        if model == "mfa" and each < FEW * (self.n_factors + 1):
            warn(
                f"{each:.3g} images{name} for each component are few for {self.n_factors} factors, of which "
                f"{FEW * (self.n_factors + 1)} or more tell the general from the particular: generated images will be "
                "blends of the ones given. Give more images, or fewer factors or components.",
                FewRowsWarning,
            )

    @property
    def shared(self) -> dict[str, Any]:
        """What both estimators are given."""
        return {name: getattr(self, name) for name in ("tol", "max_iter", "n_init", "n_jobs")}

    def fitted(self, kind: Any, rows: Rows, rng: np.random.Generator, **own: Any) -> Any:
        """A mixture of this kind, with settings of its own, fitted to rows."""
        seed = int(rng.integers(2**32))
        return _fit_quietly(kind(self.components(len(rows)), random_state=seed, **self.shared, **own), rows)


def group_by_label(labels: npt.ArrayLike, n_images: int) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """Return (how to name it in an error, its rows) for each label in sorted order."""
    labels = np.asarray(labels)
    if labels.shape != (n_images,):
        raise ValueError(f"labels must have shape ({n_images},), one per image, got {labels.shape}")
    return [(f" of label {label}", np.flatnonzero(labels == label)) for label in np.unique(labels)]


def fit_factor_analysers(
    groups: list[Rows], settings: FitSettings, rng: np.random.Generator
) -> list[MixtureOfFactorAnalyzers]:
    """Fit each group's pixels by themselves."""
    n_factors = min(settings.n_factors, groups[0].shape[1])
    own = {"n_factors": n_factors, "noise_floor": settings.noise_floor, "noise_prior": settings.noise_prior}
    return [settings.fitted(MixtureOfFactorAnalyzers, rows, rng, missing="em", **own) for rows in groups]


def fit_projected(
    covariance_type: str, groups: list[Rows], settings: FitSettings, rng: np.random.Generator
) -> list[MixtureOfFactorAnalyzers]:
    """Fit each group's coordinates along the principal components of all images."""
    pca = PCA(settings.pca_components).fit(np.concatenate(groups))
    own = {"covariance_type": covariance_type, "reg_covar": settings.reg_covar}
    return [in_pixels(settings.fitted(GaussianMixture, pca.transform(rows), rng, **own), pca) for rows in groups]


MODELS: dict[str, Callable[..., list[MixtureOfFactorAnalyzers]]] = {
    "mfa": fit_factor_analysers,
    "full": partial(fit_projected, "full"),
    "diag": partial(fit_projected, "diag"),
}


def in_pixels(mixture: GaussianMixture, pca: PCA) -> MixtureOfFactorAnalyzers:
    """Return the mixture of the rows themselves whose principal components follow `mixture`.

    With W the kept directions and s^2 the noise variance of the others, W S W^T + s^2 (I - W W^T) = L L^T + s^2 I for
    L = W (S - s^2 I)^(1/2): exact where no variance along W lies below s^2; one that does is raised to it.
    """
    W, noise = pca.components_.T, max(pca.noise_variance_, 1e-12)
    dense = STRUCTURES[mixture.covariance_type].dense(np.asarray(mixture.covariances_, np.float64), W.shape[1])
    values, vectors = np.linalg.eigh(dense)
    loadings = W @ (vectors * np.sqrt(np.maximum(values - noise, 0.0))[:, None, :])
    means = pca.mean_ + mixture.means_ @ W.T
    return MixtureOfFactorAnalyzers.from_parameters(mixture.weights_.astype(np.float64), means, loadings, noise)


def joined(mixtures: list[MixtureOfFactorAnalyzers], priors: npt.NDArray[np.float64]) -> MixtureOfFactorAnalyzers:
    """One mixture of the components of several, weighted by their priors."""
    weights = [prior * mixture.weights_.astype(np.float64) for prior, mixture in zip(priors, mixtures, strict=True)]
    total = np.concatenate(weights)
    parts = [np.concatenate([getattr(mixture, name) for mixture in mixtures])
             for name in ("means_", "loadings_", "noise_variance_")]  # fmt: skip
    return MixtureOfFactorAnalyzers.from_parameters(total / total.sum(), *parts, missing="em", noise_floor=1e-12)


def _fit_quietly(mixture: Any, rows: Rows) -> Any:
    with warnings.catch_warnings():
        # Floor and reg_covar are meant to dominate the directions of least variance, and a likelihood that then falls
        # a little is no news; nor is a pixel that is the same in all images. Running out of iterations is, and is
        # reported below.
        for kind in (RegularizationWarning, ConstantColumnWarning, ConvergenceWarning):
            warnings.simplefilter("ignore", kind)
        mixture.fit(rows)
    if mixture.stop_reason_ == "max_iter":
        text = f"A mixture did not converge in {mixture.max_iter} iterations; increase max_iter or tol."
        warn(text, ConvergenceWarning)
    return mixture
