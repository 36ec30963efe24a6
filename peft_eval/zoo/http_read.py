"""Reads a small file of a zoo over http: what is not there, what is refused and what fails are told apart."""

from __future__ import annotations

import time

from peft_eval.data.download import without_secrets
from peft_eval.errors import CheckpointError, causes

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.5
_TIMEOUT_SECONDS = 15.0
_BLOCK_BYTES = 1 << 16
_NOT_THERE = (404, 410)
_REFUSED = (401, 403, 407)
_BUSY = 429


def read_over_http(url: str, *, most_bytes: int) -> bytes | None:
    """Returns a file's bytes, None if the server says that there is none.

    A server that fails or breaks off is asked again a few times, one that says nothing is not.

    Args:
        url: the address.
        most_bytes: a byte more than these is the last that is taken.

    Raises:
        CheckpointError: the server refuses, fails, says nothing or cannot be reached.
    """
    from requests import exceptions

    place, problem, remedy = without_secrets(url), "", ""
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE_SECONDS * attempt)
        try:
            status, reason, content = _asked(url, most_bytes)
        except (exceptions.InvalidURL, exceptions.MissingSchema, exceptions.InvalidSchema) as error:
            raise CheckpointError("not an address to read from over http", place=place, remedy="see --help") from error
        except exceptions.RequestException as error:
            if _is_silent(error):
                raise CheckpointError(
                    f"the server says nothing for {_TIMEOUT_SECONDS:.0f} seconds",
                    place=place,
                    remedy="try again later, or check the address",
                ) from error
            problem, remedy = f"cannot be read: {_cause(error)}", "check the address and the network"
            continue
        if status == 200:
            return content
        if status in _NOT_THERE:
            return None
        problem = f"the server answers {status} {reason}".rstrip()
        if status in _REFUSED:
            raise CheckpointError(
                f"{problem}: it refuses who asks, or the key",
                place=place,
                remedy="name them as https://USER:PASSWORD@... or in ~/.netrc",
            )
        remedy = "try again later"
        if status < 500 and status != _BUSY:
            raise CheckpointError(problem, place=place, remedy="check the address")
    raise CheckpointError(problem, place=place, remedy=remedy)


def _asked(url: str, most_bytes: int) -> tuple[int, str, bytes]:
    import requests

    with requests.get(url, headers={"Accept-Encoding": "identity"}, stream=True, timeout=_TIMEOUT_SECONDS) as answer:
        content = bytearray()
        if answer.status_code == 200:
            for block in answer.iter_content(_BLOCK_BYTES):
                content += block
                if len(content) > most_bytes:
                    break
        return answer.status_code, answer.reason or "", bytes(content)


def _is_silent(error: Exception) -> bool:
    """Tells whether nothing came in time, before the answer or within it."""
    from requests.exceptions import Timeout
    from urllib3.exceptions import ReadTimeoutError

    return isinstance(error, Timeout) or any(isinstance(one, ReadTimeoutError) for one in error.args)


def _cause(error: BaseException) -> str:
    """Returns the system's words for what lies behind an error of requests, whose own would show the address."""
    said = (one.strerror for one in causes(error) if isinstance(one, OSError) and one.strerror)
    return next(said, type(error).__name__)
