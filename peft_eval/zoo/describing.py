"""What is known of a checkpoint: from its manifest, else from what another trainer left beside it."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from pathlib import Path

from peft_eval.checkpoint.hashing import weights_sha256
from peft_eval.checkpoint.location import is_local
from peft_eval.checkpoint.manifest import Manifest
from peft_eval.checkpoint.reading import Checkpoint
from peft_eval.zoo.elsewhere import found_in
from peft_eval.zoo.records import About, Probe

# What a reader of a card would look for; a whole model from elsewhere need not come from another.
_ASKED_FOR = ("data", "trainer", "created", "licence", "losses")
_ASKED_OF_TRAINED = ("method", "base", "base_sha256", "parameters", *_ASKED_FOR)


def described(checkpoint: Checkpoint, *, licence: str | None = None, summary: str | None = None) -> About:
    """Returns what a checkpoint's own files say.

    Args:
        checkpoint: the checkpoint.
        licence: what its owner says of it, before what its files say.
        summary: a line of its owner's.
    """
    manifest = checkpoint.manifest
    about = _of_manifest(manifest) if manifest else _of_others(checkpoint)
    about.weights_sha256 = weights_sha256(checkpoint.folder)
    about.licence = licence or about.licence
    about.summary = summary
    return about


def unknown_of(about: About, *, has_manifest: bool) -> list[str]:
    """Returns what nothing in a checkpoint tells, of that which a reader of its card would look for."""
    is_trained = has_manifest or about.kind == "adapter"
    unknown = [key for key in (_ASKED_OF_TRAINED if is_trained else _ASKED_FOR) if not getattr(about, key)]
    text = [] if has_manifest else ["BOS and EOS policy", "chat template of training"]
    return [key.replace("_", " ") for key in unknown] + text


def _of_manifest(manifest: Manifest) -> About:
    data = manifest.data
    return About(
        kind=manifest.kind,
        method=manifest.method.name,
        base=manifest.base.location,
        base_revision=manifest.base.revision,
        base_sha256=manifest.base.weights_sha256,
        parameters=manifest.method.trainable_parameters,
        data=f"{data.source}, encoding {data.encoding}" if data else None,
        trainer=f"peft-eval {manifest.versions.get('peft_eval', '')}".strip(),
        created=manifest.created,
        losses=manifest.training.losses if manifest.training else [],
    )


def _of_others(checkpoint: Checkpoint) -> About:
    found = found_in(checkpoint.folder)
    config = checkpoint.adapter_config
    method = config.get("peft_type")
    named = config.get("base_model_name_or_path")
    about = About(
        kind=checkpoint.kind,
        method=str(method).lower() if method else None,
        base=_base_named(named, found.base),
        base_revision=config.get("revision") if isinstance(config.get("revision"), str) else None,
        parameters=_adapter_weights(checkpoint) if checkpoint.kind == "adapter" else None,
        data=found.data,
        trainer=found.trainer,
        licence=found.licence,
        facts=found.facts,
        losses=found.losses,
    )
    for label, key in (("rank", "r"), ("alpha", "lora_alpha"), ("dropout", "lora_dropout"), ("peft", "peft_version")):
        value = config.get(key)
        if isinstance(value, int | float | str):
            about.facts.setdefault(label, f"{value} (adapter_config.json)")
    targets = config.get("target_modules")
    if isinstance(targets, list):
        about.facts.setdefault("target modules", f"{', '.join(sorted(map(str, targets)))} (adapter_config.json)")
    return about


def _base_named(in_config: object, in_card: str | None) -> str | None:
    """Returns the base as the adapter's configuration names it; in place of a path, the card's hub id."""
    named = in_config if isinstance(in_config, str) and in_config else None
    is_path = named is not None and named.startswith(("/", ".", "~"))
    return in_card if in_card and (named is None or is_path) else named


def _adapter_weights(checkpoint: Checkpoint) -> int:
    """Returns how many weights are in the files, from their headers alone."""
    from safetensors import safe_open

    shapes: Counter[str] = Counter()
    for file in checkpoint.folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118
                size = 1
                for dimension in opened.get_slice(name).get_shape():
                    size *= dimension
                shapes[name] += size
    return sum(shapes.values())


def probe_of(folder: Path, about: About) -> Probe | None:
    """Measures what an adapter changes on the probe prompts; None for full weights, or where the base is not here.

    Raises:
        ProbeError: it changes nothing.
    """
    if about.kind != "adapter" or about.base is None or not is_local(about.base):
        return None
    with contextlib.redirect_stderr(io.StringIO()):  # peft tells of kernels that it does without
        from peft_eval.merging.reference import reference_logits
        from peft_eval.serving.probe import prove_effect
        from peft_eval.serving.route import choose_route

        route = choose_route(str(folder), unmerged=True)
        reference = reference_logits(folder, route.model_folder, route.tokenizer_folder, served_dtype=None)
    effect = prove_effect(reference, str(folder), None).effect
    return Probe(largest=effect.largest, mean=effect.mean, dtype=reference.dtype)
