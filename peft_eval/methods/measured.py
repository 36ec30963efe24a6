"""What `scripts/measure_methods.py` found of each method: found by running it, kept beside the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("measured.json")
UNKNOWN = "unknown"


def measurements() -> dict[str, dict[str, Any]]:
    """Returns the measurements by method; a method that was not measured (a plugin's, a newer peft's) is not there."""
    if not FILE.is_file():
        return {}
    methods: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["methods"]
    return methods


def in_short(one: dict[str, Any] | None) -> tuple[str, str]:
    """Returns the share of weights that a method trains and its route, each UNKNOWN if it was not measured."""
    if not one:
        return UNKNOWN, UNKNOWN
    share = f"{100 * one['share']:.3g}%" if "share" in one else UNKNOWN
    return share, one.get("route", UNKNOWN)


def in_words(one: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Returns a method's measurements as label and text."""
    if not one:
        return [("measured", UNKNOWN)]
    if "seconds_per_step" not in one:
        return [("measured", f"could not be: {one['error']}")]
    lines = [
        ("weights", f"{one['trainable_parameters']:,} ({one['share']:.2%}), {one['checkpoint_bytes'] / 1e6:.2f} MB"),
        ("training", f"{one['seconds_to_lora']:.2f} of LoRA's seconds per step, {one['memory_bytes'] / 1e6:.0f} MB"),
        ("route", f"{one['route']}: {one['reason']}" if "route" in one else one.get("error", UNKNOWN)),
    ]
    if "merged_float32" in one:
        exactness = f"{one['merged_float32']:.1e} in float32, {one['merged_bfloat16']:.1e} in bfloat16"
        lines.append(("merged", f"off by {exactness}, of the largest logit"))
    if "tokens_per_second_to_base" in one:
        lines.append(("serving", f"{one['tokens_per_second_to_base']:.2f} of the base's tokens per second in vLLM"))
    return lines
