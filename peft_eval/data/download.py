"""Downloads one file over HTTP, going on where an earlier attempt stopped."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from peft_eval.errors import DataError

_log = logging.getLogger(__name__)
MOST_BYTES = 1 << 34
_ATTEMPTS = 4
_TIMEOUT_SECONDS = 60.0
_BLOCK_BYTES = 1 << 20


def without_secrets(url: str) -> str:
    """Returns an address without user name, password and query, for messages and records."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address
        return url.rpartition("@")[2].partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) if parts.netloc else url


def download(url: str, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
    """Downloads `url` into `path`, appending to what is there if the server still has the same file.

    "The same" is told by its ETag or Last-Modified, kept beside the file: without either, it starts anew.
    A connection that breaks is tried again a few times; after that the part stays for the next run.

    Args:
        url: the address.
        path: the file.
        most_bytes: a server that sends more is refused.

    Raises:
        DataError: there is no such address, the server refuses, or the connection keeps breaking.
    """
    from requests import exceptions
    from urllib3.exceptions import HTTPError, NewConnectionError

    place, problem = without_secrets(url), ""
    for _ in range(_ATTEMPTS):
        before = _size(path)
        try:
            _continue(url, path, most_bytes)
            _mark(path).unlink(missing_ok=True)
            return
        except (exceptions.InvalidURL, exceptions.MissingSchema, exceptions.InvalidSchema) as error:
            raise DataError("not an address to fetch from over http", place=place, remedy="see --url") from error
        except exceptions.TooManyRedirects as error:
            raise DataError("the server leads in a circle", place=place, remedy="see --url") from error
        except (exceptions.RequestException, HTTPError) as error:
            cause = _cause(error)
            problem = f"{type(cause).__name__}: {cause}"
            if isinstance(cause, NewConnectionError) and _size(path) == before:
                break
            _log.warning("%s: %s after %d bytes, trying again", place, problem, _size(path))
    kept = f"; {_size(path)} bytes are kept" if _size(path) else ""
    raise DataError(
        f"the download does not get through ({problem}){kept}",
        place=place,
        remedy="check the network, then run the same command again: it goes on from there",
    )


def _cause(error: Exception) -> Exception:
    """Returns what lies behind an error of requests, whose own text would show the address with its secrets."""
    return getattr(error.args[0] if error.args else None, "reason", error)


def _continue(url: str, path: Path, most_bytes: int) -> None:
    import requests

    headers = {"Accept-Encoding": "identity"}
    have, mark = _size(path), _read_mark(path)
    if have and mark:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as answer:
        if answer.status_code == 416:  # nothing after what we have: whole, or of another file; the hash decides
            return
        if answer.status_code not in (200, 206):
            raise DataError(
                f"the server answers {answer.status_code} {answer.reason}",
                place=without_secrets(url),
                remedy="try again later, or name a mirror with --url",
            )
        appending = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status_code == 206 and not appending:
            raise DataError(
                "the server sends another part than asked for",
                place=without_secrets(url),
                remedy="name a mirror with --url",
            )
        if int(answer.headers.get("Content-Length") or 0) > most_bytes:
            raise _too_large(answer, int(answer.headers["Content-Length"]), most_bytes)
        _write_mark(path, answer.headers.get("ETag") or answer.headers.get("Last-Modified"))
        _save(answer, path, have if appending else 0, most_bytes)


def _save(answer: Any, path: Path, start: int, most_bytes: int) -> None:
    from tqdm import tqdm
    from urllib3.exceptions import ProtocolError

    length = answer.headers.get("Content-Length")
    total = start + int(length) if length else None
    # `disable=None`: no bar where the output is not a terminal.
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, unit_divisor=1024, desc="download", disable=None)
    with bar, path.open("ab" if start else "wb") as file:
        # Not iter_content: a .tar.gz that a server calls "Content-Encoding: gzip" is to stay one.
        for block in answer.raw.stream(_BLOCK_BYTES, decode_content=False):
            file.write(block)
            bar.update(len(block))
            if file.tell() > most_bytes:
                raise _too_large(answer, file.tell(), most_bytes)
    if total is not None and _size(path) != total:
        raise ProtocolError(f"{_size(path)} of {total} bytes came")


def _too_large(answer: Any, size: int, most_bytes: int) -> DataError:
    return DataError(
        f"the server sends {size:,} bytes, more than the {most_bytes:,} that are taken",
        place=without_secrets(str(answer.url)),
        remedy="name another mirror with --url",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_mark(path: Path) -> str | None:
    try:
        mark = json.loads(_mark(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, str) and not mark.startswith("W/") else None


def _write_mark(path: Path, mark: str | None) -> None:
    _mark(path).write_text(json.dumps(mark), encoding="utf-8")
