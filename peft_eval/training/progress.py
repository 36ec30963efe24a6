"""What a run shows while it goes on: one bar with the loss and the speed, and nothing else."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from peft_eval.errors import DivergenceError
from peft_eval.training.batches import Plan


class Progress(TrainerCallback):
    """A bar of steps with loss and tokens per second; stops the run when the loss is no number.

    Args:
        plan: the run's batches.
        visible: whether this process shows the bar.
    """

    def __init__(self, plan: Plan, *, visible: bool):
        self.plan = plan
        self.visible = visible
        self.bar: Any = None
        self.tokens = 0
        self.began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Opens the bar at the step the run starts from."""
        self.began = time.monotonic()
        self.bar = tqdm(
            total=self.plan.steps,
            initial=state.global_step,
            desc="train",
            unit="step",
            disable=not self.visible,
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 10,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves the bar. The last step saves no state: the checkpoint follows at once."""
        self.tokens += sum(self.plan.lengths[index] for index in self.plan.examples_of(state.global_step - 1))
        self.bar.update()
        if state.global_step >= self.plan.steps:
            control.should_save = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Shows the loss.

        Raises:
            DivergenceError: the loss is NaN or infinite.
        """
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            self.bar.close()
            raise DivergenceError(
                f"the loss became {loss} at step {state.global_step}",
                remedy="lower --learning-rate, or use --dtype float32; nothing was written",
            )
        speed = self.tokens / max(time.monotonic() - self.began, 1e-9)
        self.bar.set_postfix(loss=f"{loss:.3f}", tokens_per_s=f"{speed:,.0f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Closes the bar."""
        self.bar.close()
