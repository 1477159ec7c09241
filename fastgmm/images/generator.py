"""Generate images from a mixture over the principal components of their pixels."""

import copy
import os
import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from ..estimators.gaussian_mixture import GaussianMixture
from ..exceptions import ConvergenceWarning, NotFittedError, RegularizationWarning
from ..model.covariance import STRUCTURES
from ..representation import PCA
from .grid import save_grid
from .pixels import check_images

FloatArray = npt.NDArray[np.float64]


class ImageGenerator:
    """A generative model of images: draw new ones, and score given ones by their exact density.

    Pixels are reduced by PCA; a Gaussian mixture describes the kept directions and isotropic noise the
    others, so that `score_samples` is the log-density of the pixels themselves. With labels, each label has
    its own mixture.

    Parameters
    ----------
    n_components : int, default=10
        Components of the mixture; with labels, of each label's mixture.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        Structure of the components' covariances.
    pca_components : int or float, default=0.99
        Directions kept, or the share of the pixels' variance that they must reach.
    tol : float, default=1e-3
        EM stops when an iteration gains less than this, in nats per image.
    reg_covar : float, default=3e-3
        Variance added to every covariance in every direction, in squared pixels (0.003 is a grey-level
        deviation of 0.055): what keeps a component of few images from learning them by heart.
    max_iter : int, default=100
        Iterations of EM.
    n_init : int, default=1
        Starts, of which the best is kept.
    random_state : int, numpy.random.Generator or None, default=None
        Seed of the starts.
    n_jobs : int or None, default=None
        Threads; None uses all that the process may use.

    Attributes
    ----------
    classes_ : ndarray
        What `generate` takes as `label`: the sorted labels, or without labels the components' numbers.
    class_prior_ : ndarray of shape (n_classes,)
        Share of the images that each label has, or without labels the components' weights.
    mixtures_ : list of GaussianMixture
        One for each label, or without labels a single one, over the coordinates that `pca_` gives.
    pca_ : PCA
    image_shape_ : tuple of int
        (height, width) or (height, width, channels).

    Examples
    --------
    >>> from fastgmm.datasets import load_digits
    >>> from fastgmm.images import ImageGenerator
    >>> images, labels = load_digits()
    >>> generator = ImageGenerator(n_components=1, random_state=0).fit(images, labels=labels)
    >>> generator.generate(5, label=3, random_state=0).shape
    (5, 8, 8)
    """

    def __init__(
        self,
        n_components: int = 10,
        *,
        covariance_type: str = "full",
        pca_components: int | float = 0.99,
        tol: float = 1e-3,
        reg_covar: float = 3e-3,
        max_iter: int = 100,
        n_init: int = 1,
        random_state: int | np.random.Generator | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.pca_components = pca_components
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, images: npt.ArrayLike, num_classes: int | None = None, labels: npt.ArrayLike | None = None) -> Self:
        """Learn the distribution of images; needs 8 bytes per pixel of memory beside them.

        Parameters
        ----------
        images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)
            uint8, or floats in [0, 1].
        num_classes : int, optional
            Number of components, instead of `n_components`.
        labels : array-like of shape (n_images,), optional
            One mixture is fitted to the images of each label; their frequencies are the prior.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            `images` is no such array, `labels` has another length, or a label has fewer images than
            components.
        """
        pixels = check_images(images)
        rows = pixels.reshape(len(pixels), -1)
        n_components = self.n_components if num_classes is None else num_classes
        groups = [("", np.arange(len(rows)))] if labels is None else _group_by_label(labels, len(rows))
        for name, members in groups:
            if len(members) < n_components:
                raise ValueError(
                    f"{len(members)} images{name} are too few for {n_components} components; "
                    "give more images or fewer components"
                )
        pca = PCA(self.pca_components).fit(rows)
        Z = pca.transform(rows)
        rng = np.random.default_rng(self.random_state)
        mixtures = [self._fit_mixture(Z[members], n_components, rng) for _, members in groups]
        if labels is None:
            self.classes_ = np.arange(n_components)
            self.class_prior_ = mixtures[0].weights_
        else:
            self.classes_ = np.unique(np.asarray(labels))
            self.class_prior_ = np.array([len(members) for _, members in groups]) / len(rows)
        self.pca_, self.mixtures_, self.image_shape_ = pca, mixtures, pixels.shape[1:]
        self._labelled = labels is not None
        return self

    def generate(
        self,
        size: int,
        label: Any = None,
        random_state: int | np.random.Generator | None = None,
        *,
        noise: bool = False,
    ) -> FloatArray:
        """Draw new images.

        Parameters
        ----------
        size : int
            How many, at least 1.
        label : optional
            One of `classes_`: draw images of that label only (without labels: of that component only).
        random_state : int, numpy.random.Generator or None, default=None
            Seed; None draws other images at every call.
        noise : bool, default=False
            Add the noise of the directions that PCA dropped. Images then follow the scored density exactly,
            but for the clipping; they look grainier.

        Returns
        -------
        ndarray of shape (size, height, width) or (size, height, width, channels), float64
            In random order, clipped to [0, 1].

        Raises
        ------
        NotFittedError
            `fit` has not been called.
        ValueError
            `size` is below 1, or `label` is not in `classes_`.
        """
        self._check_fitted()
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        rng = np.random.default_rng(random_state)
        if label is None:
            counts = rng.multinomial(size, self.class_prior_)
        else:
            if label not in self.classes_:
                raise ValueError(f"label must be one of {self.classes_.tolist()}, got {label!r}")
            counts = np.where(self.classes_ == label, size, 0)
        Z = np.concatenate([self._draw(c, count, rng) for c, count in enumerate(counts) if count])
        rng.shuffle(Z)  # the draws come label by label
        rows = self.pca_.inverse_transform(Z)
        if noise:
            residual = rng.normal(0.0, np.sqrt(self.pca_.noise_variance_), rows.shape)
            rows += residual - residual @ self.pca_.components_.T @ self.pca_.components_
        return np.clip(rows, 0.0, 1.0).reshape(size, *self.image_shape_)

    def score_samples(self, images: npt.ArrayLike) -> FloatArray:
        """Return the log-density of the pixels of each image, (n_images,), in nats; pixels are in [0, 1]."""
        self._check_fitted()
        pixels = check_images(images)
        if pixels.shape[1:] != self.image_shape_:
            raise ValueError(f"images have shape {pixels.shape[1:]}, but fit saw {self.image_shape_}")
        rows = pixels.reshape(len(pixels), -1)
        Z = self.pca_.transform(rows)
        log_prob = np.column_stack([mixture.score_samples(Z) for mixture in self.mixtures_])
        if self._labelled:
            log_prob += np.log(self.class_prior_)
        latent: FloatArray = logsumexp(log_prob, axis=1)
        return latent + self.pca_.log_abs_det(rows)

    def score(self, images: npt.ArrayLike) -> float:
        """Return the mean of `score_samples`, nats per image."""
        return float(self.score_samples(images).mean())

    def save_grid(
        self,
        path: str | os.PathLike[str],
        images: npt.ArrayLike | None = None,
        *,
        n_columns: int = 10,
        scale: int = 4,
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        """Write a PNG contact sheet of `images`, by default of 100 newly generated with `random_state`.

        See `fastgmm.images.save_grid` for `n_columns`, `scale` and the errors.
        """
        shown = self.generate(100, random_state=random_state) if images is None else images
        save_grid(path, shown, n_columns=n_columns, scale=scale)

    def _fit_mixture(self, Z: FloatArray, n_components: int, rng: np.random.Generator) -> GaussianMixture:
        mixture = GaussianMixture(
            n_components,
            covariance_type=self.covariance_type,
            tol=self.tol,
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            n_init=self.n_init,
            random_state=int(rng.integers(2**32)),
            n_jobs=self.n_jobs,
        )
        with warnings.catch_warnings():
            # Here reg_covar is meant to dominate the directions of least variance, and a likelihood that then
            # falls a little is no news; running out of iterations is, and is reported below.
            warnings.simplefilter("ignore", RegularizationWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(Z)
        if mixture.stop_reason_ == "max_iter":
            warnings.warn(
                f"A mixture did not converge in {self.max_iter} iterations; increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return mixture

    def _draw(self, c: int, count: int, rng: np.random.Generator) -> FloatArray:
        """Draw `count` rows of class number `c`: from its mixture, or without labels from its component."""
        if self._labelled:
            mixture = copy.copy(self.mixtures_[c])
        else:
            fitted = self.mixtures_[0]
            shared = STRUCTURES[fitted.covariance_type].pools_components
            mixture = GaussianMixture.from_parameters(
                np.ones(1),
                fitted.means_[c : c + 1],
                fitted.covariances_ if shared else fitted.covariances_[c : c + 1],
                covariance_type=fitted.covariance_type,
            )
        mixture.random_state = int(rng.integers(2**32))
        rows: FloatArray = mixture.sample(count)[0]
        return rows

    def _check_fitted(self) -> None:
        if not hasattr(self, "mixtures_"):
            raise NotFittedError("This ImageGenerator is not fitted yet; call fit(images) first.")


def _group_by_label(labels: npt.ArrayLike, n_images: int) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """Return (how to name it in an error, its rows) for each label in sorted order."""
    labels = np.asarray(labels)
    if labels.shape != (n_images,):
        raise ValueError(f"labels must have shape ({n_images},), one per image, got {labels.shape}")
    return [(f" of label {label}", np.flatnonzero(labels == label)) for label in np.unique(labels)]
