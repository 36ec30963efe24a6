"""Which examples each step sees, in which parts it is computed, and how a part becomes tensors.

A step's examples are a plain random draw, as in any shuffled epoch; only then are they sorted by
length and split into micro-batches with as little padding as possible. Since the loss is summed
over the whole step and divided once by its answer tokens, the split changes speed, not the result.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from peft_eval.training.tokens import TokenRow

IGNORED = -100


class Plan:
    """The whole run's micro-batches, a pure function of the lengths, the settings and the seed.

    To the trainer the run is one long epoch, so the position in the data is the step count and
    nothing else.

    Args:
        lengths: tokens of each example.
        batch_size: examples a step, over all processes.
        micro_batches: parts that each process computes a step in; fewer where a step is that small.
        processes: how many processes share a step.
        epochs, max_steps: one of them is None.
        seed: seeds the order of each epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        micro_batches: int,
        epochs: float | None,
        max_steps: int | None,
        seed: int,
        processes: int = 1,
    ):
        self.lengths = list(lengths)
        self.batch_size = min(batch_size, len(self.lengths))
        self.processes = processes
        self.parts = processes * max(1, min(micro_batches, self.batch_size // processes))
        self.seed = seed
        self.steps_per_epoch = math.ceil(len(self.lengths) / self.batch_size)
        self.steps = max_steps or max(1, math.ceil((epochs or 0) * self.steps_per_epoch))
        self._epoch_order: tuple[int, list[int]] = (-1, [])

    def _order(self, epoch: int) -> list[int]:
        if self._epoch_order[0] != epoch:
            order = list(range(len(self.lengths)))
            random.Random(f"{self.seed}/{epoch}").shuffle(order)
            self._epoch_order = (epoch, order)
        return self._epoch_order[1]

    def examples_of(self, step: int) -> list[int]:
        """Returns the indices of the examples that step `step` (from 0) sees."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        # An epoch's last step may be short; every process needs its part, so the epoch's start fills up.
        return chosen + list(itertools.islice(itertools.cycle(order), max(0, self.parts - len(chosen))))

    def tokens(self, steps: int) -> int:
        """Returns how many tokens (prompts and answers) the first `steps` steps see."""
        return sum(self.lengths[index] for step in range(steps) for index in self.examples_of(step))

    def epochs_after(self, steps: int) -> float:
        """Returns how many passes over the data `steps` steps are."""
        return steps / self.steps_per_epoch

    def of_process(self, index: int) -> ProcessBatches:
        """Returns one process's micro-batches; neighbours in length go to different processes."""
        return ProcessBatches(self, index)


class ProcessBatches:
    """A batch sampler over the run's micro-batches that fall to one process."""

    def __init__(self, plan: Plan, index: int):
        self.plan, self.index = plan, index

    def __len__(self) -> int:
        return self.plan.steps * (self.plan.parts // self.plan.processes)

    def __iter__(self) -> Iterator[list[int]]:
        plan = self.plan
        for step in range(plan.steps):
            yield from split_by_length(plan.examples_of(step), plan.lengths, plan.parts)[self.index :: plan.processes]


def split_by_length(indices: Sequence[int], lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Splits examples into `parts` runs of similar length so that padded tokens are fewest.

    Dynamic programming over the sorted lengths; the cost of a run is its size times its longest.
    """
    order = sorted(indices, key=lambda index: (lengths[index], index))
    count = len(order)
    cost: list[list[float]] = [[0.0] + [math.inf] * count]
    cuts: list[list[int]] = []
    for _ in range(parts):
        row, cut = [math.inf] * (count + 1), [0] * (count + 1)
        for end in range(1, count + 1):
            longest = lengths[order[end - 1]]
            for start in range(end):
                total = cost[-1][start] + (end - start) * longest
                if total < row[end]:
                    row[end], cut[end] = total, start
        cost.append(row)
        cuts.append(cut)
    runs: list[list[int]] = []
    end = count
    for cut in reversed(cuts):
        runs.append(order[cut[end] : end])
        end = cut[end]
    return runs[::-1]


def padded_batch(rows: Sequence[TokenRow], *, pad_token_id: int) -> dict[str, Any]:
    """Stacks rows, padded on the left to the longest of them.

    Padding on the left puts all answers at the right edge, so that the LM head, the dearest layer of
    a small model, runs on the last `logits_to_keep` positions alone.

    Returns:
        `input_ids`, `attention_mask`, `position_ids` (rows, longest); `labels` (rows, longest stretch
        from a first learnt token to the end + 1), of which the first is always ignored, as is all that
        is not learnt. The mask and positions are left out where nothing is padded.
    """
    longest = max(len(row) for row in rows)
    kept = max(len(row) - row.source_tokens for row in rows) + 1
    ids = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    labels = np.full((len(rows), kept), IGNORED, dtype=np.int64)
    for row, into, seen, label in zip(rows, ids, mask, labels, strict=True):
        into[longest - len(row) :] = row.ids
        seen[longest - len(row) :] = 1
        tail = len(row) - row.source_tokens
        label[kept - tail :] = np.where(row.learnt[row.source_tokens :], row.ids[row.source_tokens :], IGNORED)
    batch = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels), "logits_to_keep": kept}
    if not mask.all():
        batch["attention_mask"] = torch.from_numpy(mask)
        batch["position_ids"] = torch.from_numpy(np.maximum(mask.cumsum(1) - 1, 0))
    return batch


def right_padded_batch(rows: Sequence[TokenRow], *, pad_token_id: int) -> dict[str, Any]:
    """Stacks rows, padded on the right, for methods that put virtual tokens before the input.

    Those stand at the first positions of the sequence, so padding must not come between them and the text.

    Returns:
        `input_ids`, `attention_mask` (rows, longest); `logits_to_keep`, n; `labels` (rows, n) of the last n positions,
        which begin right before the first answer token of all; prompts and padding are ignored.
    """
    longest = max(len(row) for row in rows)
    kept = longest - min(row.source_tokens for row in rows) + 1
    ids = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    labels = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for row, into, seen, label in zip(rows, ids, mask, labels, strict=True):
        into[: len(row)] = row.ids
        seen[: len(row)] = 1
        label[: len(row)][row.learnt] = row.ids[row.learnt]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(labels[:, longest - kept :]),
        "logits_to_keep": kept,
    }


def encoder_decoder_batch(rows: Sequence[TokenRow], *, pad_token_id: int) -> dict[str, Any]:
    """Stacks prompts for an encoder and answers for a decoder, each padded on the right to the longest.

    Returns:
        `input_ids`, `attention_mask` (rows, longest prompt); `labels` (rows, longest answer + 1), the first of each
        row ignored, as everywhere here.
    """
    longest = max(row.source_tokens for row in rows)
    ids = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    labels = np.full((len(rows), max(row.target_tokens for row in rows) + 1), IGNORED, dtype=np.int64)
    for row, into, seen, label in zip(rows, ids, mask, labels, strict=True):
        into[: row.source_tokens] = row.ids[: row.source_tokens]
        seen[: row.source_tokens] = 1
        label[1 : 1 + row.target_tokens] = row.ids[row.source_tokens :]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(labels),
    }


def packed_batch(rows: Sequence[TokenRow]) -> dict[str, Any]:
    """Puts rows one after another into a single row whose positions restart at each.

    transformers reads the restarts as borders and masks attention across them (with flash attention
    it uses its variable-length kernels).

    Returns:
        `input_ids`, `position_ids` (1, tokens); `logits_to_keep` (learnt tokens,), the positions that
        predict a learnt token; `labels` (1, learnt tokens + 1), one ignored, then those tokens.
    """
    predicting = np.flatnonzero(np.concatenate([row.learnt for row in rows])) - 1
    labels = np.concatenate([[IGNORED], *(row.ids[row.learnt] for row in rows)]).astype(np.int64)
    return {
        "input_ids": torch.from_numpy(np.concatenate([row.ids for row in rows]).astype(np.int64))[None],
        "position_ids": torch.from_numpy(np.concatenate([np.arange(len(row)) for row in rows]))[None],
        "logits_to_keep": torch.from_numpy(predicting),
        "labels": torch.from_numpy(labels)[None],
    }


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, answer_tokens: torch.Tensor | int) -> torch.Tensor:
    """Returns the summed cross-entropy of the answers, divided by the answer tokens of the whole step.

    Args:
        logits: (rows, n or n + 1, vocabulary), of the positions that predict `labels[:, 1:]`.
        labels: (rows, n + 1), the first of each row ignored.
        answer_tokens: answer tokens over all micro-batches and processes of the step.
    """
    targets = labels[:, 1:]
    predictions = logits[:, : targets.shape[1]].float()
    summed = torch.nn.functional.cross_entropy(
        predictions.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return summed / answer_tokens
