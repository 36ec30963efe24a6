"""Whether an engine's greedy answers are those of transformers and peft, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TIE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """How greedy answers compare, each up to its first difference.

    Attributes:
        answers: how many were compared.
        identical: how many have the same token ids throughout.
        ties: how many first differ where the reference's two logits are at most `TIE` apart.
        largest_gap: the largest such distance at a first difference, 0.0 if there is none.
    """

    answers: int
    identical: int
    ties: int
    largest_gap: float

    @property
    def holds(self) -> bool:
        """Whether every answer is identical, or first differs at a tie."""
        return self.identical + self.ties == self.answers


def greedy_agreement(
    reference: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, vocabulary: int
) -> Agreement:
    """Holds an engine's greedy answers against a model of transformers or peft.

    The reference reads prompt and answer in one pass, without padding or cache. Up to the first difference that is
    what it would have generated itself.

    Args:
        reference: a causal language model, with its adapter.
        prompts: token ids, without virtual tokens.
        answers: what the engine generated for them at temperature 0.
        vocabulary: the base's; ids from there on are no answer.
    """
    import torch

    gaps = []
    for prompt, answer in zip(prompts, answers, strict=True):
        if any(token >= vocabulary for token in answer):
            gaps.append(float("inf"))
            continue
        with torch.inference_mode():
            logits = reference(input_ids=torch.tensor([[*prompt, *answer]])).logits[0]
        # The logits of position i are those of token i + 1; with virtual tokens there are more in front.
        logits = logits[-len(answer) - 1 : -1].float()
        given = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
        behind = logits.max(dim=1).values - given
        different = behind.nonzero()
        gaps.append(behind[different[0, 0]].item() if len(different) else 0.0)
    return Agreement(
        answers=len(gaps),
        identical=sum(gap == 0.0 for gap in gaps),
        ties=sum(0.0 < gap <= TIE for gap in gaps),
        largest_gap=max(gaps, default=0.0),
    )
