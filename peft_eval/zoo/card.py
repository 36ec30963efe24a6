"""A checkpoint's card: `README.md` with the hub's metadata, made from what is recorded and from nothing else."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.checkpoint.zoo_index import PREFIX
from peft_eval.zoo.files import CARD_NAME
from peft_eval.zoo.records import VersionRecord
from peft_eval.zoo.scores import Scores, read_scores

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_POINTS = 60
_OUTPUT = "runs/{name}"
_NOT_FILLED_IN = "[More Information Needed]"
_BASE_IN_FOLDER = re.compile(r"^base_model: *[\"']?[/~.]", re.MULTILINE)


def write_card(folder: Path, record: VersionRecord) -> None:
    """Writes a version's card into its folder, in place of what was there.

    A card that came with a checkpoint from elsewhere is kept as it is, since its author knows more than its files tell;
    but not peft's form that nobody filled in, nor one that names the base by a folder of somebody's machine.
    """
    manifest = Manifest.read(folder) if (folder / MANIFEST_NAME).is_file() else None
    if manifest is None and _is_of_an_author(folder / CARD_NAME):
        return
    (folder / CARD_NAME).write_text(card(record, manifest, read_scores(folder)), encoding="utf-8")


def _is_of_an_author(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return bool(text.strip()) and _NOT_FILLED_IN not in text and not _BASE_IN_FOLDER.search(text)


def card(record: VersionRecord, manifest: Manifest | None, scores: Scores | None) -> str:
    """Returns a card's text.

    Args:
        record: what the zoo knows.
        manifest: the checkpoint's own, None for one made elsewhere.
        scores: what it scored, if it was asked.
    """
    environment = Environment(
        loader=PackageLoader("peft_eval.zoo", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown; what goes into a table or a line is made plain by `plain`
    )
    environment.filters["plain"] = _plain
    about = record.about
    steps = [step for step, _ in about.losses]
    return environment.get_template("card.md.jinja").render(
        record=record,
        about=about,
        manifest=manifest,
        scores=scores,
        metadata=_metadata(record, scores),
        curve=curve([loss for _, loss in about.losses]),
        steps=steps,
        train=train_command(record.name, manifest) if manifest else None,
        options=_options(manifest),
        held_in_base=_tokenizer_is_in_base(record, manifest),
        bytes=sum(file.bytes for file in record.files.values()),
    )


def _plain(value: Any) -> str:
    """Returns a value as text that stays in its line and its cell."""
    text = "".join(sign for sign in " ".join(str(value).split()) if sign.isprintable())
    return text.replace("|", "\\|").replace("<", "&lt;")


def _metadata(record: VersionRecord, scores: Scores | None) -> str:
    """Returns the hub's front matter: licence, library, base, tags, and scores as a model-index."""
    from huggingface_hub import EvalResult, ModelCardData

    about = record.about
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=suite,
            dataset_name=suite,
            metric_type=metric,
            metric_name=f"{metric}, 95% interval ± {score.half_width:.4g}" if score.half_width is not None else metric,
            metric_value=round(score.value, 4),
        )
        for suite, found in (scores.suites if scores else {}).items()
        for metric, score in found.items()
    ]
    on_hub = about.base if about.base and not about.base.startswith(PREFIX) else None
    data = ModelCardData(
        license=about.licence,
        library_name="peft" if about.kind == "adapter" else "transformers",
        base_model=on_hub,
        tags=["peft-eval", *([about.method] if about.method else [])],
        pipeline_tag="text-generation",
        model_name=record.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def curve(losses: Sequence[float], *, width: int = _CURVE_POINTS) -> str:
    """Draws losses as bars of text, each the mean of an equal stretch of steps."""
    if not losses:
        return ""
    count = min(width, len(losses))
    edges = [round(place * len(losses) / count) for place in range(count + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((mean - low) / step)] for mean in means)


def train_command(name: str, manifest: Manifest) -> str | None:
    """Returns the command that trains the checkpoint again: what its specification has besides the defaults."""
    if manifest.training is None:
        return None
    from peft_eval.training.resolve import option_of, resolve

    spec = manifest.training.spec
    needed = ("base", "method", "data")
    given = {key: spec[key] for key in needed}
    output = _OUTPUT.format(name=name)
    plain = resolve({key: (value, key) for key, value in {**given, "output": output}.items()}).flat()
    words = ["peft-eval", "train"]
    for key in needed:
        words += [option_of(key), str(spec[key])]
    for key, value in spec.items():
        if key not in (*needed, "output", "epochs") and key in plain and plain[key] != value and value is not None:
            words += _option(option_of(key), key, value)
    if spec.get("max_steps") is None and spec.get("epochs") != plain.get("epochs"):
        words += ["--epochs", f"{spec['epochs']:g}"]
    return shlex.join([*words, "--output", output])


def _option(option: str, key: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        return [option, ",".join(map(str, value))]
    if isinstance(value, Mapping | list):
        return ["--set", f"{key}={_toml(value)}"]
    return [option, f"{value:g}" if isinstance(value, float) else str(value)]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _options(manifest: Manifest | None) -> str:
    """Returns a method's options that are set, in one line."""
    options = manifest.method.options if manifest else {}
    told = {key: value for key, value in options.items() if value not in (None, [], {}, False)}
    return ", ".join(
        f"{key} {' '.join(map(str, value)) if isinstance(value, list) else value}" for key, value in told.items()
    )


def _tokenizer_is_in_base(record: VersionRecord, manifest: Manifest | None) -> bool:
    return bool(manifest and manifest.text.tokenizer_sha256) and "tokenizer.json" not in record.files
