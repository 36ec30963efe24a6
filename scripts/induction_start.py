"""Starting weights in which a Llama already copies: "the token that followed this one before comes next".

Small models learn in-context copying late and suddenly; with the little compute that the embedded base is
given they do not get there. So the circuit that all of them find in the end (an induction head: Olsson et al.
2022, "In-context Learning and Induction Heads") is put in place at the start, in one head of each of four
layers; training shapes it and everything else.

- Layer 0, head 0 attends to the previous token, by position alone, and writes that token's code into a
  subspace S that embeddings do not use.
- Head 0 of layers 1 to 3 looks for the current token's code in S, and adds what it finds there, each a third
  of the embedding space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

HEAD = 64
SLOWEST_PAIRS = 18  # of 32 rotary pairs: these turn little over a hundred tokens, so that content can be matched
POSITION_SHARPNESS = 8.0
MATCH_LOGIT = 14.0
EMBEDDING_STD = 0.05
COPY_GAIN = 2.0


def seed_induction(model: LlamaForCausalLM, seed: int) -> None:
    """Overwrites the embeddings, head 0 of layers 0 to 3, and with zeros what other parts write.

    Args:
        model: an untrained model of at least 4 layers, width 4 * 64, whose embeddings are tied.
        seed: seeds the random directions.
    """
    generator = torch.Generator().manual_seed(seed)
    width = model.config.hidden_size
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator))[0].T  # rows are orthonormal
    written, constant, content = basis[:HEAD], basis[HEAD], basis[HEAD + 1 :]
    codes = torch.randn(model.config.vocab_size, len(content), generator=generator) @ content
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(EMBEDDING_STD * (codes + width**0.5 * constant))
        layers = model.model.layers
        for layer in layers:  # all else is silent at first, and does not drown the circuit
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        angles = torch.pow(model.config.rope_parameters["rope_theta"], -torch.arange(0, HEAD, 2) / HEAD)
        code_of_token = _attend_to_previous(layers[0].self_attn, angles, constant, written, content, width)
        for layer, share in zip(layers[1:4], content.chunk(3), strict=True):
            _copy_after_match(layer.self_attn, code_of_token, written, share, width)


def _attend_to_previous(
    attention: torch.nn.Module,
    angles: torch.Tensor,
    constant: torch.Tensor,
    written: torch.Tensor,
    content: torch.Tensor,
    width: int,
) -> torch.Tensor:
    """Sets layer 0 and returns the map from a normed embedding to its code, shape (64, width)."""
    # The constant part of a normed embedding is sqrt(width / 2): half of its energy, the other half is content.
    amplitude = (2 * POSITION_SHARPNESS * HEAD**0.5 / (1 - angles.cos()).sum() / width) ** 0.5
    query = torch.cat([torch.ones(HEAD // 2), torch.zeros(HEAD // 2)])
    key = torch.cat([angles.cos(), angles.sin()])
    attention.q_proj.weight[:HEAD] = amplitude * torch.outer(query, constant)
    attention.k_proj.weight[:HEAD] = amplitude * torch.outer(key, constant)
    code_of_token = content[:HEAD].clone()
    code_of_token.view(2, HEAD // 2, -1)[:, : HEAD // 2 - SLOWEST_PAIRS] = 0
    attention.v_proj.weight[:HEAD] = code_of_token
    attention.o_proj.weight[:, :HEAD] = EMBEDDING_STD * written.T
    return code_of_token


def _copy_after_match(
    attention: torch.nn.Module, code_of_token: torch.Tensor, written: torch.Tensor, share: torch.Tensor, width: int
) -> None:
    """Sets head 0 of a later layer; `share` is the part of the embedding space that it copies."""
    # A code has 2 * SLOWEST_PAIRS entries of variance about 1/2 after the norm.
    strength = (MATCH_LOGIT * HEAD**0.5 / SLOWEST_PAIRS) ** 0.5
    attention.q_proj.weight[:HEAD] = strength * code_of_token
    attention.k_proj.weight[:HEAD] = strength * 2**0.5 * written
    attention.v_proj.weight[:HEAD] = 0
    attention.v_proj.weight[: len(share)] = share
    attention.o_proj.weight[:, : len(share)] = COPY_GAIN * EMBEDDING_STD * share.T
