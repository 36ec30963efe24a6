"""One finding of `peft-eval doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and what to do about it.

    Attributes:
        name: what was looked at.
        state: `ok`, `note` (worth knowing, nothing is broken) or `bad`.
        found: one line.
        remedy: what to do; every bad finding has one.
    """

    name: str
    state: Literal["ok", "note", "bad"]
    found: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        if self.state == "bad" and not self.remedy:
            raise ValueError(f"a bad finding without a remedy: {self.name}")
