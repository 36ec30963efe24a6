"""What the installed peft library can configure, read from its source: importing peft would load torch.

Each adapter type of peft has a dataclass of settings in `peft/tuners/<type>/config.py`, every field with a type,
a default and a help text. They are parsed, never run, and only for the types that are asked for.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional, Union

from peft_eval.errors import PluginError

_MISSING = object()


@dataclass(frozen=True, slots=True)
class PeftField:
    """One setting of an adapter type.

    Attributes:
        name: as peft calls it.
        annotation: its type; enumerations are strings, nested configurations dictionaries.
        default: peft's; a mutable one is a fresh object at each access of `fields_of`.
        help: peft's help text, its first sentence.
    """

    name: str
    annotation: Any
    default: Any
    help: str


@functools.cache
def peft_root() -> Path:
    """Returns the folder of the installed peft, without importing it.

    Raises:
        PluginError: peft is not installed.
    """
    found = importlib.util.find_spec("peft")
    if found is None or not found.submodule_search_locations:
        raise PluginError("the peft library is not installed", remedy="pip install peft")
    return Path(next(iter(found.submodule_search_locations)))


@functools.cache
def peft_type_names() -> tuple[str, ...]:
    """Returns every adapter type of the installed peft, as `adapter_config.json` spells it."""
    enum = _class_in(peft_root() / "utils" / "peft_types.py", "PeftType")
    return tuple(statement.value.value for statement in enum.body if isinstance(statement, ast.Assign))  # type: ignore[attr-defined]


@functools.cache
def config_class(peft_type: str) -> tuple[str, ast.ClassDef, Path]:
    """Returns the name, syntax tree and file of a type's configuration class.

    Raises:
        PluginError: peft has no such class, so this release of peft is laid out in another way.
    """
    usual = peft_root() / "tuners" / peft_type.lower() / "config.py"
    others = sorted((peft_root() / "tuners").glob("*/config.py"))
    marker = re.compile(rf"PeftType\.{re.escape(peft_type)}\b")
    for file in [usual, *others]:
        if file.is_file() and marker.search(file.read_text(encoding="utf-8")):
            for node in _tree(file).body:
                if isinstance(node, ast.ClassDef) and marker.search(ast.unparse(node)):
                    return node.name, node, file
    raise PluginError(f"peft has no configuration for its type {peft_type}", remedy="use a supported release of peft")


def fields_of(peft_type: str) -> dict[str, PeftField]:
    """Returns the settings of an adapter type by name, those that it inherits first.

    Settings that every type has (`task_type`, `revision`, ...) are left out.
    """
    _, node, file = config_class(peft_type)
    return _fields(node, file)


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _class_in(file: Path, name: str) -> ast.ClassDef:
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise PluginError(f"peft has no class {name} in {file.name}", remedy="use a supported release of peft")


def _fields(node: ast.ClassDef, file: Path) -> dict[str, PeftField]:
    fields: dict[str, PeftField] = {}
    for base in node.bases:
        name = ast.unparse(base)
        if name != "PeftConfig" and (origin := _origin(name, file)):
            fields.update(_fields(*origin))
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            default, help_text = _default_and_help(statement.value)
            annotation = _annotation(statement.annotation)
            if default is None:
                annotation = Optional[annotation]  # noqa: UP045 (the annotation is a value here)
            if default is not _MISSING:
                fields[statement.target.id] = PeftField(statement.target.id, annotation, default, help_text)
    return fields


def _origin(name: str, file: Path) -> tuple[ast.ClassDef, Path] | None:
    """Finds where a base class is defined: in the same file, or where it is imported from within peft."""
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, file
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            parts = (node.module or "").split(".")
            start = file.parents[node.level - 1] if node.level else peft_root().parent
            target = start.joinpath(*[part for part in parts if part])
            for candidate in (target.with_suffix(".py"), target / "config.py"):
                if candidate.is_file():
                    return _class_in(candidate, name), candidate
    return None


def _default_and_help(value: ast.expr | None) -> tuple[Any, str]:
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "field"):
        return (_MISSING if value is None else _literal(value)), ""
    keywords = {keyword.arg: keyword.value for keyword in value.keywords}
    default: Any = _MISSING
    if "default" in keywords:
        default = _literal(keywords["default"])
    elif "default_factory" in keywords:
        default = {"dict": {}, "list": []}.get(ast.unparse(keywords["default_factory"]), _MISSING)
    metadata = keywords.get("metadata")
    text = ""
    if isinstance(metadata, ast.Dict):
        for key, part in zip(metadata.keys, metadata.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "help":
                text = str(_literal(part))
    return default, _first_sentence(text)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return node.attr if isinstance(node, ast.Attribute) else _MISSING  # a member of an enumeration, by its name


def _first_sentence(text: str) -> str:
    text = re.sub(r"<[^>]*>|\[([^\]]*)\]\(http[^)]*\)", r"\1", text)  # links, in either notation
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z`'\[])", " ".join(text.split()))[0]
    return sentence if not sentence or sentence.endswith((".", "!", "?")) else sentence + "."


def _annotation(node: ast.expr) -> Any:
    """Turns a written type into one that pydantic checks; what is not known here becomes `Any`."""
    simple = {"int": int, "float": float, "str": str, "bool": bool, "dict": dict[str, Any], "list": list[Any]}
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name):
        return simple.get(node.id, dict[str, Any] if node.id.endswith("Config") else str)
    if isinstance(node, ast.BinOp):
        return Union[_annotation(node.left), _annotation(node.right)]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        kind = ast.unparse(node.value)
        if kind == "Literal":
            return Literal[tuple(ast.literal_eval(value) for value in inner)]
        if kind == "Optional":
            return Optional[_annotation(inner[0])]  # noqa: UP045
        if kind == "Union":
            return Union[tuple(_annotation(part) for part in inner)]  # noqa: UP007
        if kind == "list":
            return list[_annotation(inner[0])]  # type: ignore[misc]
        if kind == "dict":
            return dict[str, Any]
    return Any
