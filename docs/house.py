"""Measures of the package's structure, from its own source: `python docs/house.py`.

Files, tokens, long functions, public names without a docstring, and the imports between rooms. A
room is a folder of the package, or a file that lies beside the folders. Imports inside functions
count; those for type checkers alone (`if TYPE_CHECKING:`) do not.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "nnunet_liver_ext"
LONG_FUNCTION = 40
"""Lines from which on a function is looked at twice."""
NO_TOKENS = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Graph = dict[str, set[str]]
LAYERS = (
    ("cli",),
    ("commands",),
    ("benchmark",),
    ("weights",),
    ("inference",),
    ("planning", "postprocessing", "plugin"),
    ("trainers",),
    ("evaluation", "dataset_conversion"),
    ("networks", "losses"),
    ("dataset_json", "checkpoint_files"),
    ("studies",),
    ("space",),
    ("pairing", "deformation", "environment", "json_files", "csv_files"),
    ("workers", "console", "transform_classes", "atomic_write", "folder_lock"),
    ("errors",),
    (PACKAGE,),
)
"""Rooms from the top down: each imports from layers below its own only. The last is the package's
own `__init__.py`, which has the version and imports everything else only when it is asked for."""
TORCH = ("torch", "nnunetv2", "torchvision", "batchgenerators", "batchgeneratorsv2")
WITHOUT_TORCH = ("dataset_conversion", "dataset_json", "studies", "space", "postprocessing")
"""Rooms that import none of `TORCH`, nor anything that does."""


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    """Dotted, with the package's name in front; that of a package for its `__init__.py`."""
    is_package: bool
    source: str
    tree: ast.Module

    @property
    def tokens(self) -> int:
        """Words and signs of the code; comments and layout do not count."""
        words = tokenize.generate_tokens(io.StringIO(self.source).readline)
        return sum(word.type not in NO_TOKENS for word in words)

    @property
    def functions(self) -> list[ast.FunctionDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]


def read_modules(root: Path) -> dict[str, Module]:
    """All modules of the package in the folder `root`, by name."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        source = path.read_text(encoding="utf-8")
        modules[name] = Module(name, is_package, source, ast.parse(source))
    return modules


def import_graph(modules: Mapping[str, Module]) -> Graph:
    """Which modules each module imports, at any time but for type checkers alone."""
    return {
        name: {target for target in _imported_names(module.tree, modules) if target != name}
        for name, module in modules.items()
    }


def _imported_names(tree: ast.Module, modules: Mapping[str, Module]) -> Iterator[str]:
    for node in _nodes_at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in modules:
                    yield submodule
                elif node.module in modules:
                    yield node.module


def _nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes_at_run_time(child)


def imports_against_layers(graph: Graph) -> list[str]:
    """Imports that do not run down, as "importing module -> imported module"."""
    layer_of = {room: index for index, layer in enumerate(LAYERS) for room in layer}
    return [
        f"{name} -> {target}"
        for name, targets in sorted(graph.items())
        for target in sorted(targets)
        if room_of(name) != room_of(target) and layer_of[room_of(name)] >= layer_of[room_of(target)]
    ]


def external_imports(module: Module) -> set[str]:
    """Top-level names of the libraries that a module imports."""
    names: set[str] = set()
    for node in _nodes_at_run_time(module.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.split(".")[0])
    return names - {PACKAGE}


def reachable(graph: Graph, start: str) -> set[str]:
    """The module itself and all that it imports, directly or not."""
    seen, waiting = {start}, [start]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def summary(module: Module) -> str:
    """What a module says of itself in the first paragraph of its docstring."""
    paragraph = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def room_of(name: str) -> str:
    """The folder of the package that a module lies in, or the file that lies beside the folders."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else PACKAGE


def room_graph(graph: Graph) -> Graph:
    """Which rooms each room imports."""
    rooms: Graph = {}
    for name, targets in graph.items():
        room = room_of(name)
        rooms.setdefault(room, set()).update(room_of(target) for target in targets)
    return {room: targets - {room} for room, targets in rooms.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Sets of nodes that reach each other (strongly connected components of two or more)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    names = sorted(graph)
    place = {name: index for index, name in enumerate(names)}
    arrows = [(place[a], place[b]) for a in names for b in graph[a]]
    rows, columns = zip(*arrows, strict=True) if arrows else ((), ())
    shape = (len(names), len(names))
    matrix = csr_array(([1] * len(arrows), (rows, columns)), shape=shape)
    _, component_of = connected_components(matrix, connection="strong")
    members: dict[int, list[str]] = {}
    for name, component in zip(names, component_of, strict=True):
        members.setdefault(int(component), []).append(name)
    return [group for group in members.values() if len(group) > 1]


def floors(graph: Graph) -> dict[str, int]:
    """How high each node of a graph without circles stands: one above all that it imports."""
    height: dict[str, int] = {}

    def climb(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((climb(target) for target in graph[name]), default=0)
        return height[name]

    for name in graph:
        climb(name)
    return height


def public_names_without_docstring(module: Module) -> list[str]:
    """Public functions and classes of a module that say nothing about themselves.

    Methods that override something from outside the package need none, so methods do not count.
    """
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [
        f"{module.name}.{node.name}"
        for node in module.tree.body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]


def function_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = function.body
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (body[0].end_lineno or body[0].lineno) - body[0].lineno + 1
    return lines


def measures(root: Path) -> dict[str, str]:
    """What the house is like, as words for a reader."""
    modules = read_modules(root)
    graph = import_graph(modules)
    rooms = room_graph(graph)
    files = [module for module in modules.values() if module.source.strip()]
    tokens = [module.tokens for module in files]
    lines = [module.source.count("\n") for module in files]
    functions = [function for module in files for function in module.functions]
    long = [function for function in functions if function_lines(function) > LONG_FUNCTION]
    silent = [name for module in files for name in public_names_without_docstring(module)]
    module_circles, room_circles = circles(graph), circles(rooms)
    return {
        "files": f"{len(files)}",
        "lines": f"{sum(lines)} (a file: median {statistics.median(lines):.0f})",
        "tokens": f"{sum(tokens)} (a file: median {statistics.median(tokens):.0f}, "
        f"90th percentile {statistics.quantiles(tokens, n=10)[-1]:.0f})",
        "functions": f"{len(functions)}",
        f"functions over {LONG_FUNCTION} lines": f"{len(long)} "
        f"({100 * len(long) / len(functions):.1f} %)",
        "public names without docstring": f"{len(silent)}",
        "arrows between modules": f"{sum(map(len, graph.values()))}",
        "circles of modules": "; ".join(" - ".join(group) for group in module_circles) or "none",
        "rooms": f"{len(rooms)}",
        "arrows between rooms": f"{sum(map(len, rooms.values()))}",
        "circles of rooms": "; ".join(" - ".join(group) for group in room_circles) or "none",
        "floors": "–" if room_circles else f"{max(floors(rooms).values())}",
    }


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    found = measures(root)
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {value}")
    rooms = room_graph(import_graph(read_modules(root)))
    if not circles(rooms):
        height = floors(rooms)
        print("\nThe rooms, from the top floor down, with what each imports:")
        for room in sorted(rooms, key=lambda name: (-height[name], name)):
            print(f"{height[room]:2}  {room}: {', '.join(sorted(rooms[room])) or '-'}")


if __name__ == "__main__":
    main()
