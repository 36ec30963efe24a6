"""What the files of another trainer's checkpoint tell: peft by itself, TRL, axolotl, LLaMA-Factory, torchtune.

| trainer | read here |
|---|---|
| transformers' Trainer, TRL | `README.md` (front matter, "Framework versions"), `trainer_state.json` |
| axolotl | its YAML, in `README.md` or as `axolotl_config.yaml` |
| LLaMA-Factory | `README.md`, `training_args.yaml`, `trainer_log.jsonl` |
| torchtune | `torchtune_config.yaml` |

Only what a file says is taken, and each fact names its file. `training_args.bin` is a pickle and is never opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LARGEST_BYTES = 1 << 26
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_YAML_BLOCK = re.compile(r"```ya?ml\r?\n(.*?)\r?\n```", re.DOTALL)
_ON_DATA = re.compile(r"fine-tuned version of \[[^\]]*\]\([^)]*\) on (?:the )?(.+?) datasets?\.")
_VERSION_LINE = re.compile(r"^- (TRL|PEFT|Transformers|Pytorch|Datasets|Tokenizers)[: ]+v?([\w.+-]+)\s*$", re.MULTILINE)
_AXOLOTL = re.compile(r"axolotl version: `([\w.+-]+)`")
_NO_DATA = ("unknown", "an unknown", "none")


@dataclass
class Found:
    """What was found.

    Attributes:
        facts: by label, the value with the file that says it.
        losses: (step, training loss).
    """

    trainer: str | None = None
    base: str | None = None
    data: str | None = None
    licence: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)

    def tell(self, label: str, value: Any, file: str) -> None:
        """Keeps a fact, unless an earlier file told it."""
        if isinstance(value, str | int | float) and str(value).strip():
            self.facts.setdefault(label, f"{value} ({file})")


def found_in(folder: Path) -> Found:
    """Reads what a checkpoint's folder tells of its training."""
    found = Found()
    for read in (_axolotl, _llama_factory, _torchtune, _card, _trainer_state):
        read(folder, found)
    return found


def _card(folder: Path, found: Found) -> None:
    text = _text(folder / "README.md")
    front = _mapping(matched[1]) if (matched := _FRONT_MATTER.match(text)) else {}
    tags = [str(tag) for tag in front.get("tags") or [] if isinstance(tag, str)]
    versions = {name: version for name, version in _VERSION_LINE.findall(text)}
    for name, version in versions.items():
        found.tell(f"{name} version", version, "README.md")
    if found.trainer is None and ("trl" in tags or "TRL" in versions):
        kinds = [tag for tag in tags if tag in ("sft", "dpo", "grpo", "orpo", "kto", "reward-trainer", "ppo")]
        found.trainer = " ".join(["TRL", *([versions["TRL"]] if "TRL" in versions else []), *kinds[:1]])
    if found.trainer is None and "generated_from_trainer" in tags:
        found.trainer = "transformers' Trainer"
    licence = front.get("license")
    if isinstance(licence, str) and licence not in ("license", "unknown", "other"):
        found.licence = found.licence or licence
    base = front.get("base_model")
    found.base = found.base or (base if isinstance(base, str) and not base.startswith(("/", ".", "~")) else None)
    if found.data is None:
        found.data = _listed(front.get("datasets")) or _data_in_words(text)


def _data_in_words(text: str) -> str | None:
    matched = _ON_DATA.search(text)
    return None if matched is None or matched[1].lower() in _NO_DATA else matched[1]


def _trainer_state(folder: Path, found: Found) -> None:
    name = "trainer_state.json"
    state = _json(folder / name)
    found.tell("steps", state.get("global_step"), name)
    found.tell("epochs", state.get("epoch"), name)
    found.tell("batch size of a device", state.get("train_batch_size"), name)
    history = state.get("log_history")
    if not found.losses and isinstance(history, list):
        found.losses = _losses(history, "step")


def _axolotl(folder: Path, found: Found) -> None:
    name = "axolotl_config.yaml"
    config = _mapping(_text(folder / name))
    if not config:
        name, text = "README.md", _text(folder / "README.md")
        if "axolotl" not in text.lower():
            return
        blocks = [_mapping(block) for block in _YAML_BLOCK.findall(text)]
        config = next((block for block in blocks if "base_model" in block), {})
        if version := _AXOLOTL.search(text):
            found.trainer = f"axolotl {version[1]}"
    if not config:
        return
    found.trainer = found.trainer or "axolotl"
    found.base = _hub_id(config.get("base_model"))
    found.data = _listed(config.get("datasets"))
    keys = ("learning_rate", "num_epochs", "max_steps", "micro_batch_size", "gradient_accumulation_steps", "seed")
    for key in (*keys, "sequence_len", "lr_scheduler", "optimizer", "chat_template", "train_on_inputs"):
        found.tell(key.replace("_", " "), config.get(key), name)


def _llama_factory(folder: Path, found: Found) -> None:
    name = "training_args.yaml"
    config = _mapping(_text(folder / name))
    front = _FRONT_MATTER.match(text := _text(folder / "README.md"))
    if "finetuning_type" not in config and not (front and "llama-factory" in front[1]):
        return
    found.trainer = "LLaMA-Factory"
    found.base = _hub_id(config.get("model_name_or_path"))
    data = config.get("dataset")
    found.data = data if isinstance(data, str) else _data_in_words(text)
    keys = ("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "seed")
    for key in (*keys, "gradient_accumulation_steps", "cutoff_len", "lr_scheduler_type", "optim", "template", "stage"):
        found.tell(key.replace("_", " "), config.get(key), name)
    lines = [_parsed(line) for line in _text(folder / "trainer_log.jsonl").splitlines()]
    found.losses = _losses(lines, "current_steps")


def _torchtune(folder: Path, found: Found) -> None:
    name = "torchtune_config.yaml"
    config = _mapping(_text(folder / name)) or _mapping(_text(folder.parent / name))
    if not config:
        return
    found.trainer = "torchtune"
    dataset = config.get("dataset")
    if isinstance(dataset, Mapping):
        source = dataset.get("source")
        found.data = " ".join(str(one) for one in (dataset.get("_component_"), source) if one)
    optimizer = config.get("optimizer")
    if isinstance(optimizer, Mapping):
        found.tell("learning rate", optimizer.get("lr"), name)
        found.tell("optimizer", optimizer.get("_component_"), name)
    model = config.get("model")
    if isinstance(model, Mapping):
        found.tell("model builder", model.get("_component_"), name)
    for key in ("epochs", "max_steps_per_epoch", "batch_size", "gradient_accumulation_steps", "seed", "dtype"):
        found.tell(key.replace("_", " "), config.get(key), name)


def _losses(entries: list[Any], step: str) -> list[tuple[int, float]]:
    rows = [entry for entry in entries if isinstance(entry, Mapping)]
    return [
        (row[step], float(row["loss"]))
        for row in rows
        if isinstance(row.get(step), int) and isinstance(row.get("loss"), int | float)
    ]


def _hub_id(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", value) else None


def _listed(value: Any) -> str | None:
    """Returns data sets as text: hub ids, or axolotl's tables with a path."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    names = [one.get("path") if isinstance(one, Mapping) else one for one in value]
    return ", ".join(str(name) for name in names if isinstance(name, str)) or None


def _text(path: Path) -> str:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _mapping(text: str) -> dict[str, Any]:
    import yaml

    return _of_mapping(lambda: yaml.safe_load(text), (yaml.YAMLError, RecursionError, ValueError))


def _json(path: Path) -> dict[str, Any]:
    return _of_mapping(lambda: json.loads(_text(path) or "{}"), (ValueError, RecursionError))


def _parsed(line: str) -> dict[str, Any]:
    return _of_mapping(lambda: json.loads(line), (ValueError, RecursionError))


def _of_mapping(read: Callable[[], Any], errors: tuple[type[Exception], ...]) -> dict[str, Any]:
    """Returns a mapping that was read, an empty one where the text is something else: then it tells nothing."""
    try:
        value = read()
    except errors:
        return {}
    return {str(key): one for key, one in value.items()} if isinstance(value, Mapping) else {}
