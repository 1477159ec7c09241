"""All metrics of one set of generated rows, as a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..representation.bits import bits_per_dimension
from ..representation.pca import PCA
from ._result import Measured
from ._rows import Rows, check_rows, matched
from .bins import Bins, jensen_shannon, number_of_different_bins
from .distances import maximum_mean_discrepancy, sliced_wasserstein
from .likelihood import Density, log_likelihood, trivial_bits
from .neighbours import memorisation, precision_recall_density_coverage, two_sample_accuracy

AIMS = {
    "log_likelihood": "high (baseline: train)",
    "bits_per_dimension": "low (baseline: train)",
    "histogram_bits": "of a histogram per column",
    "lzma_bits": "of a compressor",
    "number_of_different_bins": "low",
    "jensen_shannon": "low",
    "sliced_wasserstein": "low",
    "precision": "high",
    "recall": "high",
    "density": "1",
    "coverage": "high",
    "two_sample_accuracy": "0.5",
    "maximum_mean_discrepancy": "0",
    "memorised_share": "low",
    "nearest_distance_low": "high",
    "nearest_distance_median": "baseline",
}


@dataclass(frozen=True)
class Report(Mapping[str, Measured]):
    """Metrics by name; printed, a table.

    Attributes
    ----------
    measured : dict of str to Measured
        In the order computed.
    n_rows : int
        Rows of each set that were compared; bins and distances to training rows take all training rows, the
        log-likelihood takes all rows.
    """

    measured: dict[str, Measured]
    n_rows: int

    def __getitem__(self, name: str) -> Measured:
        return self.measured[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.measured)

    def __len__(self) -> int:
        return len(self.measured)

    def __str__(self) -> str:
        lines = [("metric", "value", "baseline", "aim")]
        for name, (value, baseline) in self.items():
            lines.append((name, f"{value:.4g}", f"{baseline:.4g}", AIMS.get(name, "")))
        first, second, third = (max(len(line[column]) for line in lines) for column in range(3))
        table = [f"{a:<{first}}  {b:>{second}}  {c:>{third}}  {d}" for a, b, c, d in lines]
        return "\n".join([*table, f"{self.n_rows} rows of each set"])

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return {name: {"value": ..., "baseline": ...}}, plain floats for JSON."""
        return {name: measured._asdict() for name, measured in self.items()}


def evaluate(
    generated: npt.ArrayLike,
    train: npt.ArrayLike,
    held_out: npt.ArrayLike,
    *,
    model: Density | None = None,
    levels: int | None = None,
    n_components: int | None = 50,
    n_bins: int = 50,
    n_neighbors: int = 5,
    n_directions: int = 200,
    max_samples: int = 5_000,
    random_state: int = 0,
) -> Report:
    """Measure how well generated rows follow the data, beside what real rows reach.

    Generated rows are compared with held-out rows, and the baseline compares as many training rows with these. Bins
    alone compare generated and held-out rows with the shares of the training rows, and memorisation asks how near both
    are to training rows.

    Read several together: bins find missing and repeated groups, recall and coverage missing variety, precision and
    density implausible rows, the two-sample test anything, and the distances to training rows tell learning from
    copying, which improves all others. Precision and density above their baselines mean rows that are too typical. The
    three sets must be on one scale.

    Parameters
    ----------
    generated, train, held_out : array-like of shape (n_rows, n_features), or images
        Images (n_images, height, width) or (n_images, height, width, channels) are taken as rows of pixels. `model`
        was fitted to `train` and knows nothing of `held_out`.
    model : object with score_samples, optional
        Adds log_likelihood; it is given `train` and `held_out` as they are.
    levels : int, optional
        Number of values of the discrete data whose values k became (k + u) / levels, see
        `fastgmm.representation.bits.bits_per_dimension`; adds bits_per_dimension, and what trivial models of the
        levels k take (`fastgmm.metrics.trivial_bits`).
    n_components : int or None, default=50
        Neighbours, the two-sample test and the discrepancy are taken in this many principal components of `train`, or
        as many as there are; None takes the rows as they are, which is quicker above a few thousand features.
    n_bins, n_neighbors, n_directions : int
        Of `Bins`, `precision_recall_density_coverage` and `sliced_wasserstein`; default 50, 5, 200.
    max_samples : int, default=5_000
        Rows of each set that are compared, if the smallest set has that many, drawn without replacement: time grows as
        their square. Bins and distances to training rows take all training rows, the log-likelihood all rows.
    random_state : int, default=0
        Seed of everything drawn.

    Returns
    -------
    Report
        log_likelihood (with `model`); bits_per_dimension, histogram_bits and lzma_bits (with `levels`);
        number_of_different_bins, jensen_shannon,
        sliced_wasserstein, precision, recall, density, coverage, two_sample_accuracy, maximum_mean_discrepancy,
        memorised_share, nearest_distance_low, nearest_distance_median.

    Raises
    ------
    TypeError, ValueError
        As the metrics, or `levels` is given without `model`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.metrics import evaluate
    >>> X = np.random.default_rng(0).standard_normal((1500, 3))
    >>> report = evaluate(generated=X[:500] + [2, 0, 0], train=X[500:1000], held_out=X[1000:])
    >>> print(report["two_sample_accuracy"])
    0.766 (baseline 0.55)
    """
    checked = check_rows(generated=generated, train=train, held_out=held_out)
    measured: dict[str, Measured] = {}
    if model is not None:
        measured["log_likelihood"] = log_likelihood(model, held_out, train)
        if levels is not None:
            measured |= _bits(measured["log_likelihood"], checked[1], checked[2], levels)
    elif levels is not None:
        raise ValueError("levels needs a model, whose log-likelihood it converts; give both or neither")

    reference = checked[1]
    new, equal, unseen = matched(*checked, random_state=random_state, max_samples=max_samples)
    bins = Bins(n_bins, random_state).fit(reference)
    measured["number_of_different_bins"] = number_of_different_bins(bins, new, unseen)
    measured["jensen_shannon"] = jensen_shannon(bins, new, unseen)
    # With held-out rows as the real ones: against training rows, copies of them would count as quality.
    sets = unseen, new, equal
    measured["sliced_wasserstein"] = sliced_wasserstein(*sets, n_directions, random_state=random_state)
    copies = memorisation(reference, new, unseen)
    if n_components is not None:
        pca = PCA(min(n_components, *reference.shape)).fit(reference)
        sets = pca.transform(unseen), pca.transform(new), pca.transform(equal)
    measured |= precision_recall_density_coverage(*sets, n_neighbors)._asdict()
    measured["two_sample_accuracy"] = two_sample_accuracy(*sets)
    measured["maximum_mean_discrepancy"] = maximum_mean_discrepancy(*sets, random_state=random_state)
    measured["memorised_share"] = copies.share
    measured["nearest_distance_low"], measured["nearest_distance_median"] = copies.low, copies.median
    return Report(measured, len(new))


def _bits(log_likelihood: Measured, train: Rows, held_out: Rows, levels: int) -> dict[str, Measured]:
    """Bits per value of the model, and of trivial ones for the values k of (k + u) / levels."""
    bits = (bits_per_dimension(value, train.shape[1], levels) for value in log_likelihood)
    values = [(rows * levels).astype(np.int64).clip(0, levels - 1) for rows in (train, held_out)]
    return {"bits_per_dimension": Measured(*bits), **trivial_bits(values[0], values[1], levels)._asdict()}
