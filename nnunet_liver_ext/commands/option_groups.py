"""Options in groups: among a command's parameters a dataclass of options stands for all of them.

So commands that share options write them once, and `--help` shows each group under its title.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import ParameterInfo

EMPTY = Parameter.empty


@dataclass(frozen=True)
class _Group:
    """A parameter of the command that is a dataclass of options."""

    dataclass: type
    option_names: tuple[str, ...]


def with_option_groups(
    extra: Sequence[Parameter] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command: its parameters that are dataclasses become their fields.

    The fields are `Annotated` options. A dataclass with a `title` (a ClassVar) has its options
    under this title in `--help`.

    Args:
        extra: further parameters, which the command takes by its **options.
        defaults: of single options, where this command's differ from those in the dataclass.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters = list(extra)
        groups: dict[str, _Group] = {}
        for parameter in signature(command).parameters.values():
            hint = hints[parameter.name]
            if is_dataclass(hint) and isinstance(hint, type):
                options = _options(hint, defaults)
                groups[parameter.name] = _Group(hint, tuple(option.name for option in options))
                parameters += options
            elif parameter.kind is not Parameter.VAR_KEYWORD:
                parameters.append(_parameter(parameter.name, hint, parameter.default))

        def run(**given: Any) -> None:
            filled = {
                name: group.dataclass(**{key: given.pop(key) for key in group.option_names})
                for name, group in groups.items()
            }
            command(**given, **filled)

        return _set_parameters(run, parameters, command.__doc__)

    return decorate


def _set_parameters(
    function: Callable[..., None], parameters: Sequence[Parameter], doc: str | None
) -> Callable[..., None]:
    """Gives a function the parameters that the command line sees; those without default first."""
    ordered = sorted(parameters, key=lambda parameter: parameter.default is not EMPTY)
    function.__signature__ = Signature(ordered)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    function.__doc__ = doc
    return function


def _options(group: type, defaults: dict[str, Any]) -> list[Parameter]:
    """The fields of a dataclass of options as parameters of the command line."""
    hints = get_type_hints(group, include_extras=True)
    title = getattr(group, "title", None)
    values = {
        field.name: EMPTY if field.default is MISSING else field.default for field in fields(group)
    }
    return [
        _parameter(name, _under_title(hints[name], title), defaults.get(name, default))
        for name, default in values.items()
    ]


def _under_title(hint: Any, title: str | None) -> Any:
    """The annotation of an option, shown under this title."""
    kind, *extras = get_args(hint)
    shown = []
    for extra in extras:
        if title is not None and isinstance(extra, ParameterInfo):
            extra = copy(extra)
            extra.rich_help_panel = title
        shown.append(extra)
    return Annotated[(kind, *shown)]


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
