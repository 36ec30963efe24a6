"""Puts bottlenecks into a model that vLLM has loaded, and takes them off again.

A wrapped module keeps its name, its children and their weights: only its class becomes a subclass of its own, whose
`forward` adds the block's output. So vLLM's weight loading, quantisation, `reload_weights` and compilation go on as
if nothing were there. What a sublayer returns is summed over tensor-parallel ranks already, so each rank adds the
same block, whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from peft_eval.errors import RouteError
from peft_eval.methods.tuner import Block
from peft_eval.serving.blocks import BottleneckBlock

_BLOCK = "peft_eval_block"
_ENTRY = "peft_eval_entry"
_PLAIN_CLASS = "peft_eval_plain_class"
# How vLLM's modules call what they read: attention(positions, hidden_states), mlp(x), fc1(input_).
_HIDDEN_STATES = ("hidden_states", "x", "input_", "input")


@torch.no_grad()
def place_blocks(model: nn.Module, blocks: Iterable[Block], dtype: torch.dtype) -> int:
    """Puts an adapter's blocks beside their modules, in place of another adapter's if there are any.

    A block of the same structure as the one that is there takes over its memory, so that compiled graphs stay valid.

    Args:
        model: vLLM's model, or this rank's part of it.
        blocks: all of the adapter's, named by the base's modules.
        dtype: the engine's.

    Returns:
        How many blocks are on this rank; layers of other pipeline ranks are not.

    Raises:
        RouteError: a module is not there, or does not read hidden states.
    """
    named = {_name_in_engine(model, block.module): block for block in blocks}
    for name, module in list(model.named_modules()):
        if hasattr(module, _BLOCK) and not (name in named and getattr(module, _BLOCK).take(named[name])):
            _unwrap(module)
    device = next(model.parameters()).device
    here = {name: module for name in named if (module := _submodule(model, name)) is not None}
    for name, module in here.items():
        if not hasattr(module, _BLOCK):
            block = named[name]
            entry = _submodule(model, _name_in_engine(model, block.entry)) if block.entry else None
            _wrap(module, entry, block, BottleneckBlock(block, dtype=dtype, device=device))
    return len(here)


def remove_blocks(model: nn.Module) -> None:
    """Takes all blocks off, so that the model is the base again."""
    for module in list(model.modules()):
        if hasattr(module, _BLOCK):
            _unwrap(module)


def _name_in_engine(model: nn.Module, name: str) -> str:
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    return (mapper.map_name(name) if mapper is not None else None) or name


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    """Returns a module by name; None if its layer is on another pipeline rank."""
    from vllm.model_executor.models.utils import PPMissingLayer

    module = model
    for part in name.split("."):
        if isinstance(module, PPMissingLayer):
            return None
        child = getattr(module, part, None)
        if not isinstance(child, nn.Module):
            raise RouteError(f"vLLM's {type(model).__name__} has no module {name}", remedy="pass route=hf")
        module = child
    return None if isinstance(module, PPMissingLayer) else module


def _wrap(module: nn.Module, entry: nn.Module | None, block: Block, added: BottleneckBlock) -> None:
    if block.reads == "output":
        forward = _adding_of_output(type(module))
    elif entry is None:
        forward = _adding_of_input(type(module))
    else:
        stream = _Stream()
        _subclass(entry, _remembering_input(type(entry), stream))
        forward = _adding_of_stream(type(module), stream)
        module.__dict__[_ENTRY] = entry  # not by attribute, which would make it a child module
    module.add_module(_BLOCK, added)
    _subclass(module, forward)


def _subclass(module: nn.Module, forward: Any) -> None:
    plain = type(module)
    module.__dict__[_PLAIN_CLASS] = plain
    # vLLM knows some classes by their names, so the name stays.
    module.__class__ = type(plain.__name__, (plain,), {"forward": forward, "__module__": plain.__module__})


def _unwrap(module: nn.Module) -> None:
    delattr(module, _BLOCK)
    entry = module.__dict__.pop(_ENTRY, None)
    for changed in (module, entry):
        if changed is not None:
            changed.__class__ = changed.__dict__.pop(_PLAIN_CLASS)


class _Stream:
    """What a sublayer's first module was given, until its last module takes it."""

    def __init__(self) -> None:
        self.given: torch.Tensor | None = None


def _hidden_states_of(plain: Any) -> tuple[str, int]:
    """Returns name and position of the argument of `forward` that is the hidden states."""
    names = [name for name in inspect.signature(plain.forward).parameters if name != "self"]
    for candidate in _HIDDEN_STATES:
        if candidate in names:
            return candidate, names.index(candidate)
    raise RouteError(f"vLLM's {plain.__name__} reads no hidden states: {', '.join(names)}", remedy="pass route=hf")


def _plus(result: Any, added: torch.Tensor) -> Any:
    return (result[0] + added, *result[1:]) if isinstance(result, tuple) else result + added


def _adding_of_output(plain: Any) -> Any:
    base_forward = plain.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = base_forward(self, *args, **kwargs)
        return _plus(result, self.peft_eval_block(result[0] if isinstance(result, tuple) else result))

    return forward


def _adding_of_input(plain: Any) -> Any:
    base_forward = plain.forward
    name, position = _hidden_states_of(plain)

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Before the module runs, since vLLM's kernels may write into what they are given.
        added = self.peft_eval_block(kwargs[name] if name in kwargs else args[position])
        return _plus(base_forward(self, *args, **kwargs), added)

    return forward


def _remembering_input(plain: Any, stream: _Stream) -> Any:
    base_forward = plain.forward
    name, position = _hidden_states_of(plain)

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream.given = kwargs[name] if name in kwargs else args[position]
        return base_forward(self, *args, **kwargs)

    return forward


def _adding_of_stream(plain: Any, stream: _Stream) -> Any:
    base_forward = plain.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given, stream.given = stream.given, None
        return _plus(base_forward(self, *args, **kwargs), self.peft_eval_block(given))

    return forward
