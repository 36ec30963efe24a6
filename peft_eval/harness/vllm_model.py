"""lm-eval's `--model vllm`, which also takes `peft=`: the adapter is put into its base while vLLM loads it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.models import vllm_causallms

from peft_eval.checkpoint.location import resolve_folder
from peft_eval.checkpoint.vetting import vet_if_local
from peft_eval.errors import ConfigError, RouteError
from peft_eval.harness.encoding_ahead import EncodingAhead
from peft_eval.harness.extensions import finish
from peft_eval.harness.fallback import start_on_hf
from peft_eval.harness.model_arguments import ModelArguments
from peft_eval.harness.next_token import NextTokenScores
from peft_eval.harness.prompts import WatchedPrompts
from peft_eval.harness.record import run_record
from peft_eval.harness.session import Session, current_session, engine_of
from peft_eval.harness.speaker import speaker_of
from peft_eval.harness.stored_answers import StoredOutputs
from peft_eval.serving.engine import FITS_IN_MEMORY, cpu_defaults, engine_dtype
from peft_eval.serving.engine_watch import fail_when_killed
from peft_eval.serving.loader import with_route
from peft_eval.serving.next_token import asks_for_next_tokens
from peft_eval.serving.probe import Proof, prove_effect, prove_engine, prove_full
from peft_eval.serving.route import Route, choose_route, engine_obstacle
from peft_eval.serving.virtual_tokens import with_prompt, without_prompt

if TYPE_CHECKING:
    from peft_eval.merging.reference import Reference

logger = logging.getLogger(__name__)


class PeftVLLM(ModelArguments, WatchedPrompts, EncodingAhead, StoredOutputs, NextTokenScores, vllm_causallms.VLLM):
    """vLLM as lm-eval drives it, for a base, an adapter or full weights.

    Args:
        pretrained: the base; needed without `peft`, and overrides the checkpoint's own base with it.
        peft: a checkpoint: folder, `zoo:NAME` or hub id. It knows its base.
        force_base: accept a base whose weights differ from those the checkpoint was trained on.
        route: the route to take (`merge`, `wrapped`, `prompt`; the command also takes `hf`), or one chosen before.
        options: as lm-eval's own class takes; a `batch_size` of 1, which is lm_eval's default, means "auto".

    Raises:
        PeftEvalError: the checkpoint cannot be served, or the probe fails; see `choose_route` and
            `peft_eval.serving.probe`.
    """

    _pair_slack = -1  # vLLM generates one token even where only the prompt's likelihood is asked for

    def __init__(
        self,
        pretrained: str | None = None,
        peft: str | None = None,
        force_base: bool = False,
        route: str | Route | None = None,
        **options: Any,
    ):
        self._route: Route | None = None
        self._prompt_ids: tuple[int, ...] = ()
        self._proof: Proof | None = None
        self._full_proof: dict[str, Any] | None = None
        self._swap_proof: dict[str, Any] | None = None
        self._session = current_session()
        if str(options.get("batch_size", 1)) == "1":
            # lm_eval's own default, which would hand vLLM one prompt at a time; vLLM batches by itself.
            options["batch_size"] = "auto"
        if peft is None:
            if not pretrained:
                raise ConfigError("neither peft= nor pretrained= is given", place="--model_args", remedy="name one")
            if pretrained.startswith("zoo:") or self._session is not None:
                pretrained = str(resolve_folder(pretrained, revision=options.get("revision")))
            vet_if_local(pretrained)
            self._start(pretrained, cpu_defaults(pretrained, options))
            self._prove_swap(Path(pretrained), None)
        else:
            if not isinstance(route, Route):
                route = choose_route(str(peft), pretrained=pretrained, force_base=bool(force_base), wanted=route)
            self._start_with_checkpoint(route, options)
        self._begin_watching(self._route)
        if self._session is not None and self.data_parallel_size <= 1:
            self.remember_in(self._session.store, speaker_of(self._route, self.model_args, self))

    @classmethod
    def _create(cls, given: dict[str, Any]) -> Any:
        """Creates the model, or lm-eval's HF model for a checkpoint that vLLM does not serve."""
        if not given.get("peft"):
            base = given.get("pretrained")
            return start_on_hf(None, given) if base and engine_obstacle(Path(str(base))) else cls(**given)
        shared = current_session()
        known = shared.routes.get(str(given["peft"])) if shared is not None else None
        route = known or choose_route(
            str(given["peft"]),
            pretrained=given.get("pretrained"),
            force_base=bool(given.get("force_base")),
            wanted=given.get("route"),
        )
        return start_on_hf(route, given) if route.backend == "hf" else cls(**{**given, "route": route})

    def _start_with_checkpoint(self, route: Route, options: dict[str, Any]) -> None:
        place = route.checkpoint.reference
        if options.get("lora_local_path"):
            raise ConfigError("peft= and lora_local_path= exclude each other", place="--model_args")
        if route.backend != "vllm":
            raise RouteError(f"vLLM does not serve it: {route.reason}", place=place, remedy="use lm_eval --model hf")
        self._route, self._prompt_ids = route, route.prompt_ids
        model = str(route.model_folder)
        arguments = {"tokenizer": str(route.tokenizer_folder), "add_bos_token": route.adds_bos} | options
        reference = self._reference(route, arguments)
        self._start(model, with_route(cpu_defaults(model, arguments), route.engine))
        if reference is not None and self._proof is not None and self.data_parallel_size <= 1:
            self._proof = prove_engine(self._proof, reference, self.model, place, self._prompt_ids)
        self._prove_swap(route.model_folder, reference)
        if self._proof:
            logger.info("%s: %s", place, self._proof.verdict)

    def _start(self, pretrained: str, arguments: dict[str, Any]) -> None:
        """Starts an engine, or puts the checkpoint into the one that the session has."""
        self._before = None
        if self._session is not None:
            # What fails from here on leaves weights in the engine of which nothing is known.
            self._before, self._session.served = self._session.served, None
        fitted = not (arguments.get("max_model_len") or arguments.get("max_length"))
        if fitted:
            arguments = arguments | {"max_model_len": FITS_IN_MEMORY, "max_length": None}
        with engine_of(self._session, vllm_causallms):
            super().__init__(pretrained=pretrained, **arguments)
        own = self._session is None or self._session.engine is None
        if own and self.data_parallel_size <= 1:
            fail_when_killed(self.model)
        if fitted:
            self._max_length = None  # lm-eval then asks the engine

    def _prove_swap(self, model_folder: Path, reference: Reference | None) -> None:
        """Checks that an engine in which checkpoints take turns serves this one."""
        shared = self._session
        if shared is None or shared.engine is None or self.data_parallel_size > 1:
            return
        from peft_eval.serving.swap_probe import Expected, expected_of_folder, prove_swap

        if reference is not None:
            now = Expected(reference.prompt_ids, reference.unmerged)
        else:
            now = expected_of_folder(model_folder, Path(self.model_args["tokenizer"] or model_folder))
        place = self._route.checkpoint.reference if self._route else str(model_folder)
        before = self._before if shared.engine.changes[-1].how == "swap" else None
        self._swap_proof = prove_swap(self.model, now, before, place, self._prompt_ids)
        shared.served = now

    def _reference(self, route: Route, arguments: dict[str, Any]) -> Reference | None:
        if route.name == "full":
            self._full_proof = prove_full(route.checkpoint)
            return None
        from peft_eval.merging.reference import reference_logits

        dtype = engine_dtype(route.model_folder, arguments.get("dtype", "auto"))
        merged_dtype = dtype if route.name == "merge" else None
        reference = reference_logits(
            route.checkpoint.folder, route.model_folder, route.tokenizer_folder, served_dtype=merged_dtype
        )
        self._proof = prove_effect(reference, route.checkpoint.reference, str(dtype).removeprefix("torch."))
        return reference

    @property
    def max_length(self) -> int:
        """The longest prompt with its answer, in tokens: the engine's context without the virtual tokens."""
        return int(super().max_length) - len(self._prompt_ids)

    def _encode_prompts(self, texts: list[str]) -> list[list[int]]:
        return self.tok_encode(texts)

    def _model_generate(self, requests: Any, generate: bool = False, sampling_params: Any = None) -> Any:
        outputs = super()._model_generate(with_prompt(requests, self._prompt_ids), generate, sampling_params)
        for output in outputs:
            without_prompt(output, len(self._prompt_ids))
        answers = generate and not asks_for_next_tokens(sampling_params)
        for ids, output in zip(requests, outputs if answers else [], strict=answers):
            self._watch.answered(ids, cut=output.outputs[0].finish_reason == "length")
        return outputs

    def get_model_info(self) -> dict[str, Any]:
        """Returns what lm-eval adds to the results' `config`."""
        proof = self._proof.as_record() if self._proof else self._full_proof
        record = run_record(self._route, proof, self._watch.counts)
        return {"peft_eval": record | self._session_record(self._session)}

    def _session_record(self, shared: Session | None) -> dict[str, Any]:
        if shared is None:
            return {}
        record: dict[str, Any] = {"answers": self.answers_record(), **shared.notes}
        if shared.engine is not None and shared.engine.changes:
            record["engine"] = {**shared.engine.changes[-1].as_record(), "proof": self._swap_proof}
        return record


finish(vllm_causallms)
