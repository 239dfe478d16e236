"""Fills in the tables of the documentation that come from the code: `python docs/tables.py`.

A page holds `<!-- generated: NAME -->` and `<!-- end -->` on lines of their own; what stands
between them is replaced by the table of that name in `TABLES`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PLACE = re.compile(
    r"^(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<table>.*?)^(<!-- end -->)$",
    re.DOTALL | re.MULTILINE,
)
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
    Example(
        'AnisotropicUNet, padding="same"', "AnisotropicUNet", (32, 192, 192), {"padding": "same"}
    ),
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


@cache
def architectures() -> str:
    """Numbers of each network for one channel and two classes, from the network itself."""
    sizes = (
        "patch (z y x)",
        "output",
        "feature maps",
        "receptive field",
        "patches that fit",
        "outputs in training",
    )
    return markdown_table(
        ("network", "parameters", *sizes), (_row(example) for example in EXAMPLES)
    )


def _row(example: Example) -> list[str]:
    import torch

    from nnunet_liver_ext import networks

    with torch.device("meta"):
        network = getattr(networks, example.network)(
            1, 2, deep_supervision=True, **example.arguments
        )
        output = network.train()(torch.empty(2, 1, *example.patch))[0]
    return [
        example.title,
        f"{network.num_parameters:,}",
        _times(example.patch),
        _times(output.shape[2:]),
        f"{network.compute_conv_feature_map_size(example.patch) / 1e6:.0f} M",
        _times(receptive_field(network)),
        _times(_fitting_sizes(network)),
        ", ".join(
            _times([f"{scale:.3g}" for scale in scales]) for scales in network.supervised_scales
        ),
    ]


def _fitting_sizes(network: Any) -> list[str]:
    """The sizes of patches along each axis."""
    return [
        f"{step}n" if smallest == step else f"({smallest} + {step}n)"
        for smallest, step in network.patch_sizes
    ]


def receptive_field(network: Any) -> list[int]:
    """Voxels (z, y, x) that one voxel of the finest output depends on; the most over positions."""
    return [
        max(last - first + 1 for first, last in voxels_seen(network, axis)) for axis in range(3)
    ]


def voxels_seen(network: Any, axis: int) -> list[tuple[int, int]]:
    """First and last voxel along an axis that an output depends on, relative to the output's place.

    The gradient of an output is not zero where the output depends on the image. One pair for each
    output of a period, after which the strides repeat themselves. The image becomes longer until
    its borders are not seen any more; unpadded networks do not see beyond it anyhow.
    """
    margin = getattr(network, "margin", (0, 0, 0))[axis]
    size, (smallest, period) = [n for n, _ in network.patch_sizes], network.patch_sizes[axis]

    def is_whole(view: tuple[int, int]) -> bool:
        return margin > 0 or 0 < view[0] <= view[1] < size[axis] - 1

    periods, seen = 1, list[tuple[int, int]]()
    while len(seen) < period:
        size[axis] = smallest + periods * period
        begin = periods // 2 * period
        seen = list(takewhile(is_whole, _seen_by(network, axis, size, begin, period)))
        periods *= 2
    places = range(begin + margin, begin + margin + period)
    return [(first - n, last - n) for (first, last), n in zip(seen, places, strict=True)]


def _seen_by(
    network: Any, axis: int, size: Sequence[int], begin: int, number: int
) -> Iterator[tuple[int, int]]:
    """First and last voxel of an image of `size` that some outputs along a line depend on."""
    import torch

    from nnunet_liver_ext.networks.network import SegmentationNetwork

    image = torch.ones(1, 1, *size, requires_grad=True)
    with _linear_network():
        finest = SegmentationNetwork.forward(network.train(), image)
    finest = finest[0] if isinstance(finest, list) else finest
    across = [n for n in range(2, 5) if n != axis + 2]
    line = finest[0, 0].movedim(axis, 0)
    line = line[:, line.shape[1] // 2, line.shape[2] // 2]
    for output in range(begin, begin + number):
        (gradient,) = torch.autograd.grad(line[output], image, retain_graph=True)
        seen = gradient.sum(across).flatten().nonzero()
        yield int(seen.min()), int(seen.max())


def _linear_network() -> Any:
    """Makes convolutions means over their kernels and channels, poolings means, and norms nothing.

    So every path from a voxel to an output has a positive share in the gradient, and nothing
    cancels. The networks' own weights do not matter.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    pooling = {"max_pool2d": functional.avg_pool2d, "max_pool3d": functional.avg_pool3d}
    skipped = ("batch_norm", "instance_norm", "dropout", "dropout2d", "dropout3d")

    class Linear(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            name = func.__name__
            if name in skipped:
                return args[0]
            if name in pooling:
                return pooling[name](args[0], args[1])
            if name.startswith("conv"):
                images, weight, _, *others = args
                kernel = torch.ones(1, 1, *weight.shape[2:]) / weight[0, 0].numel()
                return func(images.mean(1, keepdim=True), kernel, None, *others, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

    return Linear()


def _times(numbers: Sequence[Any]) -> str:
    return "1" if set(numbers) == {"1"} else " × ".join(map(str, numbers))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in markdown; the last line ends with a newline."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def datasets() -> str:
    """The public datasets that can be converted."""
    from nnunet_liver_ext.dataset_conversion.datasets import DATASETS

    head = ("command", "content", "on disk", "tasks", "licence", "citation")
    rows = []
    for key, entry in DATASETS.items():
        tasks = ", ".join(entry.tasks)
        citation = (
            f"[{entry.title}]({entry.url}): {entry.citation}" if entry.is_public else entry.title
        )
        row = (f"`{key}`", entry.content, entry.expects, tasks, entry.licence, citation)
        rows.append([_escape_cell(cell) for cell in row])
    return markdown_table(head, rows)


def _escape_cell(text: str) -> str:
    """Text that Markdown takes neither for HTML nor for the end of a cell."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def protocols() -> str:
    """A section for each protocol: what is planned, and the paper's numbers beside ours."""
    from nnunet_liver_ext.trainers.protocols import PROTOCOLS

    return "\n".join(_protocol(protocol) for protocol in PROTOCOLS.values())


def _protocol(protocol: Any) -> str:
    spacing = protocol.spacing and " × ".join(
        "as it is" if mm is None else f"{mm:g} mm" for mm in protocol.spacing
    )
    planned = {
        "architecture": ", ".join(
            [protocol.architecture, *(f"{k}={v}" for k, v in protocol.architecture_options.items())]
        ),
        "spacing (z y x)": spacing or "the planner's",
        "patch": _times(protocol.patch_size) if protocol.patch_size else "the planner's",
        "batch": str(protocol.batch_size or "the planner's"),
        "datasets": {"pairs": "pairs", "images": "one mask per case", "any": "any"}[protocol.layout]
        + (", with a liver mask" if protocol.needs_organ_mask else ""),
        "trainers": ", ".join(protocol.trainers),
        "length": _length(protocol),
    }
    before = "".join(
        f"- edition {edition}: {_differences(numbers, protocol.numbers)}\n"
        for edition, numbers in enumerate(protocol.earlier_numbers, 1)
    )
    rows = ([row.what, row.paper, row.ours, row.reason] for row in protocol.table)
    plan = "".join(f"- {key}: {value}\n" for key, value in planned.items())
    table = markdown_table(("", "paper", "ours", "reason, if another"), rows)
    plan += f"- recipe: {_list_numbers(protocol.numbers)}\n{before}"
    return f"### {protocol.name}\n\n{protocol.paper}.\n\n{plan}\n{table}"


def _differences(numbers: dict[str, Any], now: dict[str, Any]) -> str:
    other = {key: value for key, value in numbers.items() if now.get(key) != value}
    trainers = ", ".join(key for key in now if key not in numbers)
    return f"had {_list_numbers(other)}, and the trainer's own {trainers}"


def _list_numbers(numbers: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {'null' if value is None else value}" for key, value in numbers.items()
    )


def _length(protocol: Any) -> str:
    """The iterations in all, of each trainer where they differ."""
    from nnunet_liver_ext import trainers
    from nnunet_liver_ext.trainers.recipe import Recipe

    lengths: dict[str, list[str]] = {}
    for name in protocol.trainers:
        plain = (
            getattr(trainers, name).recipe
            if name in trainers.__all__
            else Recipe(strategy="one_view")
        )
        epochs, iterations = (
            protocol.numbers.get(key, getattr(plain, key))
            for key in ("num_epochs", "num_iterations_per_epoch")
        )
        total = f"{epochs * iterations:,} iterations ({epochs} epochs of {iterations})"
        lengths.setdefault(total, []).append(name)
    if len(lengths) == 1:
        return next(iter(lengths))
    return "; ".join(f"{', '.join(names)} {total}" for total, names in lengths.items())


def recipe() -> str:
    """Every number that all recipes have: default, range and meaning, from the code."""
    from nnunet_liver_ext.losses.voxel_terms import VOXEL_TERMS
    from nnunet_liver_ext.trainers import recipe as module

    plain = module.Recipe(strategy="one_view")
    rows = _number_rows(plain, module.common_number_names())
    for name, term in VOXEL_TERMS.items():
        default = str(plain.voxel_terms.get(name, 0.0))
        meaning = f"Weight of {term.title} in the voxel loss."
        rows.append([f"`{name}{module.WEIGHT}`", default, str(module.WEIGHTS), meaning])
    return markdown_table(("number", "default", "range", "meaning"), rows)


def objective_numbers() -> str:
    """The numbers that each objective declares."""
    from nnunet_liver_ext.trainers.objectives import OBJECTIVES

    rows: dict[str, list[str]] = {}
    owners: dict[str, list[str]] = {}
    for key, kind in OBJECTIVES.items():
        numbers = kind.numbers_type()
        for row in _number_rows(numbers, [entry.name for entry in fields(numbers)]):
            rows[row[0]] = row
            owners.setdefault(row[0], []).append(key)
    return markdown_table(
        ("number", "default", "range", "meaning", "objectives"),
        ([*row, ", ".join(owners[name])] for name, row in rows.items()),
    )


def _number_rows(numbers: Any, names: Sequence[str]) -> list[list[str]]:
    """A row for each of these fields of a dataclass: name, default, range, meaning."""
    from nnunet_liver_ext.trainers.ranges import field_types

    meanings: dict[str, str] = {}
    for kind in reversed(type(numbers).__mro__[:-1]):
        module = Path(sys.modules[kind.__module__].__file__ or "")
        meanings |= _field_docstrings(module, kind.__name__)
    rows = []
    for name in names:
        value, (_, limits) = getattr(numbers, name), field_types(type(numbers))[name]
        default = "null" if value is None else str(value).lower()
        rows.append([f"`{name}`", default, str(limits or ""), meanings.get(name, "")])
    return rows


def _field_docstrings(path: Path, name: str) -> dict[str, str]:
    """The string that stands below each field of a class, on one line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name
    ).body
    docstrings = {}
    for field_, below in pairwise(body):
        if (
            isinstance(field_, ast.AnnAssign)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docstrings[ast.unparse(field_.target)] = " ".join(str(below.value.value).split())
    return docstrings


def metrics() -> str:
    """Every metric of results.csv, as the catalogue has it."""
    from nnunet_liver_ext.evaluation.metric_catalogue import METRICS

    rows = (
        (
            metric.family,
            f"`{metric.name}`",
            metric.unit,
            metric.better or "",
            metric.meaning.replace("|", r"\|"),
            metric.source,
        )
        for metric in METRICS.values()
    )
    return markdown_table(("family", "metric", "unit", "better", "meaning", "source"), rows)


def layers() -> str:
    """The rooms of the package from the top layer down, each by the first line of its docstring."""
    import house

    modules = house.read_modules(DOCS.parent)
    first_of_room = {house.room_of(name): modules[name] for name in sorted(modules, reverse=True)}
    rows = [
        (str(len(house.LAYERS) - number), f"`{room}`", house.summary(first_of_room[room]))
        for number, layer in enumerate(house.LAYERS)
        for room in layer
    ]
    return markdown_table(("layer", "room", "what it is"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "architectures": architectures,
    "datasets": datasets,
    "layers": layers,
    "metrics": metrics,
    "objective-numbers": objective_numbers,
    "protocols": protocols,
    "recipe": recipe,
}
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
