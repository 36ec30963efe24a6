"""lm-eval's `--model hf`, whose `peft=` needs no `pretrained=` and takes full weights and `zoo:` names too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.models import huggingface

from peft_eval.checkpoint.location import resolve_folder
from peft_eval.checkpoint.reading import read_json
from peft_eval.checkpoint.vetting import vet_if_local
from peft_eval.errors import ConfigError
from peft_eval.harness.extensions import finish
from peft_eval.harness.model_arguments import ModelArguments
from peft_eval.harness.padded_prompts import count_positions_by_mask
from peft_eval.harness.prompts import TokenText, WatchedPrompts
from peft_eval.harness.record import run_record
from peft_eval.harness.session import current_session
from peft_eval.harness.speaker import speaker_in_transformers
from peft_eval.harness.stored_texts import StoredTexts
from peft_eval.serving.probe import Proof, prove_effect, prove_full
from peft_eval.serving.route import Route, choose_route

if TYPE_CHECKING:
    import torch


class PeftHFLM(ModelArguments, WatchedPrompts, StoredTexts, huggingface.HFLM):
    """transformers as lm-eval drives it; an adapter runs unmerged, as peft computes it.

    Args:
        pretrained: the base, or a loaded model; with `peft` it overrides the checkpoint's own base.
        peft: a checkpoint: folder, `zoo:NAME` or hub id.
        force_base: accept a base whose weights differ from those the checkpoint was trained on.
        route: `hf`, the only one there is here, or one chosen before.
        options: as lm-eval's own class takes.
    """

    _pair_slack = 1  # the last token of a continuation is never an input

    def __init__(
        self,
        pretrained: Any = None,
        peft: str | None = None,
        force_base: bool = False,
        route: str | Route | None = None,
        **options: Any,
    ):
        self._route: Route | None = None
        self._proof: Proof | None = None
        self._full_proof: dict[str, Any] | None = None
        shared = current_session()
        store = shared.store if shared is not None else None
        if peft is None:
            if pretrained is None:
                raise ConfigError("neither peft= nor pretrained= is given", place="--model_args", remedy="name one")
            if isinstance(pretrained, str) and (pretrained.startswith("zoo:") or store is not None):
                pretrained = str(resolve_folder(pretrained, revision=options.get("revision")))
            if isinstance(pretrained, str):
                vet_if_local(pretrained)
            arguments = options
            super().__init__(pretrained=pretrained, **arguments)
        else:
            if not isinstance(route, Route):
                route = choose_route(
                    str(peft), pretrained=pretrained, force_base=bool(force_base), unmerged=True, wanted=route
                )
            self._route = route
            adapter = str(route.checkpoint.folder) if route.name == "hf" else None
            arguments = {"tokenizer": str(route.tokenizer_folder), "add_bos_token": route.adds_bos} | options
            if longest := _longest_prompt(route):
                arguments = {"max_length": longest} | arguments
            self._prove(route)
            super().__init__(pretrained=str(route.model_folder), peft=adapter, **arguments)
            count_positions_by_mask(self.model)
            if route.name == "hf":
                _see_quantised(self.model.get_base_model(), route)
        self._begin_watching(self._route)
        if store is not None and self.world_size == 1 and (self._route or isinstance(pretrained, str)):
            folder = self._route.model_folder if self._route else Path(pretrained)
            self.remember_in(store, speaker_in_transformers(self._route, folder, arguments, self))

    def _prove(self, route: Route) -> None:
        if route.name == "full":
            self._full_proof = prove_full(route.checkpoint)
            return
        from peft_eval.merging.reference import reference_logits

        reference = reference_logits(
            route.checkpoint.folder, route.model_folder, route.tokenizer_folder, served_dtype=None
        )
        self._proof = prove_effect(reference, route.checkpoint.reference, None)

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encodes and pads as lm-eval's class does; texts that carry their token ids keep them."""
        if not all(isinstance(text, TokenText) for text in strings):
            return super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)
        ids = [list(text.token_ids) for text in strings if isinstance(text, TokenText)]
        padded = self.tokenizer.pad({"input_ids": ids}, padding_side=padding_side, return_tensors="pt")
        kept = slice(-left_truncate_len if left_truncate_len else None, None)
        return padded["input_ids"][:, kept], padded["attention_mask"][:, kept]

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **options: Any) -> torch.Tensor:
        """Generates as lm-eval's class does; which answers ended at the limit has to be read off them."""
        outputs = super()._model_generate(context, max_length, stop, **options)
        seen = options["attention_mask"].bool()
        ends = {self.eot_token_id, self.tokenizer.eos_token_id}
        begin = context.shape[1] if self.backend == "causal" else 1
        for prompt, mask, answer in zip(context, seen, outputs[:, begin:], strict=True):
            ids = answer.tolist()
            cut = outputs.shape[1] >= max_length and not ends & set(ids)
            if cut:
                text = self.tok_decode(ids, skip_special_tokens=False)
                cut = not any(word in text for word in stop if word)
            self._watch.answered(prompt[mask].tolist(), cut=cut)
            self._note_cut(cut)
        return outputs

    def get_model_info(self) -> dict[str, Any]:
        """Returns what lm-eval adds to the results' `config`."""
        proof = self._proof.as_record() if self._proof else self._full_proof
        record = run_record(self._route, proof, self._watch.counts)
        if self._store is not None:
            record["answers"] = self.answers_record()
        return {**super().get_model_info(), "peft_eval": record}


def _see_quantised(model: torch.nn.Module, route: Route) -> None:
    """Lets an adapter that was trained on a quantised base run on what that base computed with."""
    from peft_eval.merging.quantised import quantised_base
    from peft_eval.merging.skeleton import weightless_model

    manifest = route.checkpoint.manifest
    if manifest and manifest.base.quantization:
        quantised = quantised_base(route.checkpoint.folder, weightless_model(route.model_folder))
        assert quantised is not None
        quantised.apply(model)


def _longest_prompt(route: Route) -> int | None:
    """Returns the length an encoder-decoder was trained with: T5's config names none, and lm-eval guesses 512."""
    manifest = route.checkpoint.manifest
    if manifest is None or not read_json(route.model_folder / "config.json").get("is_encoder_decoder"):
        return None
    return manifest.text.max_source_tokens


finish(huggingface)
