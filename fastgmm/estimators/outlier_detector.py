"""Anomalies with a verdict and a reason: an ensemble of small mixtures whose light components are struck."""

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidParameterError
from ..model.outliers import conformal_pvalues, discoveries, rank_scores, tail_scores
from ..representation.robust import DrawnIn
from ..rows.source import Source
from ..threads import thread_limit
from ..validation import (
    SHARE,
    as_source,
    check_finite,
    check_parameters,
    check_random_state,
    integer,
    one_of,
    or_auto,
)
from .base import gathered
from .conditioning import names_of
from .fit_many import fit_many
from .gaussian_mixture import GaussianMixture
from .reasons import Reasons, reasons_of
from .sklearn_base import BaseEstimator, OutlierMixin, check_is_fitted, check_n_features, compare_names

ASSUMED = 0.05  # share of anomalies where nobody says
LEAST_WEIGHT = 0.1  # of a component that is no anomaly's
MEMBER = {"n_components": 8, "reg_covar": 0.1, "max_iter": 60}
SINGLE = {"n_components": 4, "reg_covar": 0.1, "max_iter": 100}  # for p-values and reasons
PROJECTION_RIDGE, MOST_COMPONENTS = 0.05, 3
ROWS_PER_COMPONENT = 10
BLOCK_ROWS = 4096
CONSTRAINTS = {
    "training": [one_of("contaminated", "clean")],
    "contamination": [or_auto(SHARE)],
    "calibration": [one_of("cross", "split", "model")],
    "cv": [integer(2)],
    "n_members": [integer(1)],
    "n_projections": [integer(0)],
    "max_samples": [integer(10)],
}
Array = NDArray[np.float64]


class MixtureOutlierDetector(OutlierMixin, BaseEstimator):
    """Unusual rows, by an ensemble of small Gaussian mixtures and of mixtures of random projections.

    Columns are brought to a robust scale and their tails drawn in. Where training rows hold anomalies themselves, each
    member forgets its light components, which are where anomalies gather: that is most of what makes it work (one
    mixture chosen by a criterion gives anomalies components of their own). A row's score is the mean over members of
    how far out it lies, as a rank among the training rows.

    Parameters
    ----------
    training : {'contaminated', 'clean'}, default='contaminated'
        Whether the rows to fit may hold anomalies. Of clean rows no component is forgotten.
    contamination : 'auto' or float in (0, 1), default='auto'
        Share of anomalies: `predict` flags so many of the training rows, and components lighter than 1.5 times it (at
        least 0.1) are forgotten. 'auto': 0.05; nothing tells the true share from the rows alone.
    calibration : {'cross', 'split', 'model'}, default='cross'
        Of `pvalues`. 'split': a model of half of the rows, ranks among the other half; P(p <= a) <= a for new rows of
        the same kind, whatever the model. 'cross': the same over `cv` folds with all rows; at most 2 a in theory, about
        a in practice. 'model': ranks among draws from the model, right only if the model is.
    cv : int, default=5
    n_members : int, default=8
        The first half full, the rest diagonal.
    n_projections : int, default=50
        One-dimensional mixtures along random directions of a few columns.
    max_samples : int, default=20000
        Rows that are fitted, drawn at random from more; all rows are scored, block by block.
    random_state : int, RandomState or None, default=None
    n_jobs : int or None, default=None

    Attributes
    ----------
    offset_ : float
        `decision_function` is `score_samples - offset_`.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, where the rows have names
    mixture_ : GaussianMixture
        Of the columns on the robust scale; what `reasons` and `pvalues` ask.

    References
    ----------
    V. Vovk (2015), Cross-conformal predictors, AMAI 74. Y. Benjamini and Y. Hochberg (1995), Controlling the false
    discovery rate, JRSS B 57.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import MixtureOutlierDetector
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> X[:5] += 4
    >>> detector = MixtureOutlierDetector(contamination=0.01, random_state=0).fit(X)
    >>> np.flatnonzero(detector.predict(X) == -1).tolist()
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        *,
        training: str = "contaminated",
        contamination: Any = "auto",
        calibration: str = "cross",
        cv: int = 5,
        n_members: int = 8,
        n_projections: int = 50,
        max_samples: int = 20_000,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.training = training
        self.contamination = contamination
        self.calibration = calibration
        self.cv = cv
        self.n_members = n_members
        self.n_projections = n_projections
        self.max_samples = max_samples
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the ensemble.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), a frame, or rows from files or elsewhere (`open_source`)
        y : ignored
        """
        settings = {name: getattr(self, name) for name in CONSTRAINTS}
        check_parameters(type(self).__name__, settings, CONSTRAINTS, InvalidParameterError)
        source = as_source(X, type(self).__name__, 2, np.float64)
        names = names_of(X, source)
        check_finite(source, type(self).__name__, None if names is None else np.array(names))
        rng = check_random_state(self.random_state)
        index = np.arange(source.n_samples)
        if source.n_samples > self.max_samples:
            index = np.sort(rng.choice(source.n_samples, self.max_samples, replace=False))
        rows = np.ascontiguousarray(source.take(index), np.float64)
        self.n_features_in_ = source.n_features
        self.__dict__.pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        share = ASSUMED if self.contamination == "auto" else float(self.contamination)
        with thread_limit(self.n_jobs):
            self._fit_rows(rows, share, rng)
            self.offset_ = float(np.percentile(self._scores(source), 100 * share))
        return self

    def score_samples(self, X: Any) -> Array:
        """How usual each row is, (n_samples,); lower is stranger. Not a density: minus a mean of rank scores."""
        source = self._source(X)
        with thread_limit(self.n_jobs):
            return self._scores(source)

    def decision_function(self, X: Any) -> Array:
        """`score_samples - offset_`, (n_samples,): negative for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """-1 for anomalies, 1 for the others, (n_samples,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def pvalues(self, X: Any = None) -> Array:
        """Probability of so strange a row among rows like those of the fit, (n_samples,), as `calibration` promises.

        None: of the training rows, each by the model that it was left out of (those that were drawn, if they were too
        many). The least is 1 / (n + 1). Where training rows hold anomalies, p-values are too large rather than too
        small.
        """
        self._check_is_fitted()
        if X is None:
            if self.calibration != "cross":
                raise ValueError("pvalues of the training rows need calibration='cross', which leaves each row out.")
            return self._training_pvalues
        source = self._source(X)
        with thread_limit(self.n_jobs):
            parts = []
            for _, block in source.chunks():
                rows = np.asarray(block, np.float64)
                scores = np.stack([-model.score_samples(scale.transform(rows)) for scale, model in self._folds])
                parts.append(conformal_pvalues(scores, self._calibration))
            return np.concatenate(parts)

    def discoveries(self, X: Any, rate: float = 0.1) -> NDArray[np.bool_]:
        """Which rows stand out with at most this share of false discoveries (Benjamini and Hochberg), (n_samples,).

        For clean training rows: the p-value of an anomaly cannot fall below the share of anomalies among these.
        """
        if not 0 < rate < 1:
            raise ValueError(f"rate must lie between 0 and 1, got {rate!r}.")
        return discoveries(self.pvalues(X), rate)

    def reasons(self, X: Any, top: int = 3) -> Reasons:
        """The columns that make each row odd, the strangest first, and what was expected in them; see `Reasons`."""
        source = self._source(X)
        rows = np.concatenate([np.asarray(block, np.float64) for _, block in source.chunks()])
        scale, names = self._scale, getattr(self, "feature_names_in_", None)
        found = reasons_of(self.mixture_, scale.transform(rows), min(int(top), len(scale.kept)))
        columns = scale.kept[found.columns]
        middle = scale.inverse(found.expected, found.columns)
        low = scale.inverse(found.expected - found.deviation, found.columns)
        high = scale.inverse(found.expected + found.deviation, found.columns)
        values = np.take_along_axis(rows, columns, axis=1)
        return Reasons(columns, found.surprise, values, middle, 0.5 * (high - low), found.tail, names)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is an ensemble."""
        return hasattr(self, "offset_")

    def _check_is_fitted(self) -> None:
        check_is_fitted(self)

    def _source(self, X: Any) -> Source:
        self._check_is_fitted()
        source = as_source(X, type(self).__name__, 1, np.float64)
        check_n_features(self, np.empty((0, source.n_features)), reset=False)
        names = names_of(X, source)
        if names is not None:
            compare_names(self, names, reset=False)
        known = getattr(self, "feature_names_in_", None)
        check_finite(source, type(self).__name__, known)
        return source

    def _fit_rows(self, rows: Array, share: float, rng: np.random.RandomState) -> None:
        """Fit members, projections, and the models of `pvalues`."""
        self._scale = DrawnIn.of(rows)
        if not len(self._scale.kept):
            raise ValueError("all columns of X are constant, and no row is stranger than another.")
        Z = self._scale.transform(rows)
        seed = int(rng.randint(2**31 - 1))
        limit = max(LEAST_WEIGHT, 1.5 * share) if self.training == "contaminated" else 0.0
        self._members = [self._member(Z, number, seed, limit) for number in range(self.n_members)]
        self._ranks = [np.sort(self._tail(Z, member)) for member in self._members]
        self._fit_projections(Z, seed)
        self.mixture_ = self._struck(_fitted(Z, seed, SINGLE, "full"), limit)
        self._calibrate(rows, rng, seed)

    def _member(self, Z: Array, number: int, seed: int, limit: float) -> tuple[Array, Array, Array]:
        """Weights, means and lower factors of what is left of a mixture."""
        kind = "full" if number < (self.n_members + 1) // 2 else "diag"
        model = _fitted(Z, (seed + number) % 2**31, MEMBER, kind)
        gaussians = model._density().gaussians()
        kept = gaussians.weights >= min(limit, gaussians.weights.max())
        weights = gaussians.weights[kept] / gaussians.weights[kept].sum()
        return weights, gaussians.means[kept], np.linalg.cholesky(gaussians.covariances[kept])

    def _struck(self, model: GaussianMixture, limit: float) -> GaussianMixture:
        """A mixture without its light components, which would find anomalies as usual as they do themselves."""
        kept = model.weights_ >= min(limit, model.weights_.max())
        weights = model.weights_[kept] / model.weights_[kept].sum()
        return GaussianMixture.from_parameters(weights, model.means_[kept], model.covariances_[kept])

    def _tail(self, Z: Array, member: tuple[Array, Array, Array]) -> Array:
        parts = [tail_scores(Z[first : first + BLOCK_ROWS], *member) for first in range(0, len(Z), BLOCK_ROWS)]
        return np.concatenate(parts)

    def _fit_projections(self, Z: Array, seed: int) -> None:
        rng, n_features = np.random.default_rng(seed), Z.shape[1]
        size = int(np.ceil(np.sqrt(n_features)))
        directions = np.zeros((self.n_projections, n_features))
        for direction in directions:
            direction[rng.choice(n_features, size, replace=False)] = rng.normal(size=size)
        values = Z @ directions.T
        spread = values.std(axis=0)
        self._directions = directions / np.where(spread > 1e-9, spread, 1.0)[:, None]
        self._projections, self._projection_ranks = None, []
        if not self.n_projections:
            return
        values = np.ascontiguousarray((Z @ self._directions.T).T)
        most = max(1, min(MOST_COMPONENTS, len(Z) // ROWS_PER_COMPONENT))
        counts = rng.integers(1, most + 1, size=self.n_projections)
        many = fit_many(
            values.reshape(-1, 1),
            n_components=counts,
            offsets=np.arange(self.n_projections + 1) * len(Z),
            reg_covar=PROJECTION_RIDGE,
            random_state=seed,
        )
        good = np.flatnonzero(many.status_ <= 1)
        self._directions = self._directions[good]
        self._projections = many.weights_[good], many.means_[good, :, 0], many.covariances_[good, :, 0, 0]
        self._projection_ranks = [np.sort(column) for column in self._projected(Z).T]

    def _projected(self, Z: Array) -> Array:
        """Minus log-densities along the directions, (n_rows, n_projections)."""
        assert self._projections is not None
        weights, means, variances = self._projections
        values = (Z @ self._directions.T)[:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_prob = np.log(weights) - 0.5 * (np.log(variances) + (values - means) ** 2 / variances)
        log_prob = np.where(weights > 0, log_prob, -np.inf)
        peak = log_prob.max(axis=2, keepdims=True)
        return -np.asarray(peak[:, :, 0] + np.log(np.exp(log_prob - peak).sum(axis=2)))

    def _calibrate(self, rows: Array, rng: np.random.RandomState, seed: int) -> None:
        """Models and sorted scores of what they have not seen, for `pvalues`."""
        n = len(rows)
        order = rng.permutation(n)
        n_folds = {"cross": min(self.cv, n), "split": 2, "model": 1}[self.calibration]
        parts = [order] if n_folds == 1 else [order[fold::n_folds] for fold in range(n_folds)]
        self._folds, self._calibration, self._training_pvalues = [], [], np.full(n, np.nan)
        own = np.empty(n)
        for part in parts[: 1 if self.calibration == "split" else None]:
            left = np.setdiff1d(order, part) if n_folds > 1 else order
            scale = DrawnIn.of(rows[left])
            model = _fitted(scale.transform(rows[left]), seed, SINGLE, "full")
            if self.calibration == "model":
                model.set_params(random_state=seed)
                scores = -model.score_samples(model.sample(10_000)[0])
            else:
                scores = own[part] = -model.score_samples(scale.transform(rows[part]))
            self._folds.append((scale, model))
            self._calibration.append(np.sort(scores))
        if self.calibration == "cross":  # a rank among all rows, each by a model that has not seen it
            self._training_pvalues = np.asarray((n - np.searchsorted(np.sort(own), own, side="left")) / n)

    def _scores(self, source: Source) -> Array:
        return gathered(iter([self._block_scores(block) for _, block in source.chunks()]), source.n_samples)

    def _block_scores(self, block: NDArray[Any]) -> Array:
        found = []
        for first in range(0, len(block), BLOCK_ROWS):
            Z = self._scale.transform(np.asarray(block[first : first + BLOCK_ROWS], np.float64))
            members = [rank_scores(tail_scores(Z, *m), r) for m, r in zip(self._members, self._ranks, strict=True)]
            total = np.mean(members, axis=0)
            if self._projection_ranks:
                columns = zip(self._projected(Z).T, self._projection_ranks, strict=True)
                total = total + np.mean([rank_scores(column, ranks) for column, ranks in columns], axis=0)
            found.append(-total)
        return np.concatenate(found)


class PyODMixtureDetector:
    """`MixtureOutlierDetector` with the names and signs of pyod: higher is stranger, labels are 0 and 1.

    Parameters
    ----------
    contamination : float, default=0.1
        pyod's own default.
    **settings
        Of `MixtureOutlierDetector`.

    Attributes
    ----------
    detector_ : MixtureOutlierDetector
    decision_scores_ : ndarray of shape (n_samples,)
    threshold_ : float
    labels_ : ndarray of shape (n_samples,)
        1 for anomalies.
    """

    def __init__(self, contamination: float = 0.1, **settings: Any) -> None:
        self.contamination = contamination
        self.settings = settings

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to rows that may hold anomalies; y is ignored."""
        self.detector_ = MixtureOutlierDetector(contamination=self.contamination, **self.settings).fit(X)
        self.decision_scores_ = -self.detector_.score_samples(X)
        self.threshold_ = -self.detector_.offset_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def decision_function(self, X: Any) -> Array:
        """Higher is stranger, (n_samples,)."""
        return -self.detector_.score_samples(X)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """1 for anomalies, 0 for the others, (n_samples,)."""
        return (self.decision_function(X) > self.threshold_).astype(np.int64)


def _fitted(Z: Array, seed: int, settings: dict[str, Any], kind: str) -> GaussianMixture:
    """A regularised mixture of rows on the robust scale; fewer components where rows are few."""
    n_components = max(1, min(settings["n_components"], len(Z) // ROWS_PER_COMPONENT))
    model = GaussianMixture(
        n_components,
        covariance_type=kind,
        reg_covar=settings["reg_covar"],
        max_iter=settings["max_iter"],
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the ridge, which is meant, and of iterations, of which few are enough
        return model.fit(Z)
