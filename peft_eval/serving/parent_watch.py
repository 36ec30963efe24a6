"""An engine's processes end with the process that started them, however that ends.

vLLM's engine process is told to stop; it does not look whether anybody is left to tell it. After a SIGKILL of
`lm_eval` it and its workers kept their memory. (Why not PR_SET_PDEATHSIG: see `supervisor.py`.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

_NAME = "parent watch"


def end_with_parent() -> None:
    """Ends this process with SIGKILL once the one that started it by `multiprocessing` is gone; else does nothing."""
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == _NAME for thread in threading.enumerate()):
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name=_NAME, daemon=True).start()
