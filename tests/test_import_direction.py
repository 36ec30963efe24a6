"""Imports run one way: a room imports from floors below its own, and two libraries are touched in one place each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "peft_eval"

# The floors, from the ground up. A room may import from its own floor's rooms only if it is the same room.
FLOORS = (
    ("__init__", "errors", "hookspecs", "plain_files", "resources", "torch_companions", "whole_file"),
    ("plugins", "data", "checkpoint", "sandbox"),
    ("methods", "scoring", "judging"),
    ("training", "merging"),
    ("serving",),
    ("harness",),
    ("doctor", "study"),
    ("report", "zoo"),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
GROUND = FLOORS[0]
# Libraries that one room alone touches (the task folders are lm-eval's own ground).
ONLY_IN = {"lm_eval": "harness", "vllm": "serving"}


def room_of(path: Path) -> str:
    """Returns the first part of a module's path below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yields every imported module with its line, those inside functions too, those for type checkers alone not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(body=node.orelse, type_ignores=[]))
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides where it goes"
            yield node.module or "", node.lineno
            if node.module == "peft_eval":
                yield from ((f"peft_eval.{alias.name}", node.lineno) for alias in node.names)
        else:
            yield from imports(node)


def crossings(room: str, imported: Iterator[tuple[str, int]]) -> list[str]:
    """Returns what a room imports against the direction."""
    found = []
    for module, line in imported:
        top, _, rest = module.partition(".")
        target = rest.partition(".")[0]
        if top in ONLY_IN and room != ONLY_IN[top]:
            found.append(f"line {line}: {top} is imported in {ONLY_IN[top]}/ alone")
        if top != "peft_eval" or target in ("", "__version__", room) or {room, target} <= set(GROUND):
            continue
        if target not in FLOOR_OF or FLOOR_OF[target] >= FLOOR_OF[room]:
            found.append(f"line {line}: {room} imports {module}, which is not below it")
    return found


def modules() -> list[Path]:
    """Returns every module of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if not path.relative_to(PACKAGE).parts[0].startswith("_t"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_below_alone(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not crossings(room_of(path), imports(tree))


def test_every_room_has_a_floor():
    assert {room_of(path) for path in modules()} == set(FLOOR_OF)


def test_the_package_itself_imports_nothing_of_ours():
    assert not list(imports(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("data", "from peft_eval.training.run import train"),
        ("methods", "from peft_eval import cli"),
        ("scoring", "from peft_eval.methods.catalogue import catalogue"),
        ("training", "def f():\n    import vllm"),
        ("serving", "from lm_eval.api.task import Task"),
        ("data", "if TYPE_CHECKING:\n    pass\nelse:\n    import peft_eval.harness"),
    ],
)
def test_a_crossing_is_seen(room: str, line: str):
    assert len(crossings(room, imports(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("training", "from peft_eval.data.source import Example"),
        ("data", "if TYPE_CHECKING:\n    from peft_eval.training.run import train"),
        ("harness", "import lm_eval"),
        ("cli", "from peft_eval import __version__"),
        ("data", "from peft_eval.data.superni import reader"),
    ],
)
def test_what_is_allowed_is_not_a_crossing(room: str, line: str):
    assert not crossings(room, imports(ast.parse(line)))
