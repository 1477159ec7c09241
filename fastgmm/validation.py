"""Checks of what users pass in. Messages follow scikit-learn where it has one, and add the place and the remedy."""

from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any, Protocol

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray
from scipy import sparse

from .exceptions import InvalidParameterError
from .rows.frames import to_numbers
from .rows.open import recognised
from .rows.source import ArraySource, Source, blocks, sums_to_finite
from .rows.summary import first_nonfinite

Array = NDArray[np.float64]


class Structure(Protocol):
    """What a check asks of a covariance structure."""

    name: str
    is_matrix: bool


MOST_EXPONENT = 200  # of two, of weights that are taken as they are


def as_matrix(X: Any, owner: str, min_samples: int = 1) -> NDArray[Any]:
    """Return X as a two-dimensional numeric array, without a copy where it is one already.

    Raises TypeError for sparse input and numpy.matrix, and ValueError for complex values and what holds no numbers
    (`rows/frames.py: to_numbers`), another number of dimensions, no columns or fewer than `min_samples` rows.
    """
    if sparse.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required. Use '.toarray()' to convert to a dense numpy "
            "array."
        )
    array = to_numbers(X)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{array}\n")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:  # objects; long double
        array = array.astype(np.float64)
    if array.ndim != 2:
        if array.ndim > 2:
            raise ValueError(f"Found array with dim {array.ndim}, while dim <= 2 is required by {owner}.")
        kind = "scalar" if array.ndim == 0 else "1D"
        raise ValueError(
            f"Expected 2D array, got {kind} array instead:\narray={array}.\n"
            "Reshape your data either using array.reshape(-1, 1) if your data has a single feature or "
            "array.reshape(1, -1) if it contains a single sample."
        )
    check_counts(array.shape, owner, min_samples)
    return array


def check_counts(shape: tuple[int, ...], owner: str, min_samples: int) -> None:
    """Raise ValueError for fewer than `min_samples` rows or no columns."""
    for count, what, minimum in ((shape[0], "sample", min_samples), (shape[1], "feature", 1)):
        if count < minimum:
            raise ValueError(
                f"Found array with {count} {what}(s) (shape={shape}) while a minimum of {minimum} is required by "
                f"{owner}."
            )


def as_source(X: Any, owner: str, min_samples: int = 1, model_dtype: Any = None) -> Source:
    """Return the rows of arrays, files and whatever else `fastgmm.open_source` knows, checked as by `as_matrix`.

    With `model_dtype`, rows are read in the precision that X and the model promote to.
    """
    source = recognised(X)
    if source is None:
        source = ArraySource(as_matrix(X, owner, min_samples))
    else:
        check_counts((source.n_samples, source.n_features), owner, min_samples)
    if model_dtype is None:
        return source
    given = source.input_dtype
    return source.read_as(np.result_type(model_dtype, given if given.kind == "f" else np.float64))


def check_finite(source: Source, owner: str, names: NDArray[Any] | None) -> None:
    """Raise ValueError naming the first row and column with NaN or infinity; reads the rows once, copies nothing."""
    for _, block in blocks(source.chunks(), 2**16):
        if not sums_to_finite(block):  # also when finite values overflow the sum, so look
            raise_nonfinite(source, owner, names)
            return


def raise_nonfinite(source: Source, owner: str, names: NDArray[Any] | None, may_miss: bool = False) -> None:
    """Raise the ValueError for the first value that is not finite, if there is one; NaN may be a missing value."""
    place = first_nonfinite(source, missing=not may_miss)
    if place is None:
        return
    row, column, value = place
    where = f"(first at {row_name(source, row)}, column {column_name(column, names)})"
    if np.isnan(value):
        raise ValueError(
            f"Input X contains NaN {where}.\n{owner} does not accept missing values encoded as NaN natively. Drop or "
            "impute these rows first, or use GaussianMixture or MixtureOfFactorAnalyzers with missing='em', to which "
            "NaN is a value missing at random."
        )
    raise ValueError(f"Input X contains infinity or a value too large for {source.input_dtype!r} {where}.")


def row_name(source: Source, row: int) -> str:
    """Name a row for a message: its index, and the file and its place there if it comes from one."""
    place = source.place(row)
    number = source.first_row + row
    return f"row {number}, which is {place}" if place else f"row {number}"


def column_name(column: int, names: NDArray[Any] | None) -> str:
    """Quote a column for a message: its index, and its name where there is one."""
    return str(column) if names is None else f"{column} ({names[column]!r})"


def check_sample_weight(sample_weight: Any, n_samples: int) -> Array | None:
    """Return float64 weights of shape (n_samples,); ValueError naming the row of the first bad one."""
    if sample_weight is None:
        return None
    weight = np.asarray(to_numbers(sample_weight, "sample_weight"), dtype=np.float64, order="C")
    if weight.ndim == 0:
        weight = np.full(n_samples, float(weight))
    if weight.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar; sample_weight has shape {weight.shape}.")
    if weight.shape != (n_samples,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(n_samples,)}!")
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"sample_weight must be finite and non-negative; got {weight[row]} at row {row}. Negative values in data "
            "passed to `sample_weight` and NaN or infinity have no meaning as weights."
        )
    if not weight.any():
        raise ValueError("sample_weight is zero in every row; at least one weight must be positive.")
    return weight


def weight_unit(weight: NDArray[np.float64] | None) -> float:
    """A power of two by which weights are divided, lest their sums leave the range of numbers or its normal part.

    1 for all but the largest and the smallest weights: dividing by a power of two changes no bit, and where there is
    no prior, whose counts are in rows of weight 1, no answer either.
    """
    if weight is None:
        return 1.0
    _, exponent = np.frexp(weight.max())
    return 1.0 if abs(int(exponent)) <= MOST_EXPONENT else float(np.ldexp(1.0, min(int(exponent), 1023)))


def check_weight_range(weight: NDArray[np.float64] | None, reason: str) -> None:
    """Raise ValueError for weights that would have to be divided, where that would change their meaning."""
    if weight_unit(weight) != 1.0:
        assert weight is not None
        raise ValueError(
            f"sample_weight is up to {weight.max():g}, but must be from 2^-{MOST_EXPONENT} to 2^{MOST_EXPONENT} "
            f"{reason}. Scale the weights."
        )


def in_units(weight: NDArray[np.float64] | None, unit: float) -> NDArray[np.float64] | None:
    """Weights divided by a unit, exactly: in two steps, since the inverse of the smallest is no number."""
    if weight is None or unit == 1.0:
        return weight
    _, exponent = np.frexp(unit)
    return np.asarray(np.ldexp(weight, 1 - int(exponent)))


class _Unseeded(ISeedSequence):
    """What a generator begins from that is seeded afterwards: mixing entropy for it took a tenth of a small fit."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[Any]:
        return np.ones(n_words, dtype)


def check_random_state(seed: Any) -> np.random.RandomState:
    """Turn None, an int or a RandomState into a RandomState, as scikit-learn does."""
    if seed is None or seed is np.random:
        state: np.random.RandomState = np.random.mtrand._rand
        return state
    if isinstance(seed, Integral):
        state = np.random.RandomState(np.random.MT19937(_Unseeded()))  # type: ignore[arg-type]
        state.seed(int(seed))  # the state of RandomState(seed)
        return state
    if isinstance(seed, np.random.RandomState):
        return seed
    raise ValueError(f"{seed!r} cannot be used to seed a numpy.random.RandomState instance")


def generator_from(random_state: np.random.RandomState) -> np.random.Generator:
    """A generator of NumPy's new kind, seeded by four numbers of one of the old."""
    return np.random.default_rng(random_state.randint(0, 2**31 - 1, size=4))


class Constraint:
    """What a parameter may be: a test and the words for it."""

    def __init__(self, words: str, accepts: Any) -> None:
        self.words, self.accepts = words, accepts


def is_int(value: Any) -> bool:
    """Whether it is an integer, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether it is a real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def integer(minimum: int) -> Constraint:
    """An int of at least `minimum`."""
    return Constraint(f"an int in the range [{minimum}, inf)", lambda v: is_int(v) and v >= minimum)


def one_of(*options: str) -> Constraint:
    """One of these strings."""
    words = ", ".join(repr(option) for option in sorted(options))
    return Constraint(f"a str among {{{words}}}", lambda v: isinstance(v, str) and v in options)


def or_auto(constraint: Constraint) -> Constraint:
    """What `constraint` accepts, or 'auto'; its words stay scikit-learn's, which has no such value."""
    return Constraint(constraint.words, lambda v: constraint.accepts(v) or (isinstance(v, str) and v == "auto"))


NONE = Constraint("None", lambda v: v is None)
AT_LEAST_0 = Constraint("a float in the range [0.0, inf)", lambda v: is_real(v) and v >= 0)  # or infinite
POSITIVE = Constraint("a float in the range (0.0, inf)", lambda v: is_real(v) and v > 0)
SHARE = Constraint("a float in the range (0.0, 1.0)", lambda v: is_real(v) and 0 < v < 1)
SECONDS = Constraint("a float of seconds", lambda v: is_real(v) and not is_int(v) and v >= 0)
BOOLEAN = [
    Constraint("an instance of 'bool'", lambda v: isinstance(v, bool)),
    Constraint("an instance of 'numpy.bool'", lambda v: isinstance(v, np.bool_)),
]
ARRAY_LIKE = Constraint(
    "an array-like", lambda v: not isinstance(v, str) and (hasattr(v, "__len__") or hasattr(v, "__array__"))
)
CALLABLE = Constraint("a callable", callable)
PATH = Constraint("a path", lambda v: isinstance(v, str | PathLike) and bool(fspath(v)))
DICT = Constraint("a dict", lambda v: isinstance(v, dict))
VERBOSE = [integer(0), *BOOLEAN]
N_JOBS = [Constraint("an int other than 0", lambda v: is_int(v) and v != 0), NONE]
RANDOM_STATE = [
    Constraint("an int in the range [0, 4294967295]", lambda v: is_int(v) and 0 <= v <= 2**32 - 1),
    Constraint("an instance of 'numpy.random.mtrand.RandomState'", lambda v: isinstance(v, np.random.RandomState)),
    NONE,
]


# Settings that were accepted before, with their types: checking them takes longer than a small fit.
_accepted: set[tuple[Any, ...]] = set()
MOST_REMEMBERED = 1000


def check_parameters(
    owner: str,
    values: dict[str, Any],
    constraints: dict[str, list[Constraint]],
    error: type[InvalidParameterError] = InvalidParameterError,
) -> None:
    """Raise `error` for the first value that none of its constraints accepts."""
    known = owner, *((type(value), value) for value in values.values())
    try:
        if known in _accepted:
            return
    except TypeError:  # an array, a dict
        known = ()
    for name, allowed in constraints.items():
        value = values[name]
        if any(constraint.accepts(value) for constraint in allowed):
            continue
        words = [constraint.words for constraint in allowed]
        listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
        raise error(f"The {name!r} parameter of {owner} must be {listed}. Got {value!r} instead.")
    if known and all(isinstance(value, int | float | str | None) for value in values.values()):
        if len(_accepted) >= MOST_REMEMBERED:
            _accepted.clear()
        _accepted.add(known)


def check_shape(array: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    """Raise scikit-learn's ValueError if `array` has not this shape."""
    if array.shape != shape:
        raise ValueError(f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}")


def check_weights(weights: Any, n_components: int) -> NDArray[Any]:
    """Return user weights of shape (n_components,), in [0, 1] and summing to 1 up to float32's rounding.

    Sums of float64 that are further from 1 than scikit-learn takes (1e-8), as of a float32 fit's weights, become 1.
    """
    array = _float_array(weights, "weights", (n_components,))
    if array.min() < 0 or array.max() > 1:
        # The two values stand the other way round in scikit-learn's message, and its tests match them there.
        raise ValueError(
            f"The parameter 'weights' should be in the range [0, 1], but got max value {array.min():.5f}, min value "
            f"{array.max():.5f}"
        )
    total = array.sum(dtype=np.float64)
    if not abs(total - 1.0) <= 1e-6:
        raise ValueError(
            f"The parameter 'weights' should be normalized, but got sum(weights) = {total:.5f}, off by "
            f"{total - 1.0:.3g}: divide them by their sum."
        )
    return array if array.dtype == np.float32 or abs(total - 1.0) <= 1e-8 else array / total


def check_means(means: Any, *shape: int) -> NDArray[Any]:
    """Return user means of this shape: (n_components, n_features), or (n_features,) of a prior."""
    return _float_array(means, "means", shape)


def check_precisions(precisions: Any, structure: Structure, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return user precisions of this shape, symmetric positive definite or positive."""
    return _check_definite(precisions, structure, f"{structure.name} precision", shape)


def check_covariance_prior(prior: Any, structure: Structure, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a user's scatter matrix, variances or variance of this shape, symmetric positive definite or positive."""
    array = _float_array(prior, f"{structure.name} covariance_prior", shape)
    return _check_definite(array, structure, f"{structure.name} precision", shape)  # scikit-learn's words


def check_covariances(covariances: Any, structure: Structure, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return user covariances of this shape, symmetric positive definite or positive."""
    return _check_definite(covariances, structure, f"{structure.name} covariances", shape)


def _check_definite(values: Any, structure: Structure, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    array = _float_array(values, name, shape)
    if structure.is_matrix:
        for matrix in array.reshape(-1, shape[-1], shape[-1]):
            if not (np.allclose(matrix, matrix.T) and np.all(np.linalg.eigvalsh(matrix) > 0)):
                raise ValueError(f"'{name}' should be symmetric, positive-definite")
    elif not np.all(array > 0):
        raise ValueError(f"'{name}' should be positive")
    return array


def _float_array(values: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return float32 or float64 values, finite and of this shape."""
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        if np.isnan(array).any():
            raise ValueError(f"Input {name} contains NaN.")
        raise ValueError(f"Input {name} contains infinity or a value too large for {array.dtype!r}.")
    check_shape(array, shape, name)
    return array
