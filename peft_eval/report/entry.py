"""What a report is made of: models that were evaluated, and runs that ended before they could be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.study.results import Run
from peft_eval.study.stability import stability_of

Kind = Literal["base", "full", "adapter", "other"]
ENDED = ("failed", "diverged", "timed out")
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Entry:
    """One model, or one cell of a study.

    Attributes:
        name: how to call it.
        label: the method's label, which its rows and points share.
        kind: `base`, `full` fine-tuning, `adapter`, or `other`, of which nothing is known.
        base: the base model.
        coordinates: its value on every axis but the seed.
        seed: of its training.
        status: `done`, or how a cell ended.
        reason: why it is not done.
        log: the file that tells more.
        chosen: whether a study's rule chose it; None where no rule decided.
        settings: of its training, as far as they are known.
        manifest: of its checkpoint; None if there is none, or it is gone.
        runs: of lm-eval, the newest last.
        steps: runs of its checkpoints on the way, by step.
    """

    name: str
    label: str
    kind: Kind
    base: str
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    status: str = "done"
    reason: str = ""
    log: Path | None = None
    chosen: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = field(default=None, repr=False)
    runs: tuple[Run, ...] = field(default=(), repr=False)
    steps: Mapping[int, tuple[Run, ...]] = field(default_factory=dict, repr=False)

    def run_of(self, suite: str) -> Run | None:
        """Returns the newest run that has the suite."""
        return newest(self.runs, suite)

    @property
    def trainable_parameters(self) -> int | None:
        """Weights that were trained."""
        return self.manifest.method.trainable_parameters if self.manifest else None

    @property
    def seconds(self) -> float | None:
        """What training took."""
        return self.manifest.training.seconds if self.manifest and self.manifest.training else None

    @property
    def memory_bytes(self) -> int | None:
        """The most memory that training held."""
        return self.manifest.training.peak_memory_bytes if self.manifest and self.manifest.training else None

    @property
    def checkpoint_bytes(self) -> int | None:
        """The size of the checkpoint's weights, without tokenizer and the like."""
        if self.manifest is None:
            return None
        sizes = [one.bytes for name, one in self.manifest.files.items() if name.endswith(_WEIGHTS)]
        return sum(sizes) or None

    @property
    def base_parameters(self) -> int | None:
        """The base's weights."""
        if self.manifest is None or self.manifest.method.total_parameters is None:
            return None
        added = 0 if self.kind == "full" else self.manifest.method.trainable_parameters or 0
        return self.manifest.method.total_parameters - added

    def hashes(self) -> dict[str, str]:
        """Returns what identifies the checkpoint and all that it came from."""
        found: dict[str, str | None] = {}
        for run in self.runs:
            record = (run.table.get("config") or {}).get("peft_eval") or {}
            found |= {"checkpoint": record.get("checkpoint_sha256"), "base": record.get("base_sha256")}
        if self.manifest:
            found["base"] = self.manifest.base.weights_sha256 or found.get("base")
            found["data"] = self.manifest.data.content_sha256 if self.manifest.data else None
            found["tokenizer"] = self.manifest.text.tokenizer_sha256
            found["chat template"] = self.manifest.text.chat_template_sha256
        return {name: value for name, value in found.items() if value}


def unstable_of(entry: Entry) -> str:
    """Returns what was seen in the losses of a run that came to its end, empty where it was stable."""
    training = entry.manifest.training if entry.manifest else None
    return stability_of(training.losses).words if training and training.losses else ""


def newest(runs: tuple[Run, ...], suite: str) -> Run | None:
    """Returns the newest run that has a suite, None if none has."""
    return next((run for run in reversed(runs) if run.tasks_of(suite)), None)
