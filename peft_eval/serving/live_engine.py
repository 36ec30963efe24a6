"""One vLLM engine for many checkpoints: started once, then given other weights in place.

What an engine was built for (architecture, tokenizer, arguments, the graph where it is compiled) must be the same;
where it is not, the engine is ended, its memory given back, and another one started. Either is said.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.hashing import TOKENIZER_FILES, file_sha256
from peft_eval.checkpoint.reading import read_json
from peft_eval.errors import RouteError
from peft_eval.serving.engine_watch import fail_when_killed
from peft_eval.serving.loader import LOAD_FORMAT, Loading
from peft_eval.serving.swapping import WORKER_EXTENSION

logger = logging.getLogger("lm_eval.peft_eval")

# Arguments that say which weights are served, which are what is swapped, or how much room there is.
_NOT_BUILT_IN = ("model", "tokenizer", "load_format", "model_loader_extra_config", "hf_overrides", "additional_config",
                 "kv_cache_memory_bytes")  # fmt: skip
# Settings of a model's config that its weights' place in an engine does not depend on.
_INCIDENTAL = ("_name_or_path", "transformers_version", "architectures_backup")


@dataclass(frozen=True, slots=True)
class Change:
    """How a checkpoint came into the engine.

    Attributes:
        how: `start` or `swap`.
        seconds: what it took.
        reason: of a start, why no swap would do.
        modules: of a swap, how many of vLLM's modules were loaded again; None for all.
    """

    how: str
    seconds: float
    reason: str | None = None
    modules: int | None = None

    def as_record(self) -> dict[str, Any]:
        """Returns it for the results."""
        return asdict(self)


class LiveEngine:
    """Holds at most one engine.

    Args:
        virtual_rows: room for virtual tokens that each engine's vocabulary gets, the most that a checkpoint needs.

    Attributes:
        changes: how each checkpoint came in.
    """

    def __init__(self, virtual_rows: int = 0):
        self.virtual_rows = virtual_rows
        self.changes: list[Change] = []
        self._engine: Any = None
        self._kind: dict[str, Any] | None = None
        self._rows = 0

    def take(self, **arguments: Any) -> Any:
        """Returns a `vllm.LLM` that serves what these arguments say.

        Args:
            arguments: as `vllm.LLM` takes them, with `peft_eval.serving.loader.engine_arguments` for an adapter.

        Raises:
            RouteError: a load format or worker extension of another's is asked for.
        """
        for name, ours in (("load_format", LOAD_FORMAT), ("worker_extension_cls", WORKER_EXTENSION)):
            if arguments.get(name) not in (None, ours, "auto"):
                raise RouteError(
                    f"{name}={arguments[name]!r} cannot be set for many checkpoints in one engine",
                    place="--model-args",
                    remedy="leave it out",
                )
        loading = _loading_of(arguments)
        kind = engine_kind(arguments)
        started = time.perf_counter()
        if self._engine is not None and kind == self._kind:
            try:
                found = self._swap(str(arguments["model"]), loading)
            except BaseException:
                self.close()  # what its model holds now is unknown
                raise
            self.changes.append(Change("swap", time.perf_counter() - started, modules=found))
        else:
            reason = self._why_not(kind)
            self.close()
            started = time.perf_counter()
            self._engine = self._start(arguments, loading)
            self._kind = kind
            self.changes.append(Change("start", time.perf_counter() - started, reason))
        return self._engine

    def close(self) -> None:
        """Ends the engine's processes, if there are any."""
        engine, self._engine, self._kind = self._engine, None, None
        if engine is not None:
            engine.llm_engine.engine_core.shutdown()

    def _why_not(self, kind: dict[str, Any]) -> str | None:
        if self._kind is None:
            return None
        differing = [name for name in kind if kind[name] != self._kind.get(name)]
        return f"another {' and '.join(differing)} than the running engine's"

    def _start(self, arguments: dict[str, Any], loading: Loading) -> Any:
        from vllm import LLM

        model = str(arguments["model"])
        overrides = dict(arguments.get("hf_overrides") or {})
        if self.virtual_rows and not _own_vocabulary(loading, overrides):
            self._rows = self.virtual_rows
            overrides["vocab_size"] = _vocabulary(model) + self._rows
        else:
            self._rows = loading.virtual_rows
        rows = replace(loading, virtual_rows=self._rows)
        given = {
            "load_format": LOAD_FORMAT,
            "model_loader_extra_config": rows.as_extra(),
            "worker_extension_cls": WORKER_EXTENSION,
        }
        if overrides:
            given["hf_overrides"] = overrides
            compiled = list((arguments.get("additional_config") or {}).get(LOAD_FORMAT) or [None, None])
            given["additional_config"] = {LOAD_FORMAT: [overrides, compiled[1]]}
        engine = LLM(**{**arguments, **given})
        fail_when_killed(engine)
        return engine

    def _swap(self, model: str, loading: Loading) -> int | None:
        rows = replace(loading, virtual_rows=self._rows)
        found = self._engine.collective_rpc("peft_eval_put_in", args=(model,), kwargs={"loading": rows.as_extra()})
        if not self._engine.reset_prefix_cache():
            raise RouteError("vLLM kept its cache of what the last weights computed", remedy="report this")
        modules: int | None = found[0]["modules"]
        return modules


def _loading_of(arguments: dict[str, Any]) -> Loading:
    if arguments.get("load_format") != LOAD_FORMAT:
        return Loading()
    return Loading.taken_from(dict(arguments["model_loader_extra_config"]))


def engine_kind(arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns what an engine with these arguments is built for: only checkpoints of one kind can share it."""
    model = Path(arguments["model"])
    tokenizer = Path(arguments.get("tokenizer") or model)
    loading = _loading_of(arguments)
    overrides = dict(arguments.get("hf_overrides") or {})
    if loading.route == "prompt":
        overrides.pop("vocab_size", None)
    config = {key: value for key, value in _json_of(model, "config.json").items() if key not in _INCIDENTAL}
    stops = {key: value for key, value in _json_of(model, "generation_config.json").items() if key == "eos_token_id"}
    extra = (arguments.get("additional_config") or {}).get(LOAD_FORMAT) or [None, None]
    eager = bool(arguments.get("enforce_eager"))
    return {
        "architecture": [config, overrides],
        "generation config": stops,
        "tokenizer": _tokenizer_kind(tokenizer),
        "graph": None if eager else extra[1],
        "set of arguments": {
            key: value for key, value in sorted(arguments.items()) if key not in _NOT_BUILT_IN and value is not None
        },
    }


def _tokenizer_kind(folder: Path) -> Any:
    """Returns what makes a tokenizer another one for an engine, which detokenises and knows its end of text."""
    if not folder.is_dir():
        return str(folder)
    config = _json_of(folder, "tokenizer_config.json")
    ignored = ("chat_template", "model_max_length", "name_or_path", "transformers_version")
    files = [(name, file_sha256(folder / name)) for name in TOKENIZER_FILES if (folder / name).is_file()]
    return [files, {key: value for key, value in config.items() if key not in ignored}]


def _own_vocabulary(loading: Loading, overrides: dict[str, Any]) -> bool:
    """Tells whether an adapter brings a vocabulary of its own, behind which no virtual tokens are put."""
    return loading.route == "merge" and "vocab_size" in overrides


def _vocabulary(model: str) -> int:
    return int(read_json(Path(model) / "config.json")["vocab_size"])


def _json_of(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
