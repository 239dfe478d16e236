"""Numbers that know their ranges: frozen dataclasses whose fields are checked as they are made.

A field says its type and its range beside its name: `weight: Annotated[float, Range(0, 1)] = 0.5`.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from nnunet_liver_ext.errors import InputError


@dataclass(frozen=True)
class Range:
    """The lowest and the highest value that a number may have."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def check(self, name: str, value: float) -> None:
        """InputError if the value lies outside."""
        if not self.low <= value <= self.high:
            raise InputError(
                f"recipe: {name} must lie in [{self.low:g}, {self.high:g}], found {value}."
            )


def check_fields(numbers: Any) -> None:
    """InputError if a field of a dataclass is not of its type or lies outside its range."""
    for name, (expected, limits) in field_types(type(numbers)).items():
        value = getattr(numbers, name)
        check_type(name, value, expected)
        if limits is not None and value is not None:
            limits.check(name, value)


def field_types(kind: type[Any]) -> dict[str, tuple[Any, Range | None]]:
    """The type and the range of each field of a dataclass, by its name."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _split_range(hints[field.name]) for field in fields(kind)}


def _split_range(hint: Any) -> tuple[Any, Range | None]:
    if get_origin(hint) is not Annotated:
        return hint, None
    expected, *more = get_args(hint)
    return expected, next((entry for entry in more if isinstance(entry, Range)), None)


def check_type(name: str, value: Any, expected: Any) -> None:
    """InputError if a value is not of the type that is expected; whole numbers do for floats."""
    if get_origin(expected) is Literal:
        if value not in get_args(expected):
            raise InputError(
                f"recipe: {name} must be one of {', '.join(get_args(expected))}, found {value!r}."
            )
        return
    kinds = get_args(expected) if get_origin(expected) in (Union, types.UnionType) else (expected,)
    kinds = tuple(get_origin(kind) or kind for kind in kinds)
    if float in kinds:
        kinds = (*kinds, int)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise InputError(f"recipe: {name} must be {wanted}, found {value!r}.")
