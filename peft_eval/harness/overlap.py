"""Which questions of a suite the training data holds already."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peft_eval.checkpoint.manifest import OverlapRecord
from peft_eval.data.overlap import NGRAM, THRESHOLD, own_words, training_ngrams, words_of
from peft_eval.data.source import Example
from peft_eval.errors import ConfigError
from peft_eval.harness.found_once import found_once


def overlap_of(
    examples: Iterable[Example],
    suites: Sequence[str],
    metadata: Sequence[str] = (),
) -> dict[str, OverlapRecord]:
    """Compares training data with suites, by `peft_eval.data.overlap`'s measure.

    Args:
        examples: the training data.
        suites: lm-eval tasks and groups. Those that ask for the training data itself are left out.
        metadata: pairs `KEY=VALUE`, as lm-eval takes them: where the suites find their data.

    Returns:
        What was found in each task, by its name.

    Raises:
        ConfigError: a suite does not exist.
    """
    prompts: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        prompts[example.task].append(example.messages[0].content if not example.is_pair else example.source)
    seen = training_ngrams(prompts)
    whole = {tuple(words_of(prompt)) for of_task in prompts.values() for prompt in of_task}
    found: dict[str, OverlapRecord] = {}
    for name, task in _tasks(suites, metadata).items():
        overlapping = {
            key
            for texts in _questions(task).values()
            for (key, text), words in zip(texts.items(), own_words(list(texts.values())), strict=True)
            if tuple(words_of(text)) in whole or seen.coverage(words) > THRESHOLD
        }
        count = len(task.eval_docs)
        found[name] = OverlapRecord(questions=count, ngram=NGRAM, threshold=THRESHOLD, overlapping=sorted(overlapping))
    return found


def _questions(task: Any) -> dict[str, dict[str, str]]:
    """Returns the texts of a task's documents by lm-eval's hash, without shots or a template.

    Documents that name the instruction task they are of, as SuperNI's do, are apart by it, since those of one share
    their instruction.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for document in task.eval_docs:
        of = str(document.get("task", "")) if isinstance(document, Mapping) else ""
        found[of][document_hash(document)] = str(task.doc_to_text(document))
    return found


def document_hash(document: Any) -> str:
    """Returns a document's `doc_hash`, as lm-eval's evaluator makes it."""
    from lm_eval.utils import handle_non_serializable, hash_string

    return hash_string(json.dumps(document, indent=2, default=handle_non_serializable, ensure_ascii=False))


def _tasks(suites: Sequence[str], metadata: Sequence[str]) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import simple_parse_args_string

    with found_once(suites):
        manager = TaskManager(metadata=simple_parse_args_string(",".join(metadata)))
    if unknown := [name for name in suites if name not in manager.all_tasks]:
        raise ConfigError(
            f"no such task: {', '.join(unknown)}", place="--tasks", remedy="`peft-eval suites` lists ours"
        )
    asked = [name for name in suites if not name.startswith("memorization")]
    return dict(manager.load(asked)["tasks"]) if asked else {}
