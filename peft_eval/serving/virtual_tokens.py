"""Prompt tuning and P-tuning inside vLLM: the trained prompt as rows of an enlarged vocabulary.

The n virtual tokens get the ids V ... V+n-1 behind the base's vocabulary of V, and every prompt begins with them. Their
embeddings are appended to the base's as it loads; their logits are minus infinity, so that they are never sampled
and take no probability from the others. A prompt stays a list of ids: its log-probabilities can be asked for, and its
beginning is in the prefix cache. (vLLM's prompt embeddings, the other way, give no prompt log-probabilities.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peft_eval.checkpoint.reading import ADAPTER_CONFIG, read_json
from peft_eval.errors import BaseMismatchError, CheckpointError, RouteError
from peft_eval.serving.blocks import finite_tensors

PROMPT_TYPES = ("PROMPT_TUNING", "P_TUNING")
_SAVED_PROMPT = "prompt_embeddings"
_HIDDEN = "peft_eval_hidden_from"


def virtual_token_obstacle(adapter_config: dict[str, Any]) -> str | None:
    """Returns why an adapter is no prompt of virtual tokens, None if it is."""
    kind = str(adapter_config.get("peft_type", "")).upper()
    if kind not in PROMPT_TYPES:
        return f"{kind} trains no embeddings of virtual tokens"
    if adapter_config.get("modules_to_save"):
        return "it also trains whole modules (modules_to_save)"
    return None


def read_prompt(adapter_folder: Path, base_config: dict[str, Any]) -> torch.Tensor:
    """Returns the trained prompt, (virtual tokens, hidden); peft saves what P-tuning's encoder computes.

    Raises:
        RouteError: the adapter is of another kind.
        CheckpointError: the prompt is missing or not finite.
        BaseMismatchError: its width is not the base's.
    """
    config = read_json(adapter_folder / ADAPTER_CONFIG)
    obstacle = virtual_token_obstacle(config)
    if obstacle:
        raise RouteError(obstacle)
    prompt = finite_tensors(adapter_folder).get(_SAVED_PROMPT)
    if prompt is None or prompt.shape[0] != config["num_virtual_tokens"]:
        raise CheckpointError(
            f"no {_SAVED_PROMPT} of {config['num_virtual_tokens']} virtual tokens", place=str(adapter_folder)
        )
    width = _width(base_config)
    if prompt.shape[1] != width:
        raise BaseMismatchError(
            f"the prompt's embeddings have {prompt.shape[1]} numbers, the base's {width}", place=str(adapter_folder)
        )
    return prompt


def _width(base_config: dict[str, Any]) -> Any:
    return base_config.get("word_embed_proj_dim") or base_config.get("hidden_size") or base_config.get("n_embd")


def empty_prompt(base_config: dict[str, Any]) -> torch.Tensor:
    """Returns a prompt of no virtual tokens, (0, hidden), for a model whose vocabulary has room for some."""
    return torch.zeros(0, int(_width(base_config)))


def with_prompt_rows(
    tensors: Iterable[tuple[str, torch.Tensor]], prompt: torch.Tensor, base_folder: Path, rows: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Enlarges the embedding and the output layer as the base's tensors stream by.

    Args:
        tensors: names and values of the base's tensors.
        prompt: (virtual tokens, hidden).
        base_folder: the base's folder.
        rows: how many rows to append; those beyond the prompt's are zero.

    Raises:
        CheckpointError: the stream ended without the embedding.
    """
    embedding, output, scale = _vocabulary_layers(base_folder)
    found = False
    for name, tensor in tensors:
        if _is(name, f"{embedding}.weight"):
            found = True
            # Some bases (Gemma) multiply an embedding when it is looked up; peft puts the prompt in after that.
            yield name, _appended(tensor, prompt.float() / tensor.new_tensor(scale).float(), rows)
        elif output and (_is(name, f"{output}.weight") or _is(name, f"{output}.bias")):
            yield name, _appended(tensor, tensor[:0], rows)
        else:
            yield name, tensor
    if not found:
        raise CheckpointError(f"the base's files hold no {embedding}.weight", place=str(base_folder))


def _appended(tensor: torch.Tensor, new: torch.Tensor, rows: int) -> torch.Tensor:
    padding = tensor.new_zeros(rows - len(new), *tensor.shape[1:])
    return torch.cat([tensor, new.to(tensor), padding])


def _is(name: str, expected: str) -> bool:
    """Returns whether a file's tensor is the one expected; files of GPT-2's kind leave out the model's prefix."""
    return name == expected or expected.endswith(f".{name}")


def _vocabulary_layers(base_folder: Path) -> tuple[str, str | None, float]:
    """Returns the names of input embedding and output layer, and the factor of a looked-up embedding."""
    from transformers import AutoModelForCausalLM

    from peft_eval.checkpoint.architecture import read_config

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read_config(base_folder))
    names = {module: name for name, module in model.named_modules()}
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    scale = float(getattr(embedding, "scalar_embed_scale", 1.0))
    return names[embedding], names.get(output), scale


def hide_virtual_tokens(model: nn.Module, vocabulary: int) -> None:
    """Sets the logits of a vLLM model from id `vocabulary` on to minus infinity; once is enough."""
    if _HIDDEN in model.__dict__:
        return
    model.__dict__[_HIDDEN] = vocabulary
    plain: Any = type(model)

    def compute_logits(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor | None:
        logits = plain.compute_logits(self, *args, **kwargs)
        if logits is not None:  # None on all but one tensor-parallel rank
            logits[..., vocabulary:] = -torch.inf
        return logits

    model.__class__ = type(plain.__name__, (plain,), {"compute_logits": compute_logits, "__module__": plain.__module__})


def without_prompt(output: Any, virtual_tokens: int) -> Any:
    """Takes the virtual tokens out of what vLLM answers, so that positions are those of the caller's prompt.

    The first position has no log-probabilities, as in any answer of vLLM.
    """
    output.prompt_token_ids = list(output.prompt_token_ids)[virtual_tokens:]
    if output.prompt_logprobs is not None:
        output.prompt_logprobs = [None, *list(output.prompt_logprobs)[virtual_tokens + 1 :]]
    return output


def with_prompt(prompts: Iterable[Sequence[int]], prompt_ids: Sequence[int]) -> list[list[int]]:
    """Puts the virtual tokens before each prompt."""
    return [[*prompt_ids, *prompt] for prompt in prompts]
