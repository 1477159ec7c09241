"""The mean log-density of held-out rows, and what over-fitting adds to that of the training rows."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ._result import Measured


class Density(Protocol):
    """Anything with the log-density of rows: mixtures, image generators, scikit-learn's density estimators."""

    def score_samples(self, X: npt.ArrayLike, /) -> npt.ArrayLike:
        """Return the log-density of each row in nats, (n_rows,)."""


def log_likelihood(model: Density, held_out: npt.ArrayLike, train: npt.ArrayLike) -> Measured:
    """Return the mean log-density of held-out rows; the baseline is that of the training rows.

    Baseline minus value is the over-fit: what the model knows of its training rows beyond what holds for others. A mean
    does not depend on the number of rows, so that all are used.

    Parameters
    ----------
    model : object with score_samples
        Fitted to `train`.
    held_out, train : array-like
        Rows or images as `model.score_samples` takes them.

    Returns
    -------
    Measured
        In nats per row; larger is better. `bits_per_dimension` converts.

    Raises
    ------
    TypeError
        `model` has no score_samples.
    ValueError
        `model.score_samples` does not give one number per row, or gives NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture
    >>> from fastgmm.metrics import log_likelihood
    >>> X = np.random.default_rng(0).standard_normal((1100, 5))
    >>> model = GaussianMixture(1).fit(X[:100])
    >>> print(log_likelihood(model, held_out=X[100:], train=X[:100]))
    -7.184 (baseline -7.03)
    """
    if not hasattr(model, "score_samples"):
        raise TypeError(f"model must have a method score_samples, which {type(model).__name__} has not")
    return Measured(_mean_score(model, "held_out", held_out), _mean_score(model, "train", train))


def _mean_score(model: Density, name: str, X: npt.ArrayLike) -> float:
    X = np.asarray(X)
    scores = np.asarray(model.score_samples(X), dtype=np.float64)
    if scores.shape != X.shape[:1] or scores.size == 0 or np.isnan(scores).any():
        raise ValueError(
            f"model.score_samples({name}) must give a number for each of the {len(X)} rows, at least one; got shape "
            f"{scores.shape} with {int(np.isnan(scores).sum())} NaN"
        )
    return float(scores.mean())
