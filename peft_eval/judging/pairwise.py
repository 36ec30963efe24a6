"""Which of two answers a judge prefers, by alpaca-eval's protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.errors import ConfigError, DataError, JudgeError
from peft_eval.judging.answer_store import AnswerStore
from peft_eval.judging.asking import CONCURRENCY, ask
from peft_eval.judging.endpoint import Endpoint, LaterEndpoint

DEFAULT_CONFIG = "alpaca_eval_gpt4"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question with two answers.

    Attributes:
        instruction: the question.
        reference: the answer to beat.
        answer: the answer that is evaluated.
    """

    instruction: str
    reference: str
    answer: str


def check_judge(config: str) -> None:
    """Makes sure that comparisons can be judged here.

    Raises:
        ConfigError: alpaca-eval is not installed or does not work here, or the config is none we can use.
    """
    _annotator_module().read_config(config)


def preferences(
    comparisons: Sequence[Comparison],
    judge: Endpoint | LaterEndpoint | None,
    store: AnswerStore | None,
    *,
    config: str = DEFAULT_CONFIG,
    stored: Sequence[Mapping[str, Any]] = (),
    concurrency: int = CONCURRENCY,
) -> list[float | None]:
    """Returns how much better each answer is than its reference: 0 to 1, 0.5 for a draw, None for no verdict.

    Equal answers are a draw without asking. The order in which the judge sees the two is drawn by a seed from the
    instruction, as alpaca-eval 0.6.6 does.

    Args:
        comparisons: what to judge.
        judge: whom to ask; None if `stored` holds everything.
        store: where the judge's answers are kept; needed with a judge.
        config: name or folder of an alpaca-eval annotator's config: prompt, decoding and parser.
        stored: annotations of earlier alpaca-eval runs; only those of this config and judge count.
        concurrency: questions on their way at a time.

    Raises:
        JudgeError: no judge and something to ask, or the judge fails; see `asking.ask`.
        ConfigError: see `check_judge`.
    """
    module = _annotator_module()
    name, content = module.read_config(config)
    protocol_model = content["completions_kwargs"]["model_name"]

    def put(questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        if judge is None or store is None:
            raise JudgeError(
                f"{len(questions)} of {len(comparisons)} answers have no stored annotation by {name}, and no judge is "
                "named",
                place="--metadata",
                remedy="give judge_url=URL judge_model=NAME, or judge_model=PATH_OR_ID to serve one here",
            )
        return ask(judge, questions, store, concurrency=concurrency)

    if judge is not None and judge.model != protocol_model:
        name = f"{name} by {judge.model}"  # the stored annotations of another judge are no annotations of this one
    annotator = module.Annotator(config, name, put, stored)
    pairs = [
        {"instruction": item.instruction, "output_1": item.reference, "output_2": item.answer} for item in comparisons
    ]
    return [None if value is None else value - 1 for value in annotator.preferences(pairs)]


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """Reads an `annotations.json` of alpaca-eval.

    Raises:
        DataError: it is not there or not of that form.
    """
    try:
        rows = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", place=str(path), remedy="name an annotations.json") from error
    wanted = {"instruction", "output_1", "output_2", "annotator", "preference"}
    for row in rows if isinstance(rows, list) else [None]:
        lacking = sorted(wanted - (row.keys() if isinstance(row, dict) else set()))
        if lacking:
            raise DataError(f"no column {', '.join(lacking)}", place=str(path), remedy="name an annotations.json")
    return rows


def _annotator_module() -> Any:
    try:
        from peft_eval.judging import alpaca_annotator
    except ImportError as error:
        raise ConfigError(
            f"alpaca-eval cannot be imported: {error}", remedy="pip install 'peft-eval[alpaca]'"
        ) from error
    import pandas

    if int(pandas.__version__.split(".")[0]) >= 3:
        raise ConfigError(
            f"alpaca-eval 0.6 fails on pandas {pandas.__version__}", remedy="pip install 'peft-eval[alpaca]'"
        )
    return alpaca_annotator
