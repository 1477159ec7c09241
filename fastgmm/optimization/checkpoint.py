"""When a fit writes checkpoints, what they hold, and how a fit goes on from one."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

from ..exceptions import FormatError, SingularCovarianceError, SourceError, clipped, warn
from ..model.cholesky import SingularComponent
from ..model.resumable import Resumable, restore, state_of
from ..storage.checkpoint import previous_path, read_checkpoint, write_checkpoint
from ..storage.container import fail
from .em import EMResult
from .state_checks import CHECKS, Expected, check_state

MOST_ITERATIONS = 2**53


@dataclass(frozen=True)
class Resumed:
    """Where a fit goes on.

    Attributes
    ----------
    path : str
        The file it was read from.
    init, n_iter : int
        The start and its iteration that were complete.
    reason : str or None
        Why that start ended, if it had.
    best : EMResult or None
        Of the starts before.
    parts : dict
        States of what changes during a fit, by name.
    rng, rng_at_begin : dict
        States of the generator of starts.
    """

    path: str
    init: int
    n_iter: int
    reason: str | None
    best: EMResult | None
    parts: dict[str, Any]
    rng: dict[str, Any]
    rng_at_begin: dict[str, Any]

    @property
    def parameters(self) -> Any:
        """Those of the next iteration."""
        return self.parts["iteration"]["parameters"]

    def check(self, expected: Expected) -> None:
        """Raise FormatError for a state that no such fit can have been in."""
        counts = (self.init, self.n_iter)
        if not all(type(count) is int and 0 <= count < MOST_ITERATIONS for count in counts):
            fail(self.path, f"counts starts and iterations as {clipped(str(counts))}")
        if not isinstance(self.parameters, expected.kind):
            fail(self.path, "holds no parameters of such a mixture")
        if self.best is not None and not isinstance(self.best, EMResult):
            fail(self.path, "holds no result of the starts before")
        if self.reason is not None and not isinstance(self.reason, str):
            fail(self.path, "says no reason")
        try:
            check_state({"best": self.best, "parts": self.parts}, expected)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            fail(self.path, f"is of no such fit: {clipped(str(error))}")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Turn what goes wrong in the first iterations into a FormatError: the state is to blame, not the rows."""
        try:
            yield
        except (SourceError, SingularCovarianceError):
            raise
        except (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError) as error:
            fail(self.path, f"has a state that the fit cannot go on from: {clipped(str(error) or repr(error))}")
        except SingularComponent as error:
            fail(self.path, f"has a state in which component {error.component} is singular")

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Put the states back."""
        try:
            for name, part in parts.items():
                if isinstance(part, Resumable) and not (part.is_pass and name not in self.parts):
                    restore(part, self.parts[name])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            fail(self.path, f"does not hold what this fit needs: {clipped(repr(error))}")


class CheckpointKeeper:
    """Writes checkpoints of a fit, and reads the one it goes on from.

    Parameters
    ----------
    path : path-like
    every : float or int
        Seconds, if it is a float, or iterations, if it is an int, from one checkpoint to the next.
    fingerprint : mapping to JSON values
        What the fit is about; `check` compares it with that of a checkpoint.
    rng : RandomState
        Of the starts, as it is when the fit begins; `bind` names the one that they use.
    """

    def __init__(
        self, path: str | PathLike[str], every: float, fingerprint: Mapping[str, Any], rng: np.random.RandomState
    ) -> None:
        self.path, self._every, self._fingerprint = fspath(path), every, fingerprint
        self._rng = rng
        self._rng_at_begin = state_of(rng)
        self.resumed: Resumed | None = None
        self._latest: dict[str, Any] | None = None  # not written yet
        self._keeps_previous = True
        self._has_warned = False
        self._last = time.monotonic()
        self._n_unwritten = 0

    def read(self) -> tuple[dict[str, Any], Resumed] | None:
        """Read the newest checkpoint that is whole, with its fingerprint; None if there is none at all."""
        damage: FormatError | None = None
        for path in (self.path, fspath(previous_path(self.path))):
            try:
                fingerprint, state = read_checkpoint(path, CHECKS)
                resumed = _resumed(path, state)
            except FileNotFoundError:
                continue
            except FormatError as error:
                damage = damage or error
                continue
            if damage is not None:
                warn(f"{damage}. The fit goes on from the one before, {path}.", RuntimeWarning)
                self._keeps_previous = False  # the next checkpoint replaces the damaged one
            return fingerprint, resumed
        if damage is not None:
            raise damage
        return None

    def resume(self, resumed: Resumed) -> None:
        """Go on from there; the generator of starts is put back to where that fit began."""
        self.resumed = resumed
        self._rng_at_begin = resumed.rng_at_begin
        _restore_rng(resumed.path, self._rng, resumed.rng_at_begin)

    def bind(self, rng: np.random.RandomState) -> None:
        """Name the generator that the starts use."""
        self._rng = rng
        if self.resumed is not None:
            _restore_rng(self.resumed.path, rng, self.resumed.rng)

    def note(self, init: int, n_iter: int, reason: str | None, best: EMResult | None, parts: Mapping[str, Any]) -> None:
        """Remember the state after an iteration, and write it if it is time."""
        self._latest = {
            "init": init,
            "n_iter": n_iter,
            "reason": reason,
            "best": best,
            "parts": {name: state_of(part) for name, part in parts.items() if isinstance(part, Resumable)},
            "rng": state_of(self._rng),
            "rng_at_begin": self._rng_at_begin,
        }
        self._n_unwritten += 1
        if isinstance(self._every, int):
            due = self._n_unwritten >= self._every
        else:
            due = time.monotonic() - self._last >= self._every
        if due:
            self.write()

    def write(self) -> None:
        """Write what was noted last, if that is not done; warn once if it fails."""
        if self._latest is None:
            return
        self._n_unwritten = 0
        try:
            write_checkpoint(self.path, self._fingerprint, self._latest, keep=self._keeps_previous)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                cause = str(error).rstrip(".")
                warn(f"No checkpoint can be written to {self.path}: {cause}. The fit goes on without.", RuntimeWarning)
        else:
            self._latest, self._keeps_previous = None, True
        self._last = time.monotonic()


def _resumed(path: str, state: Mapping[str, Any]) -> Resumed:
    try:
        resumed = Resumed(path, **state)
        _ = resumed.parameters
    except (TypeError, KeyError) as error:
        fail(path, f"does not describe the state of a fit: {clipped(repr(error))}")
    return resumed


def _restore_rng(path: str, rng: np.random.RandomState, state: Any) -> None:
    try:
        restore(rng, state)
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError) as error:
        fail(path, f"holds no state of a random generator: {clipped(repr(error))}")
