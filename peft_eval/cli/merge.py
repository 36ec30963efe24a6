"""`peft-eval merge`: a checkpoint as a plain model folder, for tools that know no adapters."""

from __future__ import annotations

import re
from pathlib import Path

import click

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class Size(click.ParamType):
    """A number of bytes as people write it: 5GB, 500MB."""

    name = "SIZE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the number of bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|)", str(value).strip().upper())
        if not match or not float(match[1]):
            self.fail(f"{value!r} is not a size: write it as 5GB or 500MB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


@click.command("merge")
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to make.")
@click.option("--base", metavar="REF", help="Take the base from here instead of where the checkpoint says.")
@click.option("--force-base", is_flag=True, help="Accept a base with other weights than the checkpoint was trained on.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Precision of what is written; auto keeps each tensor's own.",
)
@click.option("--shard-size", type=Size(), default="5GB", show_default=True, help="Largest file.")
@click.option("--overwrite", is_flag=True, help="Replace the output folder; it stays until the new one is proven.")
@click.option("--push", metavar="ORG/NAME", help="Upload the folder to this hub repository as well.")
@click.option("--private", is_flag=True, help="Make the hub repository private if it has to be made.")
def command(
    checkpoint: str,
    output: Path,
    base: str | None,
    force_base: bool,
    dtype: str,
    shard_size: int,
    overwrite: bool,
    push: str | None,
    private: bool,
) -> None:
    """Write base + adapter as a plain model folder, merged tensor by tensor.

    CHECKPOINT is a folder, zoo:NAME or a hub id. Memory stays at a few blocks plus the adapter, whatever the model's
    size. The folder appears whole or not at all, after it was read back and held against base + adapter as peft
    computes them: logits of small models, outputs of layers of large ones. A whole model is copied, with --dtype and
    --shard-size.

    \b
    Examples:
      peft-eval merge runs/lora --output merged/lora
      peft-eval merge org/adapter --output merged --dtype float16 --shard-size 2GB
      peft-eval merge runs/lora --output merged/lora --push me/my-model
      lm_eval --model vllm --tasks mini_unseen --model_args pretrained=merged/lora
    """
    import torch
    from tqdm import tqdm

    from peft_eval.checkpoint.reading import open_checkpoint
    from peft_eval.merging.export import export_merged
    from peft_eval.training.quiet import quiet

    opened = open_checkpoint(checkpoint)
    with quiet(), tqdm(desc="merge", unit="B", unit_scale=True, disable=None) as bar:

        def advance(count: int, total: int) -> None:
            bar.total = total
            bar.update(count)

        export = export_merged(
            opened,
            output,
            base=base,
            force_base=force_base,
            dtype=None if dtype == "auto" else getattr(torch, dtype),
            shard_bytes=shard_size,
            overwrite=overwrite,
            on_bytes=advance,
        )
    kind = "merged" if opened.kind == "adapter" else "copied, since it is a whole model already"
    click.echo(f"{kind}: {export.files} file{'s' * (export.files > 1)}, {export.bytes / 1e6:,.1f} MB, in {output}")
    click.echo(f"proof: {export.proof}")
    if push:
        from peft_eval.merging.upload import push_folder

        click.echo(f"uploaded: {push_folder(output, push, private=private)}")
