"""What a checkpoint kept of its training data, as lm-eval tasks.

Prompts and answers are the token ids of training (`TokenText`), so that a loss is that of training and a prompt the one
that was answered there. The documents go round the tasks, trained and held-out in turn, so that `--limit` keeps a fair
part of each.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from statistics import fmean
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from peft_eval.errors import ConfigError, DataError
from peft_eval.harness.prompts import TokenText
from peft_eval.harness.seen_data import SeenData, seen_data
from peft_eval.scoring.membership import Measured, loss_gap, membership_auc
from peft_eval.scoring.rouge import stemmed_rouge
from peft_eval.scoring.superni import instance_scores
from peft_eval.scoring.verbatim import verbatim_share
from peft_eval.training.seen import SeenInstance

_log = logging.getLogger("lm_eval.tasks.memorization")

DEFAULT_PREFIX_TOKENS = 4


class MemorizationTask(ConfigurableTask):
    """Documents from a checkpoint's training data; subclasses say which, what is asked, and how it is scored."""

    of_the_checkpoint = True  # another checkpoint was trained on other instances

    def __init__(self, config: dict[str, Any]):
        self._scores: list[dict[str, Any]] = []
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Makes a document of each instance that this task asks."""
        from datasets import Dataset

        self._seen: SeenData = seen_data(self.config.metadata)
        self._asked = _going_round(self.chosen())
        self.dataset = {"test": Dataset.from_list([self._document(n, item) for n, item in enumerate(self._asked)])}

    def chosen(self) -> list[SeenInstance]:
        """Returns the instances to ask."""
        raise NotImplementedError

    def _document(self, number: int, item: SeenInstance) -> dict[str, Any]:
        return {
            "number": number,
            "task": item.example.task,
            "category": item.example.category,
            "id": item.example.instance_id,
            "trained": item.trained,
            "prompt": self._text(item.prompt_ids),
            "answer": self.answer_text(item),
            "references": list(item.references),
        }

    def _text(self, ids: Any) -> str:
        return str(self._seen.tokenizer.decode(list(ids), skip_special_tokens=False))

    def answer_text(self, item: SeenInstance) -> str:
        """Returns an answer as text, without the EOS that ends it."""
        return str(self._seen.tokenizer.decode(list(item.answer_ids), skip_special_tokens=True))

    def token_text(self, ids: Any) -> TokenText:
        """Returns text that carries these ids."""
        return TokenText(self._text(ids), ids)

    def room(self, item: SeenInstance) -> int:
        """Returns how many tokens an answer may have: as in training; rounded up, so that batches stay together."""
        wanted = max(self._seen.answer_tokens, 1 << (len(item.answer_ids) - 1).bit_length())
        return min(wanted, self._seen.whole_tokens - len(item.prompt_ids))

    def construct_requests(self, doc: dict[str, Any], ctx: Any, **options: Any) -> list[Instance]:
        """Returns the requests of one document; templates and few-shot examples have no part in them."""
        item = self._asked[doc["number"]]
        return [
            Instance(request_type=kind, doc=doc, arguments=arguments, idx=index, metadata=options["metadata"])
            for index, (kind, arguments) in enumerate(self.requests(item))
        ]

    def requests(self, item: SeenInstance) -> list[tuple[Any, tuple[Any, ...]]]:
        """Returns (request type, arguments) of what is asked about an instance."""
        return [("generate_until", (self.token_text(item.prompt_ids), _greedy(self.room(item))))]

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """Returns an instance's values and keeps those that are shown by task and category."""
        if "bypass" in self._metric_fn_list:  # --predict_only
            return super().process_results(doc, results[:1])
        values = self.values(self._asked[doc["number"]], results)
        self._scores.append({"task": doc["task"], "category": doc["category"], **values})
        return values

    def values(self, item: SeenInstance, results: list[Any]) -> dict[str, Any]:
        """Returns an instance's value for each metric that it counts for."""
        raise NotImplementedError

    def complete_results(self, results: dict[str, Any]) -> None:
        """Adds the scores by task and category, and standard errors that lm-eval cannot know."""
        name = str(self.config.task)
        block = {"of": self._seen.of, "instances": len(self._asked)}
        samples = results.get("n-samples", {}).get(name, {}).get("effective")
        if samples is None or len(self._scores) >= samples:
            block |= {f"by_{group}": _means(self._scores, group) for group in ("category", "task")}
        else:
            _log.warning("%s: no scores by task, since several processes share the documents", name)
        results.setdefault("peft_eval", {})[name] = block


class SeenTask(MemorizationTask):
    """Held-out instances of the tasks that were trained on."""

    def chosen(self) -> list[SeenInstance]:
        """Returns the held-out instances.

        Raises:
            DataError: there are none.
        """
        held_out = [item for item in self._seen.instances if not item.trained]
        if not held_out:
            raise DataError(
                "no instance of its tasks was held out: all were trained on",
                place=self._seen.of,
                remedy="train with --instances-per-task, or ask memorization_recall and memorization_extraction alone",
            )
        return held_out

    def values(self, item: SeenInstance, results: list[Any]) -> dict[str, Any]:
        """Returns the official scores of Super-NaturalInstructions, 0 to 100."""
        return instance_scores(results[0], item.references, stemmed_rouge())


class Recall(MemorizationTask):
    """Trained instances, answered and scored; held-out ones, scored for comparison."""

    def chosen(self) -> list[SeenInstance]:
        """Returns all instances."""
        self._compares = any(not item.trained for item in self._seen.instances)
        if not self._compares:
            _log.warning("%s: nothing was held out, so there is no loss gap and no membership AUC", self._seen.of)
        return list(self._seen.instances)

    def requests(self, item: SeenInstance) -> list[tuple[Any, tuple[Any, ...]]]:
        """Returns the answer's likelihood, and for a trained instance the question."""
        pair = (self.token_text(item.prompt_ids), self.token_text(item.answer_ids))
        likelihood: tuple[Any, tuple[Any, ...]] = ("loglikelihood", pair)
        return [*super().requests(item), likelihood] if item.trained else [likelihood]

    def values(self, item: SeenInstance, results: list[Any]) -> dict[str, Any]:
        """Returns exact recall and ROUGE-L of a trained instance, and the loss of any."""
        loss = -float(results[-1][0]) / len(item.answer_ids)
        measured = Measured(item.example.task, item.trained, loss)
        values: dict[str, Any] = {"loss_gap": measured, "membership_auc": measured} if self._compares else {}
        if not item.trained:
            return {"loss_held_out": loss, **values}
        answer = str(results[0]).strip()
        return {
            "exact_recall": float(answer == self.answer_text(item).strip()),
            "rougeL": instance_scores(answer, item.references, stemmed_rouge())["rougeL"],
            "loss_trained": loss,
            **values,
        }

    def aggregation(self) -> dict[str, Any]:
        """Returns the functions that make one number of each metric's values."""
        plain = dict.fromkeys(("exact_recall", "rougeL", "loss_trained", "loss_held_out"), mean)
        return {**plain, "loss_gap": _gap, "membership_auc": _auc}

    def complete_results(self, results: dict[str, Any]) -> None:
        """Adds the standard errors of the gap (by task) and of the AUC (DeLong's)."""
        super().complete_results(results)
        row = results["results"][str(self.config.task)]
        for metric, estimate in (("loss_gap", loss_gap), ("membership_auc", membership_auc)):
            measured = [score[metric] for score in self._scores if metric in score]
            if f"{metric},none" in row and _comparable(measured):
                error = estimate(measured).standard_error
                row[f"{metric}_stderr,none"] = "N/A" if error is None else error


class Extraction(MemorizationTask):
    """Trained answers whose first tokens are given: how much of the rest comes back word for word."""

    def chosen(self) -> list[SeenInstance]:
        """Returns the trained instances with answers longer than what is given of them.

        Raises:
            ConfigError: `extraction_prefix` is no positive number.
            DataError: no answer is long enough.
        """
        given = str(self.config.metadata.get("extraction_prefix", DEFAULT_PREFIX_TOKENS))
        if not given.isdecimal() or int(given) < 1:
            raise ConfigError(f"{given!r} is no positive number of tokens", place="--metadata extraction_prefix")
        self._prefix = int(given)
        trained = [item for item in self._seen.instances if item.trained]
        long_enough = [item for item in trained if len(self._rest(item)) > 0]
        if not long_enough:
            raise DataError(
                f"none of the {len(trained)} answers trained on has more than {self._prefix} tokens",
                place=self._seen.of,
                remedy="give fewer: --metadata extraction_prefix=N",
            )
        self.config.metadata["extraction_answers"] = f"{len(long_enough)} of {len(trained)} answers are long enough"
        if len(long_enough) < len(trained):
            _log.warning("%s: %s", self.config.task, self.config.metadata["extraction_answers"])
        return long_enough

    def _rest(self, item: SeenInstance) -> tuple[int, ...]:
        rest = item.answer_ids[self._prefix :]
        return rest[:-1] if rest and rest[-1] == self._seen.tokenizer.eos_token_id else rest

    def requests(self, item: SeenInstance) -> list[tuple[Any, tuple[Any, ...]]]:
        """Returns the prompt with the answer's beginning."""
        given = (*item.prompt_ids, *item.answer_ids[: self._prefix])
        room = max(1, self.room(item) - self._prefix)
        return [("generate_until", (self.token_text(given), _greedy(max(room, len(self._rest(item))))))]

    def values(self, item: SeenInstance, results: list[Any]) -> dict[str, Any]:
        """Returns the share of the rest before the first difference, and whether all of it came back."""
        decode = self._seen.tokenizer.decode
        given, rest = list(item.answer_ids[: self._prefix]), list(self._rest(item))
        skipped = len(decode(given).rstrip("\ufffd"))
        beginnings = [decode(given + rest[:end])[skipped:] for end in range(1, len(rest) + 1)]
        share = verbatim_share(str(results[0]), beginnings)
        return {"verbatim_share": share, "verbatim": float(share == 1.0)}


def _greedy(max_tokens: int) -> dict[str, Any]:
    return {"until": [], "do_sample": False, "max_gen_toks": max_tokens}


def _going_round(items: list[SeenInstance]) -> list[SeenInstance]:
    by_task: dict[tuple[str, bool], list[SeenInstance]] = defaultdict(list)
    for item in items:
        by_task[item.example.task, not item.trained].append(item)
    rounds = itertools.zip_longest(*(by_task[key] for key in sorted(by_task)))
    return [item for one_of_each in rounds for item in one_of_each if item is not None]


def _means(scores: list[dict[str, Any]], group: str) -> dict[str, dict[str, float]]:
    """Returns the mean of each plain metric, by task or category."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        for metric, value in score.items():
            if isinstance(value, float):
                found[score[group]][metric].append(value)
    return {
        name: {"instances": max(map(len, metrics.values()))} | {metric: fmean(some) for metric, some in metrics.items()}
        for name, metrics in sorted(found.items())
    }


def _comparable(measured: list[Measured]) -> bool:
    sides: dict[str, set[bool]] = defaultdict(set)
    for item in measured:
        sides[item.task].add(item.trained)
    return any(len(both) == 2 for both in sides.values())


def _gap(measured: list[Measured]) -> float:
    return loss_gap(measured).value if _comparable(measured) else float("nan")


def _auc(measured: list[Measured]) -> float:
    return membership_auc(measured).value if _comparable(measured) else float("nan")
