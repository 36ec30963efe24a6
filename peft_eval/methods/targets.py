"""Which layers of a base an adapter goes into: matching names, and saying what is wrong with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from peft_eval.errors import ConfigError, PeftEvalError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
_LAYER_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")
_REGEX_SIGNS = frozenset("*+?[]()|^$\\")


def linear_shapes(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Returns (in, out) of every linear layer that can be adapted, by name, the LM head excluded."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, nn.Linear):
            shapes[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            shapes[name] = (module.weight.shape[0], module.weight.shape[1])
    return shapes


def is_regex(targets: Sequence[str]) -> bool:
    """Tells whether targets are one regular expression over whole names, as peft takes it."""
    return len(targets) == 1 and not _REGEX_SIGNS.isdisjoint(targets[0])


def matches(model: PreTrainedModel, targets: Sequence[str]) -> dict[str, list[str]]:
    """Returns the layers that each target names: a whole name, its end, a regular expression or `all-linear`."""
    if list(targets) == [ALL_LINEAR]:
        return {ALL_LINEAR: list(linear_shapes(model))}
    names = [name for name, _ in model.named_modules() if name]
    if is_regex(targets):
        return {targets[0]: [name for name in names if re.fullmatch(targets[0], name)]}
    return {target: [name for name in names if name == target or name.endswith(f".{target}")] for target in targets}


def target_errors(model: PreTrainedModel, found: dict[str, list[str]]) -> list[PeftEvalError]:
    """Returns what is wrong with targets: those that name nothing, and names that stand in some layers only.

    Whoever means some of the layers says which: by `layers_to_transform`, or in the target's name.
    """
    errors: list[PeftEvalError] = [_no_such_target(target, model) for target, names in found.items() if not names]
    if errors or any(_LAYER_NUMBER.search(target) for target in found) or is_regex(list(found)):
        return errors
    having = {number for names in found.values() for name in names if (number := _layer(name)) is not None}
    layers = {number for name, _ in model.named_modules() if (number := _layer(name)) is not None}
    if having and having != layers:
        shown = ", ".join(str(number) for number in sorted(layers - having)[:8])
        names = ", ".join(found)
        errors.append(
            ConfigError(
                f"{names}: in {len(having)} of the {len(layers)} layers, not in {shown}",
                place="--targets",
                remedy="name layers of the others too, or set layers_to_transform to those that you mean",
            )
        )
    return errors


def rank_error(rank: int, shapes: dict[str, tuple[int, int]], *, place: str = "--rank") -> ConfigError | None:
    """Returns an error if a rank exceeds the smaller side of one of the layers."""
    too_small = sorted(layer for layer, shape in shapes.items() if rank > min(shape))
    if not too_small:
        return None
    smallest = min(min(shapes[layer]) for layer in too_small)
    return ConfigError(
        f"rank {rank} exceeds the smaller side of {too_small[0]} {shapes[too_small[0]]}",
        place=place,
        remedy=f"use at most {smallest}, or other --targets",
    )


def _layer(name: str) -> int | None:
    number = _LAYER_NUMBER.search(name)
    return int(number[1]) if number else None


def _no_such_target(target: str, model: PreTrainedModel) -> ConfigError:
    linear = sorted({name.rpartition(".")[2] for name in linear_shapes(model)})
    others = sorted({name.rpartition(".")[2] for name, _ in model.named_modules() if name and not name[-1].isdigit()})
    near = difflib.get_close_matches(target, linear, n=3, cutoff=0.5) or difflib.get_close_matches(target, others, n=3)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"linear layers here: {', '.join(linear)}, or all-linear"
    return ConfigError(f"no layer is called {target!r}", place="--targets", remedy=remedy)
