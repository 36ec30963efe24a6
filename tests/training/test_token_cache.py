"""Token ids from the cache are those of tokenising, and nothing else ever is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from peft_eval.data.source import Example, Message
from peft_eval.training import token_cache, tokens
from peft_eval.training.templates import PLAIN, Template
from peft_eval.training.tokens import Limits, TokenData, tokens_of
from tests.tiny import tiny_tokenizer

LIMITS = Limits(source=12, target=5, conversation=24)
TEMPLATE = Template("tulu", "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}")
EXAMPLES = [
    Example.pair("t", "c", str(n), "Sort the numbers " * (n + 1), f"{n} 1 2 3 4 5"[: 2 * n + 1]) for n in range(5)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(token_cache, "_folder", lambda: tmp_path / "tokens")
    return tmp_path / "tokens"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(place, bos=True)
    return AutoTokenizer.from_pretrained(place)


def _same(left: TokenData, right: TokenData) -> bool:
    rows = all(
        np.array_equal(a.ids, b.ids) and np.array_equal(a.learnt, b.learnt) and a.ids.dtype == b.ids.dtype
        for a, b in zip(left.rows, right.rows, strict=True)
    )
    names = ("adds_bos", "truncated_sources", "truncated_targets", "truncated_examples", "nothing_learnt")
    return rows and all(getattr(left, name) == getattr(right, name) for name in names)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("template", [PLAIN, TEMPLATE], ids=["plain", "chat"])
def test_the_second_time_nothing_is_tokenised(
    folder: Path, tokenizer: Any, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokens_of(EXAMPLES, tokenizer, template, LIMITS)
    assert first.truncated_examples and len(_entries(folder)) == 1
    monkeypatch.setattr(tokens, "_encoded", None)
    assert _same(tokens_of(EXAMPLES, tokenizer, template, LIMITS), first)


def test_all_that_ids_depend_on_makes_another_entry(
    folder: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_tokenizer(tmp_path / "other", bos=False)
    other = AutoTokenizer.from_pretrained(tmp_path / "other")
    turns = tuple(turn for example in EXAMPLES[:2] for turn in example.messages)
    joined = [Example("t", "c", "0", turns)]
    runs: list[tuple[Any, ...]] = [
        (EXAMPLES, tokenizer, PLAIN, LIMITS),
        (EXAMPLES[::-1], tokenizer, PLAIN, LIMITS),
        (EXAMPLES[:2], tokenizer, TEMPLATE, LIMITS),
        (joined, tokenizer, TEMPLATE, LIMITS),
        ([Example("t", "c", "0", (Message("system", "x"), *turns))], tokenizer, TEMPLATE, LIMITS),
        (EXAMPLES, tokenizer, PLAIN, Limits(source=11, target=5, conversation=24)),
        (EXAMPLES, tokenizer, Template("tulu", str(TEMPLATE.text).replace(":", "=")), LIMITS),
        (EXAMPLES, other, PLAIN, LIMITS),
    ]
    for count, run in enumerate(runs, 1):
        tokens_of(*run)
        assert len(_entries(folder)) == count
    monkeypatch.setattr(token_cache, "_code", lambda: "other code")
    tokens_of(*runs[0])
    assert len(_entries(folder)) == len(runs) + 1


@pytest.mark.parametrize("damage", [lambda file: file[:-3] + b"\x07\x07\x07", lambda file: file[:20], lambda file: b""])
def test_a_damaged_entry_is_made_anew(folder: Path, tokenizer: Any, damage: Any) -> None:
    first = tokens_of(EXAMPLES, tokenizer, PLAIN, LIMITS)
    (entry,) = _entries(folder)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert _same(tokens_of(EXAMPLES, tokenizer, PLAIN, LIMITS), first)
    assert entry.read_bytes() == whole


def test_several_at_once_see_whole_entries(folder: Path, tokenizer: Any) -> None:
    data = tokens.tokenise(EXAMPLES * 50, tokenizer, max_source_tokens=12, max_target_tokens=5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: token_cache.cached_tokens("key", lambda: data), range(20)))
    assert all(_same(one, data) for one in found) and len(_entries(folder)) == 1


def test_the_least_used_go_first(folder: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for count in (1, 2, 3):
        tokens_of(EXAMPLES[:count], tokenizer, PLAIN, LIMITS)
        (new,) = (path for path in _entries(folder) if path.stat().st_mtime > 1e6)
        os.utime(new, (count, count))
    tokens_of(EXAMPLES[:1], tokenizer, PLAIN, LIMITS)  # used again: now the newest
    monkeypatch.setattr(token_cache, "MOST_BYTES", 3 * max(path.stat().st_size for path in _entries(folder)))
    tokens_of(EXAMPLES, tokenizer, PLAIN, LIMITS)
    assert {int(path.stat().st_mtime) for path in _entries(folder)} & {1, 2} == set()


def test_a_folder_that_cannot_be_written_and_the_switch(
    folder: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(token_cache.SWITCH, "0")
    first = tokens_of(EXAMPLES, tokenizer, PLAIN, LIMITS)
    assert not _entries(folder)
    monkeypatch.delenv(token_cache.SWITCH)
    (tmp_path / "tokens").write_text("a file in the way")
    assert _same(tokens_of(EXAMPLES, tokenizer, PLAIN, LIMITS), first)
