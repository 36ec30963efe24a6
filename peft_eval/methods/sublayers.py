"""Where a transformer's sublayers begin and end, found by the structure of its layers and not by its class.

A sublayer is what lies between two residual adds: attention or feed-forward. It begins at its `entry`, whose
input is the sublayer's, and ends at its `exit`, whose output is what is added to the residual stream:

| layers of | attention: entry, exit | feed-forward: entry, exit |
|---|---|---|
| Llama, Qwen, Mistral, Phi, ... | self_attn | mlp |
| Gemma 2 and 3, OLMo 2 (norms before the add) | self_attn, post_attention_layernorm | mlp, post_feedforward_layernorm |
| GLM 4 | self_attn, post_self_attn_layernorm | mlp, post_mlp_layernorm |
| GPT-2, GPT-J, GPT-NeoX | attn or attention | mlp |
| OPT | self_attn | fc1, fc2 |
| T5, encoder and decoder; cross-attention is none | SelfAttention | DenseReluDense |
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from peft_eval.errors import ConfigError

Kind = Literal["attention", "ffn"]

_ATTENTION = ("self_attn", "attn", "attention", "self_attention", "SelfAttention")
_FEED_FORWARD = ("mlp", "block_sparse_moe", "feed_forward", "ffn", "DenseReluDense")
_FEED_FORWARD_LINEARS = ("fc1", "fc2")
# A layer with the second norm of a pair also has the first at the end of its attention. The second tells: Llama
# calls the norm before its feed-forward post_attention_layernorm.
_NORMS_BEFORE_THE_ADD = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
)


@dataclass(frozen=True, slots=True)
class Sublayer:
    """One sublayer by the names of its first and last module, which may be the same."""

    kind: Kind
    entry: str
    exit: str


def find_sublayers(model: nn.Module) -> list[Sublayer]:
    """Returns a model's sublayers in order; modules that a tuner has wrapped already are seen through.

    Raises:
        ConfigError: the layers are of no known structure, or add the residual inside a sublayer.
    """
    found: list[Sublayer] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(inside) and inside:
            continue
        for sublayer in _of_layer(name, module):
            _refuse_inner_residual(model, sublayer)
            found.append(sublayer)
            inside = (*inside, f"{sublayer.entry}.", f"{sublayer.exit}.")
    missing = {"attention", "ffn"} - {sublayer.kind for sublayer in found}
    if missing:
        raise ConfigError(
            f"no {' and no '.join(sorted(missing))} sublayers are found in a {type(model).__name__}",
            remedy=f"known are attention called {', '.join(_ATTENTION)} and feed-forward called "
            f"{', '.join(_FEED_FORWARD)} or {' with '.join(_FEED_FORWARD_LINEARS)}",
        )
    return found


def _of_layer(name: str, layer: nn.Module) -> Iterator[Sublayer]:
    children = dict(layer.named_children())
    attention = next((child for child in _ATTENTION if child in children), None)
    feed_forward = next((child for child in _FEED_FORWARD if child in children), None)
    norms = next((pair for pair in _NORMS_BEFORE_THE_ADD if pair[1] in children), (None, None))
    in_layer = f"{name}." if name else ""
    if attention:
        yield Sublayer("attention", in_layer + attention, in_layer + (norms[0] or attention))
    if feed_forward:
        yield Sublayer("ffn", in_layer + feed_forward, in_layer + (norms[1] or feed_forward))
    elif attention and all(child in children for child in _FEED_FORWARD_LINEARS):
        first, last = _FEED_FORWARD_LINEARS
        yield Sublayer("ffn", in_layer + first, in_layer + (norms[1] or last))


def _refuse_inner_residual(model: nn.Module, sublayer: Sublayer) -> None:
    module = model.get_submodule(sublayer.entry)
    if isinstance(module, BaseTunerLayer):
        module = module.get_base_layer()
    if "residual" in inspect.signature(module.forward).parameters:
        raise ConfigError(
            f"{type(module).__name__} adds the residual itself, so nothing can be put before the add",
            place=sublayer.entry,
        )
