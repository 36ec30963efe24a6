"""What several runs of lm-eval in one process share: an engine, answers, tasks, and routes chosen before.

A run is lm-eval's own, from its arguments to its files. Inside `session` its parts find here what an earlier run left:
the model class takes the running engine instead of a new one, and the tasks that do not depend on the checkpoint are
loaded once. Outside of one, nothing is shared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft_eval.harness.answers import AnswerStore
    from peft_eval.harness.tasks_once import TasksOnce
    from peft_eval.serving.live_engine import LiveEngine
    from peft_eval.serving.route import Route
    from peft_eval.serving.swap_probe import Expected

_current: Session | None = None


@dataclass
class Session:
    """What is shared; what is None is not.

    Attributes:
        engine: the engine that checkpoints take turns in.
        store: where answers are kept.
        tasks: tasks loaded before.
        routes: routes chosen before, by what `peft=` names.
        served: what the engine's last weights answer to the probe prompts.
        notes: what the results say besides of the run in hand.
    """

    engine: LiveEngine | None = None
    store: AnswerStore | None = None
    tasks: TasksOnce | None = None
    routes: dict[str, Route] = field(default_factory=dict)
    served: Expected | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Ends the engine and closes the store."""
        if self.engine is not None:
            self.engine.close()
        if self.store is not None:
            self.store.close()


def current_session() -> Session | None:
    """Returns the session that this process is in."""
    return _current


@contextlib.contextmanager
def session(shared: Session) -> Iterator[Session]:
    """Shares among the runs of a block, and closes everything at its end."""
    global _current
    before, _current = _current, shared
    try:
        yield shared
    finally:
        _current = before
        shared.close()


@contextlib.contextmanager
def engine_of(shared: Session | None, module: ModuleType) -> Iterator[None]:
    """Lets lm-eval's vLLM class take the session's engine where it would start one.

    Args:
        shared: the session.
        module: lm-eval's module, whose name `LLM` the class calls.
    """
    if shared is None or shared.engine is None:
        yield
        return
    usual = module.LLM
    module.LLM = shared.engine.take  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.LLM = usual  # type: ignore[attr-defined]
