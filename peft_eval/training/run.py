"""One training run from its settings to a checkpoint; `train` is the Python API of the command.

from peft_eval.training.run import train
from peft_eval.training.spec import TrainSpec

train(TrainSpec(base="BASE", data="superni:DIR", output="runs/lora", options={"rank": 16}))
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval import plugins
from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest, OverlapRecord
from peft_eval.checkpoint.writing import disk_full
from peft_eval.data.source import Example
from peft_eval.errors import ConfigError
from peft_eval.training.record import count_weights
from peft_eval.training.setup import Setup, set_up
from peft_eval.training.spec import NOT_IN_THE_RESULT, TrainSpec, spec_fields
from peft_eval.training.states import UnfinishedRun, check_output, differences

if TYPE_CHECKING:
    import torch

    from peft_eval.training.batches import Plan
    from peft_eval.training.trainer import AnswerTrainer

# The suite of unseen tasks whose prompts look most like those of training, by source and encoding.
_SUITE_OF = {
    ("mini", "def_pos2"): "mini_unseen",
    ("mini", "def"): "mini_unseen",
    ("superni", "def"): "superni_unseen_def",
    ("messages", "messages"): "tulu_chat",
}
BYTES_PER_TRAINED_WEIGHT = 12  # float32 weight and AdamW's two moments


def train(
    spec: TrainSpec,
    *,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    overlap: Callable[[Sequence[Example]], dict[str, OverlapRecord]] | None = None,
) -> Path:
    """Trains and writes a checkpoint.

    Args:
        spec: the run's settings.
        resume: continue the unfinished run in the output folder. On a finished one this only checks
            that its settings are the same.
        overwrite: replace what the output folder holds; an old checkpoint stays until the new one is
            complete.
        say: prints a line for the user; called in the main process alone.
        overlap: finds out which questions of suites the examples hold, for the manifest; called in the main process.

    Returns:
        The checkpoint's folder.

    Raises:
        PeftEvalError: settings, data, base or output folder do not allow the run; the disk is full;
            the loss or a weight is no number.
    """
    output = Path(spec.output).expanduser()
    finished = check_output(output, resume=resume, overwrite=overwrite)
    from accelerate import PartialState

    from peft_eval.training.base import on_cpu
    from peft_eval.training.quiet import quiet

    with quiet():
        processes = PartialState(cpu=on_cpu())
        if not processes.is_main_process:
            say = _silence
        setup = set_up(spec)
        for note in setup.notes:
            say(f"note: {note}")
        if finished:
            _check_finished(finished, setup, output)
            say(f"{output} is finished already")
            return output
        if overlap is not None and processes.is_main_process:
            setup = dataclasses.replace(setup, overlap=overlap(setup.data.examples))
        run = UnfinishedRun(output)
        with run.locked() if processes.is_main_process else contextlib.nullcontext():
            _train(setup, run, resume=resume, processes=processes, say=say)
    return output


def _train(setup: Setup, run: UnfinishedRun, *, resume: bool, processes: Any, say: Callable[[str], None]) -> None:
    from peft_eval.training.base import arithmetic
    from peft_eval.training.checkpoints import KeptCheckpoints
    from peft_eval.training.trainer import AnswerTrainer, arguments

    dtype = arithmetic(setup.spec)
    plan = setup.plan(processes.num_processes)
    setup, model = prepare_model(setup, dtype, plan)
    _check_room(setup, model, run.output)
    identity = setup.identity(processes.num_processes)
    state = run.newest() if resume else None
    if processes.is_main_process:
        if resume:
            run.check_same(identity)
        else:
            run.begin(identity)
    processes.wait_for_everyone()
    args = arguments(setup.spec, plan, dtype=dtype, scratch=run.folder / "trainer")
    trainer = AnswerTrainer(
        model,
        args,
        rows=setup.tokens.rows,
        plan=plan,
        spec=setup.spec,
        run=run,
        pad_token_id=setup.tokenizer.pad_token_id or setup.tokenizer.eos_token_id,
    )
    if setup.spec.keep_checkpoints:
        trainer.add_callback(KeptCheckpoints(setup, run, trainer))
    if state:
        trainer.seconds_before = float(run.notes(state[1])["seconds"])
    trained, weights = count_weights(model, trained=True), count_weights(model)
    say(
        f"{setup.spec.method} on {setup.base.location}: {trained:,} of {weights:,} weights, "
        f"{len(setup.tokens.rows):,} examples, {plan.steps:,} steps" + (f", from step {state[0]:,}" if state else "")
    )
    trainer.train(resume_from_checkpoint=str(state[1]) if state else None)
    _finish(setup, run, trainer, processes=processes, say=say)


def prepare_model(setup: Setup, dtype: torch.dtype, plan: Plan | None = None) -> tuple[Setup, Any]:
    """Loads the base and lets the method take hold of it.

    Args:
        setup: the run.
        dtype: precision of the arithmetic.
        plan: the run's batches, for methods that look ahead; None for one process.

    Returns:
        The setup with the method's options as fitted to the base, and the model to train. Weights in
        training are float32; a frozen base is in `dtype`.

    Raises:
        ConfigError: the method's options do not fit the base, or the machine lacks what the settings ask for.
        CheckpointError: the base's weights are damaged.
    """
    import inspect

    import torch
    from transformers import set_seed

    from peft_eval.training.base import check_kernels, load_model, quantization_of
    from peft_eval.training.course import course_of
    from peft_eval.training.trainer import has_virtual_tokens

    spec = setup.spec
    check_kernels(spec)
    method = plugins.methods()[spec.method]
    if method.kind == "full" and spec.quantize != "none":
        raise ConfigError(
            f"method {spec.method} trains the base's own weights, which cannot be done in 4 bits",
            place="--quantize",
            remedy="leave it out, or train an adapter",
        )
    model = load_model(setup.base, torch.float32 if method.kind == "full" else dtype, spec.quantize)
    quantization = quantization_of(model, spec)
    if quantization:
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if not setup.base.is_encoder_decoder and "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise ConfigError(f"{type(model).__name__} cannot compute chosen logits alone", place=spec.base)
    options = method.fit(model, method.options(**spec.options))
    set_seed(spec.seed)
    base_id = setup.base.adapter_base_id
    if hasattr(method, "prepare_in"):
        course = course_of(setup, plan or setup.plan())
        prepared = method.prepare_in(model, options, base_id=base_id, course=course)
    else:
        prepared = method.prepare(model, options, base_id=base_id)
    if spec.packing and has_virtual_tokens(prepared):
        raise ConfigError(
            f"method {spec.method} puts virtual tokens before each example, which packing joins into one",
            place="--packing",
            remedy="leave it out",
        )
    fitted = spec.model_copy(update={"options": options.model_dump(mode="json")})
    return dataclasses.replace(setup, spec=fitted, quantization=quantization), prepared


def _finish(
    setup: Setup, run: UnfinishedRun, trainer: AnswerTrainer, *, processes: Any, say: Callable[[str], None]
) -> None:
    """Writes the checkpoint, then removes the states, then tells what came out."""
    from peft_eval.training.checkpoints import write_checkpoint

    manifest = write_checkpoint(setup, run, trainer, run.output)
    if manifest is not None:
        run.end()
        say(summary(manifest, run.output))


def summary(manifest: Manifest, output: Path) -> str:
    """Returns the closing lines: cost, loss, path, and the command that comes next."""
    training = manifest.training
    assert training is not None  # every run of ours records itself
    first, last = training.losses[0][1], training.losses[-1][1]
    data = manifest.data
    assert data is not None
    suite = _SUITE_OF.get((data.source.partition(":")[0], data.encoding), "superni_unseen")
    return "\n".join(
        [
            f"{training.steps:,} steps ({training.epochs:.3g} epochs), {training.tokens:,} tokens in "
            f"{training.seconds:,.1f} s ({training.tokens / max(training.seconds, 1e-9):,.0f} tokens/s), "
            f"peak memory {training.peak_memory_bytes / 1e9:.2f} GB",
            f"loss {first:.3f} -> {last:.3f}",
            f"checkpoint: {output}",
            f"evaluate it: lm_eval --model vllm --tasks {suite} --model_args peft={output}",
        ]
    )


def _check_finished(manifest: Manifest, setup: Setup, output: Path) -> None:
    # A setting that came later than the checkpoint had what is its default now.
    defaults = {name: field.default for name, field in spec_fields().items() if not field.is_required()}
    then = {**defaults, **manifest.training.spec} if manifest.training else {}
    now = setup.spec.flat()
    settled = {key for key, value in now.items() if value is None}  # filled in from the base when it ran
    skipped = NOT_IN_THE_RESULT | settled
    differing = differences(
        {key: value for key, value in then.items() if key not in skipped},
        {key: value for key, value in now.items() if key not in skipped},
    )
    if differing:
        raise ConfigError(
            f"the finished checkpoint there has other settings: {'; '.join(differing)}",
            place=str(output / MANIFEST_NAME),
            remedy="choose another --output, or --overwrite it",
        )


def _check_room(setup: Setup, model: Any, output: Path) -> None:
    trained, all_weights = count_weights(model, trained=True), count_weights(model)
    kind = plugins.methods()[setup.spec.method].kind
    needed = 4 * (all_weights if kind == "full" else trained)
    if setup.spec.save_every_steps:
        needed += 2 * BYTES_PER_TRAINED_WEIGHT * trained  # the newest state stays until the next is whole
    if shutil.disk_usage(output if output.exists() else output.parent.resolve()).free < needed:
        raise disk_full(output, needed)


def _silence(line: str) -> None:
    """Says nothing: other processes than the main one."""
