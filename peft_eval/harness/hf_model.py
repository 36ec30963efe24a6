"""lm-eval's `--model hf`, whose `peft=` needs no `pretrained=` and takes full weights and `zoo:` names too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lm_eval.models import huggingface

from peft_eval.checkpoint.location import resolve_folder
from peft_eval.errors import ConfigError
from peft_eval.harness.extensions import finish
from peft_eval.harness.prompts import PromptWatch
from peft_eval.harness.record import run_record
from peft_eval.serving.probe import Proof, prove_effect, prove_full
from peft_eval.serving.route import Route, choose_route

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class PeftHFLM(huggingface.HFLM):
    """transformers as lm-eval drives it; an adapter runs unmerged, as peft computes it.

    Args:
        pretrained: the base, or a loaded model; with `peft` it overrides the checkpoint's own base.
        peft: a checkpoint: folder, `zoo:NAME` or hub id.
        force_base: accept a base whose weights differ from those the checkpoint was trained on.
        options: as lm-eval's own class takes.
    """

    def __init__(self, pretrained: Any = None, peft: str | None = None, force_base: bool = False, **options: Any):
        self._route: Route | None = None
        self._proof: Proof | None = None
        self._full_proof: dict[str, Any] | None = None
        if peft is None:
            if pretrained is None:
                raise ConfigError("neither peft= nor pretrained= is given", place="--model_args", remedy="name one")
            if isinstance(pretrained, str) and pretrained.startswith("zoo:"):
                pretrained = str(resolve_folder(pretrained))
            super().__init__(pretrained=pretrained, **options)
        else:
            route = self._route = choose_route(
                str(peft), pretrained=pretrained, force_base=bool(force_base), unmerged=True
            )
            adapter = str(route.checkpoint.folder) if route.name == "hf" else None
            arguments = {"tokenizer": str(route.tokenizer_folder), "add_bos_token": route.adds_bos} | options
            self._prove(route)
            super().__init__(pretrained=str(route.model_folder), peft=adapter, **arguments)
        self._watch = PromptWatch(self.max_length, self.tokenizer.bos_token_id)

    def _prove(self, route: Route) -> None:
        if route.name == "full":
            self._full_proof = prove_full(route.checkpoint)
            return
        from peft_eval.merging.reference import reference_logits

        reference = reference_logits(
            route.checkpoint.folder, route.model_folder, route.tokenizer_folder, served_dtype=None
        )
        self._proof = prove_effect(reference, route.checkpoint.reference, None)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers as lm-eval's class does, after every prompt was looked at."""
        prompts = [self.tok_encode(request.args[0]) for request in requests]
        self._watch.look(requests, prompts, self.max_gen_toks)
        return super().generate_until(requests, disable_tqdm)

    def get_model_info(self) -> dict[str, Any]:
        """Returns what lm-eval adds to the results' `config`."""
        proof = self._proof.as_record() if self._proof else self._full_proof
        record = run_record(self._route, proof, self._watch.counts, self._watch.first)
        return {**super().get_model_info(), "peft_eval": record}


finish(huggingface)
