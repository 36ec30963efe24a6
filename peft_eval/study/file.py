"""The study file: a TOML file that says which runs to compare.

```toml
name = "rank"

[train]                  # settings of every run, as in `peft-eval train --config`
base = "zoo:base"
data = "mini"
max_steps = 150

[axes]                   # every combination of these
learning_rate = [1e-4, 1e-3]
seed = [42, 127]

[methods.lora]           # a method and its own settings; a list is an axis of this method alone
rank = [8, 64]

[methods.lora-all]       # the same method under another label
method = "lora"
targets = "all-linear"

[methods.full]
learning_rate = 1e-5     # in place of the axis

[evaluate]
suites = ["mini_unseen"]

[choose]                 # the best learning rate by these scores, then more seeds of it alone
axis = "learning_rate"
by = "mini_memorization"
seeds = [42, 127, 894]

[scales.smoke.train]     # `--scale smoke`: the same study, with these settings in place
max_steps = 5
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from peft_eval.errors import ConfigError, PeftEvalError, raise_all, unknown_name
from peft_eval.training.resolve import read_toml

MOST_CELLS = 10_000


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evaluate(_Section):
    """What every trained checkpoint, and the base, is asked.

    Attributes:
        suites: lm-eval tasks and groups.
        model: lm-eval's backend, `vllm` or `hf`.
        model_args, metadata: its arguments and the tasks'.
        limit: so many questions a task; None for all.
        curve: what the checkpoints on the way are asked, those that `keep_checkpoints` of a run leaves.
    """

    suites: list[str] = Field(min_length=1)
    model: str = "vllm"
    model_args: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)
    curve: list[str] = Field(default_factory=list)


class Choose(_Section):
    """The rule that picks one value of an axis for each group of runs that differ in it alone.

    Attributes:
        axis: the axis to pick from.
        by: suite whose score decides. It must be none that the study reports.
        metric: its metric.
        higher_is_better: which score wins.
        seeds: the first is that of the search; runs with the value picked are made with all.
    """

    axis: str = "learning_rate"
    by: str
    metric: str = "rougeL"
    higher_is_better: bool = True
    seeds: list[int] = Field(min_length=1)


class Limits(_Section):
    """What a run may take.

    Attributes:
        minutes: a run that takes longer is ended and counted as failed; None for no limit.
        attempts: how often a run is begun before `retry` is needed.
    """

    minutes: float | None = Field(None, gt=0)
    attempts: int = Field(1, ge=1)


class StudyFile(_Section):
    """A study as written; see the module's text for the parts."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    train: dict[str, Any]
    axes: dict[str, list[Any]] = Field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    evaluate: Evaluate
    choose: Choose | None = None
    limits: Limits = Field(default_factory=lambda: Limits.model_validate({}))

    @field_validator("axes")
    @classmethod
    def _not_empty(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if empty := [name for name, values in axes.items() if not values]:
            raise ValueError(f"no values for {', '.join(empty)}: the grid is empty")
        return axes


def read_study(path: Path, scale: str | None = None) -> StudyFile:
    """Reads a study file.

    Args:
        path: the TOML file.
        scale: name of the scale whose settings go in place of the file's; None for the file as it is.

    Raises:
        ConfigError, ManyErrors: it cannot be read, or what is wrong with it, all at once.
    """
    content = read_toml(path)
    scales = content.pop("scales", {})
    for name, settings in scales.items():
        for key in settings:
            if key not in StudyFile.model_fields:
                raise unknown_name("key", key, StudyFile.model_fields, place=f"{path}: scales.{name}")
    if scale is not None:
        if not scales:
            raise ConfigError("the file has no [scales]", place=f"--scale {scale}", remedy="leave it out")
        if scale not in scales:
            raise unknown_name("scale", scale, scales, place="--scale")
        content = _overlaid(content, scales[scale])
        for length, other in (("max_steps", "epochs"), ("epochs", "max_steps")):  # one replaces the other
            if length in scales[scale].get("train", {}) and other not in scales[scale]["train"]:
                content.get("train", {}).pop(other, None)
    try:
        study = StudyFile.model_validate(content)
    except ValidationError as error:
        raise_all([_misfit(detail, path) for detail in error.errors()])
        raise AssertionError("unreachable") from error
    if study.choose and study.choose.by in study.evaluate.suites:
        raise ConfigError(
            f"{study.choose.by} both decides and is reported: the score of what it chose would be too high",
            place=f"{path}: choose.by",
            remedy="choose by a suite that the study does not report",
        )
    return study


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Returns `below` with the values of `above` in place, tables merged."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _overlaid(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _misfit(detail: Any, path: Path) -> PeftEvalError:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        section = StudyFile
        for part in detail["loc"][:-1]:
            section = {"evaluate": Evaluate, "choose": Choose, "limits": Limits}.get(str(part), section)  # type: ignore[assignment]
        return unknown_name("key", str(detail["loc"][-1]), section.model_fields, place=f"{path}: {place}")
    message = detail["msg"].removeprefix("Value error, ")
    return ConfigError(message[:1].lower() + message[1:], place=f"{path}: {place}")
