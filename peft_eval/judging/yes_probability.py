"""How sure a causal LM is of an answer " yes": TruthfulQA's judges of truth and of information."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from peft_eval.judging.local_model import by_length, enough_memory, load

BATCH_SIZE = 8
ANSWER = " yes"


class YesJudge:
    """A causal LM that was trained to answer yes or no.

    Args:
        name: folder or hub id.
        place: the setting that names it, for errors.
        device: where it runs; a GPU where there is one, unless told otherwise.

    Raises:
        ConfigError: it cannot be loaded.
        JudgeError: it does not fit into the GPU's memory.
    """

    def __init__(self, name: str, place: str, device: str | None = None):
        self._place = place
        self._model, self._tokenizer = load("AutoModelForCausalLM", name, place, device)

    def probabilities(self, prompts: Sequence[str], batch_size: int = BATCH_SIZE) -> list[float]:
        """Returns the probability that each prompt goes on with " yes".

        Raises:
            JudgeError: the GPU's memory is full.
        """
        rows = [self._encoded(prompt) for prompt in prompts]
        found = [0.0] * len(rows)
        with enough_memory(self._place), tqdm(total=len(rows), desc="judging", unit="answer") as bar:
            for batch in by_length([ids for ids, _ in rows], batch_size):
                for index, value in zip(batch, self._probabilities([rows[index] for index in batch]), strict=True):
                    found[index] = value
                bar.update(len(batch))
        return found

    def _encoded(self, prompt: str) -> tuple[list[int], int]:
        """Returns the ids of prompt and answer together, and where the answer begins."""
        alone = self._tokenizer(prompt).input_ids
        whole = self._tokenizer(prompt + ANSWER).input_ids
        if whole[-1] == self._tokenizer.eos_token_id:  # put behind every text by some tokenizers
            alone, whole = alone[:-1], whole[:-1]
        return whole, min(len(alone), len(whole) - 1)

    def _probabilities(self, rows: list[tuple[list[int], int]]) -> list[float]:
        import torch

        longest = max(len(ids) for ids, _ in rows)
        # What follows a token cannot change its probability, so the padding's id and mask do not matter.
        inputs = torch.zeros((len(rows), longest), dtype=torch.long)
        for row, (ids, _) in zip(inputs, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        with torch.inference_mode():
            logits = self._model(inputs.to(self._model.device)).logits
        found = []
        for scores, (ids, start) in zip(logits, rows, strict=True):
            logs = scores[start - 1 : len(ids) - 1].float().log_softmax(-1).cpu()
            found.append(float(logs.gather(1, torch.tensor(ids[start:])[:, None]).sum().exp()))
        return found
