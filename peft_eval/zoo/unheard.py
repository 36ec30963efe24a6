"""Keeps what lm-eval and the programs it starts write on stderr off the screen: bars, and git's complaint."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

_STDERR = 2


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Sends nowhere what is written on stderr, by Python or by a child process; errors are still raised."""
    kept = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDERR)
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nowhere)
