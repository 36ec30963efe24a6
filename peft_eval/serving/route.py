"""How a checkpoint is served: the first route that holds, and why.

| route | for | how |
|---|---|---|
| merge | adapters with a merged form | merged while vLLM loads the base |
| wrapped | bottlenecks, Compacter, parallel adapters | blocks beside vLLM's own modules |
| prompt | prompt tuning, P-tuning | virtual tokens in an enlarged vocabulary of vLLM |
| full | full weights | loaded as any model |
| hf | what else peft can run; encoder-decoder bases | transformers and peft, unmerged |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peft_eval.checkpoint.hashing import TOKENIZER_FILES
from peft_eval.checkpoint.reading import Checkpoint, open_checkpoint, read_json
from peft_eval.errors import BaseMismatchError, ConfigError, RouteError, unknown_name
from peft_eval.serving.loader import engine_arguments

ENGINE_ROUTES = ("merge", "wrapped", "prompt")
ROUTES = (*ENGINE_ROUTES, "hf")
# Bases whose layers and vocabulary inside vLLM are tested to be where transformers has them. For others route= insists;
# a misplaced adapter cannot pass unseen, since the probe holds the engine's answers against peft's.
TESTED_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "opt", "gpt2")


@dataclass(frozen=True)
class Route:
    """A checkpoint with the way it is served.

    Attributes:
        checkpoint: the opened checkpoint.
        name: `merge`, `wrapped`, `prompt`, `full` or `hf`.
        reason: why this route.
        model_folder: the folder whose weights the engine reads.
        tokenizer_folder: the folder whose tokenizer is used.
        engine: further arguments for `vllm.LLM`.
        prompt_ids: virtual tokens that every prompt begins with.
        backend: what runs it.
    """

    checkpoint: Checkpoint
    name: str
    reason: str
    model_folder: Path
    tokenizer_folder: Path
    engine: dict[str, Any]
    prompt_ids: tuple[int, ...] = ()
    backend: Literal["vllm", "hf"] = "vllm"

    @property
    def adds_bos(self) -> bool | None:
        """Whether training put a BOS id before each prompt; None if unknown."""
        manifest = self.checkpoint.manifest
        return manifest.text.adds_bos if manifest else None


def choose_route(
    reference: str,
    *,
    pretrained: str | None = None,
    force_base: bool = False,
    unmerged: bool = False,
    wanted: str | None = None,
) -> Route:
    """Opens a checkpoint and decides how to serve it.

    Args:
        reference: what follows `peft=`.
        pretrained: a base to use instead of the one the checkpoint names.
        force_base: use that base even if its weights differ from the manifest's.
        unmerged: the caller runs adapters unmerged (`--model hf`), so nothing else is looked for.
        wanted: the route to take, one of `ROUTES`; None for the first that holds.

    Raises:
        CheckpointError, BaseMismatchError: see `open_checkpoint` and `Checkpoint.base_folder`.
        RouteError: the checkpoint does not have the route that is wanted; the message names those it has.
        ConfigError: `pretrained=` beside full weights, or an unknown route.
    """
    if wanted is not None and wanted not in ROUTES:
        raise unknown_name("route", wanted, ROUTES, place="--model_args")
    if unmerged and wanted in ENGINE_ROUTES:
        raise RouteError(f"route={wanted} runs in vLLM", place="--model_args", remedy="use lm_eval --model vllm")
    checkpoint = open_checkpoint(reference)
    if checkpoint.kind == "full":
        if pretrained:
            raise ConfigError("pretrained= given beside full weights", place=reference, remedy="leave pretrained= out")
        return _route_of_full_weights(checkpoint, wanted)
    base = checkpoint.base_folder(pretrained, force=force_base)
    tokenizer = _tokenizer_folder(checkpoint, base)
    _check_vocabulary(checkpoint, base, tokenizer)
    if unmerged:
        return Route(checkpoint, "hf", "peft runs the adapter unmerged", base, tokenizer, {}, backend="hf")
    return _first_that_holds(checkpoint, base, tokenizer, wanted)


def engine_obstacle(model_folder: Path) -> str | None:
    """Returns why vLLM serves no model of this kind, None if nothing is known against it."""
    config = read_json(model_folder / "config.json") if (model_folder / "config.json").is_file() else {}
    if config.get("is_encoder_decoder"):
        return f"vLLM serves no encoder-decoder bases ({config.get('model_type')})"
    return None


def _route_of_full_weights(checkpoint: Checkpoint, wanted: str | None) -> Route:
    if wanted in ENGINE_ROUTES:
        raise RouteError(
            f"route={wanted}: full weights have no adapter to put in", place=checkpoint.reference, remedy="leave it out"
        )
    obstacle = engine_obstacle(checkpoint.folder) or ("route=hf was asked for" if wanted else None)
    reason = "the checkpoint is a whole model" + (f"; {obstacle}" if obstacle else "")
    folder = checkpoint.folder
    return Route(checkpoint, "full", reason, folder, folder, {}, backend="hf" if obstacle else "vllm")


def _first_that_holds(checkpoint: Checkpoint, base: Path, tokenizer: Path, wanted: str | None) -> Route:
    if wanted == "hf":
        return Route(checkpoint, "hf", "route=hf was asked for", base, tokenizer, {}, backend="hf")
    try:
        name = wanted or _route_of_type(checkpoint.adapter_config)
        return _engine_route(name, checkpoint, base, tokenizer, insisted=wanted is not None)
    except RouteError as error:
        if wanted is None:
            return Route(checkpoint, "hf", error.problem, base, tokenizer, {}, backend="hf")
        other = _first_that_holds(checkpoint, base, tokenizer, None).name
        raise RouteError(
            f"route={wanted}: {error.problem}",
            place=checkpoint.reference,
            remedy=f"its routes: {', '.join(dict.fromkeys([other, 'hf']))}",
        ) from error


def _route_of_type(adapter_config: dict[str, Any]) -> str:
    """Returns the one route into vLLM that adapters of this type can have."""
    from peft_eval.methods.tuner import all_tuners
    from peft_eval.serving.virtual_tokens import PROMPT_TYPES

    kind = str(adapter_config.get("peft_type", "")).upper()
    if kind in PROMPT_TYPES:
        return "prompt"
    tuner = all_tuners().get(kind)
    return "wrapped" if tuner is not None and tuner.blocks else "merge"


def _engine_route(name: str, checkpoint: Checkpoint, base: Path, tokenizer: Path, *, insisted: bool) -> Route:
    """Builds one of the routes into vLLM.

    Raises:
        RouteError: the adapter has no such form.
    """
    if obstacle := engine_obstacle(base):
        raise RouteError(obstacle)
    config = read_json(base / "config.json")
    prompt_ids: tuple[int, ...] = ()
    overrides, graph = {}, None
    if name == "merge":
        from peft_eval.merging.merger import AdapterMerger

        merger = AdapterMerger(checkpoint.folder, base)
        overrides = merger.config_overrides
        reason = f"{len(merger.targets)} of the base's tensors are merged as they load"
    elif name == "wrapped":
        from peft_eval.serving.blocks import read_blocks, structure

        blocks = read_blocks(checkpoint.folder)
        graph = structure(blocks)
        reason = f"{len(blocks)} blocks are put beside the base's sublayers"
    else:
        from peft_eval.serving.virtual_tokens import read_prompt

        first, rows = config["vocab_size"], len(read_prompt(checkpoint.folder, config))
        prompt_ids = tuple(range(first, first + rows))
        overrides = {"vocab_size": first + rows}
        reason = f"{rows} virtual tokens are put before each prompt"
    if name != "merge" and config.get("model_type") not in TESTED_MODEL_TYPES and not insisted:
        kind = config.get("model_type")
        raise RouteError(f"not tested inside vLLM with bases of type {kind} (route={name} in --model_args insists)")
    engine = engine_arguments(
        checkpoint.folder, name, config_overrides=overrides, graph=graph, virtual_rows=len(prompt_ids)
    )
    return Route(checkpoint, name, reason, base, tokenizer, engine, prompt_ids)


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
