"""Attention over trained keys and values before the real ones, for all models of transformers' attention interface.

A model's attention is switched to an implementation of ours under the name of the one it had (`prefix_sdpa` for
`sdpa`), with the same masks. Where the module at hand has a prefix it puts keys, values and mask columns in front and
calls the original; where not, it is the original. Masks, caches, positions and sliding windows stay as they are: every
token sees the whole prefix, which has no positions and takes none.

A gate g, one number a token, makes keys g·k and values g·v for that token's query. That differs from query to query,
so it cannot be written into the keys. In twice the width it can: with queries [q, g·q], real keys [k, 0] and prefix
keys [0, k] the scores are q·k and g·q·k, and the values [v, 0] and [0, v] keep the two sums apart until g is put on the
second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from peft_eval.errors import ConfigError

_SLOT = "prefix_of_this_call"
_NAME = "prefix_{}"
_MASKS = {"sdpa": sdpa_mask, "eager": eager_mask}


class Prefix(NamedTuple):
    """What stands before a layer's keys.

    Attributes:
        keys, values: (key-value heads, length, head size).
        gate: (batch, tokens, 1), or None.
    """

    keys: torch.Tensor
    values: torch.Tensor
    gate: torch.Tensor | None


def switch_attention(model: Any, *, on: bool) -> None:
    """Lets a model's attention take prefixes, or gives it back the attention that it had.

    Raises:
        ConfigError: it was loaded with attention that cannot be given a prefix.
    """
    for config in {
        id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)
    }.values():
        plain = config._attn_implementation.removeprefix(_NAME.format(""))
        if plain not in _MASKS:
            raise ConfigError(
                f"a prefix cannot be put into {plain} attention",
                remedy=f"load the base with {' or '.join(_MASKS)} attention",
            )
        config._attn_implementation = _NAME.format(plain) if on else plain


def put(attention: nn.Module, prefix: Prefix) -> None:
    """Gives an attention module its prefix for the call that follows."""
    attention.__dict__[_SLOT] = prefix


def take(attention: nn.Module) -> Prefix | None:
    """Takes an attention module's prefix away and returns it, None if it has been used or there was none."""
    return attention.__dict__.pop(_SLOT, None)


def _implementation(plain: str) -> Callable[..., Any]:
    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **settings: Any,
    ) -> tuple[torch.Tensor, Any]:
        original = ALL_ATTENTION_FUNCTIONS[plain] if plain != "eager" else _eager_of(module)
        prefix = take(module)
        if prefix is None:
            return original(module, query, key, value, attention_mask, **settings)
        return _with_prefix(original, prefix, module, query, key, value, attention_mask, settings)

    return attend


def _eager_of(module: nn.Module) -> Callable[..., Any]:
    """Returns the eager attention of a model's own file; transformers keeps it in no table."""
    return sys.modules[type(module).__module__].eager_attention_forward


def _with_prefix(
    original: Callable[..., Any],
    prefix: Prefix,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    settings: dict[str, Any],
) -> tuple[torch.Tensor, Any]:
    batch, _, tokens, size = query.shape
    length = prefix.keys.shape[1]
    if prefix.keys.shape != (key.shape[1], length, key.shape[3]):
        raise ConfigError(
            f"a prefix of (heads, length, size) {tuple(prefix.keys.shape)} does not fit keys of "
            f"{(key.shape[1], length, key.shape[3])} in {type(module).__name__}"
        )
    causal = settings.pop("is_causal", None)
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if mask is None and causal and tokens > 1:
        seen = key.shape[2] - tokens
        mask = torch.ones(tokens, key.shape[2], dtype=torch.bool, device=key.device).tril(seen)[None, None]
    if mask is not None:
        mask = nn.functional.pad(mask, (length, 0), value=True if mask.dtype == torch.bool else 0.0)
    if settings.get("position_bias") is not None:
        settings["position_bias"] = nn.functional.pad(settings["position_bias"], (length, 0))
    keys = prefix.keys.to(key.dtype).expand(batch, -1, -1, -1)
    values = prefix.values.to(value.dtype).expand(batch, -1, -1, -1)
    if prefix.gate is None:
        joined = (torch.cat([keys, key], 2), torch.cat([values, value], 2))
        return original(module, query, *joined, mask, is_causal=False, **settings)
    gate = prefix.gate.to(query.dtype)
    settings["scaling"] = size**-0.5 if settings.get("scaling") is None else settings["scaling"]
    both = torch.cat([query, query * gate[:, None]], -1)
    joined_keys = torch.cat([_second_half(keys), _first_half(key)], 2)
    joined_values = torch.cat([_second_half(values), _first_half(value)], 2)
    result, weights = original(module, both, joined_keys, joined_values, mask, is_causal=False, **settings)
    width = value.shape[3]
    return result[..., :width] + gate[:, :, None] * result[..., width:], weights


def _first_half(tensor: torch.Tensor) -> torch.Tensor:
    return nn.functional.pad(tensor, (0, tensor.shape[-1]))


def _second_half(tensor: torch.Tensor) -> torch.Tensor:
    return nn.functional.pad(tensor, (tensor.shape[-1], 0))


for _plain, _mask in _MASKS.items():
    AttentionInterface.register(_NAME.format(_plain), _implementation(_plain))
    AttentionMaskInterface.register(_NAME.format(_plain), _mask)  # type: ignore[arg-type]  # mypy loses the callable
