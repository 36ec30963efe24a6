"""Token ids of a run's examples, kept in the user's cache: runs over the same data tokenise it once.

An entry is a safetensors file named by a hash over all that the ids depend on: texts, tokenizer, template, limits and
the code that makes them. It is written beside its place and renamed, so that processes that work at the same time see
whole entries only, and it carries a hash of its own content: one that is damaged is made anew.
`PEFT_EVAL_TOKEN_CACHE=0` switches it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from peft_eval.training.tokens import TokenData

SWITCH = "PEFT_EVAL_TOKEN_CACHE"
MOST_BYTES = 2_000_000_000
_RECORD = "record"
_COUNTS = ("adds_bos", "truncated_sources", "truncated_targets", "truncated_examples", "nothing_learnt")


def cached_tokens(key: str | None, make: Callable[[], TokenData]) -> TokenData:
    """Returns an entry's tokens, or makes and keeps them.

    Args:
        key: from `cache_key`; None never looks.
        make: tokenises.
    """
    if key is None or os.environ.get(SWITCH) == "0":
        return make()
    place = _folder() / f"{key}.safetensors"
    found = _read(place)
    if found is None:
        found = make()
        _write(place, found)
    return found


def cache_key(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], *settings: object) -> str | None:
    """Returns a hash over what token ids depend on; None for a slow tokenizer, whose state cannot be written down.

    Args:
        tokenizer: the tokenizer.
        texts: all texts of the examples, in order.
        settings: everything else, of types that `repr` tells apart.
    """
    if not tokenizer.is_fast:
        return None
    digest = hashlib.sha256(_code().encode())
    special = tokenizer.special_tokens_map
    for part in (tokenizer.backend_tokenizer.to_str(), repr(special), *map(repr, settings), *texts):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _code() -> str:
    """Returns a hash over the modules that make the ids."""
    folder = Path(__file__).parent
    content = b"".join((folder / name).read_bytes() for name in ("tokens.py", "templates.py", Path(__file__).name))
    return hashlib.sha256(content).hexdigest()


def _folder() -> Path:
    return user_cache_path("peft_eval") / "tokens"


def _read(place: Path) -> TokenData | None:
    from peft_eval.training.tokens import TokenData, TokenRow

    try:
        with safe_open(place, framework="numpy") as opened:
            record = json.loads((opened.metadata() or {})[_RECORD])
            ids, learnt, lengths = (opened.get_tensor(name) for name in ("ids", "learnt", "lengths"))
        if record.pop("sha256") != _content_hash(ids, learnt, lengths):
            return None
        os.utime(place)
    except (OSError, SafetensorError, ValueError, KeyError):
        return None  # none, or damaged
    ends = np.cumsum(lengths)
    rows = [
        TokenRow(ids[end - length : end], learnt[end - length : end]) for end, length in zip(ends, lengths, strict=True)
    ]
    return TokenData(rows, **record)


def _write(place: Path, data: TokenData) -> None:
    ids = np.concatenate([row.ids for row in data.rows]).astype(np.int32)
    learnt = np.concatenate([row.learnt for row in data.rows])
    lengths = np.array([len(row) for row in data.rows], dtype=np.int64)
    record: dict[str, Any] = {name: getattr(data, name) for name in _COUNTS}
    record["sha256"] = _content_hash(ids, learnt, lengths)
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"ids": ids, "learnt": learnt, "lengths": lengths}
        save_file(tensors, temporary, metadata={_RECORD: json.dumps(record)})
        temporary.replace(place)
        _make_room(place.parent)
    except (OSError, SafetensorError):
        with contextlib.suppress(OSError):  # a read-only or full cache costs time, not correctness
            temporary.unlink()


def _content_hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _make_room(folder: Path) -> None:
    """Removes the entries that were not used for the longest time, until the rest takes at most `MOST_BYTES`."""
    entries = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in entries:
        total += path.stat().st_size
        if total > MOST_BYTES and path != entries[0]:
            path.unlink(missing_ok=True)
