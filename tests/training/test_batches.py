"""Batches change speed, never the result: no padding seen, no cross-talk, one normalisation a step."""

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from peft_eval.training.batches import IGNORED, Plan, answer_loss, packed_batch, padded_batch, split_by_length
from peft_eval.training.tokens import TokenRow


def _rows(*sizes: tuple[int, int]) -> list[TokenRow]:
    draw = np.random.default_rng(0)
    ids = [draw.integers(3, 300, source + target) for source, target in sizes]
    return [TokenRow.pair(row[:source], row[source:]) for row, (source, _) in zip(ids, sizes, strict=True)]


def _of_several_answers() -> TokenRow:
    (row,) = _rows((5, 8))
    return TokenRow(row.ids, np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0], dtype=bool))


ROWS = [*_rows((7, 3), (1, 1), (12, 1), (4, 6)), _of_several_answers()]


@pytest.fixture(scope="module")
def model(base):
    return AutoModelForCausalLM.from_pretrained(str(base))


def _reference_logits(model, row: TokenRow) -> torch.Tensor:
    """Logits that predict the row's answers, from the row alone."""
    ids = torch.from_numpy(row.ids.astype(np.int64))[None]
    return model(ids).logits[0, np.flatnonzero(row.learnt) - 1]


def _reference_loss(model, rows: list[TokenRow]) -> torch.Tensor:
    logits = torch.cat([_reference_logits(model, row) for row in rows])
    targets = torch.cat([torch.from_numpy(row.ids[row.learnt].astype(np.int64)) for row in rows])
    return torch.nn.functional.cross_entropy(logits, targets)


def _run(model, batch):
    labels = batch.pop("labels")
    return model(**batch, use_cache=False).logits, labels


@pytest.mark.parametrize("make", [lambda rows: padded_batch(rows, pad_token_id=2), packed_batch])
def test_logits_are_those_of_each_example_alone(model, make):
    logits, labels = _run(model, make(ROWS))
    answers = logits[:, : labels.shape[1] - 1][labels[:, 1:] != IGNORED]
    expected = torch.cat([_reference_logits(model, row) for row in ROWS])
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [lambda rows: padded_batch(rows, pad_token_id=2), packed_batch])
def test_loss_and_gradients_are_normalised_over_the_step(model, make):
    _reference_loss(model, ROWS).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    answer_tokens = sum(row.target_tokens for row in ROWS)
    total = 0.0
    for part in (ROWS[:1], ROWS[1:]):  # two micro-batches of unequal size
        logits, labels = _run(model, make(part))
        loss = answer_loss(logits, labels, answer_tokens)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(_reference_loss(model, ROWS).item(), rel=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-3, atol=1e-5)
    model.zero_grad()


def test_one_example_does_not_touch_its_neighbours(model):
    changed = [ROWS[0], TokenRow(ROWS[1].ids[::-1].copy() + 1, ROWS[1].learnt), *ROWS[2:]]
    before, _ = _run(model, packed_batch(ROWS))
    after, _ = _run(model, packed_batch(changed))
    start, end = ROWS[0].target_tokens, ROWS[0].target_tokens + ROWS[1].target_tokens
    assert torch.equal(before[0, :start], after[0, :start])
    assert torch.equal(before[0, end:], after[0, end:])
    assert not torch.equal(before[0, start:end], after[0, start:end])


def test_never_padded_beyond_the_longest():
    batch = padded_batch(ROWS, pad_token_id=2)
    assert batch["input_ids"].shape == (5, 13)
    assert batch["labels"].shape == (5, 11)
    even = padded_batch(_rows((4, 2), (3, 3)), pad_token_id=2)
    assert "attention_mask" not in even
    assert packed_batch(ROWS)["input_ids"].shape == (1, sum(len(row) for row in ROWS))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 8))
def test_the_split_is_the_best_there_is(lengths, parts):
    parts = min(parts, len(lengths))
    runs = split_by_length(range(len(lengths)), lengths, parts)
    assert sorted(itertools.chain(*runs)) == list(range(len(lengths)))
    assert len(runs) == parts and all(runs)

    def padded(groups):
        return sum(len(group) * max(lengths[index] for index in group) for group in groups)

    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    best = min(
        padded([order[start:end] for start, end in itertools.pairwise((0, *cuts, len(order)))])
        for cuts in itertools.combinations(range(1, len(order)), parts - 1)
    )
    assert padded(runs) == best


def _plan(count=23, **changes) -> Plan:
    lengths = [random.Random(index).randint(5, 50) for index in range(count)]
    return Plan(lengths, **{"batch_size": 4, "micro_batches": 2, "epochs": 3.0, "max_steps": None, "seed": 1} | changes)


def test_each_epoch_sees_each_example_once_in_a_new_order():
    plan = _plan()
    assert plan.steps == 18
    epochs = [[plan.examples_of(step) for step in range(start, start + 6)] for start in (0, 6, 12)]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(23))
    assert epochs[0] != epochs[1]
    assert _plan().examples_of(7) == plan.examples_of(7)
    assert _plan(seed=2).examples_of(7) != plan.examples_of(7)


def test_processes_share_a_step_and_always_have_as_many_parts():
    plan = _plan(micro_batches=2, processes=2)
    shares = [list(plan.of_process(index)) for index in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == len(plan.of_process(0)) == 2 * plan.steps
    for step in range(plan.steps):
        seen = [index for share in shares for part in share[2 * step : 2 * step + 2] for index in part]
        assert sorted(seen) == sorted(plan.examples_of(step))
    last = plan.examples_of(5)  # 3 examples are left, and 4 parts to fill
    assert len(last) == 4


def test_tokens_and_epochs():
    plan = _plan(max_steps=9, epochs=None)
    assert plan.steps == 9
    assert plan.tokens(6) == sum(plan.lengths)
    assert plan.epochs_after(9) == 1.5
    assert _plan(epochs=0.5).steps == 3
    small = _plan(count=3, batch_size=16, micro_batches=8)
    assert (small.batch_size, small.parts, small.steps) == (3, 3, 3)
    tiny = _plan(count=1, processes=4)
    assert [len(list(tiny.of_process(index))) for index in range(4)] == [tiny.steps] * 4
