"""alpaca-eval's annotator, asking through our store instead of its own decoder and cache.

alpaca-eval keeps what defines the protocol: prompt templates, the seeded swap of the two outputs, and parsers. Its
decoder (0.6.6) gives up at the first error, or after ten rate limits takes an empty answer for the judge's; its cache
is rewritten once every 128 answers, in place, under a key without judge or prompt. So both are replaced.

Imported only where a comparison is judged: it takes seconds, and needs the extra `alpaca`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft_eval.errors import ConfigError, unknown_name

_root_level = logging.getLogger().level
import pandas as pd  # noqa: E402
from alpaca_eval import constants, utils  # noqa: E402
from alpaca_eval.annotators.pairwise_evaluator import PairwiseAnnotatorLocal  # noqa: E402

logging.getLogger().setLevel(_root_level)  # alpaca_eval sets it to INFO for everybody

Ask = Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any] | None]]

_CHAT_MARK = "<|im_start|>"
# What alpaca-eval's decoder takes for itself rather than sending it.
_NOT_SENT = {
    "num_procs", "batch_size", "price_per_token", "is_strip", "requires_chatml", "is_chat", "sleep_time", "n_retries",
    "client_config_path", "client_kwargs", "openai_organization_ids", "openai_api_keys", "openai_api_base",
}  # fmt: skip
_LOGIT_BIAS = ("tokens_to_favor", "tokens_to_avoid")


def config_folder(config: str) -> Path:
    """Returns the folder of an annotator's config: one given, else alpaca-eval's own of that name.

    Raises:
        ConfigError: there is neither.
    """
    given = Path(config).expanduser()
    known = Path(constants.EVALUATORS_CONFIG_DIR)
    for folder in (given.absolute(), known / config):
        if (folder / "configs.yaml").is_file():
            return folder
    names = sorted(folder.name for folder in known.iterdir() if (folder / "configs.yaml").is_file())
    raise unknown_name("judge config", config, names, place="--metadata judge_config")


def read_config(config: str) -> tuple[str, dict[str, Any]]:
    """Returns name and content of the one annotator in a config.

    Raises:
        ConfigError: several annotators, or one that does not go to an OpenAI-compatible endpoint.
    """
    folder = config_folder(config)
    annotators = utils.load_configs(folder)
    place = str(folder / "configs.yaml")
    if len(annotators) != 1:
        raise ConfigError(f"{len(annotators)} annotators", place=place, remedy="name a config with one")
    [(name, content)] = annotators.items()
    if content.get("fn_completions") != "openai_completions":
        raise ConfigError(
            f"it is for {content.get('fn_completions')}, not for an OpenAI-compatible endpoint",
            place=place,
            remedy="name another config, e.g. alpaca_eval_gpt4",
        )
    if any(content.get("completions_kwargs", {}).get(bias) for bias in _LOGIT_BIAS):
        raise ConfigError("it needs logit biases by OpenAI's tokenizer", place=place, remedy="name another config")
    return name, content


class Annotator(PairwiseAnnotatorLocal):
    """alpaca-eval's pairwise annotator with one judge.

    Args:
        config: name or folder of an annotator's config.
        name: under which stored annotations are looked up.
        ask: puts request bodies to the judge; None in an answer's place means that it refused.
        stored: annotations known already, as alpaca-eval writes them; a preference of null is an answer that could
            not be parsed.
    """

    def __init__(self, config: str, name: str, ask: Ask, stored: Iterable[Mapping[str, Any]] = ()):
        with _own_messages_only():
            super().__init__(annotators_config=config_folder(config))
        [annotator] = self.annotators.values()
        annotator.fn_completions = _Decoder(ask)
        self.annotators: dict[str, Any] = {name: annotator}
        rows = [
            {key: row[key] for key in ("instruction", "output_1", "output_2", "annotator")}
            | {"preference": self.TMP_MISSING_ANNOTATION if row["preference"] is None else float(row["preference"])}
            for row in stored
        ]
        self.df_annotations = pd.DataFrame(rows) if rows else None

    def preferences(self, pairs: Sequence[Mapping[str, str]]) -> list[float | None]:
        """Returns 1 (output_1) to 2 (output_2) for each pair, 1.5 for a draw, None for an answer without a verdict.

        Args:
            pairs: with `instruction`, `output_1` and `output_2`.
        """
        key = ("instruction", "output_1", "output_2")
        with _own_messages_only():
            rows = self(pd.DataFrame(list(pairs)), chunksize=None)
        found = {tuple(row[part] for part in key): row["preference"] for row in rows}
        values = [found[tuple(pair[part] for part in key)] for pair in pairs]
        return [None if value is None or pd.isna(value) else float(value) for value in values]


class _Decoder:
    """Stands where alpaca-eval's `openai_completions` stands."""

    def __init__(self, ask: Ask):
        self._ask = ask

    def __call__(
        self,
        prompts: Sequence[str],
        model_name: str,
        max_tokens: int = 2048,
        temperature: float | None = 0.7,
        top_p: float | None = 1.0,
        **options: Any,
    ) -> dict[str, list[Any]]:
        sent = {name: value for name, value in options.items() if name not in _NOT_SENT}
        sent |= {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
        sent = {name: value for name, value in sent.items() if value is not None}
        choices = [dict(choice or {}) for choice in self._ask([_content(prompt.strip()) | sent for prompt in prompts])]
        for choice in choices:
            choice["text"] = _text(choice)
        return {"completions": [choice["text"] for choice in choices], "completions_all": choices}


def _content(prompt: str) -> dict[str, Any]:
    return {"messages": utils.prompt_to_chatml(prompt)} if _CHAT_MARK in prompt else {"prompt": prompt}


def _text(choice: Mapping[str, Any]) -> str:
    """Returns what the parsers read of a choice: its text, or the arguments of the function it calls."""
    message = choice.get("message") or {}
    call = message.get("function_call") or next((tool["function"] for tool in message.get("tool_calls") or []), None)
    return str((call or {}).get("arguments") or message.get("content") or choice.get("text") or "")


@contextmanager
def _own_messages_only() -> Iterator[None]:
    """Silences what alpaca_eval logs on the root logger itself: a traceback for every answer without a verdict."""
    root = logging.getLogger()

    def not_theirs(record: logging.LogRecord) -> bool:
        return "alpaca_eval" not in record.pathname

    root.addFilter(not_theirs)
    try:
        yield
    finally:
        root.removeFilter(not_theirs)
