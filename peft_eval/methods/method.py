"""The contract of a training method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MethodOptions(BaseModel):
    """Base of a method's options; every field is an option of `peft-eval train`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(Protocol):
    """What is trained, by name.

    Attributes:
        name: the name after `--method`.
        summary: one line for `peft-eval methods`.
        options: the model of its options, with defaults and descriptions.
        kind: `adapter` (peft-format files) or `full` (a whole model).
        mergeable: whether base + adapter is again a model of the base's shape.
    """

    name: str
    summary: str
    options: type[MethodOptions]
    kind: str
    mergeable: bool

    def prepare(self, model: PreTrainedModel, options: Any, *, base_id: str) -> Any:
        """Returns the model to train, with gradients on what the method trains alone.

        Raises:
            ConfigError: the options do not fit this base.
        """
        ...
