"""Options that commands share, written once: among a command's parameters a dataclass of options
stands for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

EMPTY = Parameter.empty


@dataclass(frozen=True)
class _Group:
    """A parameter that is a dataclass of options."""

    made: type
    names: tuple[str, ...]


def unfolded(
    own: Sequence[Parameter] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator of a command: parameters that are dataclasses of `Annotated` options become these
    options.

    Args:
        own: further parameters, which the command takes by its **options.
        defaults: of single options, where this command's differ from those in the dataclass.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters = list(own)
        groups: dict[str, _Group] = {}
        for parameter in signature(command).parameters.values():
            hint = hints[parameter.name]
            if is_dataclass(hint) and isinstance(hint, type):
                inside = _options(hint, defaults)
                groups[parameter.name] = _Group(hint, tuple(option.name for option in inside))
                parameters += inside
            elif parameter.kind is not Parameter.VAR_KEYWORD:
                parameters.append(_parameter(parameter.name, hint, parameter.default))

        def called(**given: Any) -> None:
            made = {
                name: group.made(**{key: given.pop(key) for key in group.names})
                for name, group in groups.items()
            }
            command(**given, **made)

        return _with_parameters(called, parameters, command.__doc__)

    return decorate


def _with_parameters(
    called: Callable[..., None], parameters: Sequence[Parameter], doc: str | None
) -> Callable[..., None]:
    """A function of keyword arguments as the command line sees it: arguments and options without a
    default come first."""
    called.__signature__ = Signature(sorted(parameters, key=lambda one: one.default is not EMPTY))  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    called.__doc__ = doc
    return called


def _options(group: type, defaults: dict[str, Any]) -> list[Parameter]:
    """The fields of a dataclass of options as parameters of the command line."""
    hints = get_type_hints(group, include_extras=True)
    own = {
        field.name: EMPTY if field.default is MISSING else field.default for field in fields(group)
    }
    return [
        _parameter(name, hints[name], defaults.get(name, default)) for name, default in own.items()
    ]


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
