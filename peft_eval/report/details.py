"""What is known of each cell: its settings, its hashes, how it was served, what took part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from peft_eval.report.entry import Entry
from peft_eval.report.rows import Row

Section = dict[str, Any]
_SHOWN_PARTS = 2


def details_of(row: Row) -> list[dict[str, Section]]:
    """Returns for each seed its sections of names and values, without those of which nothing is known."""
    return [
        {heading: known for heading, part in _sections(entry).items() if (known := _known(part))}
        for entry in row.entries
    ]


def _sections(entry: Entry) -> dict[str, Section]:
    manifest = entry.manifest
    training = manifest.training if manifest else None
    settings = training.spec if training else entry.settings
    sections: dict[str, Section] = {
        "": {
            "name": entry.name,
            "status": entry.status,
            "reason": entry.reason,
            "log": str(entry.log or ""),
            "cell": entry.settings.get("cell"),
            "created": manifest.created if manifest else None,
        },
        "hashes": dict(entry.hashes()),
        "settings": {key: value for key, value in settings.items() if key != "cell"},
    }
    if training:
        shown = ("steps", "epochs", "tokens", "seconds", "peak_memory_bytes", "truncated_examples")
        sections["training"] = {name: getattr(training, name) for name in shown}
    if manifest and manifest.data:
        data = manifest.data
        counts = {"tasks": len(data.instances), "instances": sum(map(len, data.instances.values()))}
        sections["data"] = {"source": data.source, "encoding": data.encoding, **counts, "notes": "; ".join(data.notes)}
    if manifest:
        sections["versions, training"] = dict(manifest.versions)
    for run in entry.runs:
        sections[f"evaluation {', '.join(run.groups or list(run.files)[:3])}"] = _evaluation(run.table)
    return sections


def _evaluation(table: Mapping[str, Any]) -> Section:
    config = table.get("config") or {}
    record = config.get("peft_eval") or {}
    prompts = (record.get("prompts") or {}).values()
    flagged = [name for name, one in (record.get("prompts") or {}).items() if one.get("flagged")]
    return {
        "model": config.get("model"),
        "arguments": config.get("model_args"),
        "route": record.get("route"),
        "why": record.get("route_reason"),
        "probe": (record.get("probe") or {}).get("verdict"),
        "prompts": sum(one.get("prompts", 0) for one in prompts) or None,
        "many cut short in": ", ".join(flagged),
        "limit": config.get("limit"),
        "lm-eval": table.get("lm_eval_version"),
        "commit": table.get("git_hash"),
        **{name: version for name, version in (record.get("versions") or {}).items() if name != "lm-eval"},
    }


def _known(part: Mapping[str, Any]) -> Section:
    return {key: _without_place(value) for key, value in part.items() if value not in (None, "", [], {})}


def _without_place(value: Any) -> Any:
    """Shortens absolute paths to their ends: a page that is passed on does not say where its maker keeps his files."""
    if isinstance(value, Mapping):
        return {key: _without_place(one) for key, one in value.items()}
    if isinstance(value, str) and PurePath(value).is_absolute():
        return "/".join(["...", *PurePath(value).parts[-_SHOWN_PARTS:]])
    return value
