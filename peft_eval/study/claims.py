"""What the two papers claim, held against the results of studies.

Each claim is a question about some arms of a study, answered by a test: `held`, `not held`, or `not decided` where the
data does not tell, or is not there. The claims are those of arXiv 2411.16775 (LoRA and adapter against full
fine-tuning) and of arXiv 2303.15647 (fifteen methods). A verdict speaks of the bases, data and sizes that were studied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peft_eval.study.claim_tests import (
    CLOSE,
    Result,
    Verdict,
    behind_in_long_answers,
    close_to_full,
    largest_is_best,
    learns_slower,
    memorizes_less,
    needs_more_tasks,
    struggle_when_tuning_is_scarce,
    undecided,
    unstable_at_high_rate_or_size,
)
from peft_eval.study.outcomes import Outcomes

INSTRUCTION_PAPER, METHODS_PAPER = "arXiv 2411.16775", "arXiv 2303.15647"


@dataclass(frozen=True)
class Finding:
    """A claim and what the data says of it.

    Attributes:
        claim: in words.
        paper: whose claim it is.
        study: name of the study that asks.
        verdict: held, not held, not decided.
        test: what was tested, and how.
        numbers: what decided, as text.
    """

    claim: str
    paper: str
    study: str
    verdict: Verdict
    test: str
    numbers: str


@dataclass(frozen=True)
class Claim:
    """A claim, and how it is decided.

    Attributes:
        text: in words.
        paper: whose it is.
        study: name of the study that asks.
        test: what is tested, and how.
        decide: answers it from that study's outcomes.
    """

    text: str
    paper: str
    study: str
    test: str
    decide: Callable[[Outcomes], Result]


_PAIRED = "paired differences over questions and seeds"
CLAIMS = (
    Claim(
        "Only LoRA and adapter come close to full fine-tuning",
        INSTRUCTION_PAPER,
        "instruction_tuning_lr",
        f"{_PAIRED}, each method at its best learning rate; close: loses under {CLOSE:.0%} of full fine-tuning's gain",
        close_to_full,
    ),
    Claim(
        "The largest rank and adapter size are the best",
        INSTRUCTION_PAPER,
        "instruction_tuning_rank",
        f"{_PAIRED} of the largest size and each other, Holm-corrected",
        largest_is_best,
    ),
    Claim(
        "LoRA and adapter are unstable at high learning rates or sizes",
        INSTRUCTION_PAPER,
        "instruction_tuning_rank",
        "Fisher's exact test on runs that diverged, or whose losses jumped or rose",
        unstable_at_high_rate_or_size,
    ),
    Claim(
        "LoRA needs more training tasks than full fine-tuning",
        INSTRUCTION_PAPER,
        "instruction_tuning_tasks",
        f"{_PAIRED}: the gap to full fine-tuning with few tasks against that with many",
        needs_more_tasks,
    ),
    Claim(
        "LoRA learns slower than full fine-tuning",
        INSTRUCTION_PAPER,
        "instruction_tuning_lr",
        f"{_PAIRED}: the gap to full fine-tuning early in training against that at its end",
        learns_slower,
    ),
    Claim(
        "LoRA memorizes the tasks it was trained on less than full fine-tuning",
        INSTRUCTION_PAPER,
        "instruction_tuning_memorization",
        f"{_PAIRED} on held-out instances of the training tasks",
        memorizes_less,
    ),
    Claim(
        "LoRA is behind full fine-tuning in reasoning, code and long answers, and ahead of adapter",
        INSTRUCTION_PAPER,
        "instruction_tuning_tulu",
        f"{_PAIRED} in each suite, Holm-corrected",
        behind_in_long_answers,
    ),
    Claim(
        "Methods that surpass LoRA struggle when tuning is scarce",
        METHODS_PAPER,
        "fifteen_methods",
        f"{_PAIRED}: the lead over LoRA at the best learning rate against the mean over all rates, Holm-corrected",
        struggle_when_tuning_is_scarce,
    ),
)


def findings(studies: Iterable[Outcomes]) -> list[Finding]:
    """Returns every claim with its verdict.

    Args:
        studies: outcomes of the studies that were run; a claim whose study is not among them is not decided.
    """
    by_name = {outcomes.study.file.name: outcomes for outcomes in studies}
    found = []
    for claim in CLAIMS:
        outcomes = by_name.get(claim.study)
        result = claim.decide(outcomes) if outcomes else undecided(f"study {claim.study} is not among the results")
        found.append(Finding(claim.text, claim.paper, claim.study, result.verdict, claim.test, result.numbers))
    return found
