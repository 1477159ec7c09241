"""When a fit writes checkpoints, what they hold, and how a fit goes on from one."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

from ..exceptions import FormatError, warn
from ..model.factors.parameters import FactorParameters
from ..model.parameters import MixtureParameters, UniformNoise
from ..model.resumable import Resumable, restore, state_of
from ..model.statistics import SufficientStatistics
from ..model.variational_prior import MixturePosterior
from ..storage.checkpoint import previous_path, read_checkpoint, write_checkpoint
from ..storage.container import fail
from .em import EMResult
from .gradient import Coordinates
from .stepwise import RunningStatistics

KINDS = (
    MixtureParameters,
    MixturePosterior,
    FactorParameters,
    UniformNoise,
    SufficientStatistics,
    RunningStatistics,
    Coordinates,
    EMResult,
)
PARAMETERS = (MixtureParameters, FactorParameters)


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

    def check(self, n_components: int, n_features: int) -> None:
        """Raise FormatError unless the parameters are those of such a mixture."""
        counts = (self.init, self.n_iter)
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            fail(self.path, f"counts starts and iterations as {counts}")
        for parameters in (self.parameters, *(() if self.best is None else (self.best.parameters,))):
            if not isinstance(parameters, PARAMETERS):
                fail(self.path, "holds no parameters of a mixture")
            weights, means = parameters.weights, parameters.means
            if np.shape(weights) != (n_components,) or np.shape(means) != (n_components, n_features):
                fail(self.path, f"holds weights and means of shapes {np.shape(weights)} and {np.shape(means)}")
            if not (np.isfinite(weights).all() and np.isfinite(means).all()):
                fail(self.path, "holds weights or means that are not finite")

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Put the states back."""
        try:
            for name, part in parts.items():
                if isinstance(part, Resumable) and not (part.is_pass and name not in self.parts):
                    restore(part, self.parts[name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fail(self.path, f"does not hold what this fit needs: {error!r}")


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
                fingerprint, state = read_checkpoint(path, KINDS)
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
        fail(path, f"does not describe the state of a fit: {error!r}")
    return resumed


def _restore_rng(path: str, rng: np.random.RandomState, state: Any) -> None:
    try:
        restore(rng, state)
    except (TypeError, ValueError, KeyError) as error:
        fail(path, f"holds no state of a random generator: {error!r}")
