"""The contract of a training method.

A method is one class, offered through the hook `peft_eval_methods`. Importing its file must stay
light (no torch), since `--help` lists every method's options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class MethodOptions(BaseModel):
    """Base of a method's options; every field is an option of `peft-eval train`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Method(Protocol):
    """What is trained, by name. Whether it merges, and how it is served, is found out, not claimed.

    Attributes:
        name: the name after `--method`.
        summary: one line for `peft-eval methods`.
        options: the model of its options, with defaults and descriptions.
        kind: `adapter` (peft-format files) or `full` (a whole model).
        training_defaults: the method's own values for fields of the training specification whose
            default is "the method's" (`learning_rate`, `weight_decay`, `scheduler`, `warmup_ratio`).
        tuners: adapter types of its own that peft has to know; may be left out.
        source: the paper, as `arXiv 2106.09685`; may be left out, then the package is named.

    Further methods that training calls where a class has them:

    * `prepare_in(model, options, *, base_id, course)` instead of `prepare`, for what depends on the run ahead.
    * `optimizer(model, options, *, learning_rate, weight_decay)` returns an optimizer, or None for AdamW.
    * `penalty(model)` returns a scalar that each step adds to the loss, or None.
    * `after_step(model, step)` is called with the number of steps made, before the gradients are cleared.
    * `run_state(model)` returns tensors that a run needs to go on, beside the adapter's weights and the optimiser's
      state; `load_run_state(model, state)` puts them back when it is resumed.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 (above)
    @property
    def summary(self) -> str: ...  # noqa: D102
    @property
    def options(self) -> type[MethodOptions]: ...  # noqa: D102
    @property
    def kind(self) -> Literal["adapter", "full"]: ...  # noqa: D102
    @property
    def training_defaults(self) -> Mapping[str, Any]: ...  # noqa: D102

    def fit(self, model: PreTrainedModel, options: Any) -> Any:
        """Returns the options with everything that depends on the base filled in.

        Raises:
            ConfigError: the options do not fit this base.
        """
        ...

    def prepare(self, model: PreTrainedModel, options: Any, *, base_id: str) -> Any:
        """Returns the model to train, with gradients on what the method trains alone.

        At the first step it must compute what the base computes, or what the method's paper starts from.

        Args:
            model: the base, as loaded.
            options: what `fit` returned.
            base_id: the base's folder or hub id, for the adapter's configuration.
        """
        ...


@dataclass(frozen=True)
class Course:
    """The run ahead, for methods whose start or schedule depends on it.

    Attributes:
        steps: optimiser steps of the whole run.
        examples: yields the first so many training examples in batches of `input_ids`, `attention_mask` and
            `labels`, each (rows, longest), padded on the right; prompts and padding have the label -100.
    """

    steps: int
    examples: Callable[[int], Iterator[dict[str, torch.Tensor]]]
