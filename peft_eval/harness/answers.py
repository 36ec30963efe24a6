"""A model's answers on disk, each under a hash of everything that it depends on, so that none is asked for twice.

SQLite with a write-ahead log: several processes may share the file, and what was kept outlives SIGKILL. Values are JSON
with a checksum. lm-eval's own `--use_cache` is not used for it: its keys leave out the weights, and it unpickles.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from peft_eval.errors import DataError

logger = logging.getLogger("lm_eval.peft_eval")

FILE_NAME = "answers.sqlite"
KEEPS_ANSWERS = ("vllm", "hf")  # lm-eval's names of the backends whose answers are kept
_WAIT_FOR_OTHERS_SECONDS = 60
_AT_ONCE = 500  # SQLite's limit on the variables of a statement was 999 for long
_TABLE = "CREATE TABLE IF NOT EXISTS answers (question BLOB PRIMARY KEY, answer TEXT NOT NULL, sum BLOB NOT NULL)"


def question_key(*parts: Any) -> bytes:
    """Returns the key of a question: a hash over all that its answer depends on, as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).digest()


class AnswerStore:
    """A file of answers.

    One that is damaged, or is no such file, is set aside under another name and a new one begun.

    Args:
        path: the file, made if it is not there.

    Raises:
        DataError: it cannot be opened or written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = self._open()

    def known(self, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """Returns the answers that are there, by their keys."""
        wanted = list(dict.fromkeys(keys))
        try:
            found: dict[bytes, Any] = {}
            for start in range(0, len(wanted), _AT_ONCE):
                found |= self._read(wanted[start : start + _AT_ONCE])
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._unusable(error) from error
            self._file.close()
            self._set_aside(error)
            self._file = self._open()
            return {}
        return found

    def keep(self, answers: Mapping[bytes, Any]) -> None:
        """Keeps answers; they are safe from the end of this process when this returns.

        Raises:
            DataError: the disk is full, or the file cannot be written.
        """
        rows = []
        for key, answer in answers.items():
            text = json.dumps(answer, separators=(",", ":"))
            rows.append((key, text, _checksum(key, text)))
        try:
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def __len__(self) -> int:
        count: int = self._file.execute("SELECT count(*) FROM answers").fetchone()[0]
        return count

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        marks = ",".join("?" * len(keys))
        rows = self._file.execute(f"SELECT question, answer, sum FROM answers WHERE question IN ({marks})", keys)
        found = {}
        for key, text, checksum in rows:
            if not isinstance(text, str) or _checksum(key, text) != checksum:
                raise ValueError("an answer does not match its checksum")
            found[key] = json.loads(text)
        return found

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_WAIT_FOR_OTHERS_SECONDS):
                try:
                    return self._connect()
                except sqlite3.DatabaseError as error:
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                    self._set_aside(error)
                    return self._connect()
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def _connect(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.path, timeout=_WAIT_FOR_OTHERS_SECONDS)
        try:
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=NORMAL")
            [verdict] = file.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            file.execute(_TABLE)
            columns = [row[1] for row in file.execute("PRAGMA table_info(answers)")]
            if columns != ["question", "answer", "sum"]:
                raise sqlite3.DatabaseError(f"its table has the columns {', '.join(columns)}")
        except sqlite3.Error:
            file.close()
            raise
        return file

    def _set_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        for ending in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + ending)
            if part.exists():
                part.replace(aside.with_name(aside.name + ending))
        logger.warning("%s is damaged (%s): set aside as %s, and every question is asked", self.path, error, aside.name)

    def _unusable(self, error: Exception) -> DataError:
        return DataError(
            f"cannot be used to keep answers: {error}",
            place=str(self.path),
            remedy="free some room, or name another file with --answers",
        )


def _checksum(key: bytes, text: str) -> bytes:
    return hashlib.sha256(key + text.encode()).digest()[:8]
