"""One run of lm-eval's command in which answers are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from peft_eval.harness.command import lm_eval_arguments, run_lm_eval


def evaluate_one(
    checkpoint: str | None,
    *,
    model: str,
    tasks: str,
    model_args: Sequence[str],
    metadata: Sequence[str],
    output: Path | None,
    answers: Path | None,
    more: Sequence[str],
) -> None:
    """Runs `lm_eval` as it is called with these arguments.

    Args:
        checkpoint: what goes after `peft=`.
        model: lm-eval's name of a backend.
        tasks: comma-separated tasks.
        model_args: `key=value` pairs for the backend.
        metadata: `key=value` pairs for the tasks.
        output: folder for results and samples.
        more: further lm_eval arguments, as they are.
        answers: file where the model's answers are kept and taken from; None for none.

    Raises:
        ConfigError: another run writes into `output`.
        SystemExit: as lm_eval ends.
    """
    from peft_eval.harness.answers import KEEPS_ANSWERS, AnswerStore
    from peft_eval.harness.found_once import found_once
    from peft_eval.harness.many import only_run_in
    from peft_eval.harness.session import Session, session

    arguments = lm_eval_arguments(
        model=model,
        tasks=tasks,
        checkpoint=checkpoint,
        model_args=model_args,
        metadata=metadata,
        output=output,
        more=more,
    )
    with contextlib.ExitStack() as stack:
        if output is not None:
            stack.enter_context(only_run_in(output))
        if answers is not None and model in KEEPS_ANSWERS:
            stack.enter_context(session(Session(store=AnswerStore(answers))))
        stack.enter_context(found_once(tasks.split(",")))
        run_lm_eval(arguments)
