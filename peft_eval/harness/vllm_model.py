"""lm-eval's `--model vllm`, which also takes `peft=`: the adapter is merged while vLLM loads its base."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lm_eval.models import vllm_causallms

from peft_eval.checkpoint.location import resolve_folder
from peft_eval.errors import ConfigError
from peft_eval.harness.extensions import finish
from peft_eval.harness.prompts import PromptWatch
from peft_eval.harness.record import run_record
from peft_eval.serving.engine import cpu_defaults, engine_dtype
from peft_eval.serving.probe import Proof, prove_effect, prove_engine, prove_full
from peft_eval.serving.route import Route, choose_route

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from peft_eval.merging.reference import Reference

logger = logging.getLogger(__name__)


class PeftVLLM(vllm_causallms.VLLM):
    """vLLM as lm-eval drives it, for a base, an adapter or full weights.

    Args:
        pretrained: the base; needed without `peft`, and overrides the checkpoint's own base with it.
        peft: a checkpoint: folder, `zoo:NAME` or hub id. It knows its base.
        force_base: accept a base whose weights differ from those the checkpoint was trained on.
        options: as lm-eval's own class takes; a `batch_size` of 1, which is lm_eval's default, means "auto".

    Raises:
        PeftEvalError: the checkpoint cannot be served, or the probe fails; see `choose_route` and
            `peft_eval.serving.probe`.
    """

    def __init__(
        self, pretrained: str | None = None, peft: str | None = None, force_base: bool = False, **options: Any
    ):
        self._route: Route | None = None
        self._proof: Proof | None = None
        self._full_proof: dict[str, Any] | None = None
        if str(options.get("batch_size", 1)) == "1":
            # lm_eval's own default, which would hand vLLM one prompt at a time; vLLM batches by itself.
            options["batch_size"] = "auto"
        if peft is None:
            if not pretrained:
                raise ConfigError("neither peft= nor pretrained= is given", place="--model_args", remedy="name one")
            if pretrained.startswith("zoo:"):
                pretrained = str(resolve_folder(pretrained))
            super().__init__(pretrained=pretrained, **cpu_defaults(pretrained, options))
        else:
            self._start_with_checkpoint(str(peft), pretrained, bool(force_base), options)
        self._watch = PromptWatch(self.max_length, self.tokenizer.bos_token_id)

    def _start_with_checkpoint(
        self, peft: str, pretrained: str | None, force_base: bool, options: dict[str, Any]
    ) -> None:
        if options.get("lora_local_path"):
            raise ConfigError("peft= and lora_local_path= exclude each other", place="--model_args")
        route = self._route = choose_route(peft, pretrained=pretrained, force_base=force_base)
        model = str(route.model_folder)
        arguments = {"tokenizer": str(route.tokenizer_folder), "add_bos_token": route.adds_bos} | options
        reference = self._reference(route, arguments)
        super().__init__(pretrained=model, **cpu_defaults(model, arguments), **route.engine)
        if reference is not None and self._proof is not None and self.data_parallel_size <= 1:
            self._proof = prove_engine(self._proof, reference, self.model, peft)
        if self._proof:
            logger.info("%s: %s", peft, self._proof.verdict)

    def _reference(self, route: Route, arguments: dict[str, Any]) -> Reference | None:
        if route.name == "full":
            self._full_proof = prove_full(route.checkpoint)
            return None
        from peft_eval.merging.reference import reference_logits

        dtype = engine_dtype(route.model_folder, arguments.get("dtype", "auto"))
        reference = reference_logits(
            route.checkpoint.folder, route.model_folder, route.tokenizer_folder, served_dtype=dtype
        )
        self._proof = prove_effect(reference, route.checkpoint.reference, str(dtype).removeprefix("torch."))
        return reference

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers as lm-eval's class does, after every prompt was looked at."""
        prompts = self.tok_encode([request.args[0] for request in requests])
        self._watch.look(requests, prompts, self.max_gen_toks)
        return super().generate_until(requests, disable_tqdm)

    def _model_generate(self, requests: Any, generate: bool = False, sampling_params: Any = None) -> Any:
        outputs = super()._model_generate(requests, generate, sampling_params)
        for ids, output in zip(requests, outputs if generate else [], strict=generate):
            if output.outputs[0].finish_reason == "length":
                self._watch.cut_answer(ids)
        return outputs

    def get_model_info(self) -> dict[str, Any]:
        """Returns what lm-eval adds to the results' `config`."""
        proof = self._proof.as_record() if self._proof else self._full_proof
        return {"peft_eval": run_record(self._route, proof, self._watch.counts, self._watch.first)}


finish(vllm_causallms)
