"""The tokenizer of the model that a task is being built for.

A few protocols cut their prompts by tokens. lm-eval hands tasks no tokenizer, but its model arguments, merged into
the metadata; from those it is found by the rules by which the model itself finds it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)


def task_tokenizer(metadata: Mapping[str, Any]) -> Any | None:
    """Returns the model's tokenizer, None if the metadata name none (another backend, or a model object).

    Args:
        metadata: a task's; `tokenizer`, `peft`, `pretrained` and `revision` are looked at.

    Raises:
        PeftEvalError: the checkpoint or base that is named is not there.
    """
    named = {key: metadata.get(key) for key in ("tokenizer", "peft", "pretrained", "revision")}
    return _load(**{key: value if isinstance(value, str) else None for key, value in named.items()})


@functools.lru_cache(maxsize=4)
def _load(*, tokenizer: str | None, peft: str | None, pretrained: str | None, revision: str | None) -> Any | None:
    from peft_eval.checkpoint.location import resolve_folder
    from peft_eval.checkpoint.reading import open_checkpoint

    if tokenizer is None and peft is not None:
        checkpoint = open_checkpoint(peft)
        if checkpoint.has_tokenizer or checkpoint.kind == "full":
            return _from(str(checkpoint.folder), None)
        pretrained = pretrained or checkpoint.base_reference()
    reference = tokenizer or pretrained
    if reference is None:
        return None
    if reference.startswith("zoo:"):
        return _from(str(resolve_folder(reference)), None)
    return _from(reference, None if tokenizer else revision)


def _from(reference: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    name, _, own_revision = reference.partition("@")
    return AutoTokenizer.from_pretrained(name, revision=own_revision or revision or "main", trust_remote_code=False)


@functools.cache
def warn_without_tokenizer(consequence: str) -> None:
    """Warns, once for each consequence, that no tokenizer is known."""
    _log.warning("%s: pass --metadata tokenizer=DIR_OR_HUB_ID to have it done", consequence)
