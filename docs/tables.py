"""Fills in the tables of the documentation that come from the code: `python docs/tables.py`.

A page holds `<!-- generated: NAME -->` and `<!-- end -->` on lines of their own; what stands between them is replaced by the
table of that name in `TABLES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PLACE = re.compile(r"^(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<table>.*?)^(<!-- end -->)$", re.DOTALL | re.MULTILINE)
OPENING = re.compile(r"<!-- generated: ([\w-]+) -->")


@dataclass(frozen=True)
class Example:
    """A network, and a patch (z, y, x) to show its sizes on."""

    title: str
    network: str
    patch: tuple[int, int, int]
    arguments: dict[str, Any] = field(default_factory=dict)


EXAMPLES = (
    Example("AnisotropicUNet", "AnisotropicUNet", (72, 236, 236)),
    Example('AnisotropicUNet, padding="same"', "AnisotropicUNet", (32, 192, 192), {"padding": "same"}),
    Example("DI2IN", "DI2IN", (80, 112, 128)),
    Example("SliceUNet", "SliceUNet", (1, 256, 256)),
    Example(
        'SliceUNet, neighbours=1, residual, encoder="vgg11"',
        "SliceUNet",
        (3, 256, 256),
        {"neighbours": 1, "residual": True, "encoder": "vgg11"},
    ),
    Example("ModelsGenesisUNet", "ModelsGenesisUNet", (32, 64, 64)),
)


def architectures() -> str:
    """Numbers of each network for one channel and two classes, from the network itself."""
    head = (
        "network",
        "parameters",
        "patch (z y x)",
        "output",
        "feature maps",
        "receptive field",
        "multiple of",
        "outputs in training",
    )
    return markdown_table(head, (_row(example) for example in EXAMPLES))


def _row(example: Example) -> list[str]:
    import torch

    from nnunet_liver_ext import networks

    with torch.device("meta"):
        network = getattr(networks, example.network)(1, 2, deep_supervision=True, **example.arguments)
        output = network.train()(torch.empty(2, 1, *example.patch))[0]
    return [
        example.title,
        f"{network.num_parameters:,}",
        _times(example.patch),
        _times(output.shape[2:]),
        f"{network.compute_conv_feature_map_size(example.patch) / 1e6:.0f} M",
        _times(network.receptive_field),
        _times(network.size_multiple),
        ", ".join(_times([f"{scale:.3g}" for scale in scales]) for scales in network.supervised_scales),
    ]


def _times(numbers: Sequence[Any]) -> str:
    return "1" if set(numbers) == {"1"} else " × ".join(map(str, numbers))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in markdown; the last line ends with a newline."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def datasets() -> str:
    """The public datasets that can be converted."""
    from nnunet_liver_ext.dataset_conversion.catalogue import datasets_table

    return datasets_table()


TABLES: dict[str, Callable[[], str]] = {"architectures": architectures, "datasets": datasets}
"""Name in the page -> what makes the table."""


def filled(text: str) -> str:
    """The page with its tables as the code has them now.

    Raises:
        ValueError: a table that there is not, or a place without an end.
    """
    opened, closed = OPENING.findall(text), [match["name"] for match in PLACE.finditer(text)]
    if opened != closed:
        raise ValueError(f"each of {opened} needs an `<!-- end -->` of its own")
    unknown = set(opened) - set(TABLES)
    if unknown:
        raise ValueError(f"there are no tables {sorted(unknown)}, only {sorted(TABLES)}")
    return PLACE.sub(lambda match: f"{match[1]}{TABLES[match['name']]()}{match[4]}", text)


def pages() -> list[Path]:
    """All pages that may hold tables."""
    return sorted(DOCS.rglob("*.md"))


def main() -> None:
    for page in pages():
        text = page.read_text()
        new = filled(text)
        if new != text:
            page.write_text(new)


if __name__ == "__main__":
    main()
