"""Which features of `GaussianMixture` go together, from the package's tables; `python -m tests.combinations` writes the
README's part about it, which tests/test_combinations.py holds to it and walks.
"""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

import numpy as np

from fastgmm import ConjugatePrior, GaussianMixture
from fastgmm.estimators.gaussian.combinations import CONFLICTS
from fastgmm.model.covariance import STRUCTURES
from fastgmm.optimization.solvers import ACCELERATIONS, SOLVERS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- combinations: python -m tests.combinations writes this -->\n", "<!-- end of combinations -->\n"
MEANS = np.array([[2.0, 55.0], [np.nan, np.nan]])
# name in the README's table -> (settings, data, name in CONFLICTS)
FEATURES = {
    "weights": ({}, {"sample_weight"}, None),
    "prior": ({"prior": ConjugatePrior()}, set(), None),
    "missing": ({"missing": "em"}, {"gaps"}, "missing values"),
    "labels": ({"semi_supervised": True}, {"y"}, None),
    "fixed means": ({"fixed": {"means": MEANS}}, set(), "fixed means"),
    "fixed weights": ({"fixed": {"weights": [0.4, np.nan]}}, set(), "fixed weights"),
    "equal weights": ({"fixed": {"weights": "equal"}}, set(), None),
    "noise": ({"noise": True}, set(), "noise"),
    "floor": ({"covariance_floor": 1e-3}, set(), "covariance_floor"),
    "regularize": ({"on_singular": "regularize"}, set(), "on_singular='regularize'"),
    "restart": ({"on_singular": "restart"}, set(), "on_singular='restart'"),
}
FEATURES |= {name: ({"acceleration": name}, set(), "acceleration") for name in ACCELERATIONS}
FEATURES |= {
    name: ({"solver": name}, set(), solver.setting)
    for name, solver in SOLVERS.items()
    if name != GaussianMixture().solver
}


def is_one_parameter(one, other):
    """Whether two features are values of one parameter."""
    return bool(FEATURES[one][0].keys() & FEATURES[other][0].keys())


PAIRS = [pair for pair in itertools.combinations(FEATURES, 2) if not is_one_parameter(*pair)]


def conflict(one, other):
    """What a fit with both features says, or None."""
    names = {FEATURES[one][2], FEATURES[other][2]}
    found = [f"{a} and {b} do not go together: {reason}" for a, b, reason in CONFLICTS if {a, b} == names]
    assert len(found) <= 1, found
    return found[0] if found else None


def cell(one, other):
    """What the table says of two features."""
    if is_one_parameter(one, other):
        return "-"
    return "no" if conflict(one, other) else "yes"


def table():
    """Lines of Markdown: a row for each feature but the last, a column for each but the first."""
    names = list(FEATURES)
    yield f"| with | {' | '.join(names[1:])} |"
    yield "|---" * len(names) + "|"
    for i, one in enumerate(names[:-1]):
        cells = ["" if j <= i else cell(one, other) for j, other in enumerate(names[1:], 1)]
        yield f"| {one} | {' | '.join(cells)} |"


def text():
    """What the README says."""
    *types, last = map(repr, STRUCTURES)
    said = (
        f"All of this works on the same kernels and combines, for covariances {', '.join(types)} and {last}, in "
        'float32 and float64. "no" says so in one sentence at `fit`, "-" are two values of one parameter; the tests '
        "walk the table."
    )
    return "\n".join([*textwrap.wrap(said, 120), "", *table(), ""])


def parts_of_readme():
    """The README before, within and after this part, without the marks."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    return before, *rest.split(END)


if __name__ == "__main__":
    before, _, after = parts_of_readme()
    README.write_text(before + BEGIN + text() + END + after, encoding="utf-8")
