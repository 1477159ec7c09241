"""Learn the distribution of images; generate, score, complete, classify and rank them."""

import copy
import os
from dataclasses import fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..estimators.factor_mixture import MixtureOfFactorAnalyzers
from ..estimators.saving import Packed, Saveable, check_settings, pack_settings
from ..exceptions import InvalidParameterError, NotFittedError
from ..model.factors.drawing import draw_rows
from ..model.factors.parameters import FactorParameters
from ..representation.bits import bits_per_dimension
from ..rows.atomic import StrPath
from ..storage.container import ModelReader
from .grid import save_grid
from .model_file import SETTINGS, ImagesFile, pack_images_model, read_images_model
from .models import MODELS, FitSettings, group_by_label, joined
from .pixels import LEVELS, as_floats, check_images, hidden_pixels, to_rows

FloatArray = npt.NDArray[np.float64]


class ImageGenerator(Saveable):
    """A generative model of images: draw new ones, complete given ones, and score them by their exact density.

    Whatever the model, `score_samples` is the log-density of the pixels themselves. With labels, each label has its own
    mixture.

    Parameters
    ----------
    n_components : int or None, default=None
        Components of the mixture; with labels, of each label's mixture. None: one for every 80 images, at most 50.
    model : {"mfa", "full", "diag"}, default="mfa"
        "mfa": a mixture of factor analysers of the pixels. "full", "diag": a Gaussian mixture over the principal
        components of the pixels, with isotropic noise in the other directions.
    n_factors : int, default=6
        Factors of each component ("mfa").
    noise_floor : float, default=1e-3
        Least variance of a pixel given the factors, in squared pixels ("mfa"). About 1e-5 makes the sharpest density,
        1e-2 and more the best classifier; what is best to complete images is `obs_noise` of `inpaint`.
    noise_prior : (float, float), "auto" or None, default=None
        See `MixtureOfFactorAnalyzers` ("mfa").
    pca_components : int or float, default=0.99
        Directions kept, or the share of the pixels' variance that they must reach ("full", "diag").
    reg_covar : float, default=3e-3
        Variance added along every direction kept ("full", "diag"); 0.003 is a grey-level deviation of 0.055.
    tol : float, default=0.1
        EM stops when an iteration gains less than this, in nats per image.
    max_iter : int, default=100
    n_init : int, default=1
        Starts, of which the best is kept.
    random_state : int, numpy.random.Generator or None, default=None
        Seed of the starts.
    n_jobs : int or None, default=None
        Threads; None uses all that the process may use.

    Attributes
    ----------
    mixture_ : MixtureOfFactorAnalyzers
        Over rows of pixels; with labels, of all labels' components.
    component_classes_ : ndarray of shape (n_components_total,), int64
        Index into `classes_` of each component.
    classes_ : ndarray
        What `generate` takes as `label`: the sorted labels, or without labels the components' numbers.
    class_prior_ : ndarray of shape (n_classes,)
        Share of the images that each label has, or without labels the components' weights.
    image_shape_ : tuple of int
        (height, width) or (height, width, channels).

    Examples
    --------
    >>> from fastgmm.datasets import load_digits
    >>> from fastgmm.images import ImageGenerator
    >>> images, labels = load_digits()
    >>> generator = ImageGenerator(2, random_state=0).fit(images, labels=labels)
    >>> generator.generate(5, label=3, random_state=0).shape
    (5, 8, 8)
    """

    _models = ("ImageGenerator",)

    def __init__(
        self,
        n_components: int | None = None,
        *,
        model: str = "mfa",
        n_factors: int = 6,
        noise_floor: float = 1e-3,
        noise_prior: tuple[float, float] | str | None = None,
        pca_components: int | float = 0.99,
        reg_covar: float = 3e-3,
        tol: float = 0.1,
        max_iter: int = 100,
        n_init: int = 1,
        random_state: int | np.random.Generator | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.model = model
        self.n_factors = n_factors
        self.noise_floor = noise_floor
        self.noise_prior = noise_prior
        self.pca_components = pca_components
        self.reg_covar = reg_covar
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        images: npt.ArrayLike,
        num_classes: int | None = None,
        labels: npt.ArrayLike | None = None,
        *,
        mask: npt.ArrayLike | None = None,
    ) -> Self:
        """Learn the distribution of images.

        Parameters
        ----------
        images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)
            uint8, read as (k + u) / 256 with u uniform on [0, 1), or floats in [0, 1], read as they are.
        num_classes : int, optional
            Number of components, instead of `n_components`.
        labels : array-like of shape (n_images,), optional
            One mixture is fitted to the images of each label; their frequencies are the prior.
        mask : array-like of bool, of the shape of the images or of one, optional
            True where a pixel is hidden ("mfa"): what the model learns from is the visible ones alone.

        Raises
        ------
        TypeError, ValueError
            `images` is no such array, `labels` has another length, a label has a single image or fewer than
            components, or a setting is out of range.

        Warns
        -----
        FewRowsWarning
            Components have less than three images for each factor and the mean ("mfa"): what is generated then are
            blends of the images given.
        """
        if self.model not in MODELS:
            raise InvalidParameterError(f"model must be one of {sorted(MODELS)}. Got {self.model!r}.")
        pixels = check_images(images)
        rows = to_rows(pixels)
        if mask is not None:
            if self.model != "mfa":
                raise ValueError(f"mask needs model='mfa', which has an EM for hidden pixels. Got {self.model!r}.")
            rows = np.where(hidden_pixels(mask, pixels.shape), np.nan, rows)
        groups = [("", np.arange(len(rows)))] if labels is None else group_by_label(labels, len(rows))
        settings = self._settings(num_classes)
        for name, members in groups:
            if len(members) < 2:
                raise ValueError(
                    f"one image{name} has no distribution to learn; give more images" + (" of it" if name else "")
                )
            if len(members) < settings.components(len(members)):
                raise ValueError(
                    f"{len(members)} images{name} are too few for {settings.components(len(members))} components; "
                    "give more images or fewer components"
                )
        settings.warn_of_few([(name, len(members)) for name, members in groups], self.model)
        rng = np.random.default_rng(self.random_state)
        mixtures = MODELS[self.model]([rows[members] for _, members in groups], settings, rng)
        prior = np.array([len(members) for _, members in groups]) / len(rows)
        self.mixture_ = joined(mixtures, prior)
        self.mixture_.n_jobs = self.n_jobs
        if labels is None:
            self.component_classes_ = np.arange(len(self.mixture_.weights_))
            self.classes_, self.class_prior_ = self.component_classes_.copy(), self.mixture_.weights_
        else:
            self.component_classes_ = np.repeat(np.arange(len(groups)), [len(m.weights_) for m in mixtures])
            self.classes_, self.class_prior_ = np.unique(np.asarray(labels)), prior
        self.image_shape_ = pixels.shape[1:]
        return self

    def generate(
        self,
        size: int,
        label: Any = None,
        random_state: int | np.random.Generator | None = None,
        *,
        temperature: float = 1.0,
        noise: bool = False,
        first: int = 0,
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
        temperature : float, default=1.0
            What covariances are multiplied by, at least 0: less gives more typical images, 0 the components' means.
        noise : bool, default=False
            Add the noise of the pixels. Images then follow the scored density exactly, but for the clipping; they look
            grainier.
        first : int, default=0
            Number of the first image. Image i of a seed is the same whatever `size` and `first` it is drawn with, so
            that parts of one large set can be drawn apart.

        Returns
        -------
        ndarray of shape (size, height, width) or (size, height, width, channels), float64
            Clipped to [0, 1].

        Raises
        ------
        NotFittedError
            `fit` has not been called.
        ValueError
            `size` is below 1, `temperature` or `first` below 0, or `label` is not in `classes_`.
        """
        self._check_fitted()
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if not 0 <= temperature < np.inf or first < 0:
            raise ValueError(f"temperature and first must be finite and at least 0, got {temperature} and {first}")
        parameters = self._parameters(label)
        seed = random_state
        if not isinstance(seed, int | np.integer):
            seed = int(np.random.default_rng(random_state).integers(2**63))
        rows = np.empty((size, parameters.means.shape[1]))
        draw_rows(parameters, int(seed), first, rows, temperature, noise)
        return rows.reshape(size, *self.image_shape_)

    def interpolate(
        self, a: npt.ArrayLike, b: npt.ArrayLike, steps: int = 10, *, obs_noise: float = 0.05
    ) -> FloatArray:
        """Walk from image a to image b along images that the model finds likely.

        Each step is what the model makes of the blend of both: the expectation of its noiseless part.

        Parameters
        ----------
        a, b : array-like of shape (height, width) or (height, width, channels)
        steps : int, default=10
            Images, both ends included; at least 2.
        obs_noise : float, default=0.05
            Variance by which blends are thought to miss the model: the larger, the farther a step may be from a blend.

        Returns
        -------
        ndarray of shape (steps, height, width) or (steps, height, width, channels), float64
        """
        self._check_fitted()
        if steps < 2:
            raise ValueError(f"steps must be at least 2, got {steps}")
        ends = to_rows(np.stack([np.asarray(a), np.asarray(b)]), self.image_shape_).astype(np.float64)
        share = np.linspace(0.0, 1.0, steps)[:, None]
        rows = self._observed_with(obs_noise).reconstruct((1 - share) * ends[0] + share * ends[1])
        return self._as_images(rows)

    def inpaint(
        self,
        images: npt.ArrayLike,
        mask: npt.ArrayLike,
        mode: str = "mean",
        *,
        obs_noise: float = 0.1,
        random_state: int | np.random.Generator | None = None,
    ) -> FloatArray:
        """Complete images of which some pixels are hidden.

        Parameters
        ----------
        images : array-like of shape (n_images, height, width) or (n_images, height, width, channels)
            What stands in the place of hidden pixels does not matter.
        mask : array-like of bool, of the shape of the images or of one
            True where a pixel is hidden.
        mode : {"mean", "sample"}, default="mean"
            The expectation of the hidden pixels given the visible ones, which minimises the squared error, or a draw:
            a component and factors from their posterior, without the noise of the pixels.
        obs_noise : float, default=0.1
            Variance by which visible pixels are thought to miss the model. A mixture of few images trusts the visible
            pixels too much: of 0.05, 0.1 and 0.2, digits set aside for tuning chose 0.2 for 20 components of 40 factors
            (`python -m benchmarks.images`).
        random_state : int, numpy.random.Generator or None, default=None
            Seed of the draws.

        Returns
        -------
        ndarray of the shape of the images, float64, clipped to [0, 1]
            Visible pixels are as given (uint8 divided by 255).
        """
        if mode not in ("mean", "sample"):
            raise ValueError(f"mode must be 'mean' or 'sample'. Got {mode!r}.")
        self._check_fitted()
        pixels = check_images(images)
        hidden = hidden_pixels(mask, pixels.shape)
        rows = self._visible_rows(pixels, mask)
        mixture = self._observed_with(obs_noise)
        if mode == "mean":
            completed = mixture.impute(rows)
        else:
            mixture.random_state = int(np.random.default_rng(random_state).integers(2**32))
            completed = mixture.reconstruct(rows, mode="sample")
        given = as_floats(pixels).reshape(len(pixels), -1)
        return np.where(hidden, np.clip(completed, 0.0, 1.0), given).reshape(pixels.shape)

    def reconstruct(self, images: npt.ArrayLike, *, obs_noise: float = 0.0) -> FloatArray:
        """Return what the model can express of images: the expectation of their noiseless part, clipped to [0, 1]."""
        self._check_fitted()
        return self._as_images(self._observed_with(obs_noise).reconstruct(to_rows(images, self.image_shape_)))

    def classify(
        self, images: npt.ArrayLike, mask: npt.ArrayLike | None = None, *, obs_noise: float = 0.0
    ) -> npt.NDArray[Any]:
        """Return the most probable of `classes_` for each image, (n_images,), by its visible pixels if some are masked.

        `obs_noise` is the variance of noise that images have in addition to the model's: a sharp density (a small
        `noise_floor`) classifies better with 0.02 to 0.1. For `mask` see `inpaint`.
        """
        self._check_fitted()
        resp = self._observed_with(obs_noise).predict_proba(self._visible_rows(images, mask))
        probability = np.zeros((len(resp), len(self.classes_)))
        for k, c in enumerate(self.component_classes_):
            probability[:, c] += resp[:, k]
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    def score_samples(self, images: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> FloatArray:
        """Return the log-density of the pixels of each image, (n_images,), in nats; pixels are in [0, 1].

        With a `mask` (see `inpaint`), of the visible pixels.
        """
        self._check_fitted()
        return self.mixture_.score_samples(self._visible_rows(images, mask)).astype(np.float64)

    def score(self, images: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
        """Return the mean of `score_samples`, nats per image."""
        return float(self.score_samples(images, mask).mean())

    def bits_per_dim(self, images: npt.ArrayLike) -> float:
        """Return the mean bits per pixel and channel that images of 256 levels take under the model.

        uint8 images, or floats (k + u) / 256 with u uniform on [0, 1): of other floats the number means nothing.
        """
        dimensions = int(np.prod(np.shape(images)[1:]))
        return float(bits_per_dimension(self.score(images), dimensions, LEVELS))

    def most_unusual(self, images: npt.ArrayLike, n: int = 10) -> npt.NDArray[np.int64]:
        """Return the indices of the n images of smallest density, the most unusual first."""
        return np.argsort(self.score_samples(images), kind="stable")[:n].astype(np.int64)

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

    def _pack(self, path: StrPath) -> Packed:
        self._check_fitted()
        settings = pack_settings(self, set(SETTINGS))
        return pack_images_model(
            path, ImagesFile(self.mixture_, self.image_shape_, self.classes_, self.component_classes_, settings)
        )

    @classmethod
    def _unpack(cls, reader: ModelReader) -> Self:
        file = read_images_model(reader)
        self = cls(**check_settings(reader.path, file.settings, SETTINGS))
        self.mixture_, self.image_shape_ = file.mixture, file.shape
        self.classes_, self.component_classes_ = file.classes, file.component_classes
        self.class_prior_ = np.bincount(self.component_classes_, self.mixture_.weights_)
        return self

    def _settings(self, num_classes: int | None) -> FitSettings:
        settings = FitSettings(**{field.name: getattr(self, field.name) for field in fields(FitSettings)})
        return settings if num_classes is None else replace(settings, n_components=num_classes)

    def _parameters(self, label: Any) -> FactorParameters:
        """The mixture's parameters, only with the components of `label` if there is one."""
        names = ("weights_", "means_", "loadings_", "noise_variance_")
        weights, means, loadings, noise = (np.asarray(getattr(self.mixture_, name), np.float64) for name in names)
        if label is not None:
            if label not in self.classes_:
                raise ValueError(f"label must be one of {self.classes_.tolist()}, got {label!r}")
            weights = np.where(self.classes_[self.component_classes_] == label, weights, 0.0)
        return FactorParameters(weights, means, loadings, noise)

    def _visible_rows(self, images: npt.ArrayLike, mask: npt.ArrayLike | None) -> npt.NDArray[Any]:
        """Rows of pixels, NaN where one is hidden."""
        rows = to_rows(images, self.image_shape_)
        return rows if mask is None else np.where(hidden_pixels(mask, np.shape(images)), np.nan, rows)

    def _observed_with(self, obs_noise: float) -> MixtureOfFactorAnalyzers:
        mixture = copy.copy(self.mixture_)
        mixture.obs_noise = obs_noise
        return mixture

    def _as_images(self, rows: npt.NDArray[Any]) -> FloatArray:
        return np.clip(rows.astype(np.float64), 0.0, 1.0).reshape(len(rows), *self.image_shape_)

    def _check_fitted(self) -> None:
        if not hasattr(self, "mixture_"):
            raise NotFittedError("This ImageGenerator is not fitted yet; call fit(images) first.")
