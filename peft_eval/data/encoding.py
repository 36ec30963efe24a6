"""Turns an instruction and an input into the prompt that Tk-Instruct trains and tests on.

Follows `src/ni_collator.py` of yizhongw/Tk-Instruct (commit 7c0e400) to the character, its spaces before
"Positive Example" and " Output:" included, so that numbers compare with the published ones.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from peft_eval.errors import unknown_name


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked example of a task; `explanation` is None where the file has none."""

    input: str
    output: str
    explanation: str | None = None


class Instruction(Protocol):
    """What a prompt is made of, besides the input."""

    @property
    def definition(self) -> str:
        """The task in words."""
        ...

    @property
    def positive(self) -> Sequence[Demonstration]:
        """Examples with right outputs."""
        ...

    @property
    def negative(self) -> Sequence[Demonstration]:
        """Examples with wrong outputs."""
        ...


@dataclass(frozen=True, slots=True)
class Encoding:
    """Which parts a prompt has: the definition, so many examples, with or without explanations."""

    name: str
    definition: bool = True
    positive: int = 0
    negative: int = 0
    explanation: bool = False


ENCODINGS: dict[str, Encoding] = {
    encoding.name: encoding
    for encoding in (
        Encoding("def"),
        Encoding("pos2", definition=False, positive=2),
        Encoding("def_pos2", positive=2),
        Encoding("def_pos2_neg2", positive=2, negative=2),
        Encoding("def_pos2_expl", positive=2, explanation=True),
    )
}


@dataclass(frozen=True, slots=True)
class SourceLimit:
    """The greatest length of a prompt, and the tokenizer's view of it.

    Attributes:
        tokens: at most so many tokens, special tokens included.
        count: the number of tokens of a text, as the model will see it.
        cut: a text's first n tokens, decoded without special tokens.
    """

    tokens: int
    count: Callable[[str], int]
    cut: Callable[[str, int], str]


@dataclass(frozen=True, slots=True)
class EncodedSource:
    """A prompt, and what the length limit did to it.

    Attributes:
        text: the prompt.
        examples_left_out: examples of the encoding that did not fit.
        cut: whether the text itself was cut on the right.
    """

    text: str
    examples_left_out: int = 0
    cut: bool = False


@dataclass(slots=True)
class LengthReport:
    """Counts what a length limit did to a set of prompts, for the notes of a run."""

    sources: int = 0
    with_examples_left_out: int = 0
    cut: int = 0

    def add(self, source: EncodedSource) -> EncodedSource:
        """Counts a prompt and hands it back."""
        self.sources += 1
        self.with_examples_left_out += source.examples_left_out > 0
        self.cut += source.cut
        return source

    def notes(self) -> list[str]:
        """Returns a sentence for each kind of change that happened."""
        notes = []
        if self.with_examples_left_out:
            notes.append(f"{self.with_examples_left_out} of {self.sources} prompts had no room for all their examples")
        if self.cut:
            notes.append(f"{self.cut} of {self.sources} prompts were longer than the limit and were cut on the right")
        return notes


def encoding_named(name: str, *, place: str | None = None) -> Encoding:
    """Returns the encoding of that name.

    Raises:
        ConfigError: there is none; near matches are listed.
    """
    if name not in ENCODINGS:
        raise unknown_name("encoding", name, ENCODINGS, place=place)
    return ENCODINGS[name]


def encode_source(
    instruction: Instruction, input_text: str, encoding: Encoding, limit: SourceLimit | None = None
) -> EncodedSource:
    """Returns the prompt for one input.

    With a limit, examples are added only while the prompt stays within it, and a prompt that is too long even
    without them is cut on the right. Without one nothing is left out or cut.
    """
    definition = _ended(f"Definition: {instruction.definition.strip()}") + "\n\n" if encoding.definition else ""
    question = (
        f"Now complete the following example -\n{_ended(f'Input: {input_text.strip()}')}\nOutput: "  # space: official
    )
    wanted_positive = instruction.positive[: encoding.positive]
    wanted_negative = instruction.negative[: encoding.negative]

    positive: list[str] = []
    for number, example in enumerate(wanted_positive, start=1):
        text = _example(f"Positive Example {number}", example, encoding.explanation)
        if limit and limit.count(definition + " ".join(positive) + text + question) > limit.tokens:
            break
        positive.append(text)
    negative: list[str] = []
    for number, example in enumerate(wanted_negative, start=1):
        text = _example(f"Negative Example {number}", example, encoding.explanation)
        before = definition + " ".join(positive) + " ".join(negative)
        if limit and limit.count(before + text + question) > limit.tokens:
            break
        negative.append(text)

    left_out = len(wanted_positive) + len(wanted_negative) - len(positive) - len(negative)
    source = definition + "".join(positive) + "".join(negative) + question
    if limit and limit.count(source) > limit.tokens:
        return EncodedSource(limit.cut(source, limit.tokens), left_out, cut=True)
    return EncodedSource(source, left_out)


def _example(heading: str, example: Demonstration, with_explanation: bool) -> str:
    lines = [
        f" {heading} -",
        _ended(f"Input: {example.input.strip()}"),
        _ended(f" Output: {example.output.strip()}"),
    ]
    if with_explanation and example.explanation is not None:
        lines.append(_ended(f" Explanation: {example.explanation.strip()}"))
    return "\n".join(lines) + "\n\n"


def _ended(line: str) -> str:
    """Adds a full stop unless the line ends in ASCII punctuation, as the collator does."""
    return line if line[-1] in string.punctuation else line + "."
