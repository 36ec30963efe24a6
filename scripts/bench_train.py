"""What each choice of the training loop costs, in tokens (prompt and answer, no padding) per CPU-second.

    python scripts/bench_train.py --base BASE --data superni:DIR [--output bench_train.json]

Every variant trains the same examples with the same LoRA: the Trainer with padded micro-batches sorted
by length (as `peft-eval train`), with packing, with gradient checkpointing, with torch.compile (the
second half of the steps, and the same steps without: the first half compiles), a bare PyTorch loop over
the same micro-batches, the same without the two economies (LM head on answers alone, sorting), and TRL's
SFTTrainer in several settings (`pip install trl`; left out, with a line that says so, where it is not
installed). CPU time on one thread is measured, not wall-clock time, so that other work on the machine
disturbs little; the first two steps do not count, but against TRL, whose packed steps are others. The
last lines are the ratios of `peft-eval train`'s default to the bare loop (median of three pairs) and to
TRL's best setting.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from peft_eval.training.base import arithmetic
from peft_eval.training.batches import Plan, answer_loss, padded_batch
from peft_eval.training.quiet import quiet
from peft_eval.training.run import prepare_model
from peft_eval.training.setup import Setup, set_up
from peft_eval.training.spec import TrainSpec
from peft_eval.training.states import UnfinishedRun
from peft_eval.training.trainer import AnswerTrainer, arguments

WARM_UP = 2  # steps at the start that do not count
PAIRS = 3
Batches = Callable[[Setup, Plan, int], list[dict[str, Any]]]


class Clock(TrainerCallback):
    """CPU-seconds of the steps of a Trainer, without what comes before the first and after the last.

    Args:
        skipped: so many steps at the start do not count.
    """

    def __init__(self, skipped: int = WARM_UP):
        self.skipped = skipped

    def on_train_begin(self, *given: Any, **more: Any) -> None:
        self.began = time.process_time()

    def on_step_end(self, args: Any, state: Any, *given: Any, **more: Any) -> None:
        if state.global_step == self.skipped:
            self.began = time.process_time()
        self.seconds = time.process_time() - self.began


def speed(plan: Plan, seconds: float, skipped: int = WARM_UP) -> float:
    """Returns tokens per CPU-second of all steps but the first."""
    return (plan.tokens(plan.steps) - plan.tokens(skipped)) / seconds


def with_trainer(spec: TrainSpec, skipped: int = WARM_UP) -> float:
    """Returns tokens per CPU-second of `peft-eval train`'s own loop."""
    setup, model = prepare_model(set_up(spec), arithmetic(spec))
    plan = setup.plan()
    with tempfile.TemporaryDirectory() as scratch:
        args = arguments(spec, plan, dtype=arithmetic(spec), scratch=Path(scratch))
        run = UnfinishedRun(Path(scratch))
        trainer = AnswerTrainer(model, args, rows=setup.tokens.rows, plan=plan, spec=spec, run=run, pad_token_id=0)
        trainer.add_callback(clock := Clock(skipped))
        trainer.train()
        return speed(plan, clock.seconds, skipped)


def bare_loop(spec: TrainSpec, batches_of: Batches) -> float:
    """Returns tokens per CPU-second of a loop of forward, backward, clip and AdamW alone."""
    setup, model = prepare_model(set_up(spec), arithmetic(spec))
    plan = setup.plan()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=spec.learning_rate or 0, fused=True)
    model.train()
    began = time.process_time()
    for step in range(plan.steps):
        if step == WARM_UP:
            began = time.process_time()
        batches = batches_of(setup, plan, step)
        answer_tokens = sum(int((batch["labels"] >= 0).sum()) for batch in batches)
        for batch in batches:
            labels = batch.pop("labels")
            answer_loss(model(**batch, use_cache=False).logits, labels, answer_tokens).backward()
        torch.nn.utils.clip_grad_norm_(weights, spec.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return speed(plan, time.process_time() - began)


def sorted_parts(setup: Setup, plan: Plan, step: int) -> list[dict[str, Any]]:
    """The micro-batches that the trainer would see."""
    mine = list(plan.of_process(0))[step * plan.parts : (step + 1) * plan.parts]
    return [padded_batch([setup.tokens.rows[index] for index in part], pad_token_id=0) for part in mine]


def whole_logits(setup: Setup, plan: Plan, step: int) -> list[dict[str, Any]]:
    """The same micro-batches with the LM head on every position."""
    return [_on_every_position(batch) for batch in sorted_parts(setup, plan, step)]


def unsorted(setup: Setup, plan: Plan, step: int) -> list[dict[str, Any]]:
    """Micro-batches in the order of the draw, the LM head on every position: what most scripts do."""
    examples = [setup.tokens.rows[index] for index in plan.examples_of(step)]
    size = max(1, len(examples) // plan.parts)
    parts = [examples[start : start + size] for start in range(0, len(examples), size)]
    return [_on_every_position(padded_batch(part, pad_token_id=0)) for part in parts]


def with_trl(spec: TrainSpec, **settings: Any) -> float:
    """Returns tokens per CPU-second of TRL's SFTTrainer on the same examples, in its own batches.

    Args:
        spec: the run's settings; model, optimiser and examples a step are the same as with ours.
        settings: arguments of `trl.SFTConfig`.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    setup, model = prepare_model(set_up(spec), arithmetic(spec))
    plan = setup.plan()
    rows = [setup.tokens.rows[index] for step in range(plan.steps) for index in plan.examples_of(step)]
    data = Dataset.from_list(
        [{"input_ids": row.ids.tolist(), "completion_mask": row.learnt.astype(int).tolist()} for row in rows]
    )
    with tempfile.TemporaryDirectory() as scratch:
        args = SFTConfig(
            output_dir=scratch,
            num_train_epochs=1,
            learning_rate=spec.learning_rate,
            max_grad_norm=spec.max_grad_norm,
            optim="adamw_torch_fused",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            max_length=max(len(row) for row in rows),
            save_strategy="no",
            logging_steps=1000,
            report_to=[],
            disable_tqdm=True,
            **settings,
        )
        trainer = SFTTrainer(model=model, args=args, train_dataset=data, processing_class=setup.tokenizer)
        trainer.add_callback(clock := Clock(skipped=0))
        trainer.train()
        return speed(plan, clock.seconds, skipped=0)


def trl_variants(spec: TrainSpec) -> Iterator[tuple[str, float]]:
    """Yields the speed of TRL's settings: how a step is split, grouping by length, packing."""
    for parts in (4, 1):
        size = spec.batch_size // parts
        split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        yield f"TRL, {parts} micro-batches", with_trl(spec, **split)
        grouped = with_trl(spec, **split, train_sampling_strategy="group_by_length")
        yield f"TRL, {parts} micro-batches, grouped by length", grouped
    packed = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": spec.batch_size}
    yield "TRL, packed (examples see each other)", with_trl(spec, **packed, packing=True)


def _on_every_position(batch: dict[str, Any]) -> dict[str, Any]:
    ids, labels = batch["input_ids"], batch["labels"]
    everywhere = torch.full_like(ids, -100)
    everywhere[:, ids.shape[1] - labels.shape[1] :] = labels
    return {**{key: value for key, value in batch.items() if key != "logits_to_keep"}, "labels": everywhere}


def padding_share(plan: Plan) -> float:
    """Returns the share of a run's computed tokens that are padding."""
    parts = list(plan.of_process(0))
    computed = sum(len(part) * max(plan.lengths[index] for index in part) for part in parts)
    return 1 - sum(plan.lengths[index] for part in parts for index in part) / computed


def variants(spec: TrainSpec) -> Iterator[tuple[str, float]]:
    """Yields each variant's name and speed."""
    for count in (1, 2, 4, 8):
        yield f"Trainer, {count} micro-batches", with_trainer(spec.model_copy(update={"micro_batches": count}))
    yield "Trainer, 4 micro-batches, all steps", with_trainer(spec, skipped=0)
    yield "Trainer, 4 micro-batches, packed", with_trainer(spec.model_copy(update={"packing": True}))
    yield (
        "Trainer, 4 micro-batches, checkpointed",
        with_trainer(spec.model_copy(update={"gradient_checkpointing": True})),
    )
    half = (spec.max_steps or 2) // 2
    compiled = spec.model_copy(update={"torch_compile": True})
    yield "Trainer, 4 micro-batches, 2nd half", with_trainer(spec, half)
    yield "Trainer, 4 micro-batches, 2nd half, compiled", with_trainer(compiled, half)
    yield "bare loop, 4 micro-batches", bare_loop(spec, sorted_parts)
    yield "bare loop, LM head on every position", bare_loop(spec, whole_logits)
    yield "bare loop, LM head everywhere, unsorted", bare_loop(spec, unsorted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = {"rank": given.rank, "targets": ["all-linear"]}
    spec = TrainSpec(base=given.base, data=given.data, output="unused", tasks=given.tasks, options=options)
    spec = spec.model_copy(update={"max_steps": given.steps, "epochs": None, "save_every_steps": 0})
    found: dict[str, float] = {}
    with quiet():
        setup = set_up(spec)
        for count in (1, 2, 4, 8):
            share = padding_share(
                dataclasses.replace(setup, spec=spec.model_copy(update={"micro_batches": count})).plan()
            )
            print(f"{count} micro-batches: {share:.1%} padding")
        has_trl = importlib.util.find_spec("trl") is not None
        peers = trl_variants(setup.spec) if has_trl else iter(())
        for name, speed in itertools.chain(variants(setup.spec), peers):
            found[name] = round(speed, 1)
            print(f"{name:45} {speed:8,.0f} tokens/CPU-second", flush=True)
        pairs = [with_trainer(setup.spec) / bare_loop(setup.spec, sorted_parts) for _ in range(PAIRS)]
    print("ours / bare loop, one right after the other:", ", ".join(f"{ratio:.2f}" for ratio in pairs))
    ratios = {"ours / bare loop": statistics.median(pairs)}
    if has_trl:
        ours = found["Trainer, 4 micro-batches, all steps"]
        ratios["ours / TRL's best"] = ours / max(speed for name, speed in found.items() if name.startswith("TRL"))
    else:
        print("TRL is not installed: pip install trl")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if given.output:
        given.output.write_text(json.dumps({"tokens_per_cpu_second": found, **ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
