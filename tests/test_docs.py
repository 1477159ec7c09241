"""docs/words.md and docs/architecture.md name only what is there.

In backticks, `rows/csv.py` and `kernels/tiled/` are paths, below fastgmm/ or the root; `rows/csv.py: CsvReader` is a
name in a file (several with commas, those in a class with a dot), and `fastgmm.open_source` one of the package. Files
are read for it, not imported.
"""

import ast
import re
from functools import cache

import pytest

import fastgmm
from tests.conftest import ROOT
from tests.test_architecture import LAYERS

PACKAGE = ROOT / "fastgmm"
PAGES = ("words.md", "architecture.md")
PLACEHOLDERS = {"file.py"}  # of the sentences that explain the convention
PATH = re.compile(r"[\w./-]+(\.py|/)")


def text_of(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def quoted(text):
    """What stands in backticks, in one line each; blocks of code are pictures."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def places(text):
    """(path, names) of everything in backticks that begins with a path."""
    for span in quoted(text):
        path, _, names = span.partition(": ")
        if PATH.fullmatch(path) and path not in PLACEHOLDERS:
            yield path, names.split(", ") if names else []


def found(path):
    """The file or folder that a path means, or None."""
    kind = "is_dir" if path.endswith("/") else "is_file"
    return next((place for place in (PACKAGE / path, ROOT / path) if getattr(place, kind)()), None)


@cache
def names_in(path):
    """Names that a file defines, those in classes as Class.name."""
    return set(_defined(ast.parse(path.read_text(encoding="utf-8")).body))


def _defined(body, prefix=""):
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _defined(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))


def module_of(name):
    """The file of the longest part of a dotted name that is a module of the package, and what is left of the name."""
    place, rest = PACKAGE, name.split(".")[1:]
    while rest and (place / rest[0]).is_dir():
        place, rest = place / rest[0], rest[1:]
    if rest and (place / f"{rest[0]}.py").is_file():
        return place / f"{rest[0]}.py", rest[1:]
    return place / "__init__.py", rest


def layers_of(text):
    """The first names of the numbered lines under the heading of the layers."""
    section = re.search(r"^## Layers$(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]
    lines = re.findall(r"^\d+\. ([^:]+):", section, re.MULTILINE)
    return [name.removesuffix("/").removesuffix(".py") for line in lines for name in quoted(line)]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_in_backticks_is_written_as_a_path(page):
    """Any other way of writing it would go unchecked."""
    spans = [span for span in quoted(text_of(page)) if ".py" in span or span.endswith("/")]
    assert [span for span in spans if not PATH.fullmatch(span.partition(": ")[0])] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page):
    paths = [path for path, _ in places(text_of(page))]
    assert len(paths) > 40
    assert sorted({path for path in paths if found(path) is None}) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_name_is_defined_in_the_file_it_stands_with(page):
    wanted = {(path, name) for path, names in places(text_of(page)) for name in names}
    assert len(wanted) > 30
    missing = {(p, name) for p, name in wanted if (file := found(p)) is None or name not in names_in(file)}
    assert sorted(missing) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_dotted_name_of_the_package_is_there(page):
    for name in quoted(text_of(page)):
        if re.fullmatch(r"fastgmm(\.\w+)+", name):
            file, rest = module_of(name)
            public = file == PACKAGE / "__init__.py" and rest[0] in fastgmm.__all__
            assert public or not rest or ".".join(rest) in names_in(file), name


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(page)):
        assert target.startswith("https://") or (ROOT / "docs" / target).exists(), target


def test_the_layers_of_the_page_are_those_of_the_tests():
    """From the top, as a reader meets them; the tests have them from the bottom."""
    assert layers_of(text_of("architecture.md")) == list(reversed(LAYERS))


def test_every_word_says_where_it_lives_and_stands_once():
    entries = re.findall(r"^- (\*\*.*?)(?=^- |^#|\Z)", text_of("words.md"), re.MULTILINE | re.DOTALL)
    words = [word for entry in entries for word in re.findall(r"\*\*(.+?)\*\*", entry)]
    assert len(words) > 40
    assert sorted(words) == sorted(set(words))
    assert [entry for entry in entries if not list(places(entry))] == []


def test_the_architecture_stays_one_page():
    lines = text_of("architecture.md").splitlines()
    assert len(lines) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_not_longer_than_those_of_the_code(page):
    assert [line for line in text_of(page).splitlines() if len(line) > 120] == []


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("a `rows/gone.py`", "rows/gone.py", None),
        ("a `rows/csv.py: Gone`", "rows/csv.py", "Gone"),
        ("a `rows/source.py: Source.gone`", "rows/source.py", "Source.gone"),
        ("a `kernels/gone/`", "kernels/gone/", None),
    ],
)
def test_what_is_gone_would_be_noticed(text, path, name):
    ((place, names),) = places(text)
    assert place == path
    assert names == ([] if name is None else [name])
    file = found(place)
    assert file is None if name is None else name not in names_in(file)
