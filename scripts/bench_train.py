"""What each choice of the training loop costs, in tokens (prompt and answer, no padding) per CPU-second.

    python scripts/bench_train.py --base BASE --data superni:DIR [--output bench_train.json]

Every variant trains the same examples with the same LoRA: the Trainer with padded micro-batches sorted
by length (as `peft-eval train`), with packing, with gradient checkpointing, with torch.compile (the
second half of the steps, and the same steps without: the first half compiles), a bare PyTorch loop over
the same micro-batches, the same without the two economies (LM head on answers alone, sorting), and TRL's
SFTTrainer in several settings (`pip install trl`; left out, with a line that says so, where it is not
installed). CPU time on one thread is measured, not wall-clock time, so that other work on the machine
disturbs little; the first two steps do not count, but with TRL, whose packed steps are others.

The last lines are the ratios of `peft-eval train`'s default to the bare loop and to TRL's best setting.
For them the three train side by side, a step each in turn (--turns N times), so that what slows the machine slows all.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
Batches = Callable[[Setup, Plan, int], list[dict[str, Any]]]
Run = Callable[[Callable[[], None]], None]  # trains; calls what it is given when it begins and at the end of each step


class StepEnds(TrainerCallback):
    """Calls a function when training begins and at the end of each step."""

    def __init__(self, step_done: Callable[[], None]):
        self.step_done = step_done

    def on_train_begin(self, *given: Any, **more: Any) -> None:
        self.step_done()

    def on_step_end(self, *given: Any, **more: Any) -> None:
        self.step_done()


def in_turns(runs: dict[str, Run]) -> dict[str, list[float]]:
    """Lets trainings take a step each in turn, until all are through.

    Args:
        runs: by name; each is given a function to call when it begins, and at the end of each of its steps.

    Returns:
        CPU-seconds of each one's steps.
    """
    turns = {name: threading.Semaphore(0) for name in runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    stopped = threading.Semaphore(0)
    ended: set[str] = set()

    def body(name: str) -> None:
        turns[name].acquire()
        torch.set_num_threads(1)  # is a thread's own
        try:
            runs[name](pause_of(name))
        finally:
            ended.add(name)
            stopped.release()

    def pause_of(name: str) -> Callable[[], None]:
        def pause() -> None:
            stopped.release()
            turns[name].acquire()

        return pause

    with ThreadPoolExecutor(len(runs)) as threads:
        futures = [threads.submit(body, name) for name in runs]
        while len(ended) < len(runs):
            for name in [one for one in runs if one not in ended]:
                began = time.process_time()
                turns[name].release()
                stopped.acquire()
                seconds[name].append(time.process_time() - began)
        for future in futures:
            future.result()
    return {name: of_steps[1:-1] for name, of_steps in seconds.items()}  # without what is before and after all steps


def with_trainer(spec: TrainSpec) -> Run:
    """Returns a run of `peft-eval train`'s own loop."""

    def run(step_done: Callable[[], None]) -> None:
        setup, model = prepare_model(set_up(spec), arithmetic(spec))
        plan = setup.plan()
        with tempfile.TemporaryDirectory() as scratch:
            args = arguments(spec, plan, dtype=arithmetic(spec), scratch=Path(scratch))
            files = UnfinishedRun(Path(scratch))
            trainer = AnswerTrainer(
                model, args, rows=setup.tokens.rows, plan=plan, spec=spec, run=files, pad_token_id=0
            )
            trainer.add_callback(StepEnds(step_done))
            trainer.train()

    return run


def bare_loop(spec: TrainSpec, batches_of: Batches) -> Run:
    """Returns a run of forward, backward, clip and AdamW alone."""

    def run(step_done: Callable[[], None]) -> None:
        setup, model = prepare_model(set_up(spec), arithmetic(spec))
        plan = setup.plan()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=spec.learning_rate or 0, fused=True)
        model.train()
        step_done()
        for step in range(plan.steps):
            batches = batches_of(setup, plan, step)
            answer_tokens = sum(int((batch["labels"] >= 0).sum()) for batch in batches)
            for batch in batches:
                labels = batch.pop("labels")
                answer_loss(model(**batch, use_cache=False).logits, labels, answer_tokens).backward()
            torch.nn.utils.clip_grad_norm_(weights, spec.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            step_done()

    return run


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


def with_trl(spec: TrainSpec, **settings: Any) -> Run:
    """Returns a run of TRL's SFTTrainer on the same examples, in its own batches.

    Args:
        spec: the run's settings; model, optimiser and examples a step are the same as with ours.
        settings: arguments of `trl.SFTConfig`.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    def run(step_done: Callable[[], None]) -> None:
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
            trainer.add_callback(StepEnds(step_done))
            trainer.train()

    return run


def trl_settings(spec: TrainSpec) -> dict[str, Run]:
    """Returns TRL in its settings: how a step is split, grouping by length, packing."""
    found: dict[str, Run] = {}
    for parts in (4, 1):
        size = spec.batch_size // parts
        split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        found[f"TRL, {parts} micro-batches"] = with_trl(spec, **split)
        grouped = with_trl(spec, **split, train_sampling_strategy="group_by_length")
        found[f"TRL, {parts} micro-batches, grouped by length"] = grouped
    packed = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": spec.batch_size}
    return {**found, "TRL, packed (examples see each other)": with_trl(spec, **packed, packing=True)}


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


def variants(spec: TrainSpec) -> Iterator[tuple[str, Run, int]]:
    """Yields each variant's name, its run, and how many of its first steps do not count."""
    for count in (1, 2, 4, 8):
        split = spec.model_copy(update={"micro_batches": count})
        yield f"Trainer, {count} micro-batches", with_trainer(split), WARM_UP
    packed = spec.model_copy(update={"packing": True})
    yield "Trainer, 4 micro-batches, packed", with_trainer(packed), WARM_UP
    checkpointed = spec.model_copy(update={"gradient_checkpointing": True})
    yield "Trainer, 4 micro-batches, checkpointed", with_trainer(checkpointed), WARM_UP
    half = (spec.max_steps or 2) // 2
    compiled = spec.model_copy(update={"torch_compile": True})
    yield "Trainer, 4 micro-batches, 2nd half", with_trainer(spec), half
    yield "Trainer, 4 micro-batches, 2nd half, compiled", with_trainer(compiled), half
    yield "bare loop, 4 micro-batches", bare_loop(spec, sorted_parts), WARM_UP
    yield "bare loop, LM head on every position", bare_loop(spec, whole_logits), WARM_UP
    yield "bare loop, LM head everywhere, unsorted", bare_loop(spec, unsorted), WARM_UP


def side_by_side(spec: TrainSpec, best_of_trl: Run | None) -> dict[str, float]:
    """Returns the ratios of `peft-eval train` to the bare loop and to TRL, all training in turns."""
    runs = {"ours": with_trainer(spec), "bare loop": bare_loop(spec, sorted_parts)}
    if best_of_trl:
        runs["TRL's best"] = best_of_trl
    seconds = in_turns(runs)
    ratios = {"ours / bare loop": sum(seconds["bare loop"][WARM_UP:]) / sum(seconds["ours"][WARM_UP:])}
    if best_of_trl:
        ratios["ours / TRL's best"] = sum(seconds["TRL's best"]) / sum(seconds["ours"])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3, help="so many times the three train side by side")
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
        peers = trl_settings(setup.spec) if has_trl else {}
        plan = setup.plan()
        for name, run, skipped in itertools.chain(variants(setup.spec), ((*peer, 0) for peer in peers.items())):
            tokens = plan.tokens(plan.steps) - plan.tokens(skipped)
            found[name] = round(tokens / sum(in_turns({name: run})[name][skipped:]), 1)
            print(f"{name:45} {found[name]:8,.0f} tokens/CPU-second", flush=True)
        best = max(peers, key=lambda name: found[name], default=None)
        turns = []
        for _ in range(given.turns):
            turns.append(side_by_side(setup.spec, peers[best] if best else None))
            print("in turns:", ", ".join(f"{name} {ratio:.2f}" for name, ratio in turns[-1].items()), flush=True)
    print(f"TRL's best: {best}" if best else "TRL is not installed: pip install trl")
    ratios = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if given.output:
        record = {"tokens_per_cpu_second": found, "in_turns": turns, **ratios}
        given.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
