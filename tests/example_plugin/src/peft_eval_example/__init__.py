"""What peft-eval takes from a plugin: a method with a tuner of its own, a source of data, a suite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from peft_eval.data.source import Example, Selection, TrainingData
from peft_eval.hookspecs import hookimpl
from peft_eval_example.output_scale import OutputScale


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
def peft_eval_methods() -> Iterable[OutputScale]:
    """Offers the method."""
    return [OutputScale()]


@hookimpl
def peft_eval_datasets() -> Iterable[Echo]:
    """Offers the data."""
    return [Echo()]


@hookimpl
def peft_eval_suites() -> Iterable[Path]:
    """Offers the suite."""
    return [Path(__file__).parent / "suites" / "example_echo"]
