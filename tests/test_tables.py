"""Tables are read as they are meant; what is guessed is said, and can be overruled."""

import csv
import io
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from sklearn.datasets import load_iris

import fastgmm
from fastgmm import GaussianMixture
from fastgmm.exceptions import GuessWarning, SourceError
from fastgmm.rows import csv as csv_reader
from fastgmm.rows import dialect
from fastgmm.rows.source import blocks

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
    with pytest.warns(GuessWarning, match=r"columns without numbers are left out: '4'.*header=True"):
        names, rows = read(path)
    assert names is None
    np.testing.assert_array_equal(rows, iris.data)
    assert read(path, columns=[0, 3])[1].shape == (150, 2)
    with pytest.warns(GuessWarning, match="left out: 'setosa'"):
        assert read(path, header=True)[1].shape == (149, 4)


@pytest.mark.parametrize("head", ["2019,2020", "0,1", "1,2"])
def test_a_line_that_counts_is_names_unless_told_otherwise(head, tmp_path):
    path = write(tmp_path / "x.csv", head + "\n" + lines(X))
    with pytest.warns(GuessWarning, match="taken for names.*header=False"):
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


NUMBERS = [[1234.5, -0.25, 7], [1000000.125, 12, 0.5], [0, 999.75, -123456]]


def grouped(value, thousands, decimal):
    text = f"{value:,}" if thousands else str(value)
    return text.replace(",", "_").replace(".", decimal).replace("_", thousands)


@pytest.mark.parametrize(
    ("delimiter", "decimal", "thousands"),
    [
        (",", ".", ","),
        (";", ",", "."),
        (";", ".", ","),
        ("\t", ",", " "),
        (";", ".", "'"),
        ("|", ".", " "),
        (",", ",", ""),
    ],
)
def test_marks_of_thousands_and_decimals_are_found_and_can_be_said(delimiter, decimal, thousands, tmp_path):
    stream = io.StringIO()
    cells = [[grouped(v, thousands, decimal) for v in row] for row in NUMBERS]
    csv.writer(stream, delimiter=delimiter).writerows([["a", "b", "c"], *cells])
    path = write(tmp_path / "x.csv", stream.getvalue())
    if thousands:
        with pytest.warns(GuessWarning, match=re.escape(f"{thousands!r} is taken for the mark of thousands")):
            found = read(path)
    else:
        found = read(path)
    np.testing.assert_array_equal(found[1], NUMBERS)
    for options in ({}, {"on_bad": "skip"}, {"on_bad": "keep", "delimiter": delimiter}):
        names, rows = read(path, decimal=decimal, thousands=thousands, **options)
        assert names == ["a", "b", "c"]
        np.testing.assert_array_equal(rows, NUMBERS)


def test_a_comma_before_three_digits_is_a_decimal_mark_with_a_word(tmp_path):
    path = write(tmp_path / "x.csv", "a;b\n1,234;5\n2,345;6\n")
    with pytest.warns(GuessWarning, match=r"taken for the decimal mark.*decimal='\.' and thousands=','"):
        assert read(path)[1].tolist() == [[1.234, 5], [2.345, 6]]
    assert read(path, decimal=".", thousands=",")[1].tolist() == [[1234, 5], [2345, 6]]
    with pytest.raises(SourceError, match=r"'1,23' is no number"):
        read(write(path, "a;b\n1,234;5\n1,23;5\n"), decimal=".", thousands=",")


@pytest.mark.parametrize("on_bad", ["raise", "skip", "keep"])
def test_truth_values_are_ones_and_zeros(on_bad, tmp_path):
    frame = pd.DataFrame({"a": [True, False, True], "b": X[:3, 0], "c": ["TRUE", "FALSE", None]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    found = read(tmp_path / "x.csv", on_bad=on_bad)[1]
    expected = np.c_[[1, 0, 1], X[:3, 0], [1, 0, np.nan]]
    np.testing.assert_array_equal(found, expected[: 2 if on_bad == "skip" else 3])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_encodings_are_known_or_said(encoding, name, tmp_path):
    import gzip

    content = ("größe,é\n" + lines(X)).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    path = tmp_path / name
    if encoding == "latin-1":
        with pytest.warns(GuessWarning, match="is not UTF-8 and is read as cp1252; encoding= says otherwise"):
            names, rows = read(path)
    else:
        names, rows = read(path)
    assert names == ["größe", "é"]
    np.testing.assert_array_equal(rows, X)
    names, rows = read(path, encoding=encoding, columns=["é"], on_bad="skip")
    np.testing.assert_array_equal(rows[:, 0], X[:, 1])


def test_what_is_not_in_its_encoding_is_named(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a,b\n" + b"1,2\n" * 100_000 + b"3,caf\xe9\n")
    with pytest.raises(SourceError, match=r"line 100002 .*no number|is not utf-8"):
        read(tmp_path / "x.csv")
    with pytest.raises(SourceError, match=r"is no usable CSV file|is not utf-16"):
        read(tmp_path / "x.csv", encoding="utf-16")


def test_comments_among_rows_are_left_out_and_lines_keep_their_numbers(tmp_path):
    text = "# head\na,b\n1,2\n# between\n\n3,4\n  # indented, with commas, many\n#N/A,5\n"
    assert read(write(tmp_path / "x.csv", text))[1][:2].tolist() == [[1, 2], [3, 4]]
    assert np.isnan(read(tmp_path / "x.csv")[1][2, 0])
    with pytest.raises(SourceError, match=r"line 9 \(row 3\), column 1 \('b'\): 'x' is no number.*null="):
        read(write(tmp_path / "x.csv", text + "7,x\n"))
    late = "a;b\n1;2\n" + "// said later\n3;4\n"
    with pytest.raises(SourceError, match="comment="):
        read(write(tmp_path / "x.csv", late))
    assert read(tmp_path / "x.csv", comment="//")[1].tolist() == [[1, 2], [3, 4]]
    assert read(write(tmp_path / "y.csv", "#a,b\n1,2\n"), comment="")[0] == ["#a", "b"]


def test_blanks_in_any_number_part_cells(tmp_path):
    text = "  a    b\tc\n 1.5  2   3 \n\t4   5\t\t6\n"
    for content in (text, text.replace("\n", "\r\n")):
        (tmp_path / "x.txt").write_bytes(content.encode())
        names, rows = read(tmp_path / "x.txt", delimiter=" ")
        assert (names, rows.tolist()) == (["a", "b", "c"], [[1.5, 2, 3], [4, 5, 6]])
    aligned = "\n".join(f"{a:12.3f} {b:10.3f}" for a, b in X) + "\n"
    np.testing.assert_array_equal(read(write(tmp_path / "y.txt", aligned))[1], X)


def test_the_line_of_spreadsheets_says_the_delimiter(tmp_path):
    assert read(write(tmp_path / "x.csv", "sep=;\na;b\n1,5;2\n"))[1].tolist() == [[1.5, 2]]


def test_marks_of_missing_values_can_be_said(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1,-999\nmissing,4\n5,6\n")
    for on_bad in ("raise", "keep"):
        found = read(path, null=["-999", "missing"], on_bad=on_bad)[1]
        np.testing.assert_array_equal(found, [[1, np.nan], [np.nan, 4], [5, 6]])
    assert read(path, null=["-999", "missing"], on_bad="skip")[1].tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("delimiter", bad) for bad in ("", ";;", '"', "\n", 3)],
        *[("decimal", bad) for bad in ("", ";", 1)],
        *[("thousands", bad) for bad in ("..", "5", "-", 1)],
        *[("null", bad) for bad in ("NA", [1])],
        *[("comment", bad) for bad in (1, "a\nb")],
        *[("header", bad) for bad in (0, "yes")],
        ("encoding", "utf-99"),
    ],
)
def test_options_that_no_table_has_are_refused(option, value, tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    with pytest.raises(ValueError, match=f"{option} must be"):
        fastgmm.open_source(path, **{option: value})
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(TypeError, match="unexpected keyword argument 'separator'"):
        fastgmm.open_source(path, separator=",")


def test_all_numbers_of_python_are_numbers_and_nothing_else(tmp_path):
    cells = ["+1", "-1.", "+.5e-3", " 2 ", "1E5", "inf", "-Infinity", "1_0", "0x1", "１", "1e", "1.2.3", "--1", "e5"]
    for cell in cells:
        path = write(tmp_path / "x.csv", "a,b\n0,1\n" + "1,2\n" * 300 + f"{cell},3\n")  # after what is looked at
        try:
            expected = None if "_" in cell or not cell.isascii() else float(cell)
        except ValueError:
            expected = None
        if expected is None:
            with pytest.raises(SourceError, match=r"line 303 .*is no number"):
                read(path)
        else:
            assert read(path)[1][-1, 0] == expected


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


def test_columns_of_parquet_files_without_numbers_are_left_out_as_those_of_csv_are(tmp_path):
    table = {"a": [1.0, 2.5], "name": ["x", "y"], "b": [3, 4], "day": np.array(["2020-01-01", "2020-01-02"], "M8[D]")}
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table(table), path)
    with pytest.warns(GuessWarning, match=r"t\.parquet: columns without numbers are left out: 'name', 'day'"):
        source = fastgmm.open_source(path)
    assert source.names == ["a", "b"]
    np.testing.assert_array_equal(source.take(np.arange(2)), [[1.0, 3.0], [2.5, 4.0]])
    assert fastgmm.open_source(path, columns=["b"]).names == ["b"]
    with pytest.raises(SourceError, match="column 'name' holds string, column 'day' holds date32"):
        fastgmm.open_source(path, columns=["a", "name", "day"])
    with pytest.raises(SourceError, match="column 'name' holds string"):  # what is in memory was chosen by somebody
        fastgmm.open_source(pa.table(table))
    pa.parquet.write_table(pa.table({"name": ["x"]}), path)
    with pytest.raises(SourceError, match="column 'name' holds string, which is no number"):
        fastgmm.open_source(path)


def test_wide_tables_are_read_like_narrow_ones_in_memory_of_their_size(tmp_path, monkeypatch):
    """pyarrow takes 9 kB for each column; see WIDE."""
    lines = ["a;b;c", "1,5;x;-", "2;;TRUE", "", "3;4", '5;"6";1', "7;8;9;10"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    options = {"delimiter": ";", "decimal": ","}
    found = []
    for wide in (csv_reader.WIDE, 1):
        monkeypatch.setattr(csv_reader, "WIDE", wide)
        for on_bad in ("skip", "keep"):
            source = fastgmm.open_source(tmp_path / "t.csv", on_bad=on_bad, columns=["a", "b", "c"], **options)
            rows = [block for _, block in blocks(source.chunks(), 100)]
            found.append((np.concatenate(rows).tolist() if rows else [], source.skipped.tolist()))
        with pytest.raises(SourceError, match=r"line 2 \(row 0\), column 1 \('b'\): 'x' is no number"):
            fastgmm.open_source(tmp_path / "t.csv", columns=["a", "b"], **options).take(np.arange(2))
    np.testing.assert_equal(found[:2], found[2:])
    assert found[0] == ([[5.0, 6.0, 1.0]], [0, 1, 2, 4])
    code = """
import resource, sys, fastgmm, pyarrow.csv, pyarrow.compute
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert fastgmm.open_source(sys.argv[1]).take([1]).shape == (1, 50_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(",".join(f"{i + j / 8}" for j in range(50_000)) for i in (0, 0, 5, 3)) + "\n")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 100 * path.stat().st_size  # 450 MB by pyarrow


def test_no_line_has_more_than_a_million_cells(tmp_path):
    (tmp_path / "t.csv").write_text("," * dialect.MOST_COLUMNS)
    with pytest.raises(SourceError, match=r"t\.csv is no usable CSV file: a line of it has 1000001 cells"):
        fastgmm.open_source(tmp_path / "t.csv")


def test_cells_of_millions_of_signs_are_numbers_or_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "0" * 5_000_000 + "\n")
    assert fastgmm.open_source(path).take([0]) == 0.0
    path.write_text("9" * 5_000_000 + "," + "1" * 5_000_000 + "\n1,2\n3,4\n")
    with pytest.raises(SourceError, match=r"t\.csv has a line of more than 4 MiB"):
        fastgmm.open_source(path).take([0])


def test_a_damaged_schema_is_a_source_error_that_names_the_file(tmp_path):
    path = tmp_path / "t.parquet"
    for metadata in (b"{", b"[1]", b"\x86"):
        pa.parquet.write_table(pa.table({"a": [1.0]}).replace_schema_metadata({"pandas": metadata}), path)
        with pytest.raises(SourceError, match=r"t\.parquet has a damaged schema"):
            fastgmm.open_source(path)
    pa.parquet.write_table(pa.table({"aaaa": [1.0]}), path)
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"a\x86aa"))
    with pytest.raises(SourceError, match=r"t\.parquet"):
        fastgmm.open_source(path)


def test_folders_named_by_their_values_and_addresses_are_read(tmp_path):
    rows = np.column_stack([np.random.default_rng(0).normal(size=(300, 2)), np.repeat([2023.0, 2024.0], 150)])
    table = pa.table({"x": rows[:, 0], "y": rows[:, 1], "year": rows[:, 2].astype(int), "land": ["de", "fr"] * 150})
    pa.parquet.write_to_dataset(table, tmp_path / "years", partition_cols=["year"])
    pa.parquet.write_table(table, tmp_path / "all.parquet")
    for data in (tmp_path / "years", str(tmp_path / "years"), (tmp_path / "all.parquet").as_uri()):
        with pytest.warns(GuessWarning, match="columns without numbers are left out: 'land'"):
            names, found = read(data)
        assert names == ["x", "y", "year"]
        np.testing.assert_array_equal(found, rows)
        assert read(data, columns=["year", "x"])[0] == ["year", "x"]
    source = fastgmm.open_source(tmp_path / "years", columns=["x", "y"], batch_rows=50)
    with ThreadPoolExecutor(2) as pool:
        fits = [GaussianMixture(2, random_state=0).fit(X, executor=pool).means_ for X in (source, rows[:, :2])]
    np.testing.assert_allclose(*fits, rtol=1e-9)
    assert len(source.files) == 2
    whole = pyarrow.dataset.dataset(tmp_path / "years", partitioning="hive")
    assert read(whole, columns=["x"])[1].shape == (300, 1)
    with pytest.raises(ValueError, match="decimal is for CSV files"):
        fastgmm.open_source(tmp_path / "years", decimal=",")
    (source.files[0]).write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="years"):
        fastgmm.open_source(tmp_path / "years", columns=["x"])
    with pytest.raises(FileNotFoundError, match=r"There is no file 'file:.*none\.parquet'"):
        fastgmm.open_source((tmp_path / "none.parquet").as_uri())
    with pytest.raises(SourceError, match=r"nowhere://x.* cannot be read as Parquet files: .*pyarrow\.dataset"):
        fastgmm.open_source("nowhere://x/y.parquet")


def test_a_file_of_a_folder_that_lacks_a_column_is_named(tmp_path):
    for year, table in ((1, {"a": [1.0, 2.0], "b": [3.0, 4.0]}), (2, {"a": [5.0]})):
        (tmp_path / f"t/year={year}").mkdir(parents=True)
        pa.parquet.write_table(pa.table(table), tmp_path / f"t/year={year}/x.parquet")
    with pytest.raises(SourceError, match=r"year=2.x\.parquet has no column 'b'"):
        fastgmm.open_source(tmp_path / "t")
    assert read(tmp_path / "t", columns=["a", "year"])[1].tolist() == [[1.0, 1.0], [2.0, 1.0], [5.0, 2.0]]
