"""Errors and warnings of fastgmm.

ValueError
 ├─ InvalidParameterError    a constructor argument is outside its range (also a TypeError)
 ├─ NotFittedError           a method needs a fitted model (also an AttributeError)
 ├─ SingularCovarianceError  a component's covariance cannot be inverted
 ├─ FormatError              a model file breaks the format
 └─ SourceError              a file, or another source of rows, is not what it should be
RuntimeError
 └─ WorkerError              a worker of a distributed fit is lost for good
UserWarning
 ├─ ConvergenceWarning       a fit ended without converging
 ├─ RegularizationWarning    reg_covar is not small against a column's variance
 ├─ ConstantColumnWarning    a column does not vary
 ├─ EmptyComponentWarning    a component lost all its rows
 ├─ GuessWarning             a table was understood by a guess, which the message names
 └─ FewRowsWarning           components have so few rows that they may be learned by heart

Where scikit-learn is installed, what the estimators raise is also an instance of scikit-learn's class of that name.
"""

import contextlib
import os
import sys
import warnings
from typing import TextIO

__all__ = [
    "ConstantColumnWarning",
    "ConvergenceWarning",
    "EmptyComponentWarning",
    "FewRowsWarning",
    "FormatError",
    "GuessWarning",
    "InvalidParameterError",
    "NotFittedError",
    "RegularizationWarning",
    "SingularCovarianceError",
    "SourceError",
    "WorkerError",
]


class InvalidParameterError(ValueError, TypeError):
    """A constructor argument is outside its range."""


class NotFittedError(ValueError, AttributeError):
    """A method that needs a fitted model was called before `fit`."""


class FormatError(ValueError):
    """A model file, or a model about to be written, breaks the format; names file, tensor and cause."""


class SingularCovarianceError(ValueError):
    """A component's covariance is singular to working precision.

    Attributes
    ----------
    component : int
        Index of the component; -1 for a covariance shared by all.
    column : int
        The column that weighs most in the direction without variance.
    """

    component: int
    column: int

    def __init__(self, *message: str, **place: int) -> None:
        super().__init__(*message)
        self.__dict__.update(place)


class SourceError(ValueError):
    """A source of rows is damaged, or holds what are no rows of numbers; the message names the file and the place."""


class WorkerError(RuntimeError):
    """A worker of a distributed fit is lost for good; the message says how to go on."""


class ConvergenceWarning(UserWarning):
    """A fit ended without converging."""


class RegularizationWarning(UserWarning):
    """`reg_covar` is not small against the variance of a column, so that it changes the result."""


class ConstantColumnWarning(UserWarning):
    """A column does not vary; its fitted variance is `reg_covar`."""


class EmptyComponentWarning(UserWarning):
    """A component lost all its rows during the fit."""


class GuessWarning(UserWarning):
    """A table was understood by a guess, which the message names, with what overrules it."""


class FewRowsWarning(UserWarning):
    """Components have so few rows for their parameters that they may be learned by heart."""


MOST_ECHOED = 200  # characters


def clipped(text: str) -> str:
    """What a message repeats of its input: at most MOST_ECHOED characters, none of which steers a terminal."""
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= MOST_ECHOED else f"{text[:MOST_ECHOED]}... ({len(text)} characters)"


# Frames that a warning does not point to: the package's own, and those that lie between two of them.
_INNER = (os.path.dirname(__file__) + os.sep, contextlib.__file__)


def say(text: str, stream: TextIO | None) -> None:
    """Print a line of ours, flushed, or do without: a closed pipe, a full disk or no stream at all costs no result.

    What the stream's encoding lacks is escaped. The one place through which messages go; results are for `print`.
    """
    if stream is None:  # with file=None, print would take stdout
        return
    for shown in (text, ascii(text)[1:-1]):
        with contextlib.suppress(OSError, ValueError):  # closed files are ValueErrors, as is what cannot be encoded
            print(shown, file=stream, flush=True)
            return


def warn(message: str, category: type[Warning]) -> None:
    """Warn with the line outside of this package that led here, however deep below it; tests/test_warnings.py.

    A warning that cannot be shown is dropped; one that a filter turns into an error is raised.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inner(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    try:
        warnings.warn(message, category, stacklevel=level)
    except Warning:
        raise
    except (OSError, ValueError, AttributeError):  # of a stream that is closed, full or None
        pass


def _is_inner(file: str) -> bool:
    numba = sys.modules.get("numba")  # its dispatcher may stand in between, but nothing here imports it
    folders = () if numba is None else (os.path.dirname(str(numba.__file__)) + os.sep,)
    return file.startswith((*_INNER, *folders))
