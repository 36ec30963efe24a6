"""Archives that lead out, lie or swell; names on the command line."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.corpus.cases import (
    case,
    large_bomb,
)


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type = kind
    for field, value in fields.items():
        setattr(one, field, value)
    return one


def archive(*members: tarfile.TarInfo, packed: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if packed else "w:") as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(bytes(one.size)) if one.size < 1 << 20 else None)
    return buffer.getvalue()


def sized(name: str, size: int) -> bytes:
    """An archive whose one header says any size, and nothing follows."""
    return gzip.compress(member(name, size=size).tobuf(tarfile.GNU_FORMAT))


def extended_header() -> bytes:
    """An archive that begins with an extension header of 256 MiB, which tarfile would read at once."""
    head = member("x", tarfile.XHDTYPE, size=1 << 28).tobuf(tarfile.PAX_FORMAT)
    return gzip.compress(head) + large_bomb()


_ARCHIVES: dict[str, tuple[str, bytes | Callable[[], bytes]]] = {
    "up": ("leads out", archive(member("repo/tasks/../../../up", size=1))),
    "absolute": ("leads out", archive(member("/etc/peft-eval-was-here", size=1))),
    "backslash": ("leads out", archive(member("repo\\..\\..\\x", size=1))),
    "link": ("is a link or a device", archive(member("repo/tasks/l", tarfile.SYMTYPE, linkname="/etc"))),
    "hard_link": ("is a link or a device", archive(member("repo/tasks/l", tarfile.LNKTYPE, linkname="/etc/passwd"))),
    "device": ("is a link or a device", archive(member("repo/tasks/d", tarfile.BLKTYPE, devmajor=8))),
    "pipe": ("is a link or a device", archive(member("repo/tasks/p", tarfile.FIFOTYPE))),
    "twice": ("twice", archive(member("repo/tasks/a", size=1), member("repo/tasks/a", size=1))),
    "terabyte": ("too large", sized("repo/tasks/a.json", 1 << 40)),
    "terabyte_beside": ("too large", sized("repo/elsewhere/a.json", 1 << 40)),
    "negative": ("test_tasks.txt", sized("repo/tasks/a.json", -5)),
    "header": ("a header of", extended_header),
    "crowd": ("too many", archive(*(member(f"repo/x/{number}") for number in range(20_001)))),
    "zeros": ("refused|whole|tasks", large_bomb),
    "zip": ("not a whole", b"PK\3\4" + bytes(2000)),
    "gzip_in_gzip": ("not a whole", gzip.compress(gzip.compress(archive(member("repo/tasks/a", size=1))))),
    "nothing": ("not a whole", gzip.compress(b"")),
}
for _name, (_words, _bytes) in _ARCHIVES.items():
    case("archive", _words, f"archive_{_name}")(
        lambda folder, content=_bytes: content() if callable(content) else content
    )


@case("archive", "sends 1,125,899,906,842,624 bytes")
def archive_of_a_petabyte(folder: Path) -> tuple[bytes, dict[str, str]]:
    return b"x", {"Content-Length": str(1 << 50)}


_TRAIN = ("train", "--base", "BASE", "--output", "OUTPUT")
_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": ("unknown data", (*_TRAIN, "--method", "lora", "--data", "os;touch EXECUTED")),
    "method": ("unknown method", (*_TRAIN, "--method", "../../os", "--data", "mini")),
    "zoo": ("zoo", ("merge", "zoo:../../../etc", "--output", "OUTPUT")),
    "zoo_absolute": ("zoo", ("merge", "zoo:/etc", "--output", "OUTPUT")),
    "escape": (r"\\x1b", ("merge", "./\x1b[2Jnothing", "--output", "OUTPUT")),
}
for _name, (_words, _command) in _COMMANDS.items():
    case("command", _words, f"name_of_a_{_name}")(lambda folder, command=_command: command)
