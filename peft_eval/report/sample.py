"""One sample of lm-eval as people read it: what was asked, what was answered, what was right, what it scored."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_eval.study.results import lines_of


@dataclass
class Sample:
    """A question and its answer.

    Attributes:
        prompt: as sent to the model.
        references: the right answers.
        answer: the model's; of a multiple choice, each continuation with its log-likelihood.
        filtered: what lm-eval's filters made of it, empty where they left it alone.
        scores: by metric, with the filter's name where it has one.
    """

    prompt: str
    references: list[str]
    answer: str
    filtered: str = ""
    scores: dict[str, float] = field(default_factory=dict)


def read_samples(path: Path) -> dict[str, Sample]:
    """Returns the samples of a file by question; a question is known by its content, equal ones by their order too.

    Raises:
        DataError: a line is broken.
    """
    found: dict[str, Sample] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for _, line in lines_of(path):
        filter_name, content = str(line.get("filter", "none")), str(line.get("doc_hash"))
        seen[filter_name, content] += 1
        key = f"{content}#{seen[filter_name, content]}"
        calls = _calls(line.get("arguments"))
        answer = _answer(line.get("resps"), calls)
        if key not in found:
            found[key] = Sample(_prompt(calls), _references(line.get("target"), calls), answer)
        sample = found[key]
        ending = "" if filter_name == "none" else f",{filter_name}"
        for metric in line.get("metrics", ()):
            if isinstance(value := line.get(metric), bool | int | float):
                sample.scores[metric + ending] = round(float(value), 4)
        filtered = line.get("filtered_resps")
        if isinstance(filtered, list) and len(filtered) == 1:
            filtered = filtered[0]
        if isinstance(filtered, str) and filtered != answer:
            sample.filtered = "\n".join(filter(None, [sample.filtered, f"{filter_name}: {filtered}"]))
    return found


def _calls(arguments: Any) -> list[list[Any]]:
    """Returns the arguments of each request that the question made."""
    requests = arguments.values() if isinstance(arguments, Mapping) else arguments or []
    return [list(one.values()) if isinstance(one, Mapping) else list(one) for one in requests]


def _is_choice(calls: Sequence[Sequence[Any]]) -> bool:
    return bool(calls) and all(len(call) > 1 and isinstance(call[1], str) for call in calls)


def _prompt(calls: Sequence[Sequence[Any]]) -> str:
    return "\n―\n".join(dict.fromkeys(str(call[0]) for call in calls if call))


def _answer(responses: Any, calls: Sequence[Sequence[Any]]) -> str:
    each = [one if isinstance(one, list) else [one] for one in responses or []]
    if _is_choice(calls) and len(calls) == len(each):
        values = [_log_likelihood(one) for one in each]
        best = max(values)
        return "\n".join(
            f"{'→' if value == best else ' '} {value:.2f} {call[1].strip()}"
            for value, call in zip(values, calls, strict=True)
        )
    texts = [str(text) for one in each for text in one]
    return texts[0] if len(texts) == 1 else "\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))


def _log_likelihood(response: Sequence[Any]) -> float:
    """Returns the number in `[["-1.2", "False"]]`, as lm-eval stores it."""
    first = response[0] if response else "nan"
    return float(first[0] if isinstance(first, list | tuple) else first)


def _references(target: Any, calls: Sequence[Sequence[Any]]) -> list[str]:
    if _is_choice(calls) and str(target).isdigit() and int(target) < len(calls):
        return [calls[int(target)][1].strip()]
    if isinstance(target, str) and target.startswith("["):
        try:
            target = ast.literal_eval(target)
        except (ValueError, SyntaxError):
            return [target]
    return [str(one) for one in target] if isinstance(target, list) else [str(target)]
