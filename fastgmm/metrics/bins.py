"""How many rows fall where: the shares of the cells of a k-means of the training rows."""

from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from ..exceptions import NotFittedError
from ..optimization.clustering import BlockedSample, kmeans
from ..optimization.compiled import n_exchanges
from ._pairs import distance_blocks
from ._result import Measured
from ._rows import FloatArray, Rows, check_rows, draw, float_blocks, matched

CLUSTERED = 25_000  # rows at least, of which the bins are found
MAX_FEATURES = 1000  # with more, a random sixth of them is clustered, as by Richardson and Weiss


class Bins:
    """The Voronoi cells of a k-means of the training rows, and the share of the training rows in each.

    Rows are scaled by one number, so that cells are those of the given units. Above 1,000 features (pixels of a large
    image say the same many times) distances are taken over a random sixth of them. Clustered are at most
    max(25,000, 50 n_bins) of the rows, drawn at random; the shares are of all.

    Parameters
    ----------
    n_bins : int, default=50
    random_state : int, default=0
        Seed of the k-means and of the features and rows drawn.

    Attributes
    ----------
    centers_ : ndarray of shape (n_bins, n_features of `columns_`)
    columns_ : ndarray of int
        The features whose distances count.
    shares_ : ndarray of shape (n_bins,)
        Share of the training rows in each bin; sums to 1.
    n_samples_, n_features_in_ : int
        Training rows and their features.

    References
    ----------
    E. Richardson and Y. Weiss (2018), On GANs and GMMs, NeurIPS, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import Bins
    >>> X = np.repeat([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]], [2, 3, 5], axis=0)
    >>> bins = Bins(n_bins=3).fit(X)
    >>> np.sort(bins.shares(X)).tolist()
    [0.2, 0.3, 0.5]
    """

    def __init__(self, n_bins: int = 50, random_state: int = 0) -> None:
        self.n_bins = n_bins
        self.random_state = random_state

    def fit(self, train: npt.ArrayLike) -> Self:
        """Find the bins.

        Parameters
        ----------
        train : array-like of shape (n_samples, n_features), or images
            At least n_bins rows.

        Raises
        ------
        TypeError, ValueError
            `train` is no such array of finite numbers, or n_bins is not from 1 to its length.
        """
        (rows,) = check_rows(train=train)
        if not 1 <= self.n_bins <= len(rows):
            raise ValueError(f"n_bins must be from 1 to the number of training rows, {len(rows)}, got {self.n_bins}")
        rng = np.random.default_rng(self.random_state)
        n_features = rows.shape[1]
        n_kept = n_features if n_features <= MAX_FEATURES else n_features // 6
        self.columns_ = np.sort(rng.choice(n_features, n_kept, replace=False))
        sample = draw(rows, max(CLUSTERED, 50 * self.n_bins), rng)[:, self.columns_].astype(np.float64)
        self.centers_ = _kmeans(sample, self.n_bins, rng)
        self.n_samples_, self.n_features_in_ = rows.shape
        self.shares_ = self.shares(rows)
        return self

    def shares(self, rows: npt.ArrayLike) -> FloatArray:
        """Return the share of rows whose nearest centre is that of each bin, (n_bins,).

        Raises
        ------
        NotFittedError
            `fit` has not been called.
        TypeError, ValueError
            `rows` is no array of finite numbers as wide as the training rows.
        """
        checked = self._check(rows=rows)[0]
        counts = np.zeros(self.n_bins)
        for _, block in float_blocks(checked):
            for _, distance in distance_blocks(block[:, self.columns_], self.centers_):
                counts += np.bincount(distance.argmin(axis=1), minlength=self.n_bins)
        return counts / len(checked)

    def _check(self, **sets: npt.ArrayLike) -> list[Rows]:
        """Return sets of rows, checked to be as wide as the training rows."""
        if not hasattr(self, "centers_"):
            raise NotFittedError("These Bins are not fitted yet; call fit(train) first.")
        checked = check_rows(**sets)
        if checked[0].shape[1] != self.n_features_in_:
            name = next(iter(sets))
            raise ValueError(
                f"{name} has {checked[0].shape[1]} features per row, but the bins were fitted with "
                f"{self.n_features_in_}"
            )
        return checked


def number_of_different_bins(
    bins: Bins, generated: npt.ArrayLike, held_out: npt.ArrayLike, *, z: float = 1.96, random_state: int = 0
) -> Measured:
    """Return in how many bins the share of generated rows differs significantly from that of the training rows (NDB).

    With p the shares of n training rows and q those of m others, a bin differs if

        |p_b - q_b| > z sqrt(r_b (1 - r_b) (1/n + 1/m)),    r_b = (n p_b + m q_b) / (n + m)

    Equal distributions have no 0: of B bins about 0.05 B exceed z = 1.96 by chance. Larger sets find smaller
    differences, so that generated and held-out rows are compared at equal numbers: of the larger set as many are drawn
    without replacement as the smaller has.

    Parameters
    ----------
    bins : Bins
        Fitted to the training rows.
    generated, held_out : array-like of shape (n_rows, n_features), or images
    z : float, default=1.96
        Threshold in standard errors; 1.96 is a two-sided 5 %.
    random_state : int, default=0
        Seed of the draw.

    Returns
    -------
    Measured
        From 0 to n_bins; smaller is better.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As `Bins.shares`.

    References
    ----------
    E. Richardson and Y. Weiss (2018), On GANs and GMMs, NeurIPS, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import Bins, number_of_different_bins
    >>> X = np.random.default_rng(0).standard_normal((4000, 2))
    >>> bins = Bins(n_bins=20).fit(X[:2000])
    >>> number_of_different_bins(bins, generated=X[2000:3000] + 0.5, held_out=X[3000:])
    Measured(value=17.0, baseline=3.0)
    """
    value, baseline, m = _shares_at_equal_numbers(bins, generated, held_out, random_state)
    p, n = bins.shares_, bins.n_samples_

    def count(q: FloatArray) -> float:
        pooled = (n * p + m * q) / (n + m)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        return float((np.abs(p - q) > z * error).sum())

    return Measured(count(value), count(baseline))


def jensen_shannon(bins: Bins, generated: npt.ArrayLike, held_out: npt.ArrayLike, *, random_state: int = 0) -> Measured:
    """Return the Jensen-Shannon divergence between the shares that training and generated rows have in the bins.

    With p and q these shares and r = (p + q) / 2:  JS = sum_b (p_b log(p_b / r_b) + q_b log(q_b / r_b)) / 2. For equal
    distributions its mean is about (n_bins - 1) (1/n + 1/m) / 8 at n training and m other rows, not 0; hence the
    baseline at the same m (of the larger set as many rows are drawn without replacement as the smaller has).

    Parameters
    ----------
    bins : Bins
        Fitted to the training rows.
    generated, held_out : array-like of shape (n_rows, n_features), or images
    random_state : int, default=0
        Seed of the draw.

    Returns
    -------
    Measured
        In nats, from 0 to log 2; smaller is better.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As `Bins.shares`.

    References
    ----------
    J. Lin (1991), Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 37(1), equation 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import Bins, jensen_shannon
    >>> X = np.random.default_rng(0).standard_normal((4000, 2))
    >>> bins = Bins(n_bins=20).fit(X[:2000])
    >>> print(jensen_shannon(bins, generated=X[2000:3000] + 0.5, held_out=X[3000:]))
    0.06545 (baseline 0.00531)
    """
    value, baseline, _ = _shares_at_equal_numbers(bins, generated, held_out, random_state)
    return Measured(_divergence(bins.shares_, value), _divergence(bins.shares_, baseline))


def _shares_at_equal_numbers(
    bins: Bins, generated: npt.ArrayLike, held_out: npt.ArrayLike, random_state: int
) -> tuple[FloatArray, FloatArray, int]:
    """Return the shares of generated and of held-out rows, and of how many rows each."""
    sets = matched(*bins._check(generated=generated, held_out=held_out), random_state=random_state)
    value, baseline = (bins.shares(rows) for rows in sets)
    return value, baseline, len(sets[0])


def _divergence(p: FloatArray, q: FloatArray) -> float:
    mean = (p + q) / 2
    ratio_p, ratio_q = (np.divide(s, mean, out=np.ones_like(s), where=mean > 0) for s in (p, q))
    return float((xlogy(p, ratio_p) + xlogy(q, ratio_q)).sum() / 2)


def _kmeans(rows: FloatArray, n_bins: int, rng: np.random.Generator) -> FloatArray:
    """Return centres of shape (n_bins, n_features)."""
    mean = rows.mean(axis=0)
    rows = rows - mean
    # The library's k-means stops by an absolute tolerance. With a total variance of 1 it is 1 % of the spread of the
    # rows, root mean square over the centres: bins need no more.
    scale = float(np.sqrt(np.einsum("ij,ij->", rows, rows) / len(rows))) or 1.0
    sample = BlockedSample.from_rows(rows / scale, None)
    centers = kmeans(sample, n_bins, n_exchanges(n_bins), rng)
    return mean + scale * centers[:, : rows.shape[1]]
