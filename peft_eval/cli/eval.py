"""`peft-eval eval`: lm-eval's own run, for those who switched the autoload off or want fewer words."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "eval",
    context_settings={"ignore_unknown_options": True},
    epilog="Same as: lm_eval --model vllm --tasks TASKS --model_args peft=CHECKPOINT",
)
@click.option("--checkpoint", metavar="REF", help="Folder, zoo:NAME or hub id; leave it out for models without one.")
@click.option("--tasks", required=True, help="Comma-separated tasks and groups; `peft-eval suites` lists ours.")
@click.option("--model", default="vllm", show_default=True, help="lm-eval's backend: vllm, hf, copy-input, ...")
@click.option("--model-args", "model_args", multiple=True, metavar="KEY=VALUE", help="More arguments of the backend.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Arguments of the tasks, e.g. superni=DIR.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for results and samples.")
@click.argument("lm_eval_arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    checkpoint: str | None,
    tasks: str,
    model: str,
    model_args: tuple[str, ...],
    metadata: tuple[str, ...],
    output: Path | None,
    lm_eval_arguments: tuple[str, ...],
) -> None:
    """Evaluate a checkpoint as lm_eval does, without the import hook.

    Further options are handed to lm_eval as they are, such as --limit or --batch_size.

    \b
    Examples:
      peft-eval eval --checkpoint runs/lora-64 --tasks superni_unseen --metadata superni=DIR --output results
      peft-eval eval --model copy-input --tasks superni_unseen --metadata superni=DIR
      peft-eval eval --model-args pretrained=zoo:base --tasks mini_unseen --limit 20
    """
    from peft_eval.harness.command import lm_eval_arguments as as_lm_eval
    from peft_eval.harness.command import run_lm_eval

    run_lm_eval(
        as_lm_eval(
            model=model,
            tasks=tasks,
            checkpoint=checkpoint,
            model_args=model_args,
            metadata=metadata,
            output=output,
            more=lm_eval_arguments,
        )
    )
