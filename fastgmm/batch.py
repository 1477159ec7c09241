"""Fitted models applied to rows of any number, the results written to a file block by block.

Neither the rows nor the results are ever in memory together. The ending of a file's name, `.npy` or `.parquet`, says
how it is written (Parquet needs `pip install 'fastgmm[sources]'`); tables are read again by `fastgmm.open_source`. The
numbers are those that the model's own methods give for all rows at once, in the same precision.

An existing file is refused with FileExistsError, or replaced with `overwrite=True`. A file appears only when it is
complete: a full disk or any other error leaves none, and an older one as it was. Another ending is a ValueError, and so
is what the model's own methods refuse, such as a row with NaN; the row is named by its place among all rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import validation as check
from .estimators.base import MixtureEstimator
from .images.generator import ImageGenerator
from .images.output import generated_blocks, open_images_file
from .model.wrapped import BAD_LABEL
from .rows.atomic import StrPath
from .rows.columns import Columns
from .rows.open import open_source
from .rows.output import check_output, open_output
from .rows.source import Source
from .threads import thread_limit

BLOCK_ROWS = 2**18
BLOCK_VALUES = 2**22  # of rows with many features or components in a block; 32 MiB in float64

Block = NDArray[Any]


@dataclass(frozen=True)
class Scores:
    """What the log-densities of rows amount to, in nats.

    Attributes
    ----------
    n_samples : int
        Rows that have one.
    log_likelihood : float
        Their sum.
    least_log_density : float
        That of the most unusual row.
    n_bad : int
        Rows that have none: bad ones that were kept.
    """

    n_samples: int
    log_likelihood: float
    least_log_density: float
    n_bad: int = 0


def predict(model: Any, data: Any, path: StrPath, *, overwrite: bool = False) -> int:
    """Write the most probable component of each row, int64, in Parquet the column `label`; return the number of rows.

    Parameters
    ----------
    model : GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers or StandardisedMixture
        Fitted.
    data : what `fastgmm.open_source` takes, or a source that it opened
        With options, such as columns or `on_bad="keep"`, give the opened source. Of bad rows that are kept the label is
        -2, and probabilities and log-densities are NaN; where bad rows are left out, the file must be a `.parquet` one,
        whose column `row` has the place of each row, from 0.
    path : path-like
        File to write, ending in `.npy` or `.parquet`.
    overwrite : bool, default=False
        Replace an existing file.
    """
    return write_predictions(model, data, path, "labels", overwrite)[0]


def predict_proba(model: Any, data: Any, path: StrPath, *, overwrite: bool = False) -> int:
    """Write the probability of each component for each row: in Parquet the columns `component_0`, `component_1`, ...

    Parameters and result are those of `predict`. What rows lack of 1 is the probability of the noise, if the model has
    such a component. The numbers are float32 if the rows and the model are, else float64.
    """
    return write_predictions(model, data, path, "resp", overwrite)[0]


def write_predictions(model: Any, data: Any, path: StrPath, output: str, overwrite: bool = False) -> tuple[int, int]:
    """Write 'labels' or 'resp' as `predict` and `predict_proba` do; return the number of rows, and of bad ones."""
    check_output(path, overwrite)
    source, n_bad = _source(model, data), 0
    check_output(path, overwrite, source.files)

    def noted() -> Iterator[Block]:
        nonlocal n_bad
        for block in _scored(model, source, output):
            if source.keeps_bad:
                n_bad += int(np.sum(block == BAD_LABEL if output == "labels" else np.isnan(block[:, 0])))
            yield block

    return _write(path, source, noted(), {"labels": "label", "resp": "component_"}[output], overwrite), n_bad


def score_samples(model: Any, data: Any, path: StrPath | None, *, overwrite: bool = False) -> Scores:
    """Write the log-density of each row in nats, in Parquet the column `log_density`, and return what they amount to.

    Parameters are those of `predict`; with a path of None, nothing is written. The numbers are float32 if the rows and
    the model are, else float64.
    """
    if path is not None:
        check_output(path, overwrite)
    source = _source(model, data)
    if path is not None:
        check_output(path, overwrite, source.files)
    total, least, n_good = 0.0, np.inf, 0

    def noted() -> Iterator[Block]:
        nonlocal total, least, n_good
        for block in _scored(model, source, "log_prob_norm"):
            good = block[~np.isnan(block)] if source.keeps_bad else block
            total += float(good.sum(dtype=np.float64))
            least = min(least, float(good.min(initial=np.inf)))
            n_good += len(good)
            yield block

    if path is None:
        for _ in noted():
            pass
    else:
        _write(path, source, noted(), "log_density", overwrite)
    return Scores(n_good, total, least, source.n_samples - n_good)


def sample(
    model: Any,
    n_samples: int,
    path: StrPath,
    *,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
    labels: bool = False,
    first: int = 0,
    overwrite: bool = False,
) -> int:
    """Draw rows from a mixture in random order: float64, in Parquet columns named like those of the fit, or `x0`, ...

    Returns how many. Row i of a seed is the same whatever `n_samples` and `first` it is drawn with and for any
    `n_jobs`, so that parts of one large set can be drawn apart; the model's own `sample` gives other rows.

    Parameters
    ----------
    model : GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers or StandardisedMixture
        Fitted; its own `random_state` does not count.
    n_samples : int
        Number of rows, at least 1.
    path : path-like
        File to write, ending in `.npy` or `.parquet`.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None, default=None
        Seed; None draws other rows at every call.
    labels : bool, default=False
        Add the component of each row, int64, as the last column, `label`; Parquet only.
    first : int, default=0
        Number of the first row.
    overwrite : bool, default=False
        Replace an existing file.
    """
    check_output(path, overwrite)
    _check_mixture(model)
    _check_numbers("n_samples", n_samples, first)
    n_features = model.means_.shape[1]
    found = model._column_names()
    names = _numbered("x", n_features) if found is None else [str(name) for name in found]
    columns = [Columns(names, np.dtype(np.float64), (n_features,))]
    if labels:
        columns.append(Columns(["label"], np.dtype(np.int64)))
    with open_output(path, n_samples, columns, overwrite=overwrite) as write:
        for block in _sampled(model, n_features, range(first, first + n_samples), _seed_of(random_state)):
            write(*block[: len(columns)])
    return n_samples


def generate(
    generator: ImageGenerator,
    size: int,
    path: StrPath,
    *,
    label: Any = None,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
    temperature: float = 1.0,
    noise: bool = False,
    first: int = 0,
    as_float: bool = False,
    overwrite: bool = False,
) -> int:
    """Draw images, and return how many: those that `generator.generate` gives for the same arguments (see there).

    A `.npy` file has shape (size, height, width) or (size, height, width, channels). A Parquet file has a row for each
    image with the columns `pixel_0`, `pixel_1`, ..., in C order, and the shape of an image in its metadata, under
    `image_shape`. With `as_float`, `generator.mixture_` scores such a file as it is.

    Parameters
    ----------
    generator : ImageGenerator
        Fitted.
    size : int
        Number of images, at least 1.
    path : path-like
        File to write, ending in `.npy` or `.parquet`.
    label, temperature, noise, first
        As `ImageGenerator.generate` takes them.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None, default=None
        Seed; None draws other images at every call.
    as_float : bool, default=False
        Write float32 from 0 to 1 instead of uint8.
    overwrite : bool, default=False
        Replace an existing file.
    """
    check_output(path, overwrite)
    if not isinstance(generator, ImageGenerator):
        raise TypeError(f"generate takes an ImageGenerator; of a {type(generator).__name__} rows are drawn by sample.")
    generator._check_fitted()
    _check_numbers("size", size, first)
    blocks = generated_blocks(
        generator, size, label, _seed_of(random_state), temperature=temperature, noise=noise, first=first
    )
    with open_images_file(path, size, generator.image_shape_, as_float=as_float, overwrite=overwrite) as write:
        for images in blocks:
            write(images)
    return size


def _source(model: Any, data: Any) -> Source:
    """The rows that a model is applied to, checked as far as can be without reading them."""
    _check_mixture(model)
    source: Source = model._score_input(open_source(data), may_keep=True)
    return source


def _scored(model: MixtureEstimator, source: Source, output: str) -> Iterator[Block]:
    """Yield what the model's density says of each block of rows."""
    width = len(model.weights_) if output == "resp" else 1
    size = max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(width, source.n_features)))
    return model._scored_blocks(source, output, size)


def _check_mixture(model: Any) -> None:
    """Refuse what is no fitted mixture."""
    if isinstance(model, ImageGenerator):
        raise TypeError(
            "An ImageGenerator takes images, not rows. Give its mixture_ to apply it to rows of pixels from 0 to 1; "
            "generate draws images."
        )
    if not isinstance(model, MixtureEstimator):
        raise TypeError(f"model must be a mixture of fastgmm's, got a {type(model).__name__}.")
    model._check_is_fitted()


def _write(path: StrPath, source: Source, blocks: Iterator[Block], name: str, overwrite: bool) -> int:
    """Write blocks of results, whose first one says how wide and of which dtype they are; many columns get numbers.

    Where rows were left out, the column `row` says which place each of the others has.
    """
    n_rows, names_rows = source.n_samples, source.n_skipped > 0
    if names_rows and not str(path).lower().endswith(".parquet"):
        raise ValueError(
            f"{source.n_skipped} bad rows are left out, so that {path}, which has no place for the numbers of the "
            "others, would not say whose results it has. Write a .parquet file, which has a column `row`, or keep bad "
            "rows with on_bad='keep'."
        )
    head = next(blocks)
    names = [name] if head.ndim == 1 else _numbered(name, head.shape[1])
    columns = [Columns(names, head.dtype, head.shape[1:])]
    if names_rows:
        columns.insert(0, Columns(["row"], np.dtype(np.int64)))
    done = 0
    with open_output(path, n_rows, columns, overwrite=overwrite) as write:
        for block in chain([head], blocks):
            rows = [source.numbers(np.arange(done, done + len(block)))] if names_rows else []
            write(*rows, block)
            done += len(block)
    return n_rows


def _sampled(model: Any, n_features: int, wanted: range, seed: int) -> Iterator[tuple[Block, Block]]:
    """Yield the wanted rows of a seed and their components.

    Each block of `size` rows has its own random stream and is drawn whole even where fewer are wanted: its rows would
    otherwise depend on their number.
    """
    size, density = max(1, min(BLOCK_ROWS, BLOCK_VALUES // n_features)), model._density()
    for start in range(wanted.start // size * size, wanted.stop, size):
        stream = np.random.SeedSequence(seed, spawn_key=(start // size,))
        rng = np.random.RandomState(np.random.MT19937(stream))
        with thread_limit(model._setting("n_jobs")):
            X, labels = density.sample(size, rng)
        order = rng.permutation(size)  # `sample` groups its rows by component
        chosen = order[max(0, wanted.start - start) : wanted.stop - start]
        yield X[chosen], labels[chosen]


def _seed_of(random_state: Any) -> int:
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if check.is_int(random_state):
        if random_state < 0:
            raise ValueError(f"random_state must be at least 0, got {random_state}.")
        return int(random_state)
    return int(check.check_random_state(random_state).randint(2**63 - 1, dtype=np.int64))


def _check_numbers(name: str, count: Any, first: Any) -> None:
    for what, value, least in ((name, count, 1), ("first", first, 0)):
        if not check.is_int(value) or value < least:
            raise ValueError(f"{what} must be an int of at least {least}, got {value!r}.")


def _numbered(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]
