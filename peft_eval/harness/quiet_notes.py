"""Keeps one note of lm-eval's out of the log of suites that make their documents by a function.

lm-eval warns about `custom_dataset` once for each task, on how to pass arguments to it: 57 times for MMLU.
"""

from __future__ import annotations

import logging


def keep_quiet(prefix: str) -> None:
    """Drops that note for tasks whose name begins so; a second call changes nothing."""
    logger = logging.getLogger("lm_eval.api.task")
    if not any(getattr(one, "_prefix", None) == prefix for one in logger.filters):
        logger.addFilter(_NoteFilter(prefix))


class _NoteFilter(logging.Filter):
    def __init__(self, prefix: str):
        super().__init__()
        self._prefix = prefix

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        return not (message.startswith(self._prefix) and "Custom kwargs can be passed to" in message)
