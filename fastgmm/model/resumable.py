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
        check_generator(state, current.bit_generator.state)
        current.bit_generator.state = state
        return current
    if isinstance(current, np.random.RandomState):
        check_generator(state, current.get_state(legacy=False))
        current.set_state(state)
        return current
    if isinstance(current, list):
        if current and all(isinstance(entry, Resumable) for entry in current):
            if all(entry.is_pass for entry in current) and len(state) != len(current):
                return current
            for entry, entry_state in zip(current, state, strict=True):
                restore(entry, entry_state)
        else:
            if not isinstance(state, list):
                raise TypeError(f"a {type(state).__name__} in the place of a list")
            current[:] = state
        return current
    _check_alike(state, current)
    return state


def _check_alike(state: Any, current: Any) -> None:
    """Raise ValueError unless a state can be that of what is now an array or a number; of others their classes say."""
    if isinstance(current, np.ndarray):
        if not isinstance(state, np.ndarray) or (state.shape, state.dtype) != (current.shape, current.dtype):
            raise ValueError(f"an array of shape {np.shape(state)} in the place of one of {current.shape}")
        if state.dtype.kind == "f" and np.isnan(state).any():
            raise ValueError("an array with NaN")
    elif isinstance(current, bool | np.bool_):
        if not isinstance(state, bool | np.bool_):
            raise ValueError(f"{state!r:.100} in the place of a truth value")
    elif isinstance(current, int | float | np.number):
        is_count = isinstance(current, int | np.integer)
        kinds = (int, np.integer) if is_count else (int, float, np.number)
        if isinstance(state, bool) or not isinstance(state, kinds) or state != state:
            raise ValueError(f"{state!r:.100} in the place of a number")
        if is_count and not 0 <= state < 2**53:
            raise ValueError(f"a count of {state!r:.100}")
    elif current is not None and type(state) is not type(current):
        raise TypeError(f"a {type(state).__name__} in the place of a {type(current).__name__}")


def check_generator(state: Any, template: Any, name: str = "state") -> None:
    """Raise ValueError for what is no state of a random generator like the template: NumPy believes what it is told."""
    if isinstance(template, dict):
        if not isinstance(state, dict) or set(state) != set(template):
            raise ValueError(f"{name} of the generator has other entries")
        for key, value in template.items():
            check_generator(state[key], value, key)
    elif isinstance(template, np.ndarray):
        if not isinstance(state, np.ndarray) or (state.shape, state.dtype) != (template.shape, template.dtype):
            raise ValueError(f"{name} of the generator is no such array")
    elif isinstance(template, str):
        if state != template:
            raise ValueError(f"{name} of the generator is {state!r:.50}")
    else:
        most = {"pos": 624, "has_gauss": 1, "has_uint32": 1, "uinteger": 2**32 - 1}.get(name, 2**128 - 1)
        is_number = isinstance(state, int | np.integer) and not isinstance(state, bool)
        if name == "gauss":
            if not isinstance(state, float) or not np.isfinite(state):
                raise ValueError("gauss of the generator is no number")
        elif not is_number or not 0 <= state <= most:
            raise ValueError(f"{name} of the generator is not from 0 to {most}")
