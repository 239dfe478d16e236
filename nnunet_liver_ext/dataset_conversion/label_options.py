"""Classes in a user's masks, given as options: liver=1, liver=1+2, or liver=#ff0000 in colour."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nnunet_liver_ext.dataset_conversion.public_dataset import DatasetOption, SegmentationTask
from nnunet_liver_ext.errors import InputError

LABEL = DatasetOption(
    name="label",
    help="A class in the masks: liver=1, liver=1+2 joins two; repeat. [default: liver=1]",
    multiple=True,
    metavar="NAME=VALUE",
)
IGNORE_OTHER_LABELS = DatasetOption(
    name="ignore-other-labels",
    help="Every mask value that --label does not name is background.",
    default=False,
    type=bool,
)
COLOUR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)


def parse_label_options(
    entries: Sequence[str], *, ignore_others: bool = False, colours: bool = False
) -> SegmentationTask:
    """The task of some --label options; the liver is 1 without any.

    Args:
        entries: of the option.
        ignore_others: other values are background.
        colours: whether values may be colours; these become the numbers 0xrrggbb.

    Raises:
        InputError: an entry is no NAME=VALUE, a name is given twice, or numbers and colours are
            mixed.
    """
    labels: dict[str, tuple[int, ...]] = {}
    for entry in entries or ("liver=1",):
        name, _, values = entry.partition("=")
        words = [word.strip() for word in values.split("+")]
        if not name.strip() or not all(_is_value(word, colours) for word in words):
            example = "liver=6, liver=1+2 or liver=#ff0000" if colours else "liver=6 or liver=1+2"
            raise InputError(
                f"--label {entry}: write NAME=VALUE such as {example}; 0 (black) is the background."
            )
        if name.strip() in labels:
            raise InputError(
                f"--label {entry}: {name.strip()} is given twice; join its values by +."
            )
        labels[name.strip()] = tuple(
            int(word.lstrip("#"), 16 if COLOUR.fullmatch(word) else 10) for word in words
        )
    if has_colours(entries) and not all(
        COLOUR.fullmatch(word.strip()) for word in _values(entries)
    ):
        raise InputError(f"--label {' --label '.join(entries)}: give numbers or colours, not both.")
    return SegmentationTask(labels=labels, ignored_labels="all" if ignore_others else ())


def has_colours(entries: Sequence[str]) -> bool:
    """Whether a value of some --label options is a colour."""
    return any(COLOUR.fullmatch(word.strip()) for word in _values(entries))


def describe_colours(labels: Mapping[str, Sequence[int]]) -> str:
    """ "liver=#ff0000, spleen=#00ff00"."""
    return ", ".join(
        f"{name}={'+'.join(f'#{value:06x}' for value in class_values)}"
        for name, class_values in labels.items()
    )


def _values(entries: Sequence[str]) -> list[str]:
    return [word for entry in entries for word in entry.partition("=")[2].split("+")]


def _is_value(word: str, colours: bool) -> bool:
    if colours and COLOUR.fullmatch(word):
        return int(word[1:], 16) > 0
    return word.isascii() and word.isdigit() and int(word) > 0
