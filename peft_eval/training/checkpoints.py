"""Checkpoints of a run: the one at its end, and those on the way that `--keep-checkpoints` asks for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_callback import TrainerCallback

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.checkpoint.writing import (
    CHAT_TEMPLATE,
    copy_companions,
    publish,
    save_adapter,
    save_full,
    whole_or_nothing,
)
from peft_eval.training.record import count_weights, losses_of, manifest_of
from peft_eval.training.states import UnfinishedRun, kept_checkpoints, steps_folder

if TYPE_CHECKING:
    from peft_eval.training.setup import Setup
    from peft_eval.training.trainer import AnswerTrainer


def write_checkpoint(setup: Setup, run: UnfinishedRun, trainer: AnswerTrainer, output: Path) -> Manifest | None:
    """Writes what is trained so far as a checkpoint; to be called in every process.

    Args:
        setup: the run.
        run: whose folder the files are written in before they are whole.
        trainer: holds the model, its step and its losses.
        output: the checkpoint's folder.

    Returns:
        The manifest, without its files' hashes; None in other processes than the main one.

    Raises:
        DivergenceError: a weight is NaN or infinite.
        CheckpointError: the disk is full.
    """
    import torch

    accelerator, steps, plan = trainer.accelerator, trainer.state.global_step, trainer.plan
    state_dict = accelerator.get_state_dict(trainer.model_wrapped) if accelerator.num_processes > 1 else None
    if not accelerator.is_main_process:
        return None
    model: Any = accelerator.unwrap_model(trainer.model)
    manifest = manifest_of(
        setup,
        trainable_parameters=count_weights(model, trained=True),
        total_parameters=count_weights(model),
        steps=steps,
        epochs=plan.epochs_after(steps),
        tokens=plan.tokens(steps),
        seconds=trainer.seconds,
        losses=losses_of(trainer.state.log_history),
    )
    complete = run.folder / "complete"
    with whole_or_nothing(complete) as scratch:
        if manifest.kind == "adapter":
            save_adapter(model, scratch, state_dict=state_dict)
        else:
            model.config.use_cache = setup.base.config.use_cache  # which the Trainer switched off
            named = setup.spec.save_dtype
            dtype = setup.base.config.dtype if named == "auto" else getattr(torch, named)
            save_full(model, scratch, dtype=dtype, state_dict=state_dict)
        copy_companions(setup.base.folder, scratch, full=manifest.kind == "full")
        if setup.template.text is not None:
            (scratch / CHAT_TEMPLATE).write_text(setup.template.text, encoding="utf-8")
    output.mkdir(parents=True, exist_ok=True)
    publish(complete, output, manifest)
    return manifest


class KeptCheckpoints(TrainerCallback):
    """Writes a checkpoint at evenly spaced steps; those of an earlier run are removed when one begins.

    Args:
        setup, run, trainer: as for `write_checkpoint`.
    """

    def __init__(self, setup: Setup, run: UnfinishedRun, trainer: AnswerTrainer):
        self.setup, self.run, self.trainer = setup, run, trainer
        count, steps = setup.spec.keep_checkpoints, trainer.plan.steps
        self.at = {round(steps * number / (count + 1)) for number in range(1, count + 1)} - {0, steps}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Removes checkpoints that the run has yet to reach."""
        if state.is_world_process_zero:
            for step, folder in kept_checkpoints(self.run.output).items():
                if step > state.global_step:
                    shutil.rmtree(folder)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Writes one, if it is time: the step before is done by now, and its loss logged."""
        if state.global_step in self.at:
            folder = steps_folder(self.run.output) / f"step-{state.global_step}"
            write_checkpoint(self.setup, self.run, self.trainer, folder)
