"""How a checkpoint is served: the first route that holds, and why.

| route | for | how |
|---|---|---|
| merge | adapters with a merged form | merged while vLLM loads the base |
| full | full weights | loaded as any model |
| hf | what else peft can run | `lm_eval --model hf`, unmerged |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.hashing import TOKENIZER_FILES
from peft_eval.checkpoint.reading import Checkpoint, open_checkpoint, read_json
from peft_eval.errors import BaseMismatchError, ConfigError, RouteError
from peft_eval.serving.loader import engine_arguments


@dataclass(frozen=True)
class Route:
    """A checkpoint with the way it is served.

    Attributes:
        checkpoint: the opened checkpoint.
        name: `merge`, `full` or `hf`.
        reason: why this route.
        model_folder: the folder whose weights the engine reads.
        tokenizer_folder: the folder whose tokenizer is used.
        engine: further arguments for `vllm.LLM`.
    """

    checkpoint: Checkpoint
    name: str
    reason: str
    model_folder: Path
    tokenizer_folder: Path
    engine: dict[str, Any]

    @property
    def adds_bos(self) -> bool | None:
        """Whether training put a BOS id before each prompt; None if unknown."""
        manifest = self.checkpoint.manifest
        return manifest.text.adds_bos if manifest else None


def choose_route(
    reference: str, *, pretrained: str | None = None, force_base: bool = False, unmerged: bool = False
) -> Route:
    """Opens a checkpoint and decides how to serve it.

    Args:
        reference: what follows `peft=`.
        pretrained: a base to use instead of the one the checkpoint names.
        force_base: use that base even if its weights differ from the manifest's.
        unmerged: the caller runs adapters unmerged (`--model hf`), so nothing needs a merged form.

    Raises:
        CheckpointError, BaseMismatchError: see `open_checkpoint` and `Checkpoint.base_folder`.
        RouteError: vLLM cannot serve it; the message names the route that can.
        ConfigError: `pretrained=` beside full weights.
    """
    checkpoint = open_checkpoint(reference)
    if checkpoint.kind == "full":
        if pretrained:
            raise ConfigError("pretrained= given beside full weights", place=reference, remedy="leave pretrained= out")
        return Route(checkpoint, "full", "the checkpoint is a whole model", checkpoint.folder, checkpoint.folder, {})
    base = checkpoint.base_folder(pretrained, force=force_base)
    tokenizer = _tokenizer_folder(checkpoint, base)
    _check_vocabulary(checkpoint, base, tokenizer)
    if unmerged:
        return Route(checkpoint, "hf", "peft runs the adapter unmerged", base, tokenizer, {})
    from peft_eval.merging.merger import AdapterMerger

    try:
        changed = len(AdapterMerger(checkpoint.folder, base).targets)
    except RouteError as error:
        raise RouteError(error.problem, place=error.place, remedy="use lm_eval --model hf") from error
    reason = f"{changed} of the base's tensors are merged as they load"
    return Route(checkpoint, "merge", reason, base, tokenizer, engine_arguments(checkpoint.folder))


def _tokenizer_folder(checkpoint: Checkpoint, base: Path) -> Path:
    """Returns the checkpoint's folder if it has a tokenizer or template of its own, else the base's.

    Where both hold the same files the base's is taken: vLLM looks for a model config beside a
    tokenizer, and waits seconds for one where there is none.
    """
    if not checkpoint.has_tokenizer:
        return base
    names = (*TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
    same = all(_content(checkpoint.folder / name) == _content(base / name) for name in names)
    return base if same else checkpoint.folder


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _check_vocabulary(checkpoint: Checkpoint, base: Path, tokenizer: Path) -> None:
    """Refuses a tokenizer with more tokens than the base has rows, by number."""
    path = tokenizer / "tokenizer.json"
    if not path.is_file():
        return
    content = read_json(path)
    ids = list((content.get("model") or {}).get("vocab") or {})
    added = [token.get("id", -1) for token in content.get("added_tokens") or [] if isinstance(token, dict)]
    needed = max([len(ids), *(number + 1 for number in added)])
    rows = read_json(base / "config.json").get("vocab_size")
    if isinstance(rows, int) and needed > rows:
        raise BaseMismatchError(
            f"the tokenizer has {needed:,} tokens, the base's vocabulary {rows:,}",
            place=str(checkpoint.folder),
            remedy="pass the base that was trained on",
        )
