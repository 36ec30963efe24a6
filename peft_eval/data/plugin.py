"""The built-in data sources, announced like those of any other package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from peft_eval import hookspecs

if TYPE_CHECKING:
    from peft_eval.data.source import DataSource


@hookspecs.hookimpl
def peft_eval_datasets() -> Iterable[DataSource]:
    """Returns the built-in data sources; imported here so that naming plugins stays cheap."""
    from peft_eval.data.messages.source import MessagesSource
    from peft_eval.data.mini.source import MiniSource
    from peft_eval.data.superni.source import SuperNISource

    return [SuperNISource(), MiniSource(), MessagesSource()]
