"""What a method may know of the run ahead before the first step: its length, and its first examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from peft_eval.methods.method import Course
from peft_eval.training.batches import IGNORED, Plan
from peft_eval.training.setup import Setup

_BATCH = 8


def course_of(setup: Setup, plan: Plan) -> Course:
    """Returns the run ahead; its examples come in the order of the data, the same in each process."""
    pad = setup.tokenizer.pad_token_id or setup.tokenizer.eos_token_id

    def examples(count: int) -> Iterator[dict[str, torch.Tensor]]:
        rows = setup.tokens.rows[:count]
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            longest = max(len(row) for row in part)
            ids = np.full((len(part), longest), pad, dtype=np.int64)
            labels = np.full((len(part), longest), IGNORED, dtype=np.int64)
            mask = np.zeros((len(part), longest), dtype=np.int64)
            for row, into, label, seen in zip(part, ids, labels, mask, strict=True):
                into[: len(row)] = row.ids
                label[: len(row)][row.learnt] = row.ids[row.learnt]
                seen[: len(row)] = 1
            yield {
                "input_ids": torch.from_numpy(ids),
                "attention_mask": torch.from_numpy(mask),
                "labels": torch.from_numpy(labels),
            }

    return Course(steps=plan.steps, examples=examples)
