"""Two models that need no weights: `lm_eval --model copy-input` and `--model copy-demo`.

They answer with the question itself, or with the first worked example's answer, as in the table of Tk-Instruct's
README. Anyone can check with them in seconds that data and scorer are right before a GPU is rented.
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from peft_eval.errors import ConfigError, RouteError

# What lm-eval hands to every model, whether or not it has a use for it.
_IGNORED_OPTIONS = {"batch_size", "max_batch_size", "device"}


class _CopyModel(LM):
    name: str
    field: str

    def __init__(self, **options: Any):
        super().__init__()
        unknown = sorted(options.keys() - _IGNORED_OPTIONS)
        if unknown:
            raise ConfigError(
                f"{self.name} takes no option {unknown[0]!r}", place="--model_args", remedy="leave it out"
            )

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers each request with a field of its document."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Instance) -> str:
        answer = request.doc.get(self.field) if isinstance(request.doc, dict) else None
        if not isinstance(answer, str):
            raise RouteError(
                f"a document of {request.task_name} has no text {self.field!r} to copy",
                place=f"--model {self.name}",
                remedy="use it with suites in the Super-NaturalInstructions form",
            )
        return answer

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Refuses: text that is copied has no probability."""
        raise self._no_probabilities(requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refuses: text that is copied has no probability."""
        raise self._no_probabilities(requests)

    def _no_probabilities(self, requests: list[Instance]) -> RouteError:
        task = requests[0].task_name if requests else "a task"
        return RouteError(
            f"{task} asks for log-likelihoods, which {self.name} has not",
            place=f"--model {self.name}",
            remedy="choose tasks that generate text, or a real model",
        )


class CopyInput(_CopyModel):
    """Answers with the question."""

    name = "copy-input"
    field = "input"


class CopyDemo(_CopyModel):
    """Answers with the output of the task's first positive example."""

    name = "copy-demo"
    field = "demo_output"


def register() -> None:
    """Makes both known to lm-eval's `--model`; a second call changes nothing."""
    from lm_eval.api.registry import model_registry

    for model in (CopyInput, CopyDemo):
        if model.name not in model_registry:
            model_registry.register(model.name, target=model)
