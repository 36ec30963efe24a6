"""A checkpoint: whole, with its base, read as it was trained, and with an effect.

Each check needs what the one before found, so the first that fails is the last but for those that do
not depend on it. The adapter's effect is measured as before an evaluation (`peft_eval.serving.probe`),
but without an engine.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.hashing import tokenizer_sha256
from peft_eval.checkpoint.reading import Checkpoint, open_checkpoint, read_json
from peft_eval.doctor.check import Check
from peft_eval.errors import BaseMismatchError, PeftEvalError, ProbeError, RouteError
from peft_eval.serving.route import Route, choose_route

UNKNOWN = "unknown (it has no manifest)"


def checkpoint_checks(reference: str, *, base: str | None = None) -> Iterator[Check]:
    """Yields every check of a checkpoint.

    Args:
        reference: a folder, `zoo:NAME` or a hub id.
        base: a base to use instead of the one that the checkpoint names.
    """
    try:
        checkpoint = open_checkpoint(reference)
    except PeftEvalError as error:
        yield _bad("checkpoint", error, "name a folder that holds a checkpoint")
        return
    yield Check("checkpoint", "ok", f"{checkpoint.method}, {checkpoint.kind}, in {checkpoint.folder}")
    yield manifest_check(checkpoint)
    try:
        route = choose_route(reference, pretrained=base)
    except BaseMismatchError as error:
        yield _bad("base", error, "name the base it was trained on: --base")
        return
    except RouteError as error:
        yield _bad("route", error, "use lm_eval --model hf")
        return
    except PeftEvalError as error:
        yield _bad("base", error, "name the base: --base")
        return
    yield base_check(route)
    yield from text_checks(route)
    yield Check("route", "ok", f"{route.name}: {route.reason}")
    if checkpoint.kind == "adapter":
        yield from effect_checks(route)


def _bad(name: str, error: PeftEvalError, remedy: str) -> Check:
    found = f"{error.place}: {error.problem}" if error.place else error.problem
    return Check(name, "bad", found, error.remedy or remedy)


def manifest_check(checkpoint: Checkpoint) -> Check:
    """Tells whether the files are those the manifest lists; opening has compared them."""
    manifest = checkpoint.manifest
    if manifest is None:
        return Check("manifest", "note", "none: made elsewhere, its data, base hash and BOS/EOS policy are unknown")
    return Check("manifest", "ok", f"{len(manifest.files)} files as listed, written {manifest.created}")


def base_check(route: Route) -> Check:
    """Tells which base is used, and whether its weights are known to be those trained on."""
    if route.name == "full":
        return Check("base", "ok", "none needed: full weights")
    manifest = route.checkpoint.manifest
    if manifest and manifest.base.weights_sha256:
        return Check("base", "ok", f"{route.model_folder}, hash {manifest.base.weights_sha256[:12]} as trained on")
    return Check("base", "note", f"{route.model_folder}, not checked: the checkpoint does not tell the base's hash")


def text_checks(route: Route) -> Iterator[Check]:
    """Tells how text becomes tokens: tokenizer, template, BOS and EOS."""
    manifest = route.checkpoint.manifest
    told = manifest.text if manifest else None
    found = tokenizer_sha256(route.tokenizer_folder)
    if told and told.tokenizer_sha256 and told.tokenizer_sha256 != found:
        problem = f"{route.tokenizer_folder} is not the one trained with ({str(found)[:12]})"
        yield Check("tokenizer", "bad", problem, "put the tokenizer of training into the checkpoint's folder")
    else:
        yield Check("tokenizer", "ok", f"{route.tokenizer_folder}, hash {str(found)[:12]}")
    yield Check(
        "template", "ok", _template(route.tokenizer_folder, trained_with=bool(told and told.chat_template_sha256))
    )
    if told is None:
        yield Check("BOS / EOS", "note", UNKNOWN, "look at the first prompt's tokens in the results")
        return
    said = {True: "added", False: "not added", None: "unknown"}
    yield Check("BOS / EOS", "ok", f"BOS {said[told.adds_bos]}, EOS {said[told.adds_eos]} in training")


def _template(folder: Path, *, trained_with: bool) -> str:
    config: dict[str, Any] = {}
    with contextlib.suppress(PeftEvalError):
        config = read_json(folder / "tokenizer_config.json")
    carried = bool(config.get("chat_template")) or (folder / "chat_template.jinja").is_file()
    text = "the tokenizer carries a chat template" if carried else "no chat template"
    return f"{text}; trained with {'it' if trained_with else 'plain text'}"


def effect_checks(route: Route) -> Iterator[Check]:
    """Measures what the adapter changes, and what merging costs, on the probe prompts."""
    import torch

    from peft_eval.merging.reference import reference_logits
    from peft_eval.serving.probe import prove_effect

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            merged_dtype = torch.float32 if route.name == "merge" else None
            reference = reference_logits(
                route.checkpoint.folder, route.model_folder, route.tokenizer_folder, served_dtype=merged_dtype
            )
        proof = prove_effect(reference, route.checkpoint.reference, "float32")
    except ProbeError as error:
        yield _bad("adapter", error, "train it")
        return
    except PeftEvalError as error:
        yield _bad("adapter", error, "use lm_eval --model hf")
        return
    effect = proof.effect
    yield Check("adapter", "ok", f"active: logits move by {effect.largest:.3g} at most, {effect.mean:.3g} on average")
    if proof.merge:
        yield Check(
            "merge distance",
            "ok",
            f"largest {proof.merge.largest:.2e}, mean {proof.merge.mean:.2e} (float32), "
            f"{proof.merge_relative:.1e} of the largest logit",
        )
