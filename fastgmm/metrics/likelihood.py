"""The mean log-density of held-out rows, and what over-fitting adds to that of the training rows; trivial models."""

import lzma
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ._result import Measured
from ._rows import check_rows


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


class TrivialBits(NamedTuple):
    """What models of integer values that know next to nothing take, in bits per value.

    Attributes
    ----------
    histogram_bits : Measured
        A histogram for each column of the training rows, with half a count added to every level (Krichevsky and
        Trofimov, 1981), columns independent.
    lzma_bits : Measured
        The rows compressed by LZMA, alone.
    """

    histogram_bits: Measured
    lzma_bits: Measured


def trivial_bits(train: npt.ArrayLike, held_out: npt.ArrayLike, levels: int = 256) -> TrivialBits:
    """Return what a histogram of each column and a compressor take for held-out rows; the baselines are training rows.

    A density of discrete values that are mostly the same, such as the black of digits, has to be compared with these: a
    continuous density spends bits on saying that black is black.

    Parameters
    ----------
    train, held_out : array-like of int of shape (n_rows, n_features), or images
        Values from 0 to levels - 1.
    levels : int, default=256

    Returns
    -------
    TrivialBits
        Smaller is better; comparable with `bits_per_dimension` of rows (k + u) / levels.

    Raises
    ------
    TypeError, ValueError
        A set is no array of integers from 0 to levels - 1, or of another width.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import trivial_bits
    >>> X = np.random.default_rng(0).integers(0, 2, (4000, 8)) * 255
    >>> print(trivial_bits(train=X[:3000], held_out=X[3000:]).histogram_bits)
    1.06 (baseline 1.06)
    """
    sets = check_rows(train=train, held_out=held_out)
    for name, rows in zip(("train", "held_out"), sets, strict=True):
        if rows.dtype.kind not in "biu":
            raise TypeError(f"{name} must hold integers from 0 to {levels - 1}, got dtype {rows.dtype}")
        if rows.min() < 0 or rows.max() >= levels:
            raise ValueError(f"{name} must hold integers from 0 to {levels - 1}, got {rows.min()} to {rows.max()}")
    trained, unseen = sets
    n_features = trained.shape[1]
    counts = np.full((n_features, levels), 0.5)
    for column, values in enumerate(trained.T):
        counts[column] += np.bincount(values, minlength=levels)
    bits = np.log2(counts.sum(axis=1, keepdims=True)) - np.log2(counts)
    columns = np.arange(n_features)
    histogram = Measured(*(float(np.mean(bits[columns, rows])) for rows in (unseen, trained)))
    kind = np.min_scalar_type(levels - 1)
    sizes = [8 * len(lzma.compress(rows.astype(kind).tobytes())) / rows.size for rows in (unseen, trained)]
    return TrivialBits(histogram, Measured(*sizes))
