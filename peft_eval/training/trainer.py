"""transformers' Trainer with our batches, our loss and atomic states.

Kept from the Trainer: the loop, AdamW, schedules, clipping, mixed precision, checkpointed
gradients, and every way accelerate has of using several devices.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from peft_eval import plugins
from peft_eval.checkpoint.architecture import is_encoder_decoder
from peft_eval.checkpoint.writing import load_adapter_weights, save_adapter, save_full
from peft_eval.training.base import on_cpu
from peft_eval.training.batches import (
    Plan,
    answer_loss,
    encoder_decoder_batch,
    packed_batch,
    padded_batch,
    right_padded_batch,
)
from peft_eval.training.progress import Progress
from peft_eval.training.spec import TrainSpec
from peft_eval.training.states import UnfinishedRun
from peft_eval.training.tokens import TokenRow

LOGGED_LOSSES = 200
METHOD_STATE = "method_state.safetensors"


class AnswerTrainer(Trainer):
    """Trains on the answers of `rows`, in the order of `plan`.

    Args:
        model: the model to train.
        args: from `arguments`.
        rows: the examples.
        plan: which of them each step sees.
        spec: the run's settings.
        run: where states go.
        pad_token_id: any id; what is padded is masked.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        rows: Sequence[TokenRow],
        plan: Plan,
        spec: TrainSpec,
        run: UnfinishedRun,
        pad_token_id: int,
    ):
        args._n_gpu = min(args.n_gpu, 1)  # several GPUs are for the launcher, never for DataParallel
        super().__init__(model=model, args=args, train_dataset=rows, compute_loss_func=self._loss_of_step)  # type: ignore[arg-type]
        self.rows, self.plan, self.spec, self.run = rows, plan, spec, run
        self.pad_token_id = pad_token_id
        self.seconds_before = 0.0
        self.began = time.monotonic()
        self.remove_callback(PrinterCallback)
        self.add_callback(Progress(plan, visible=self.is_world_process_zero()))
        self.method: Any = plugins.methods()[spec.method]
        if hasattr(self.method, "after_step"):
            self.add_callback(_AfterStep(self))

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training, those before a resume included."""
        return self.seconds_before + time.monotonic() - self.began

    def get_train_dataloader(self) -> DataLoader:
        """Returns this process's micro-batches; the plan has dealt them out already."""
        batches = self.plan.of_process(self.args.process_index)
        return DataLoader(self.rows, batch_sampler=batches, collate_fn=self._collate)  # type: ignore[arg-type]

    def _collate(self, rows: list[TokenRow]) -> dict[str, Any]:
        model: Any = self.model
        if is_encoder_decoder(model.config):
            batch = encoder_decoder_batch(rows, pad_token_id=self.pad_token_id)
            shifted = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"][:, 1:])
            return {**batch, "decoder_input_ids": shifted, "use_cache": False}
        if self.spec.packing:
            batch = packed_batch(rows)
        else:
            stacked = right_padded_batch if has_virtual_tokens(model) else padded_batch
            batch = stacked(rows, pad_token_id=self.pad_token_id)
        return {**batch, "use_cache": False}

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Returns the method's own optimiser, AdamW where it has none."""
        if self.optimizer is None and hasattr(self.method, "optimizer"):
            self.optimizer = self.method.optimizer(
                self.unwrapped,
                self.method.options(**self.spec.options),
                learning_rate=self.spec.learning_rate,
                weight_decay=self.spec.weight_decay,
            )
        return self.optimizer or super().create_optimizer(*args, **kwargs)

    @cached_property
    def unwrapped(self) -> Any:
        """The model without what several processes put around it; looking for it walks over all modules."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _loss_of_step(self, outputs: Any, labels: torch.Tensor, *, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        loss = answer_loss(outputs.logits, labels, num_items_in_batch)
        penalty = self.method.penalty(self.unwrapped) if hasattr(self.method, "penalty") else None
        return loss if penalty is None else loss + penalty / self.plan.parts

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Returns 0: counting walks over all parameters at each micro-batch, and nothing reads it."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Writes weights alone: no model card, no pickled arguments, no question to the hub."""
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if hasattr(model, "peft_config"):
            save_adapter(model, folder, state_dict=state_dict, in_training=True)
            if state := (self.method.run_state(model) if hasattr(self.method, "run_state") else {}):
                save_file(state, str(folder / METHOD_STATE))
        else:
            save_full(model, folder, state_dict=state_dict)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves the run's state, whole or not at all, under `.training/step-N`."""
        step = self.state.global_step
        if not self.is_world_process_zero():
            self.accelerator.wait_for_everyone()
            self._save_into(self.run.scratch_of(step), model)
            self.accelerator.wait_for_everyone()
            return
        with self.run.new_state(step, {"seconds": self.seconds}) as scratch:
            self.accelerator.wait_for_everyone()
            self._save_into(scratch, model)
            self.accelerator.wait_for_everyone()
            inner = scratch / f"{PREFIX_CHECKPOINT_DIR}-{step}"
            for path in list(inner.iterdir()):
                path.replace(scratch / path.name)
            inner.rmdir()

    def _save_into(self, folder: Path, model: Any) -> None:
        self.args.output_dir = str(folder)
        super()._save_checkpoint(model, trial=None)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Loads a state's weights, an adapter's by their names, strictly."""
        model = model or self.model
        if not hasattr(model, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_adapter_weights(model, Path(resume_from_checkpoint))
        state = Path(resume_from_checkpoint) / METHOD_STATE
        if state.is_file():
            self.method.load_run_state(self.accelerator.unwrap_model(model), load_file(str(state)))


class _AfterStep(TrainerCallback):
    """Tells the method of each step, between the optimiser's and the clearing of the gradients."""

    def __init__(self, trainer: AnswerTrainer):
        self.trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.method.after_step(self.trainer.unwrapped, state.global_step + 1)


def has_virtual_tokens(model: Any) -> bool:
    """Tells whether a model puts virtual tokens before its input."""
    config = getattr(model, "peft_config", {}).get("default")
    return bool(config is not None and config.is_prompt_learning)


def arguments(spec: TrainSpec, plan: Plan, *, dtype: torch.dtype, scratch: Path) -> TrainingArguments:
    """Returns the Trainer's arguments for a run.

    Args:
        spec: the run's settings.
        plan: the run's batches.
        dtype: precision of the arithmetic; bfloat16 runs under autocast, weights in training stay float32.
        scratch: a folder the Trainer may call its own.
    """
    assert spec.scheduler is not None and spec.learning_rate is not None and spec.weight_decay is not None
    warmup_steps = round((spec.warmup_ratio or 0) * plan.steps)
    scheduler = "constant_with_warmup" if spec.scheduler == "constant" and warmup_steps else spec.scheduler
    return TrainingArguments(
        output_dir=str(scratch),
        use_cpu=on_cpu(),
        max_steps=plan.steps,
        per_device_train_batch_size=max(1, plan.batch_size // plan.parts),
        gradient_accumulation_steps=plan.parts // plan.processes,
        learning_rate=spec.learning_rate,
        lr_scheduler_type=scheduler,
        warmup_steps=warmup_steps,
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        seed=spec.seed,
        bf16=dtype is torch.bfloat16,
        gradient_checkpointing=spec.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        torch_compile=spec.torch_compile,
        use_liger_kernel=spec.use_liger_kernel,
        logging_strategy="steps",
        logging_steps=max(1, plan.steps // LOGGED_LOSSES),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="steps" if spec.save_every_steps else "no",
        save_steps=spec.save_every_steps or plan.steps,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        label_names=["labels"],
        ddp_find_unused_parameters=False,
    )
