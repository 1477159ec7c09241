"""Metrics of nearest neighbours: support and its gaps, a two-sample test, and copies of training rows."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._pairs import distance_blocks, nearest, neighbour_radii
from ._result import Measured
from ._rows import FloatArray, Rows, check_rows, matched


class PrecisionRecallDensityCoverage(NamedTuple):
    """How the supports of generated and real rows overlap; each larger is better, at most 1 but for density.

    Attributes
    ----------
    precision : Measured
        Share of generated rows inside some real row's ball: are they plausible?
    recall : Measured
        Share of real rows inside some generated row's ball: is everything generated?
    density : Measured
        Mean number of real balls that a generated row is in, over n_neighbors: precision that one outlying real row
        with a wide ball cannot raise much; about 1 where the distributions are equal.
    coverage : Measured
        Share of real balls with a generated row inside: recall that generated outliers cannot raise.
    """

    precision: Measured
    recall: Measured
    density: Measured
    coverage: Measured


def precision_recall_density_coverage(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    held_out: npt.ArrayLike,
    n_neighbors: int = 5,
    *,
    random_state: int = 0,
) -> PrecisionRecallDensityCoverage:
    """Compare the supports of real and generated rows, by balls that reach each row's k-th nearest other row.

    The figures depend on the number of rows: all three sets are compared at the number of the smallest, of the others
    as many rows are drawn without replacement. Euclidean distances say little between raw pixels of large images;
    `evaluate` takes principal components. Time grows as the square of the number of rows, memory does not.

    Parameters
    ----------
    real, generated, held_out : array-like of shape (n_rows, n_features), or images
        More than n_neighbors rows each. `real` is what both others are compared with: rows that the model has not seen,
        lest copies of the training rows count as quality. `held_out` are other real rows, such as the training rows.
    n_neighbors : int, default=5
        k, at least 1.
    random_state : int, default=0
        Seed of the draw.

    Raises
    ------
    TypeError, ValueError
        A set is no such array of finite numbers, is of another width or has too few rows.

    References
    ----------
    T. Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative models, NeurIPS,
    equations 1 and 2; M. F. Naeem et al. (2020), Reliable fidelity and diversity metrics for generative models, ICML,
    equations 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import precision_recall_density_coverage
    >>> X = np.random.default_rng(0).standard_normal((900, 2))
    >>> narrow = 0.2 * X[300:600]
    >>> print(precision_recall_density_coverage(real=X[:300], generated=narrow, held_out=X[600:]).recall)
    0.27 (baseline 1)
    """
    sets = matched(*check_rows(real=real, generated=generated, held_out=held_out), random_state=random_state)
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be at least 1, got {n_neighbors}")
    if len(sets[0]) <= n_neighbors:
        raise ValueError(
            f"n_neighbors={n_neighbors} needs more than {n_neighbors} rows of each set, but the smallest has "
            f"{len(sets[0])}; give more rows or fewer neighbours"
        )
    radii = neighbour_radii(sets[0], n_neighbors)
    value, baseline = (_overlap(sets[0], radii, rows, n_neighbors) for rows in sets[1:])
    return PrecisionRecallDensityCoverage(*map(Measured, value, baseline))


def _overlap(real: Rows, radii: FloatArray, other: Rows, n_neighbors: int) -> tuple[float, float, float, float]:
    """Return precision, recall, density and coverage of `other`; `radii` are the real rows' squared radii."""
    other_radii = neighbour_radii(other, n_neighbors)
    n_balls = np.zeros(len(other))  # real balls that each other row is in
    recalled = covered = 0
    for start, distance in distance_blocks(real, other):
        inside = distance <= radii[start : start + len(distance), np.newaxis]
        n_balls += inside.sum(axis=0)
        covered += inside.any(axis=1).sum()
        recalled += (distance <= other_radii).any(axis=1).sum()
    return (
        float((n_balls > 0).mean()),
        float(recalled / len(real)),
        float(n_balls.mean() / n_neighbors),
        float(covered / len(real)),
    )


def two_sample_accuracy(
    real: npt.ArrayLike, generated: npt.ArrayLike, held_out: npt.ArrayLike, *, random_state: int = 0
) -> Measured:
    """Return how often the nearest other row tells whether a row is real or generated (1-NN two-sample test).

    Each row of both sets is left out and classified by the nearest of all others: 0.5 if the distributions are equal,
    1 if they are apart, 0 if each generated row is the copy of a real one. A row as near to one set as to the other
    counts half. Sets are compared at equal numbers, as by `precision_recall_density_coverage`.

    Parameters
    ----------
    real, generated, held_out : array-like of shape (n_rows, n_features), or images
        At least two rows each.
    random_state : int, default=0
        Seed of the draw.

    Returns
    -------
    Measured
        Accuracy from 0 to 1; 0.5 is best. For n rows of each set its standard error there is 0.35 / sqrt(n) in many
        dimensions and up to 0.5 / sqrt(n) in few, where rows are often each other's nearest.

    Raises
    ------
    TypeError, ValueError
        As `precision_recall_density_coverage`.

    References
    ----------
    D. Lopez-Paz and M. Oquab (2017), Revisiting classifier two-sample tests, ICLR, section 3; Q. Xu et al. (2018), An
    empirical study on evaluation metrics of generative adversarial networks, arXiv:1806.07755, section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import two_sample_accuracy
    >>> X = np.random.default_rng(0).standard_normal((3000, 2))
    >>> print(two_sample_accuracy(real=X[:1000], generated=X[1000:2000] + 2, held_out=X[2000:]))
    0.883 (baseline 0.4905)
    """
    sets = matched(*check_rows(real=real, generated=generated, held_out=held_out), random_state=random_state)
    if len(sets[0]) < 2:
        raise ValueError("two_sample_accuracy needs at least 2 rows of each set, the smallest has 1; give more rows")
    among_real = nearest(sets[0], sets[0], same=True)

    def accuracy(other: Rows) -> float:
        own = np.concatenate([among_real, nearest(other, other, same=True)])
        across = np.concatenate([nearest(sets[0], other), nearest(other, sets[0])])
        return float((own < across).mean() + (own == across).mean() / 2)

    return Measured(accuracy(sets[1]), accuracy(sets[2]))


def nearest_distances(rows: npt.ArrayLike, train: npt.ArrayLike) -> FloatArray:
    """Return the Euclidean distance of each row to the nearest training row, (n_rows,), in the units of the rows.

    Copies have distance 0 exactly. Memory beside the rows is bounded, whatever their number.

    Parameters
    ----------
    rows, train : array-like of shape (n_rows, n_features), (n_samples, n_features), or images

    Raises
    ------
    TypeError, ValueError
        A set is no such array of finite numbers, or they differ in width.

    Examples
    --------
    >>> from fastgmm.metrics import nearest_distances
    >>> nearest_distances([[0.0, 0.0], [1.0, 1.0]], train=[[0.0, 3.0], [1.0, 1.0]]).tolist()
    [1.4142135623730951, 0.0]
    """
    rows, train = check_rows(rows=rows, train=train)
    return nearest(rows, train)


class Memorisation(NamedTuple):
    """How near generated rows are to training rows, beside held-out rows.

    Attributes
    ----------
    share : Measured
        Share of rows at most as far from their nearest training row as the nearest `quantile` of the held-out rows:
        the baseline is about that quantile. A value far above it says that training rows are repeated, or, where
        `median` lies below its baseline as well, that rows are generated too near the dense middle of the data.
    low, median : Measured
        The distance that `quantile`, and half, of the rows are nearer than; in units of the rows.
    """

    share: Measured
    low: Measured
    median: Measured


def memorisation(
    train: npt.ArrayLike, generated: npt.ArrayLike, held_out: npt.ArrayLike, *, quantile: float = 0.01
) -> Memorisation:
    """Compare the distances of generated rows to their nearest training rows with those of held-out rows.

    All rows are used: the distribution of these distances depends on the number of training rows only.

    Parameters
    ----------
    train, generated, held_out : array-like of shape (n_rows, n_features), or images
    quantile : float, default=0.01
        Share of the held-out rows that count as near, between 0 and 1; of few held-out rows, at least one.

    Raises
    ------
    TypeError, ValueError
        A set is no such array of finite numbers, they differ in width, or `quantile` is out of range.

    References
    ----------
    C. Meehan, K. Chaudhuri and S. Dasgupta (2020), A non-parametric test to detect data-copying in generative models,
    AISTATS, section 3: copying is being nearer to the training rows than fresh rows are.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import memorisation
    >>> X = np.random.default_rng(0).standard_normal((900, 5))
    >>> half_copied = np.concatenate([X[:150], X[300:450]])
    >>> print(memorisation(train=X[:300], generated=half_copied, held_out=X[600:]).share)
    0.5033 (baseline 0.01)
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be between 0 and 1, got {quantile}")
    train, generated, held_out = check_rows(train=train, generated=generated, held_out=held_out)
    distances = [nearest(rows, train) for rows in (generated, held_out)]
    # A distance that occurs, so that held-out rows which are copies themselves do not hide those generated.
    threshold = np.quantile(distances[1], quantile, method="inverted_cdf")
    return Memorisation(
        Measured(*(float((distance <= threshold).mean()) for distance in distances)),
        Measured(*(float(np.quantile(distance, quantile)) for distance in distances)),
        Measured(*(float(np.median(distance)) for distance in distances)),
    )
