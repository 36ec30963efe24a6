"""The proof that an engine serves the adapter: before the first task, its answers are held against peft's.

The commonest silent failure of PEFT evaluation is an engine that serves the base. So a probe batch
goes through the engine, and its log-probabilities must be those of base *with* adapter, not of the
base. An adapter that changes nothing ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval.checkpoint.location import resolve_folder
from peft_eval.checkpoint.reading import Checkpoint
from peft_eval.errors import CheckpointError, ProbeError
from peft_eval.serving.virtual_tokens import with_prompt, without_prompt

if TYPE_CHECKING:
    from vllm import LLM

    from peft_eval.merging.reference import Distance, Reference

_TOP_TOKENS = 20  # vLLM's own limit on returned log-probabilities
# In float32 an engine's distance to what it should serve is rounding; of its distance to the base, this share is not.
_PART_OF_EFFECT = 0.1
_FLOAT32_ROUNDING = 1e-4


@dataclass(frozen=True)
class Proof:
    """What the probe measured; all distances over the probe prompts.

    Attributes:
        effect: logits of base with adapter against the base alone.
        merge: logits of merged against unmerged weights, None without a merged form.
        merge_relative: `merge.largest` over the largest logit.
        engine_to_adapted: the engine's log-probabilities against base with adapter.
        engine_to_base: the same against the base alone.
        reference_dtype: dtype that the reference was computed in.
    """

    effect: Distance
    merge: Distance | None
    merge_relative: float | None
    engine_to_adapted: Distance | None
    engine_to_base: Distance | None
    reference_dtype: str

    @property
    def verdict(self) -> str:
        """One line for the terminal and the results."""
        if self.engine_to_adapted is None or self.engine_to_base is None:
            return "the adapter changes the model; the engine itself was not probed"
        if self.engine_to_adapted.mean < self.engine_to_base.mean:
            return "the engine serves base + adapter"
        return "the adapter's effect is smaller than the engine's rounding"

    def as_record(self) -> dict[str, Any]:
        """Returns the block that goes into the results."""
        return {**asdict(self), "verdict": self.verdict}


def prove_effect(reference: Reference, place: str, merged_dtype: str | None) -> Proof:
    """Checks, before an engine starts, that the adapter changes the base and that merging keeps the change.

    Raises:
        ProbeError: the adapter changes nothing, or merged weights are too far from the unmerged model.
    """
    if reference.effect.largest == 0.0:
        raise ProbeError(
            "the adapter changes nothing: base and adapted model give identical logits",
            place=place,
            remedy="train it, or evaluate the base itself",
        )
    merge = reference.merge_distance
    relative = merge.largest / reference.largest_logit if merge else None
    from peft_eval.merging.reference import MERGE_BOUNDS  # brings torch, which this module's importers may do without

    bound = MERGE_BOUNDS.get(merged_dtype or "")
    if relative is not None and bound is not None and relative > bound:
        raise ProbeError(
            f"merged and unmerged model differ by {relative:.2e} of the largest logit, more than {bound:g}",
            place=place,
            remedy="use lm_eval --model hf, and report this adapter",
        )
    return Proof(reference.effect, merge, relative, None, None, reference.dtype)


def prove_full(checkpoint: Checkpoint) -> dict[str, Any]:
    """Checks that full weights are not the base's own; needs the base, and reads until the first difference.

    Returns:
        The block for the results; `differs_from_base` is None where the base is unknown or not at hand.

    Raises:
        ProbeError: every tensor equals the base's.
    """
    differs = None
    if checkpoint.manifest is not None:
        try:
            differs = weights_differ(checkpoint.folder, resolve_folder(checkpoint.base_reference()))
        except CheckpointError:
            differs = None
    if differs is False:
        raise ProbeError(
            "the checkpoint changes nothing: its weights are the base's",
            place=checkpoint.reference,
            remedy="train it, or evaluate the base itself",
        )
    return {"differs_from_base": differs}


def weights_differ(left: Path, right: Path) -> bool:
    """Returns whether two model folders differ in any tensor, its name, shape or values."""
    from contextlib import ExitStack

    from safetensors import safe_open

    with ExitStack() as stack:
        tensors: list[dict[str, Any]] = []
        for folder in (left, right):
            files = [stack.enter_context(safe_open(file, framework="pt")) for file in folder.glob("*.safetensors")]
            tensors.append({name: file for file in files for name in file.keys()})  # noqa: SIM118
        ours, theirs = tensors
        if ours.keys() != theirs.keys():
            return True
        for name, file in ours.items():
            a, b = file.get_tensor(name), theirs[name].get_tensor(name)
            if a.shape != b.shape or not bool((a.float() == b.float()).all()):
                return True
    return False


def prove_engine(proof: Proof, reference: Reference, engine: LLM, place: str, prompt_ids: Sequence[int] = ()) -> Proof:
    """Checks that a running engine answers as base + adapter does.

    Args:
        proof: what `prove_effect` returned.
        reference: what the probe prompts should give.
        engine: the engine.
        place: the checkpoint as the user wrote it.
        prompt_ids: virtual tokens that every prompt begins with.

    Raises:
        ProbeError: its answers are nearer to the base's although the adapter's effect is plain, or they are neither.
    """
    to_adapted, to_base = engine_distances(engine, reference, prompt_ids)
    if to_adapted.mean >= to_base.mean and proof.effect.mean > 2 * to_base.mean:
        raise ProbeError(
            f"the engine serves the base, not the adapter (distance {to_base.mean:.3g} to the base, "
            f"{to_adapted.mean:.3g} to base + adapter)",
            place=place,
            remedy="report this with the versions that peft-eval doctor prints",
        )
    rounding = max(_FLOAT32_ROUNDING, _PART_OF_EFFECT * to_base.mean)
    if to_adapted.mean > rounding and _is_exact(engine, reference):
        raise ProbeError(
            f"the engine serves only part of the adapter (distance {to_adapted.mean:.3g} to base + adapter, "
            f"{to_base.mean:.3g} to the base, in float32)",
            place=place,
            remedy="pass route=hf in --model_args, and report this adapter",
        )
    return Proof(proof.effect, proof.merge, proof.merge_relative, to_adapted, to_base, proof.reference_dtype)


def _is_exact(engine: LLM, reference: Reference) -> bool:
    """Returns whether engine and reference both compute in float32, so that rounding explains no difference."""
    return str(engine.llm_engine.model_config.dtype) == "torch.float32" and reference.dtype == "float32"


def engine_distances(engine: LLM, reference: Reference, prompt_ids: Sequence[int] = ()) -> tuple[Distance, Distance]:
    """Returns how far an engine's log-probabilities are from base + adapter, and from the base.

    At each position of each probe prompt, the engine's most likely tokens are compared. Of prompts that a short context
    has no room for, it is the beginning.
    """
    import torch
    from vllm import SamplingParams, TokensPrompt

    from peft_eval.merging.reference import Distance

    sampling = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=_TOP_TOKENS, detokenize=False)
    room = engine.llm_engine.model_config.max_model_len - len(prompt_ids) - 1  # for the one new token
    texts = [ids[:room] for ids in reference.prompt_ids]
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in with_prompt(texts, prompt_ids)]
    outputs = engine.generate(prompts, sampling_params=sampling, use_tqdm=False)
    outputs = [without_prompt(output, len(prompt_ids)) for output in outputs]
    served, adapted, base = [], [], []
    for output, unmerged_logits, base_logits in zip(outputs, reference.unmerged, reference.base, strict=True):
        expected = unmerged_logits.log_softmax(-1)
        plain = base_logits.log_softmax(-1)
        positions: Any = output.prompt_logprobs or []
        for position, found in enumerate(positions[1:]):
            tokens = torch.tensor(list(found))
            served.append(torch.tensor([entry.logprob for entry in found.values()]))
            adapted.append(expected[position, tokens])
            base.append(plain[position, tokens])
    return Distance.between(served, adapted), Distance.between(served, base)
