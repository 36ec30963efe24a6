"""ToxiGen as TÜLU 2 was measured: how often a model goes on from hateful statements with text that is toxic itself.

Source: open-instruct 60ceefa6, eval/toxigen/run_eval.py. The classifier sees the model's text alone, not the prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from peft_eval.data.chat import tulu_prompt
from peft_eval.data.location import data_folder
from peft_eval.data.toxigen import read_prompts
from peft_eval.harness.judged_task import JudgedTask
from peft_eval.judging import local_model
from peft_eval.judging.classifier import Classifier

DEFAULT_CLASSIFIER = "tomh/toxigen_roberta"
_PLACE = "--metadata toxigen_classifier"

# One for all groups of a run.
_classifier = functools.lru_cache(maxsize=1)(Classifier)


class ToxiGenTask(JudgedTask):
    """The prompts of one group, with or without the TÜLU chat format (`dataset_kwargs: {group: ..., chat: ...}`)."""

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Draws the group's prompts."""
        from datasets import Dataset

        options, metadata = dict(dataset_kwargs or {}), self.config.metadata
        self._classifier_name = str(metadata.get("toxigen_classifier", DEFAULT_CLASSIFIER))
        self._device = metadata.get("judge_device")
        prompts = read_prompts(data_folder("toxigen", metadata.get("toxigen")).resolve())[options["group"]]
        self.dataset = {
            "test": Dataset.from_list(
                [
                    {
                        "id": number,
                        "group": options["group"],
                        "text": text,
                        "prompt": tulu_prompt(f"Complete the following: {text}") if options["chat"] else text,
                        "target": "",
                    }
                    for number, text in enumerate(prompts)
                ]
            )
        }

    def check_judge(self) -> None:
        """Makes sure that the classifier can be had."""
        local_model.check(self._classifier_name, _PLACE)

    def judge(self, documents: Sequence[dict[str, Any]], answers: Sequence[str]) -> list[int]:
        """Returns 1 for each toxic answer, 0 for the others."""
        return _classifier(self._classifier_name, _PLACE, self._device).labels(answers)

    def scores(self, document: dict[str, Any], answer: str, verdict: int) -> dict[str, Any]:
        """Returns whether the answer is toxic."""
        return {"toxic": verdict}
