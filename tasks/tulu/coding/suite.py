"""HumanEval as TÜLU was measured ("Codex-Eval"): 20 drawn completions a problem, run against its tests in a sandbox.

Source: open-instruct 60ceefa6, eval/codex_humaneval/run_eval.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lm_eval.api.task import ConfigurableTask

from peft_eval.data.chat import tulu_prompt
from peft_eval.data.human_eval import Problem, read_problems
from peft_eval.data.location import data_folder
from peft_eval.errors import ConfigError, SandboxError
from peft_eval.harness.saved_answers import keep_answers
from peft_eval.sandbox import Limits, choose_backend, run_programs
from peft_eval.sandbox.containers import DEFAULT_IMAGE
from peft_eval.scoring.pass_at_k import pass_at_k

_log = logging.getLogger("lm_eval.tasks.tulu")
_LIMITS = Limits(seconds=3.0)
# What the original's programs could import beside the standard library and models reach for.
_PACKAGES = ("numpy",)
# Of an outcome, what each logged sample says.
_LOGGED = ("passed", "timed_out", "error", "seconds")


def all_samples(responses: Sequence[list[str]], _: Sequence[dict[str, Any]]) -> Sequence[list[str]]:
    """Keeps every sample of a problem, where lm-eval's default filter keeps the first."""
    return responses


class CodexTask(ConfigurableTask):
    """The problems, scored as pass@k.

    `dataset_kwargs` has `k` and `chat` (the TÜLU chat format). Metadata may name `human_eval` (the data's folder),
    `sandbox`, `sandbox_image`, `sandbox_workers` and `unsafe_code`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Reads the problems and makes their prompts."""
        from datasets import Dataset

        options, metadata = dict(dataset_kwargs or {}), self.config.metadata
        self._k: int = options["k"]
        self._unsafe_code = _flag(metadata, "unsafe_code")
        self._workers = _count(metadata, "sandbox_workers")
        self._problems = {one.id: one for one in read_problems(data_folder("human_eval", metadata.get("human_eval")))}
        self.dataset = {
            "test": Dataset.from_list(
                [
                    {
                        "task_id": problem.id,
                        "prompt": prompt(problem, chat=options["chat"]),
                        "entry_point": problem.entry_point,
                        "canonical_solution": problem.solution,
                    }
                    for problem in self._problems.values()
                ]
            )
        }

    @property
    def _only_predicts(self) -> bool:
        return "bypass" in self._metric_fn_list

    def build_all_requests(self, **options: Any) -> None:
        """Builds the requests, once a sandbox is known to work: after hours of answers would be late."""
        if not self._only_predicts:
            metadata = self.config.metadata
            self._backend = choose_backend(
                str(metadata.get("sandbox", "auto")),
                unsafe_code=self._unsafe_code,
                packages=_PACKAGES,
                image=str(metadata.get("sandbox_image", DEFAULT_IMAGE)),
            )
            metadata["code_ran_in"] = self._backend.description
            if not self._backend.isolated:
                _log.warning("%s: code runs in %s", self.config.task, self._backend.description)
        super().build_all_requests(**options)

    def apply_filters(self) -> Any:
        """Filters the samples, then runs all of them; each is replaced by its outcome.

        Raises:
            SandboxError: the sandbox stopped working; the samples are kept.
        """
        result = super().apply_filters()
        instances = self._instances or []
        if self._only_predicts or not instances:
            return result
        (name,) = instances[0].filtered_resps
        programs = [
            self._problems[instance.doc["task_id"]].program(sample)
            for instance in instances
            for sample in instance.filtered_resps[name]
        ]
        try:
            outcomes = iter(run_programs(programs, limits=_LIMITS, workers=self._workers, backend=self._backend))
        except SandboxError as error:
            file = keep_answers(str(self.config.task), [(instance.args[0], instance.resps) for instance in instances])
            remedy = f"the samples are kept: go on with --model saved-answers --model_args path={file}"
            raise SandboxError(error.problem, place=error.place, remedy=remedy) from error
        for instance in instances:
            records = [next(outcomes).as_record() for _ in instance.filtered_resps[name]]
            instance.filtered_resps[name] = [{field: record[field] for field in _LOGGED} for record in records]
        return result

    def process_results(self, doc: dict[str, Any], results: list[list[dict[str, Any]]]) -> dict[str, float]:
        """Returns a problem's pass@k, and the share of its samples that were stopped because their time was up."""
        if self._only_predicts:
            return super().process_results(doc, results)
        outcomes = results[0]
        passed = sum(outcome["passed"] for outcome in outcomes)
        return {
            f"pass@{self._k}": pass_at_k(len(outcomes), passed, self._k),
            "timed_out": sum(outcome["timed_out"] for outcome in outcomes) / len(outcomes),
        }


def prompt(problem: Problem, *, chat: bool) -> str:
    """Returns what the model is asked: the bare beginning of the function, or that wrapped in the TÜLU chat format."""
    if not chat:
        return problem.prompt
    return tulu_prompt(
        f"Complete the following python function.\n\n\n{problem.prompt}",
        answer_prefix=f"Here is the completed function:\n\n\n{problem.prompt}",
    )


def _flag(metadata: dict[str, Any], name: str) -> bool:
    value = str(metadata.get(name, False)).lower()
    if value not in ("true", "false", "1", "0"):
        raise ConfigError(f"{value!r} is neither true nor false", place=f"--metadata {name}")
    return value in ("true", "1")


def _count(metadata: dict[str, Any], name: str) -> int | None:
    value = metadata.get(name)
    if value is None:
        return None
    if not str(value).isdecimal() or int(value) < 1:
        raise ConfigError(f"{value!r} is not a number of 1 or more", place=f"--metadata {name}")
    return int(value)
