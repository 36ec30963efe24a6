"""Judges' answers on disk, each under a hash of everything it was an answer to.

An answer is committed the moment it arrives, so a judge or a run that dies loses none, and runs at the same time may
share the file. The same question to the same judge is never asked twice.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from peft_eval.errors import DataError

_WAIT_FOR_OTHERS_SECONDS = 60


def default_store() -> Path:
    """Returns where answers are kept unless told otherwise."""
    return user_cache_path("peft_eval") / "judge" / "answers.sqlite"


def question_hash(judge: str, question: Mapping[str, Any]) -> str:
    """Returns the name of a question's answer.

    Args:
        judge: the judge's identity.
        question: all that is sent to it but the key.
    """
    text = json.dumps([judge, question], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerStore:
    """A file of answers; safe to use from several threads and processes.

    Args:
        path: the file, made if it is not there.

    Raises:
        DataError: it cannot be opened, or is no such file.
    """

    def __init__(self, path: Path):
        self.path = path.expanduser()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=_WAIT_FOR_OTHERS_SECONDS, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, answer TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"cannot be used as the judge's cache: {error}",
                place=str(self.path),
                remedy="name another file with --metadata judge_cache=FILE",
            ) from error

    def get(self, question: str) -> dict[str, Any] | None:
        """Returns the answer under a question's hash, None if there is none."""
        with self._lock:
            row = self._file.execute("SELECT answer FROM answers WHERE question = ?", (question,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, question: str, answer: Mapping[str, Any]) -> None:
        """Keeps an answer; on disk when this returns."""
        with self._lock, self._file:
            self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (question, json.dumps(answer)))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
