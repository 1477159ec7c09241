"""Options of a solver: a frozen dataclass, each of whose fields brings its default, its test and the words for it."""

from dataclasses import field
from typing import Any

from ..validation import Constraint, is_int, is_real

FLAG = Constraint("True or False", lambda v: isinstance(v, bool))
COUNT = Constraint("a positive int", lambda v: is_int(v) and v >= 1)
COUNT_OR_NONE = Constraint("a positive int or None", lambda v: v is None or COUNT.accepts(v))
AT_LEAST_0 = Constraint("a number of at least 0", lambda v: is_real(v) and v >= 0)
BELOW_1 = Constraint("a number of at least 0 and below 1", lambda v: is_real(v) and 0 <= v < 1)
ABOVE_0 = Constraint("a number above 0", lambda v: is_real(v) and v > 0)


def one_of(*names: str) -> Constraint:
    """One of these strings, in this order in messages."""
    return Constraint(f"one of {', '.join(map(repr, names))}", lambda v: isinstance(v, str) and v in names)


def option(default: Any, constraint: Constraint) -> Any:
    """A field of an options class: what it may be, and what it is unless the user says."""
    return field(default=default, metadata={"constraint": constraint})
