"""`lm_eval --model saved-answers --model_args path=...`: answers of an earlier run instead of a model.

For scoring or judging again without generating again: after `--predict_only`, after a judge that failed, or where the
evaluated model and its judge do not fit into memory together. Answers are found by their prompt, so the tasks have to
be those of the earlier run. Files that are read:

- lm-eval's `samples_*.jsonl`, or the folder of a run that has them;
- what a judged task keeps when its judge fails (the same form);
- AlpacaEval's `model_outputs.json`, whose instructions are prompts without a chat format.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from platformdirs import user_cache_path

from peft_eval.errors import ConfigError, DataError, RouteError

# What lm-eval hands to every model, whether or not it has a use for it.
_IGNORED_OPTIONS = {"batch_size", "max_batch_size", "device"}


class SavedAnswers(LM):
    """Answers each prompt as a file says.

    Args:
        path: the file, or a folder with `samples_*.jsonl` in it.

    Raises:
        ConfigError: no path, or an option it does not take.
        DataError: nothing there that can be read.
    """

    def __init__(self, path: str | None = None, **options: Any):
        super().__init__()
        if unknown := sorted(options.keys() - _IGNORED_OPTIONS):
            raise ConfigError(f"saved-answers takes no option {unknown[0]!r}", place="--model_args")
        if not path:
            raise ConfigError("saved-answers needs path=FILE_OR_FOLDER", place="--model_args")
        self._path = Path(path).expanduser()
        self._answers = read_answers(self._path)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers every prompt; one that was asked several times has its answers in their order.

        Raises:
            DataError: prompts without an answer.
        """
        used: dict[str, int] = defaultdict(int)
        found: list[str] = []
        missing = []
        for request in requests:
            prompt = request.args[0]
            answers = self._answers.get(prompt, [])
            if used[prompt] < len(answers):
                found.append(answers[used[prompt]])
                used[prompt] += 1
            else:
                missing.append(request)
        if missing:
            raise DataError(
                f"no answer to {len(missing)} of {len(requests)} prompts, the first of {missing[0].task_name}: "
                f"{missing[0].args[0][:80]!r}",
                place=str(self._path),
                remedy="run the same tasks, data and --limit as the run that made the answers",
            )
        return found

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Refuses: text that was saved has no probability."""
        raise _no_probabilities(requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refuses: text that was saved has no probability."""
        raise _no_probabilities(requests)


def _no_probabilities(requests: Sequence[Instance]) -> RouteError:
    task = requests[0].task_name if requests else "a task"
    return RouteError(
        f"{task} asks for log-likelihoods, which saved answers have not",
        place="--model saved-answers",
        remedy="choose tasks that generate text",
    )


def read_answers(path: Path) -> dict[str, list[str]]:
    """Returns the answers by prompt.

    Raises:
        DataError: nothing there, or not in a form that is read.
    """
    # Of several runs in a folder the newest counts; the date is what follows the last underscore.
    found = sorted(path.rglob("samples_*.jsonl"), key=lambda file: file.name)
    newest = {file.name.rpartition("_")[0]: file for file in found}
    files = list(newest.values()) if path.is_dir() else [path]
    if not files:
        raise DataError("no samples_*.jsonl in this folder", place=str(path), remedy="name a run's output or a file")
    answers: dict[str, list[str]] = defaultdict(list)
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
            rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in _lines(text)]
            for row in rows:
                for prompt, answer in _pairs(row):
                    answers[prompt].append(answer)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"not a file of answers: {reason}",
                place=str(file),
                remedy="name lm-eval's samples_*.jsonl or AlpacaEval's model_outputs.json",
            ) from error
    return dict(answers)


def _lines(text: str) -> list[str]:
    # Not splitlines: answers may hold its other separators.
    return [line for line in text.split("\n") if line.strip()]


def _pairs(row: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if "instruction" in row:
        return [(row["instruction"], row["output"])]
    return [
        (arguments["arg_0"], answer)
        for arguments, answers in zip(row["arguments"].values(), row["resps"], strict=True)
        if not isinstance(arguments.get("arg_1"), str)  # a continuation: its "answer" is a probability
        for answer in answers
    ]


def keep_answers(task: str, answers: Sequence[tuple[str, Sequence[str]]]) -> Path:
    """Writes a task's answers where `saved-answers` can read them, and returns the file.

    Args:
        task: the task's name.
        answers: prompts, each with all answers to it.
    """
    lines = [
        json.dumps({"task": task, "arguments": {"gen_args_0": {"arg_0": prompt}}, "resps": [list(texts)]})
        for prompt, texts in answers
    ]
    text = "\n".join(lines) + "\n"
    name = f"samples_{task}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    file = user_cache_path("peft_eval") / "unjudged" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
