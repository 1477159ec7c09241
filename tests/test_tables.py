"""Tables are read as they are meant; what is guessed is said, and can be overruled."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

import fastgmm
from fastgmm import GaussianMixture
from fastgmm.exceptions import GuessWarning, SourceError

X = np.round(np.random.default_rng(0).normal(size=(30, 2)), 3)


def read(path, **options):
    source = fastgmm.open_source(path, **options)
    return source.names, np.concatenate([block.copy() for _, block in source.chunks()])


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def lines(rows, delimiter=",", decimal="."):
    return "".join(delimiter.join(str(v).replace(".", decimal) for v in row) + "\n" for row in rows)


def test_text_above_text_alone_is_a_row_and_is_left_out_with_a_word(tmp_path):
    iris = load_iris()
    path = write(
        tmp_path / "iris.data",
        lines([*row, iris.target_names[t]] for row, t in zip(iris.data, iris.target, strict=True)),
    )
    with pytest.warns(GuessWarning, match=r"columns without numbers are left out: '4'.*--header"):
        names, rows = read(path)
    assert names is None
    np.testing.assert_array_equal(rows, iris.data)
    assert read(path, columns=[0, 3])[1].shape == (150, 2)
    with pytest.warns(GuessWarning, match="left out: 'setosa'"):
        assert read(path, header=True)[1].shape == (149, 4)


@pytest.mark.parametrize("head", ["2019,2020", "0,1", "1,2"])
def test_a_line_that_counts_is_names_unless_told_otherwise(head, tmp_path):
    path = write(tmp_path / "x.csv", head + "\n" + lines(X))
    with pytest.warns(GuessWarning, match="taken for names.*--no-header"):
        names, rows = read(path)
    assert names == head.split(",")
    np.testing.assert_array_equal(rows, X)
    assert read(path, header=False)[1].shape == (31, 2)
    assert read(path, header=True)[0] == head.split(",")


def test_a_first_row_of_numbers_is_a_row(tmp_path):
    for first in ("1.5,2", "3,4.25", "7,3", "5,9"):
        assert read(write(tmp_path / "x.csv", first + "\n" + lines(X)))[1].shape == (31, 2)
    counting = lines([[1, 2], [3, 4], [5, 6], [7, 8]])
    assert read(write(tmp_path / "x.csv", counting))[1].shape == (4, 2)


def test_names_win_over_places(tmp_path):
    path = write(tmp_path / "x.csv", "1,2,label\n" + lines(np.c_[X, np.arange(30) % 2]))
    assert read(path, columns=["1", "2"])[0] == ["1", "2"]
    np.testing.assert_array_equal(read(path, columns=["1", "2"])[1], X)
    assert read(path, columns=[1, 2])[0] == ["2", "label"]
    assert read(path, columns=["0", "label"])[0] == ["1", "label"]  # no name, so a place
    with pytest.raises(SourceError, match="has no single column '7'"):
        read(path, columns=["7"])


def test_names_with_commas_and_blanks_can_be_asked_for():
    from fastgmm.cli.rows import parse_columns

    assert parse_columns('a, "b,c" ,d e') == ["a", "b,c", "d e"]


@pytest.mark.parametrize("index", [range(30), range(1, 31)])
def test_the_index_column_of_pandas_and_r_is_left_out_with_a_word(index, tmp_path):
    path = tmp_path / "x.csv"
    pd.DataFrame(X, columns=["a", "b"], index=list(index)).to_csv(path)
    with pytest.warns(GuessWarning, match="the first column, which has no name and counts the rows, is left out"):
        names, rows = read(path)
    assert names == ["a", "b"]
    np.testing.assert_array_equal(rows, X)
    np.testing.assert_array_equal(read(path, columns=[0])[1][:, 0], list(index))
    pd.DataFrame(X, columns=["a", "b"], index=X[:, 0]).to_csv(path)
    assert read(path)[0] == ["", "a", "b"]


def test_columns_without_numbers_are_left_out_and_named_all_of_them(tmp_path):
    frame = pd.DataFrame({"who": ["x", "y, z"] * 15, "a": X[:, 0], "when": "2020-01-01", "b": X[:, 1]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    with pytest.warns(GuessWarning, match=r"left out: 'who', 'when'\. columns"):
        names, rows = read(tmp_path / "x.csv")
    assert names == ["a", "b"]
    np.testing.assert_array_equal(rows, X)
    frame["a"] = frame["a"].astype(object)
    frame.loc[17, "a"] = "seven"  # mostly numbers: no reason to leave it out
    frame.to_csv(tmp_path / "x.csv", index=False)
    with (
        pytest.raises(SourceError, match=r"line 19 \(row 17\), column 1 \('a'\): 'seven' is no number"),
        pytest.warns(GuessWarning, match="left out"),
    ):
        read(tmp_path / "x.csv")
    pd.DataFrame({"a": ["x"] * 5, "b": ["y"] * 5}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SourceError, match="'x' is no number"):
        read(tmp_path / "t.csv")


def test_names_that_are_not_chosen_may_be_empty_or_equal(tmp_path):
    path = write(tmp_path / "x.csv", "a,b,,\n" + "".join(f"{a},{b},,\n" for a, b in X))
    with pytest.warns(GuessWarning, match="left out: '', ''"):
        assert read(path)[0] == ["a", "b"]
    path = write(tmp_path / "y.csv", "x,a,b,x\n" + lines(np.c_[X, X]))
    assert read(path, columns=["a", "b"])[0] == ["a", "b"]
    np.testing.assert_array_equal(read(path, columns=[0, 3])[1], np.c_[X[:, 0], X[:, 1]])
    with pytest.raises(SourceError, match="has no single column 'x'"):
        read(path, columns=["x"])
    with pytest.raises(SourceError, match="'x' stands twice"):
        read(path)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(
    ("delimiter", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), (" ", ".")]
)
@pytest.mark.parametrize("before", ["", "\n", "# a comment\n# and one more, with commas\n", "% x\n\n"])
def test_common_dialects_are_read(delimiter, decimal, header, before, tmp_path):
    text = before + (f"a{delimiter}b\n" if header else "") + lines(X, delimiter, decimal)
    names, rows = read(write(tmp_path / "x.csv", text))
    assert names == (["a", "b"] if header else None)
    np.testing.assert_array_equal(rows, X)


def test_what_numpy_writes_is_read(tmp_path):
    np.savetxt(tmp_path / "x.txt", X, header="made by numpy")
    np.testing.assert_array_equal(read(tmp_path / "x.txt")[1], X)


def test_missing_cells_of_all_kinds_are_missing(tmp_path):
    marks = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", ".", "-", "#N/A"]
    rows = [[f"{i}.5", mark] for i, mark in enumerate(marks)] + [["7", "8.5"]]
    _, found = read(write(tmp_path / "x.csv", "a,b\n" + lines(rows)))
    assert np.isnan(found[:-1, 1]).all()
    assert found[-1].tolist() == [7, 8.5]
    assert np.isfinite(found[:, 0]).all()


def test_hostile_text_is_a_source_error_of_bounded_length(tmp_path):
    for text in ("a" * 200_000 + "\nx", "a,b\n1,2\n" + "x" * 300_000 + ",3\n", "a,b\n1,2\n3,\0\n"):
        with pytest.raises(SourceError) as error:
            read(write(tmp_path / "x.csv", text))
        assert len(str(error.value)) < 1000 + len(str(tmp_path))


def test_header_is_for_text_alone(tmp_path):
    np.save(tmp_path / "x.npy", X)
    for data in (tmp_path / "x.npy", X):
        with pytest.raises(ValueError, match="header is for CSV files"):
            fastgmm.open_source(data, header=True)


def test_generated_tables_agree_with_pythons_own_reader(tmp_path):
    rng = np.random.default_rng(1)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(rng.integers(2, 40), rng.integers(2, 6))) * 10.0 ** rng.integers(-5, 9)
        delimiter = str(rng.choice([",", ";", "\t", "|"]))
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=delimiter, quoting=int(rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))
        names = [f"n{j}" for j in range(rows.shape[1])]
        writer.writerows([names, *rows.tolist()])
        found_names, found = read(write(tmp_path / "x.csv", stream.getvalue()))
        expected = list(csv.reader(io.StringIO(stream.getvalue()), delimiter=delimiter))[1:]
        expected = [list(map(float, row)) for row in expected]
        assert found_names == names
        np.testing.assert_array_equal(found, expected)


def test_a_model_reads_its_own_columns_whatever_else_there_is(tmp_path):
    frame = pd.DataFrame({"who": ["x", "y"] * 15, "b": X[:, 1], "a": X[:, 0]})
    model = GaussianMixture(1).fit(frame[["a", "b"]])
    frame.to_csv(tmp_path / "x.csv")
    source = fastgmm.open_source(tmp_path / "x.csv", columns=["a", "b"])
    assert model.score(source) == model.score(frame[["a", "b"]])
