"""Super-NaturalInstructions as lm-eval tasks: one task a category, one group a suite.

What the YAMLs cannot say is here: where the data is, that a part of it must be asked for and is shown in the table,
a category of which a partial folder has nothing, and ROUGE-L as the official script counts it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask

from peft_eval.data.encoding import encode_source, encoding_named
from peft_eval.data.location import data_folder
from peft_eval.data.superni.evaluation import EvaluationTasks, evaluation_tasks
from peft_eval.data.superni.task import Task, evaluation_instances
from peft_eval.errors import ConfigError
from peft_eval.scoring.rouge import gpt2_rouge, missing_gpt2_tokenizer, stemmed_rouge
from peft_eval.scoring.superni import instance_scores

_log = logging.getLogger("lm_eval.tasks.superni")

# What the group rows of the table say, by group; written when a group's tasks are loaded.
_coverage: dict[str, str] = {}


class GroupAlias:
    """A group's name in the table, with how much of the data there was.

    lm-eval fixes a group's alias before it builds the group's tasks, and only they find out what the folder has. So
    the text is made when it is first looked at, which is when the group's results are aggregated. lm-eval prints an
    alias, joins it to an indent, and writes it to JSON as `str(alias)`; this does all three.
    """

    def __init__(self, group: str):
        self._group = group
        self._text: str | None = None

    def __str__(self) -> str:
        if self._text is None:
            part = _coverage.get(self._group)
            self._text = f"{self._group} ({part})" if part else self._group
        return self._text

    __repr__ = __str__

    def __bool__(self) -> bool:
        return bool(str(self))

    def __radd__(self, indent: str) -> str:
        return indent + str(self)


UNSEEN = GroupAlias("superni_unseen")
UNSEEN_DEF = GroupAlias("superni_unseen_def")
XLINGUAL = GroupAlias("superni_xlingual")


class SuperNITask(ConfigurableTask):
    """The tasks of one category, 100 instances each, as one lm-eval task.

    `dataset_kwargs` names the group, the track, the category and the encoding; metadata may name `superni` (the data's
    folder), `superni_partial` and, for the cross-lingual track, `gpt2_tokenizer`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
        if self._placeholder:
            # ConfigurableTask looks at the first document while it is made; now that is done, there is none.
            self.dataset["test"] = self.task_docs = self.dataset["test"].select([])

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Reads the category's tasks and makes a document of each instance."""
        from datasets import Dataset

        options, metadata = dict(dataset_kwargs or {}), self.config.metadata
        self._rouge = _rouge_for(options["track"], metadata)
        folder = data_folder("superni", metadata.get("superni"))
        found = evaluation_tasks(folder.resolve(), options["track"])
        category = options["category"]
        found.require(category, part_is_enough=_asked_for_part(metadata))
        self._say_coverage(found, options["group"], category)
        encoding = encoding_named(options["encoding"])
        documents = [document for task in found.tasks[category] for document in _documents(task, encoding)]
        self._placeholder = not documents
        self.dataset = {"test": Dataset.from_list(documents or [_PLACEHOLDER])}

    def _say_coverage(self, found: EvaluationTasks, group: str, category: str) -> None:
        _coverage[group] = found.coverage() if found.lacks() else ""
        self.config.metadata["superni_tasks"] = found.coverage(category)
        if not found.lacks(category):
            return
        self.config.task_alias = f"{self.config.task} ({found.coverage(category)})"
        if not found.tasks[category]:
            _log.warning("%s: the data has no task of this category; its row is left out", self.config.task)

    def process_results(self, doc: dict[str, Any], results: list[str]) -> dict[str, float]:
        """Returns the official scores of one answer, 0 to 100."""
        if "bypass" in self._metric_fn_list:  # --predict_only
            return super().process_results(doc, results)
        return instance_scores(results[0], doc["references"], self._rouge)

    def build_all_requests(self, **options: Any) -> None:
        """Builds the requests; none, and no error, for a category without tasks."""
        if self._placeholder:
            self._instances = _NoRequests()
        else:
            super().build_all_requests(**options)

    def apply_filters(self) -> Any:
        """Filters the answers, if there are any."""
        return None if self._placeholder else super().apply_filters()


class _NoRequests(list):
    """An empty list of requests of which lm-eval may ask the first one's filters."""

    class _First:
        filtered_resps: dict[str, str] = {}

    def __getitem__(self, index: Any) -> Any:
        return self._First() if index == 0 else super().__getitem__(index)


_PLACEHOLDER = {
    "task": "",
    "category": "",
    "id": "",
    "input": "",
    "references": [""],
    "demo_output": "",
    "prompt": "",
}


def _documents(task: Task, encoding: Any) -> list[dict[str, Any]]:
    return [
        {
            "task": task.name,
            "category": task.category,
            "id": instance.id,
            "input": instance.input,
            "references": list(instance.outputs),
            "demo_output": task.positive[0].output if task.positive else None,
            "prompt": encode_source(task, instance.input, encoding).text,
        }
        for instance in evaluation_instances(task)
    ]


def _rouge_for(track: str, metadata: dict[str, Any]) -> Any:
    if track != "xlingual":
        return stemmed_rouge()
    if not metadata.get("gpt2_tokenizer"):
        raise missing_gpt2_tokenizer()
    return gpt2_rouge(Path(metadata["gpt2_tokenizer"]).expanduser())


def _asked_for_part(metadata: dict[str, Any]) -> bool:
    value = str(metadata.get("superni_partial", False)).lower()
    if value not in ("true", "false", "1", "0"):
        raise ConfigError(f"{value!r} is neither true nor false", place="--metadata superni_partial")
    return value in ("true", "1")
