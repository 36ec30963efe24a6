"""AlpacaEval as open-instruct ran it for TÜLU 2: 805 instructions, greedy answers, GPT-4 against text-davinci-003.

Source: open-instruct 60ceefa6, eval/alpaca_farm/run_eval.py; judged by alpaca-eval's `alpaca_eval_gpt4`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft_eval.data.alpaca_eval import read_reference_file, read_references
from peft_eval.data.chat import tulu_prompt
from peft_eval.data.location import data_folder
from peft_eval.errors import ConfigError
from peft_eval.harness.judged_task import JudgedTask
from peft_eval.harness.pairwise_judge import JudgeSettings
from peft_eval.judging.answer_store import AnswerStore
from peft_eval.judging.length_control import DIFFICULTY_FILE, Judged, check_difficulties, length_controlled_win_rate
from peft_eval.judging.pairwise import Comparison, preferences, read_annotations

_log = logging.getLogger("lm_eval.tasks.tulu")


class AlpacaEvalTask(JudgedTask):
    """The instructions, with or without the TÜLU chat format (`dataset_kwargs: {chat: ...}`)."""

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Reads the instructions and the answers to beat."""
        from datasets import Dataset

        metadata = self.config.metadata
        self._judge = JudgeSettings.from_metadata(metadata)
        self._difficulties: Path | None = None
        if file := metadata.get("alpaca_reference"):
            references = read_reference_file(Path(file))
        else:
            folder = data_folder("alpaca_eval", metadata.get("alpaca_eval"))
            references = read_references(folder)
            self._difficulties = _difficulties(folder, len(references))
        chat = (dataset_kwargs or {})["chat"]
        self.dataset = {
            "test": Dataset.from_list(
                [
                    {
                        "id": number,
                        "instruction": reference.instruction,
                        "reference": reference.output,
                        "dataset": reference.dataset,
                        "prompt": tulu_prompt(reference.instruction) if chat else reference.instruction,
                    }
                    for number, reference in enumerate(references)
                ]
            )
        }

    def build_all_requests(self, **options: Any) -> None:
        """Builds the requests; notes whether all instructions are asked, which length control needs."""
        asked = options.get("limit")
        self._is_whole = options.get("samples") is None and (asked is None or asked >= len(self.dataset["test"]))
        if self._difficulties and not self._is_whole:
            _log.info("%s: no length-controlled win rate for a part of the instructions", self.config.task)
        if self._judge.serves_here and options.get("world_size", 1) > 1 and not self.only_predicts:
            raise ConfigError(
                f"each of {options['world_size']} processes would serve its own judge",
                place="--metadata judge_model",
                remedy="run one process, or serve the judge apart and give judge_url",
            )
        super().build_all_requests(**options)

    def check_judge(self) -> None:
        """Asks the judge's endpoint whether it is there and takes the key."""
        self._judge.check()

    def judge(self, documents: Sequence[dict[str, Any]], answers: Sequence[str]) -> list[float | None]:
        """Returns for each answer how much better it is than its reference, 0 to 1; None without a verdict."""
        comparisons = [
            Comparison(document["instruction"], document["reference"], answer)
            for document, answer in zip(documents, answers, strict=True)
        ]
        stored = read_annotations(self._judge.annotations) if self._judge.annotations else []
        with self._judge.open(str(self.config.task)) as endpoint, AnswerStore(self._judge.cache) as store:
            return preferences(
                comparisons,
                endpoint,
                store,
                config=self._judge.config,
                stored=stored,
                concurrency=self._judge.concurrency,
            )

    def scores(self, document: dict[str, Any], answer: str, verdict: float | None) -> dict[str, Any]:
        """Returns the win (0 to 100), whether there was no verdict, and the length in characters."""
        scores: dict[str, Any] = {"unparsed": int(verdict is None), "avg_length": len(answer)}
        if verdict is None:  # the mean is over answers with a verdict, as alpaca-eval's is
            return scores
        scores["win_rate"] = 100 * verdict
        if self._difficulties and self._is_whole:
            scores["length_controlled_win_rate"] = (
                document["id"],
                len(document["reference"]),
                len(answer),
                verdict,
            )
        return scores

    def aggregation(self) -> dict[str, Any]:
        """Returns how the answers' scores become a metric."""
        return super().aggregation() | {"length_controlled_win_rate": self._length_controlled}

    def _length_controlled(self, judged: Sequence[tuple[int, int, int, float]]) -> float:
        assert self._difficulties is not None
        return length_controlled_win_rate([Judged(*values) for values in judged], self._difficulties)[0]


def _difficulties(folder: Path, instructions: int) -> Path | None:
    file = folder / DIFFICULTY_FILE
    if not file.is_file():
        _log.info("no %s in %s: no length-controlled win rate", DIFFICULTY_FILE, folder)
        return None
    check_difficulties(file, instructions)
    return file
