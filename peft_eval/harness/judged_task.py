"""lm-eval tasks whose answers a second model judges, all at once after the last answer.

lm-eval asks a task for each document's scores one by one. A judge wants all answers together, so they are judged when
lm-eval has them all and applies its filters; the scores are then per document: they stand in the logged samples, their
mean has the exact standard error, and nothing that lm-eval repeats (a bootstrap) asks the judge again.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Sequence
from typing import Any

from lm_eval.api.task import ConfigurableTask

from peft_eval.errors import JudgeError
from peft_eval.harness.saved_answers import keep_answers
from peft_eval.judging.endpoint import refuse_keys

_log = logging.getLogger("lm_eval.tasks.judged")


class JudgedTask(ConfigurableTask):
    """A task that makes one text of each document and has all of them judged.

    Subclasses make the documents, each with a field `id`, and judge.
    """

    def __init__(self, config: dict[str, Any]):
        self._verdicts: dict[Any, Any] = {}
        refuse_keys(config.get("metadata") or {})
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    @abc.abstractmethod
    def check_judge(self) -> None:
        """Raises if the judge cannot be used; called before the first answer is made."""

    @abc.abstractmethod
    def judge(self, documents: Sequence[dict[str, Any]], answers: Sequence[str]) -> Sequence[Any]:
        """Returns a verdict for each answer."""

    @abc.abstractmethod
    def scores(self, document: dict[str, Any], answer: str, verdict: Any) -> dict[str, Any]:
        """Returns the metrics of one answer."""

    @property
    def only_predicts(self) -> bool:
        """Whether lm-eval runs with `--predict_only`."""
        return "bypass" in self._metric_fn_list

    def build_all_requests(self, **options: Any) -> None:
        """Builds the requests, once the judge is known to be there: hours later would be late."""
        if not self.only_predicts:
            self.check_judge()
        super().build_all_requests(**options)

    def apply_filters(self) -> Any:
        """Filters the answers and has them judged; if that fails, they are kept for another try.

        Raises:
            JudgeError: as the judge's own, with how to go on.
        """
        result = super().apply_filters()
        if self.only_predicts or not self._instances:
            return result
        documents = [instance.doc for instance in self._instances]
        answers = [next(iter(instance.filtered_resps.values())) for instance in self._instances]
        verdicts = None
        try:
            verdicts = self.judge(documents, answers)
        except JudgeError as error:
            file = self._keep()
            raise JudgeError(
                error.problem,
                place=error.place,
                remedy=f"{error.remedy}; the model's answers are kept: go on with --model saved-answers --model_args "
                f"path={file}",
            ) from error
        finally:
            if verdicts is None:
                _log.warning("%s: the model's answers are kept in %s", self.config.task, self._keep())
        self._verdicts = {document["id"]: verdict for document, verdict in zip(documents, verdicts, strict=True)}
        return result

    def _keep(self) -> Any:
        requests = self._instances or []
        return keep_answers(str(self.config.task), [(request.args[0], request.resps) for request in requests])

    def process_results(self, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        """Returns the metrics of one answer."""
        if self.only_predicts:
            return super().process_results(doc, results)
        return self.scores(doc, results[0], self._verdicts[doc["id"]])
