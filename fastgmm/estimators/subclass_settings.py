"""Settings of ours in subclasses of the classes that replace scikit-learn's, which know nothing of them.

There an attribute named `noise` or `callback` is the subclass's own. A setting of ours is what `__init__` or
`set_params` were given by name, and else its default; `get_params` has it only then.
"""

import inspect
from typing import Any

GIVEN = "_fastgmm_given"  # on instances of subclasses: the names of those settings of ours that they were given


def given_settings(estimator: Any) -> tuple[str, ...]:
    """Names of the settings of ours that an instance of a subclass was given."""
    names: tuple[str, ...] = vars(estimator).get(GIVEN, ())
    return names


def settings_methods(own: type[Any], original: type[Any]) -> dict[str, Any]:
    """The methods of a replacement that know which attributes are settings of ours."""
    theirs = inspect.signature(original).parameters
    parameters = inspect.signature(own).parameters
    defaults = {name: each.default for name, each in parameters.items() if name not in theirs}

    def is_replacement(kind: type[Any]) -> bool:
        return vars(kind).get("_setting") is setting

    def inherits(kind: type[Any]) -> bool:
        """Whether it is a subclass that takes what the replacement takes."""
        return kind.__init__ is init and not is_replacement(kind)

    def counts(self: Any, name: str) -> bool:
        """Whether the attribute of this name is what we mean by it."""
        return name not in defaults or is_replacement(type(self)) or name in given_settings(self)

    def give(self: Any, values: dict[str, Any]) -> None:
        """Take settings of ours that were given by name.

        Where the subclass has no `__init__` that would ask for the attribute, defaults need none: a method of the same
        name remains in sight.
        """
        given = set(given_settings(self))
        for name, value in values.items():
            if not inherits(type(self)) or not _same(value, defaults[name]):
                setattr(self, name, value)
                given.add(name)
            elif name in given:
                delattr(self, name)
                given.remove(name)
        if given or GIVEN in vars(self):
            setattr(self, GIVEN, tuple(sorted(given)))

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("init_params", theirs["init_params"].default)
        if is_replacement(type(self)):
            own.__init__(self, *args, **kwargs)
            return
        for name, value in vars(own(*args, **kwargs)).items():
            if name not in defaults:
                setattr(self, name, value)
        give(self, {name: value for name, value in kwargs.items() if name in defaults})

    def setting(self: Any, name: str) -> Any:
        return getattr(self, name) if counts(self, name) else defaults[name]

    def default(self: Any, name: str) -> Any:
        """Settings of ours that an object lacks because scikit-learn's class made it."""
        if name in defaults and is_replacement(type(self)):
            return defaults[name]
        return object.__getattribute__(self, name)  # which raises what it raised before, by a property perhaps

    def param_names(cls: type[Any]) -> list[str]:
        names: list[str] = original._get_param_names.__func__(cls)
        return [name for name in names if name not in defaults] if inherits(cls) else names

    def get_params(self: Any, deep: bool = True) -> dict[str, Any]:
        params: dict[str, Any] = original.get_params(self, deep)
        given = given_settings(self) if inherits(type(self)) else ()
        return params | {name: getattr(self, name) for name in given}

    def set_params(self: Any, **params: Any) -> Any:
        ours = {name: params.pop(name) for name in params.keys() & defaults} if inherits(type(self)) else {}
        original.set_params(self, **params)
        give(self, ours)
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
    signature = inspect.signature(own.__init__)
    shown = [theirs[name] if name == "init_params" else each for name, each in signature.parameters.items()]
    init.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return {
        "__init__": init,
        "__getattr__": default,
        "__setstate__": set_state,
        "_setting": setting,
        "_get_param_names": classmethod(param_names),
        "get_params": get_params,
        "set_params": set_params,
    }


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default: None, text or a number."""
    return value is default or (type(value) is type(default) and bool(value == default))
