"""A call that waits for vLLM's engine ends with an error when the engine's process is killed.

vLLM 0.32 notices that the process is gone and ends the thread that reads its outputs; who waits for an output then
waits for ever. An engine that can still say that it fails does say so, one that the system kills for its memory cannot.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import InvalidStateError
from multiprocessing.connection import wait
from typing import Any


def fail_when_killed(engine: Any) -> None:
    """Lets calls of an engine raise vLLM's `EngineDeadError` once one of its processes is gone.

    Args:
        engine: a `vllm.LLM`; nothing is done for one that runs in this process, or in others that vLLM did not start.
    """
    client = engine.llm_engine.engine_core
    processes = getattr(getattr(getattr(client, "resources", None), "engine_manager", None), "processes", None)
    if not processes or not hasattr(client, "outputs_queue"):
        return
    from vllm.v1.engine.exceptions import EngineDeadError

    outputs, answers_to_calls = client.outputs_queue, client.utility_results

    def watch() -> None:
        wait([process.sentinel for process in processes])
        outputs.put_nowait(EngineDeadError())
        for waiting in list(answers_to_calls.values()):
            with contextlib.suppress(InvalidStateError):
                waiting.set_exception(EngineDeadError())

    threading.Thread(target=watch, name="engine watch", daemon=True).start()
