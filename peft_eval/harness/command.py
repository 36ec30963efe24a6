"""Runs lm-eval's own command in this process, with peft-eval's extensions but without the import hook."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from peft_eval.harness.extensions import extend_all


def lm_eval_arguments(
    *,
    model: str,
    tasks: str,
    checkpoint: str | None,
    model_args: Sequence[str],
    metadata: Sequence[str],
    output: Path | None,
    more: Sequence[str],
) -> list[str]:
    """Returns the arguments of the equal `lm_eval run`.

    Args:
        model: lm-eval's name of a backend.
        tasks: comma-separated tasks.
        checkpoint: what goes after `peft=`.
        model_args: `key=value` pairs for the backend.
        metadata: `key=value` pairs for the tasks.
        output: folder for results and samples.
        more: further lm_eval arguments, as they are.
    """
    pairs = [f"peft={checkpoint}"] if checkpoint else []
    arguments = ["run", "--model", model, "--tasks", tasks]
    if pairs or model_args:
        arguments += ["--model_args", ",".join([*pairs, *model_args])]
    if metadata:
        arguments += ["--metadata", *metadata]
    if output:
        arguments += ["--output_path", str(output), "--log_samples"]
    return [*arguments, *more]


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Runs `lm_eval` with these arguments.

    Raises:
        SystemExit: as lm_eval ends, with 2 for a user's error.
    """
    extend_all()
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm_eval", *arguments]
    cli_evaluate()
