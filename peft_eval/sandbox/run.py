"""Runs many programs, as many at a time as there are cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from peft_eval.errors import ConfigError
from peft_eval.sandbox.backend import Backend
from peft_eval.sandbox.choice import choose_backend
from peft_eval.sandbox.exchange import run_program
from peft_eval.sandbox.program import Limits, Outcome


def run_programs(
    programs: Sequence[str],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
    backend: Backend | None = None,
) -> list[Outcome]:
    """Runs each program for itself and returns what became of them, in their order.

    Args:
        programs: sources of whole Python programs, run as `exec(program, {})` would.
        limits: what each may use.
        workers: how many run at a time; all cores that this process may use by default. More than that makes time run
            out sooner for programs that compute.
        backend: what `choose_backend` returned; by default it is asked.

    Raises:
        ConfigError: `workers` is less than one.
        SandboxError: there is no sandbox, or it stops working.
    """
    from tqdm import tqdm

    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} programs at a time", place="workers", remedy="give 1 or more")
    limits, backend = limits or Limits(), backend or choose_backend()
    outcomes: dict[int, Outcome] = {}
    pool = ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="sandbox")
    try:
        futures = {pool.submit(run_program, program, limits, backend): index for index, program in enumerate(programs)}
        # `disable=None`: no bar where the output is not a terminal.
        bar = tqdm(total=len(futures), desc=f"programs in {backend.name}", unit="program", disable=None)
        with bar:
            for future in as_completed(futures):
                outcomes[futures[future]] = future.result()
                bar.update()
    finally:  # on an error or Ctrl-C those that wait are dropped; those that run end within their limits
        pool.shutdown(cancel_futures=True)
    return [outcomes[index] for index in range(len(programs))]


def usable_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
