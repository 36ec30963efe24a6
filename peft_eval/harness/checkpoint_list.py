"""From what a user names to the checkpoints and bases that are evaluated."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.location import resolve_folder, zoo_names
from peft_eval.checkpoint.reading import ADAPTER_CONFIG
from peft_eval.errors import ConfigError, PeftEvalError, unknown_name
from peft_eval.serving.route import Route, choose_route

_WILD = "*?["


@dataclass
class Row:
    """One line of the table.

    Attributes:
        reference: what `peft=` is given, or `pretrained=` for a base.
        is_base: whether it is a base.
        route: how a checkpoint is served; None for a base or where none could be chosen.
        error: why it cannot be evaluated, None if it can.
        folder: whose weights an engine reads.
        base_of: the first checkpoint that a base is there for.
    """

    reference: str
    is_base: bool = False
    route: Route | None = None
    error: PeftEvalError | None = None
    folder: Path | None = None
    base_of: str | None = None

    @property
    def in_vllm(self) -> bool:
        """Whether vLLM serves it."""
        return self.error is None and (self.route is None or self.route.backend == "vllm")


def expand(references: Iterable[str]) -> list[str]:
    """Returns what references with wildcards stand for, each once, in order.

    Raises:
        ConfigError: one with wildcards stands for nothing.
    """
    found: list[str] = []
    for reference in references:
        if not any(sign in reference for sign in _WILD) or Path(reference).is_dir():
            found.append(reference)
            continue
        if reference.startswith("zoo:"):
            matches = [f"zoo:{name}" for name in fnmatch.filter(zoo_names(), reference.removeprefix("zoo:"))]
        else:
            path = Path(reference).expanduser()
            places = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
            matches = [str(place) for place in places if _looks_like_checkpoint(place)]
        if not matches:
            if reference.startswith("zoo:"):
                raise unknown_name("zoo name", reference, [f"zoo:{name}" for name in zoo_names()], place="--checkpoint")
            raise ConfigError(
                "matches no folder with a checkpoint", place=f"--checkpoint {reference}", remedy="check the pattern"
            )
        found += matches
    return list(dict.fromkeys(found))


def _looks_like_checkpoint(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (ADAPTER_CONFIG, "config.json"))


def plan(references: Sequence[str], arguments: Mapping[str, Any], *, model: str, with_base: bool) -> list[Row]:
    """Opens every checkpoint, and finds the bases among them.

    Args:
        references: checkpoints, without wildcards.
        arguments: the backend's, as lm-eval parses `--model_args`.
        model: `vllm` or `hf`.
        with_base: whether each base is a row of its own.

    Returns:
        Rows: each base before its checkpoints, and those together that can share an engine.
    """
    rows = [_row(reference, arguments, model) for reference in references]
    if not with_base:
        return rows
    listed = {_folder_of(row.reference) for row in rows}
    seen: set[Path] = set()
    planned: list[Row] = []
    for row in rows:
        base = _base_of(row, arguments)
        if base is not None and base[1] not in seen | listed:
            seen.add(base[1])
            planned.append(Row(base[0], is_base=True, folder=base[1], base_of=row.reference))
        planned.append(row)
    return planned


def _row(reference: str, arguments: Mapping[str, Any], model: str) -> Row:
    try:
        route = choose_route(
            reference,
            pretrained=arguments.get("pretrained"),
            force_base=bool(arguments.get("force_base")),
            unmerged=model == "hf",
            wanted=arguments.get("route"),
        )
    except PeftEvalError as error:
        return Row(reference, error=error)
    return Row(reference, route=route, folder=route.model_folder)


def _base_of(row: Row, arguments: Mapping[str, Any]) -> tuple[str, Path] | None:
    """Returns a checkpoint's base as the user or it names it, with its folder; None if it is unknown or not here."""
    if row.route is None:
        return None
    checkpoint = row.route.checkpoint
    if checkpoint.kind == "adapter":
        return str(arguments.get("pretrained") or checkpoint.base_reference()), row.route.model_folder
    if checkpoint.manifest is None:
        return None
    try:
        return checkpoint.base_reference(), resolve_folder(checkpoint.base_reference())
    except PeftEvalError:
        return None


def _folder_of(reference: str) -> Path | None:
    try:
        return resolve_folder(reference)
    except PeftEvalError:
        return None
