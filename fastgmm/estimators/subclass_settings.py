"""Settings of ours in subclasses of the classes that replace scikit-learn's, which know nothing of them.

There an attribute named `noise` or `callback` is the subclass's own. A setting of ours is what `__init__` or
`set_params` were given by name, and else its default; `get_params` has it only then.
"""

import inspect
from typing import Any

GIVEN = "_fastgmm_given"  # on instances of subclasses: the names of those settings of ours that they were given


def own_settings(own: type[Any], original: type[Any]) -> dict[str, Any]:
    """Settings that scikit-learn's class lacks, with their defaults."""
    theirs = inspect.signature(original).parameters
    return {name: each.default for name, each in inspect.signature(own).parameters.items() if name not in theirs}


def settings_methods(own: type[Any], original: type[Any]) -> dict[str, Any]:
    """The methods of a replacement that know which attributes are settings of ours."""
    defaults = own_settings(own, original)

    def is_replacement(kind: type[Any]) -> bool:
        return vars(kind).get("_setting") is setting

    def inherits(kind: type[Any]) -> bool:
        """Whether it is a subclass that takes what the replacement takes."""
        return kind.__init__ is init and not is_replacement(kind)

    def counts(self: Any, name: str) -> bool:
        """Whether the attribute of this name is what we mean by it."""
        return name not in defaults or is_replacement(type(self)) or name in vars(self).get(GIVEN, ())

    def give(self: Any, values: dict[str, Any]) -> None:
        """Let these count; where clones hand over all that was given, defaults need not."""
        hands_over = inherits(type(self))
        names = {name for name, value in values.items() if not (hands_over and value is defaults[name])}
        if names:
            setattr(self, GIVEN, tuple(sorted(names.union(vars(self).get(GIVEN, ())))))

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if is_replacement(type(self)):
            own.__init__(self, *args, **kwargs)
            return
        values = vars(own(*args, **kwargs))
        give(self, {name: value for name, value in kwargs.items() if name in defaults})
        for name, value in values.items():
            if counts(self, name):
                setattr(self, name, value)

    def setting(self: Any, name: str) -> Any:
        return getattr(self, name) if counts(self, name) else defaults[name]

    def default(self: Any, name: str) -> Any:
        """Settings of ours that an object lacks because scikit-learn's class made it."""
        if name in defaults and is_replacement(type(self)):
            return defaults[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def param_names(cls: type[Any]) -> list[str]:
        names: list[str] = original._get_param_names.__func__(cls)
        return [name for name in names if name not in defaults] if inherits(cls) else names

    def get_params(self: Any, deep: bool = True) -> dict[str, Any]:
        params: dict[str, Any] = original.get_params(self, deep)
        given = vars(self).get(GIVEN, ()) if inherits(type(self)) else ()
        return params | {name: getattr(self, name) for name in given}

    def set_params(self: Any, **params: Any) -> Any:
        ours = {name: params.pop(name) for name in params.keys() & defaults} if inherits(type(self)) else {}
        original.set_params(self, **params)
        give(self, ours)
        for name, value in ours.items():
            if counts(self, name):
                setattr(self, name, value)
        return self

    def set_state(self: Any, state: dict[str, Any]) -> None:
        if is_replacement(type(self)):
            own.__setstate__(self, state)
            return
        original.__setstate__(self, state)
        if inherits(type(self)) and GIVEN not in state and defaults.keys() <= state.keys():  # of an earlier version
            give(self, {name: state[name] for name in defaults})

    for method, like in ((init, own.__init__), (get_params, original.get_params), (set_params, original.set_params)):
        method.__doc__, method.__name__ = like.__doc__, like.__name__
    init.__signature__ = inspect.signature(own.__init__)  # type: ignore[attr-defined]
    return {
        "__init__": init,
        "__getattr__": default,
        "__setstate__": set_state,
        "_setting": setting,
        "_get_param_names": classmethod(param_names),
        "get_params": get_params,
        "set_params": set_params,
    }
