"""What changes during a fit, so that it can be written down between two iterations and put back later."""

from typing import Any, ClassVar

import numpy as np


class Resumable:
    """Something that changes during a fit.

    Attributes
    ----------
    changing : tuple of str
        The attributes that the next iteration depends on and that the settings and the data do not determine.
    is_pass : bool
        Whether this looks at rows. What it remembers depends on where they lie, and saves work or rounding: it goes on
        without, where a checkpoint was written with the rows elsewhere.
    """

    changing: ClassVar[tuple[str, ...]] = ()
    is_pass: ClassVar[bool] = False


def state_of(value: Any) -> Any:
    """Return a snapshot that later iterations leave alone; arrays are shared, since iterations never write into them.

    Of a `Resumable` a dict; of a random generator its state.
    """
    if isinstance(value, Resumable):
        return {name: state_of(getattr(value, name)) for name in value.changing}
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    return [state_of(entry) for entry in value] if isinstance(value, list) else value


def restore(current: Any, state: Any) -> Any:
    """Put a snapshot back, into what may be shared (generators, lists) in place; return what `current` is now."""
    if isinstance(current, Resumable):
        for name in current.changing:
            if current.is_pass and name not in state:
                continue
            old = getattr(current, name)
            new = restore(old, state[name])
            if new is not old:
                setattr(current, name, new)
        return current
    if isinstance(current, np.random.Generator):
        current.bit_generator.state = state
        return current
    if isinstance(current, np.random.RandomState):
        current.set_state(state)
        return current
    if isinstance(current, list):
        if current and all(isinstance(entry, Resumable) for entry in current):
            if all(entry.is_pass for entry in current) and len(state) != len(current):
                return current
            for entry, entry_state in zip(current, state, strict=True):
                restore(entry, entry_state)
        else:
            current[:] = state
        return current
    return state
