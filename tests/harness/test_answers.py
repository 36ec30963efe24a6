"""The store of answers: shared by processes, outlives SIGKILL, and never trusted once it is damaged."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from peft_eval.errors import DataError
from peft_eval.harness.answers import AnswerStore, question_key


def keys(count: int) -> list[bytes]:
    return [question_key("question", number) for number in range(count)]


def test_answers_are_there_again(tmp_path: Path) -> None:
    answers = {key: {"text": f"answer {number} ü", "finish_reason": "stop"} for number, key in enumerate(keys(1200))}
    store = AnswerStore(tmp_path / "new" / "answers.sqlite")
    store.keep(answers)
    store.close()
    again = AnswerStore(tmp_path / "new" / "answers.sqlite")
    assert again.known([*answers, question_key("another")]) == answers
    assert len(again) == 1200


def test_the_key_holds_every_part() -> None:
    speakers = [{"weights": "a"}, {"weights": "b"}]
    found = {question_key("generate", who, {"max_tokens": n}, [1, 2]) for who in speakers for n in (1, 2)}
    assert len(found) == 4


PROGRAM = """
import sys, time
from pathlib import Path
from peft_eval.harness.answers import AnswerStore, question_key
store = AnswerStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 100000):
    store.keep({question_key("question", number): number})
    print(number, flush=True)
    time.sleep(0.001)
"""


def test_two_processes_share_it_and_sigkill_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    runs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), str(start)], stdout=subprocess.PIPE, text=True)
        for start in (0, 50000)
    ]
    told = []
    for run in runs:
        assert run.stdout is not None
        told.append([int(run.stdout.readline()) for _ in range(40)])
    for run in runs:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    store = AnswerStore(path)
    numbers = {number for each in told for number in each}
    assert set(store.known(question_key("question", number) for number in numbers).values()) == numbers
    assert not list(tmp_path.glob("*damaged*"))


def damage_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = os.urandom(len(content) - 4096)
    path.write_bytes(bytes(content))


def change_an_answer(path: Path) -> None:
    with sqlite3.connect(path) as file:
        file.execute("UPDATE answers SET answer = '\"forged\"' WHERE rowid = 1")
    file.close()


def write_something_else(path: Path) -> None:
    path.write_text("no database at all, but long enough to have a header" * 10)


def make_another_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE answers (unnamed, key, value)")
    file.close()


@pytest.mark.parametrize("damage", [damage_the_middle, change_an_answer, write_something_else, make_another_table])
def test_a_damaged_store_is_set_aside(
    damage, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.sqlite"
    store = AnswerStore(path)
    store.keep({key: "kept" for key in keys(500)})
    store.close()
    damage(path)
    with caplog.at_level("WARNING", logger="lm_eval.peft_eval"):
        again = AnswerStore(path)
        assert again.known(keys(500)) == {}
    assert "set aside" in caplog.text
    [aside] = [path for path in tmp_path.glob("answers.sqlite.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
    assert aside.stat().st_size
    again.keep({key: "new" for key in keys(3)})
    assert set(again.known(keys(3)).values()) == {"new"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be used to keep answers.*--answers"):
        AnswerStore(tmp_path / "file" / "answers.sqlite")
