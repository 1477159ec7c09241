"""Frames are frames: missing is missing whatever holds it, and columns without numbers are named, all of them."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow
import pytest

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture
from fastgmm.rows.frames import to_numbers

N = 60
VALUES = np.random.default_rng(0).integers(-50, 50, (N, 2)).astype(float)
VALUES[3, 0] = VALUES[7, 1] = np.nan
FULL = np.nan_to_num(VALUES)
FRAME = pd.DataFrame(VALUES, columns=["a", "b"])
NONE = [[None if np.isnan(v) else v for v in row] for row in VALUES]


def masked(dtype):
    return np.ma.MaskedArray(np.where(np.isnan(VALUES), -99, VALUES).astype(dtype), np.isnan(VALUES))


def gaps(value):
    """Objects with this where a number is missing."""
    return np.array([[value if np.isnan(v) else v for v in row] for row in VALUES], object)


HOLDERS = {
    "floats": VALUES,
    "frame": FRAME,
    "Float64": FRAME.astype("Float64"),
    "Int64": FRAME.astype("Int64"),
    "Int64 beside floats": FRAME.astype({"a": "Int64"}),
    "convert_dtypes": FRAME.convert_dtypes(),
    "Arrow doubles": FRAME.astype("double[pyarrow]"),
    "Arrow integers": FRAME.astype("Int64").astype("int64[pyarrow]"),
    "Arrow decimals": FRAME.astype(pd.ArrowDtype(pyarrow.decimal128(8, 2))),
    "objects, None": FRAME.astype(object).where(FRAME.notna(), None),
    "objects, NA": FRAME.astype(object).where(FRAME.notna(), pd.NA),
    "categories": FRAME.astype("category"),
    "Decimal": pd.DataFrame({c: [None if np.isnan(v) else decimal.Decimal(int(v)) for v in FRAME[c]] for c in "ab"}),
    "polars": pl.DataFrame(NONE, schema=["a", "b"], orient="row"),
    "polars integers": pl.DataFrame(NONE, schema={"a": pl.Int32, "b": pl.Int64}, orient="row", strict=False),
    "masked": masked(float),
    "masked integers": masked(int),
    "array, None": gaps(None),
    "array, NA": gaps(pd.NA),
    "lists": NONE,
    "records": np.rec.fromarrays(VALUES.T, names="a,b"),
    "Arrow table": pyarrow.Table.from_pandas(FRAME),
    "Series of names": FRAME.rename(columns={"a": 0, "b": ("x", 1)}),
    "equal names": FRAME.set_axis(["a", "a"], axis=1),
    "several levels": FRAME.set_axis(pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]), axis=1),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_missing_is_missing_whatever_holds_it(name):
    data = HOLDERS[name]
    expected = GaussianMixture(1, missing="em").fit(VALUES)
    found = GaussianMixture(1, missing="em").fit(data)
    np.testing.assert_array_equal(found.means_, expected.means_)
    assert found.score(data) == expected.score(VALUES)
    np.testing.assert_array_equal(found.impute(data), expected.impute(VALUES))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        GaussianMixture(1).fit(data)
    source = fastgmm.open_source(data, on_bad="skip")
    assert (source.n_samples, source.n_skipped) == (N - 2, 2)


@pytest.mark.parametrize(
    "model",
    [
        MixtureOfFactorAnalyzers(1, 1, missing="em", random_state=0),
        StandardisedMixture(GaussianMixture(1, missing="em")),
        GaussianMixture(2, missing="em", random_state=0),
    ],
)
def test_every_estimator_takes_them(model):
    expected = model.fit(VALUES).score_samples(VALUES)
    np.testing.assert_array_equal(model.score_samples(masked(float)), expected)
    nullable = FRAME.astype("Float64")
    np.testing.assert_array_equal(model.fit(nullable).score_samples(nullable), expected)


def test_complete_nullable_columns_are_numbers_everywhere():
    whole = pd.DataFrame(FULL, columns=["a", "b"])
    for data in (whole.astype("Int64"), whole.astype("int64[pyarrow]"), pl.from_pandas(whole.astype("Int64"))):
        for kind in (GaussianMixture, BayesianGaussianMixture):
            model = kind(n_components=2, random_state=0).fit(whole)
            np.testing.assert_array_equal(model.predict(data), model.predict(whole))
        streamed = GaussianMixture(2, random_state=0).partial_fit(data)
        np.testing.assert_array_equal(streamed.means_, GaussianMixture(2, random_state=0).partial_fit(whole).means_)
    flags = pd.DataFrame({"a": FULL[:, 0] > 0, "b": FULL[:, 1]})
    assert GaussianMixture(1).fit(flags.astype({"a": "boolean"})).means_[0, 0] == (FULL[:, 0] > 0).mean()


def test_float32_stays_float32():
    single = pd.DataFrame(FULL.astype(np.float32), columns=["a", "b"])
    for data in (single, single.astype("Float32"), single.astype("float[pyarrow]"), pl.from_pandas(single)):
        assert GaussianMixture(1).fit(data).means_.dtype == np.float32


TIMES = pd.date_range("2020", periods=N, freq="h")
BAD = {
    "text": (FRAME.assign(kind=["x", "y"] * 30, island="z"), ["'kind'", "'island'"]),
    "categories": (FRAME.assign(kind=pd.Categorical(["x", "y"] * 30)), ["'kind' (category"]),
    "times": (FRAME.assign(t=TIMES), ["'t' (datetime64"]),
    "times with gaps": (FRAME.assign(t=TIMES.where(np.arange(N) > 3)), ["'t' (datetime64"]),
    "zones": (FRAME.assign(t=TIMES.tz_localize("UTC")), ["'t' (datetime64"]),
    "durations": (FRAME.assign(t=TIMES - TIMES[0]), ["'t' (timedelta64"]),
    "periods": (FRAME.assign(t=TIMES.to_period("D")), ["'t' (period"]),
    "mixed": (FRAME.assign(m=[1, "two"] * 30), ["'m' (object, as 'two' in row 1"]),
    "dates as objects": (FRAME.assign(d=[datetime.date(2020, 1, 1)] * N), ["'d' (object"]),
    "polars": (pl.DataFrame({"a": FULL[:, 0], "t": TIMES, "s": ["x"] * N}), ["'t'", "'s'"]),
    "polars categories": (pl.DataFrame({"a": ["x", None] * 30}, schema={"a": pl.Categorical}), ["'a'"]),
    "complex": (FRAME.assign(z=1j), ["'z' (complex"]),
}


@pytest.mark.parametrize("name", BAD)
def test_columns_without_numbers_are_named_all_of_them(name):
    data, words = BAD[name]
    for read in (GaussianMixture(1, missing="em").fit, GaussianMixture(1).partial_fit, fastgmm.open_source):
        with pytest.raises(ValueError, match=r"Columns? .* holds? no numbers") as error:
            read(data)
        for word in words:
            assert word in str(error.value)
        assert "'b'" not in str(error.value)


def test_arrays_without_numbers_are_refused_with_their_place():
    for bad, kind, words, place in (
        (np.array([TIMES, TIMES]).T, ValueError, "datetime64", None),
        (np.array([[TIMES[0], 1.0]] * 5, object), TypeError, "'Timestamp'", "row 0, column 0"),
        (np.array([[1.0, "x"]] * 5, object), ValueError, "could not convert string to float: 'x'", "row 0, column 1"),
        (np.array([[1.0, {}]] * 5, object), TypeError, "not 'dict'", "row 0, column 1"),
    ):
        with pytest.raises(kind, match=words) as error:
            GaussianMixture(1).fit(bad)
        assert place is None or place in error.value.__notes__[0]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrices_of_numpy_are_refused_as_by_scikit_learn():
    with pytest.raises(TypeError, match=r"np\.matrix is not supported"):
        GaussianMixture(1).fit(np.matrix(FULL))


def test_weights_and_labels_are_read_alike():
    weight, labels = np.arange(N) % 3, np.where(np.arange(N) % 4 == 0, np.arange(N) % 2, -1)
    unknown = pd.array(labels, "Int64")
    unknown[labels < 0] = pd.NA
    settings = {"semi_supervised": True, "random_state": 0}
    expected = GaussianMixture(2, **settings).fit(FULL, labels, sample_weight=weight)
    some = pd.Series(labels).where(labels >= 0)
    for w, y in ((pd.Series(weight, dtype="Int64"), unknown), (pl.Series(weight), some)):
        found = GaussianMixture(2, **settings).fit(FULL, y, sample_weight=w)
        np.testing.assert_array_equal(found.means_, expected.means_)
    with pytest.raises(ValueError, match="sample_weight must be finite"):
        GaussianMixture(1).fit(FULL, sample_weight=pd.array([pd.NA] + [1] * (N - 1), "Int64"))


def test_what_needs_no_conversion_is_not_copied():
    X = np.ascontiguousarray(FULL)
    assert to_numbers(X) is X
    frame = pd.DataFrame(X, columns=["a", "b"])
    assert np.shares_memory(to_numbers(frame), np.asarray(frame))
