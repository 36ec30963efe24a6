"""The contract of a training method.

A method is one file with one class, offered through the hook `peft_eval_methods`. Importing the
file must stay light (no torch), since `--help` lists every method's options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MethodOptions(BaseModel):
    """Base of a method's options; every field is an option of `peft-eval train`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Method(Protocol):
    """What is trained, by name.

    Attributes:
        name: the name after `--method`.
        summary: one line for `peft-eval methods`.
        options: the model of its options, with defaults and descriptions.
        kind: `adapter` (peft-format files) or `full` (a whole model).
        mergeable: whether base + adapter is again a model of the base's shape.
        training_defaults: the method's own values for fields of the training specification whose
            default is "the method's" (`learning_rate`, `weight_decay`, `scheduler`, `warmup_ratio`).
        tuners: adapter types of its own that peft has to know; may be left out.
    """

    name: str
    summary: str
    options: type[MethodOptions]
    kind: Literal["adapter", "full"]
    mergeable: bool
    training_defaults: Mapping[str, Any]

    def fit(self, model: PreTrainedModel, options: Any) -> Any:
        """Returns the options with everything that depends on the base filled in.

        Raises:
            ConfigError: the options do not fit this base.
        """
        ...

    def prepare(self, model: PreTrainedModel, options: Any, *, base_id: str) -> Any:
        """Returns the model to train, with gradients on what the method trains alone.

        At the first step it must compute what the base computes.

        Args:
            model: the base, as loaded.
            options: what `fit` returned.
            base_id: the base's folder or hub id, for the adapter's configuration.
        """
        ...
