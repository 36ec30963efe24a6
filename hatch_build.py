"""Build hook: task folders and the shipped zoo go into wheels, while an editable install reads them in place."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedFolders(BuildHookInterface):
    """Adds `tasks/` and `adapters_zoo/` to wheels as `peft_eval/_tasks` and `peft_eval/_zoo`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Extends the files of a standard build; `version` is "editable" for `pip install -e`."""
        if version == "standard":
            build_data["force_include"] |= {"tasks": "peft_eval/_tasks", "adapters_zoo": "peft_eval/_zoo"}
