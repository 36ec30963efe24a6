"""One of each that peft-eval takes from a plugin: a method, a source of data, a suite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from peft_eval.data.source import Example, Selection, TrainingData
from peft_eval.hookspecs import hookimpl
from peft_eval.methods.method import MethodOptions


class BiasOptions(MethodOptions):
    """Options of `bias-only`."""

    layers: int | None = Field(None, ge=1, description="Train the biases of the first so many layers. Default: all.")


class BiasOnly:
    """BitFit (arXiv 2106.10199): the biases are trained, nothing else."""

    name = "bias-only"
    summary = "BitFit: every bias, nothing else"
    options: type[MethodOptions] = BiasOptions
    kind = "full"
    mergeable = True

    def prepare(self, model: Any, options: BiasOptions, *, base_id: str) -> Any:
        """Returns the model with gradients on its biases alone."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.endswith("bias")
        return model


class Echo:
    """A source of one task: say the word again."""

    name = "echo"
    summary = "one task: repeat a word"

    def load(self, location: str | None, selection: Selection) -> TrainingData:
        """Returns one example for each word of the location."""
        words = (location or "one,two").split(",")
        examples = [
            Example.pair("echo", "Echo", f"echo#{number}", f"Say: {word}\n", word) for number, word in enumerate(words)
        ]
        return TrainingData(f"echo:{','.join(words)}", selection.encoding, examples, "0" * 64)


@hookimpl
def peft_eval_methods() -> Iterable[BiasOnly]:
    """Offers the method."""
    return [BiasOnly()]


@hookimpl
def peft_eval_datasets() -> Iterable[Echo]:
    """Offers the data."""
    return [Echo()]


@hookimpl
def peft_eval_suites() -> Iterable[Path]:
    """Offers the suite."""
    return [Path(__file__).parent / "suites" / "example_echo"]
