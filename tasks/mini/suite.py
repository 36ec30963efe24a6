"""The mini corpus as lm-eval tasks: one task a category, its documents made by program, scored as superni is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask

from peft_eval.data.encoding import encode_source, encoding_named
from peft_eval.data.mini.source import corpus_seed
from peft_eval.data.mini.suites import memorization_questions, unseen_questions
from peft_eval.scoring.rouge import stemmed_rouge
from peft_eval.scoring.superni import instance_scores

QUESTIONS = {"unseen": unseen_questions, "memorization": memorization_questions}


class MiniTask(ConfigurableTask):
    """The questions of one category.

    `dataset_kwargs` names the category, the encoding, and which questions (`unseen` or `memorization`); metadata may
    name `mini_seed`, for an adapter that was trained on `mini:seed=N`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Makes a document of each question."""
        from datasets import Dataset

        options = dict(dataset_kwargs or {})
        encoding = encoding_named(options["encoding"])
        seed = corpus_seed(str(self.config.metadata.get("mini_seed", "")))
        questions = QUESTIONS[options["questions"]](options["category"], seed)
        self.dataset = {
            "test": Dataset.from_list(
                [
                    {
                        "task": task.name,
                        "category": task.category,
                        "id": instance.id,
                        "input": instance.input,
                        "references": list(instance.outputs),
                        "demo_output": task.positive[0].output,
                        "prompt": encode_source(task, instance.input, encoding).text,
                    }
                    for task, instance in questions
                ]
            )
        }

    def process_results(self, doc: dict[str, Any], results: list[str]) -> dict[str, float]:
        """Returns ROUGE-L and exact match of one answer, 0 to 100."""
        if "bypass" in self._metric_fn_list:  # --predict_only
            return super().process_results(doc, results)
        return instance_scores(results[0], doc["references"], stemmed_rouge())


def held_out_text(**_: Any) -> dict[str, Any]:
    """Returns text of the kind that the embedded base was trained on, none of it seen in that training."""
    from datasets import Dataset

    path = Path(__file__).with_name("held_out_text.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}
