"""What `fastgmm demo` does: learn the bundled digits and draw new ones; fit many rows with a known truth."""

import platform
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import GaussianMixture
from .._terminal import progress
from .._version import __version__
from ..datasets import SyntheticMixture, load_mnist, make_mixture
from ..images import ImageGenerator, save_grid
from ..metrics import nearest_distances, trivial_bits

if TYPE_CHECKING:
    from ..callbacks import IterationInfo

_START_ROWS = 20_000


def run_demo(output: Path, seed: int, n_samples: int) -> None:
    """Write digits.png and report.md into the folder `output`, and print the report as it grows."""
    output.mkdir(parents=True, exist_ok=True)
    title = (
        f"# fastgmm demo\n\nfastgmm {__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {platform.system()} {platform.machine()}, seed {seed}."
    )
    digits = _demo_digits(output, seed)
    print(digits, end="\n\n", flush=True)
    rows = _demo_rows(n_samples, seed)
    print(rows, end="\n\n")
    (output / "report.md").write_text(f"{title}\n\n{digits}\n\n{rows}\n", encoding="utf-8")
    print(f"Written: {output / 'digits.png'}, {output / 'report.md'}")


def _demo_digits(output: Path, seed: int) -> str:
    """Fit the digits label by label, write the picture, and return the report."""
    images, labels = load_mnist()
    order = np.random.default_rng(seed).permutation(len(images))
    train, held_out = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    start = time.perf_counter()
    generator = ImageGenerator(10, n_factors=6, noise_prior="auto", tol=1.0, random_state=seed)
    generator.fit(images[train], labels=labels[train])
    seconds = time.perf_counter() - start
    generated = np.concatenate([generator.generate(10, label=c, random_state=seed + c) for c in range(10)])
    real = np.concatenate([images[held_out][labels[held_out] == c][:10] for c in range(10)])
    sheets = {"real digits, not seen by the fit": real / 255.0, "generated digits": generated}
    save_grid(output / "digits.png", sheets, scale=2)
    learned = images[train] / 255.0
    real_distance, distance = (np.median(nearest_distances(shown, learned)) for shown in sheets.values())
    # The digits of another generator: one Gaussian per label says what it takes them for.
    judge = ImageGenerator(1, model="full", pca_components=50, reg_covar=1e-2, random_state=seed)
    judge.fit(learned, labels=labels[train])
    right = int((judge.classify(generated) == np.repeat(np.arange(10), 10)).sum())
    accuracy = np.mean(generator.classify(images[held_out], obs_noise=0.05) == labels[held_out])
    trivial = trivial_bits(images[train], images[held_out])
    return f"""\
## Handwritten digits

- fitted {len(train)} MNIST digits of 28 x 28 pixels, 10 components of 6 factors per label, in {seconds:.1f} s with \
compilation
- held-out digits ({len(held_out)}): {generator.bits_per_dim(images[held_out]):.2f} bits per pixel \
(fitted ones {generator.bits_per_dim(images[train]):.2f}; a histogram of each pixel takes \
{trivial.histogram_bits.value:.2f}, LZMA {trivial.lzma_bits.value:.2f}), {100 * accuracy:.1f} % classified right
- {right} of 100 generated digits are taken for the label asked for by Gaussians fitted to real digits
- median distance to the nearest fitted digit: generated {distance:.2f}, \
held out {real_distance:.2f} (copies would have 0)"""


def _demo_rows(n_samples: int, seed: int) -> str:
    """Fit seeded rows and return the report."""
    truth = make_mixture(n_samples, 8, 16, separation=3.0, random_state=seed)
    begin = time.perf_counter()
    # A single k-means start usually merges two of the components and splits another; the best of twenty seldom.
    first = truth.X[:_START_ROWS]
    start = GaussianMixture(16, tol=1e-2, n_init=20, random_state=seed).fit(first)
    ends = [time.perf_counter()]
    with closing(progress()) as show:

        def callback(info: "IterationInfo") -> None:
            ends.append(time.perf_counter())
            show(info)

        begun = {"weights_init": start.weights_, "means_init": start.means_, "precisions_init": start.precisions_}
        mixture = GaussianMixture(16, tol=1e-7, callback=callback).set_params(**begun).fit(truth.X)
    seconds = time.perf_counter() - ends[0]
    rate = n_samples * mixture.n_iter_ / (ends[-1] - ends[0])
    weight, mean, covariance = _errors(mixture, truth)
    return f"""\
## {n_samples:,} rows

- 8 features, float64, drawn from a known mixture of 16 full components that overlap a little
- start: the best of 20 fits to the first {len(first):,} rows, seed {seed}, in {ends[0] - begin:.1f} s
- EM until an iteration gains less than {mixture.tol} nats per row: {mixture.n_iter_} iterations, \
{mixture.stop_reason_}, {seconds:.1f} s
- {rate:,.0f} rows per second (rows x iterations / time of EM)
- log-likelihood {mixture.log_likelihood_:.10g} nats
- peak memory of the process {_peak_memory()}, of which the rows take {truth.X.nbytes / 2**20:.0f} MiB
- largest error against the known parameters: weights {weight:.2g}, means {mean:.2g}, \
covariances {covariance:.2g} (standard deviations are 0.3 to 1)"""


def _errors(mixture: GaussianMixture, truth: SyntheticMixture) -> tuple[float, float, float]:
    """Return the largest absolute errors of weights, means and covariances, components matched by means."""
    from scipy.optimize import linear_sum_assignment

    distances = np.linalg.norm(truth.means[:, np.newaxis] - mixture.means_, axis=2)
    _, match = linear_sum_assignment(distances)
    return (
        float(np.abs(mixture.weights_[match] - truth.weights).max()),
        float(np.abs(mixture.means_[match] - truth.means).max()),
        float(np.abs(mixture.covariances_[match] - truth.covariances).max()),
    )


def _peak_memory() -> str:
    """Return the most memory the process has held."""
    try:
        import resource
    except ImportError:
        return "unknown on this platform"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{(peak if sys.platform == 'darwin' else peak * 1024) / 2**20:.0f} MiB"  # bytes there, KiB elsewhere
