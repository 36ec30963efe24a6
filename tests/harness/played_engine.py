"""vLLM's part played by transformers and peft, for tests of what is around an engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from peft_eval.serving.loader import LOAD_FORMAT, Loading

LONGEST_ANSWER = 6


class PlayedEngine:
    """Greedy answers and prompt log-probabilities of what `vllm.LLM` would be given, one request a step."""

    def __init__(self, arguments: dict[str, Any]):
        from vllm.engine.arg_utils import EngineArgs

        config = EngineArgs(model=arguments["model"], dtype=arguments["dtype"]).create_model_config()
        self.llm_engine = SimpleNamespace(model_config=config, add_request=self._add, step=self._step)
        self._count = 0
        self._waiting: list[Any] = []
        self.put(arguments)

    def put(self, arguments: dict[str, Any]) -> None:
        """Puts in what the arguments say."""
        loading = Loading()
        if arguments.get("load_format") == LOAD_FORMAT:
            loading = Loading.taken_from(dict(arguments["model_loader_extra_config"]))
        model: Any = AutoModelForCausalLM.from_pretrained(arguments["model"], dtype=torch.float32)
        self._vocabulary = model.config.vocab_size
        self._model = (peft.PeftModel.from_pretrained(model, loading.adapter) if loading.adapter else model).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(arguments.get("tokenizer") or arguments["model"])

    def reset_prefix_cache(self) -> bool:
        """There is none."""
        return True

    def generate(self, prompts: Any, sampling_params: Any = None, **_: Any) -> list[Any]:
        """Answers prompts of token ids, in their order."""
        several = isinstance(sampling_params, list)
        for number, prompt in enumerate(prompts):
            self.llm_engine.add_request(
                str(self._count), prompt, sampling_params[number] if several else sampling_params
            )
            self._count += 1
        found: list[Any] = []
        while self._waiting:
            found += self.llm_engine.step()
        return sorted(found, key=lambda output: int(output.request_id))

    def _add(self, request_id: str, prompt: Any, params: Any) -> None:
        self._waiting.append((request_id, list(prompt["prompt_token_ids"]), params))

    @torch.inference_mode()
    def _logprobs(self, ids: list[int]) -> torch.Tensor:
        return self._model(input_ids=torch.tensor([ids])).logits[0, -len(ids) :].float().log_softmax(-1)

    def _step(self) -> list[Any]:
        request_id, given, params = self._waiting.pop()
        ids = [one for one in given if one < self._vocabulary]  # peft puts the virtual tokens in itself
        scores: Any = None
        if params.prompt_logprobs:
            scores = [None] * (1 + len(given) - len(ids))
            for row in self._logprobs(ids)[:-1]:
                best = row.topk(params.prompt_logprobs)
                pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
                scores.append({token: SimpleNamespace(logprob=value) for value, token in pairs})
        answer: list[int] = []
        while len(answer) < min(params.max_tokens, LONGEST_ANSWER):
            answer.append(int(self._logprobs(ids + answer)[-1].argmax()))
        completion = SimpleNamespace(text=self._tokenizer.decode(answer), token_ids=answer, finish_reason="length")
        return [
            SimpleNamespace(
                request_id=request_id,
                prompt_token_ids=given,
                prompt_logprobs=scores,
                outputs=[completion],
                finished=True,
            )
        ]
