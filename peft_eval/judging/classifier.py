"""Labels texts with a sequence classifier, such as ToxiGen's `tomh/toxigen_roberta`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from peft_eval.errors import ConfigError
from peft_eval.judging.local_model import by_length, enough_memory, load

BATCH_SIZE = 32


class Classifier:
    """A classifier with two labels.

    Args:
        name: folder or hub id.
        place: the setting that names it, for errors.
        device: where it runs; a GPU where there is one, unless told otherwise.

    Raises:
        ConfigError: it cannot be loaded, or has another number of labels.
        JudgeError: it does not fit into the GPU's memory.
    """

    def __init__(self, name: str, place: str, device: str | None = None):
        self._place = place
        self._model, self._tokenizer = load("AutoModelForSequenceClassification", name, place, device)
        config = self._model.config
        if config.num_labels != 2:
            raise ConfigError(f"{name!r} has {config.num_labels} labels", place=place, remedy="name one with two")
        # RoBERTa counts positions from after the padding's id.
        unused = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        room = config.max_position_embeddings - unused
        self.most_tokens = min(self._tokenizer.model_max_length, room)

    def labels(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> list[int]:
        """Returns the likelier label of each text, 0 or 1; texts beyond the model's length are cut at the end.

        Raises:
            JudgeError: the GPU's memory is full.
        """
        labels = [0] * len(texts)
        with enough_memory(self._place), tqdm(total=len(texts), desc="classifying", unit="text") as bar:
            for batch in by_length(list(texts), batch_size):
                for index, label in zip(batch, self._labels([texts[index] for index in batch]), strict=True):
                    labels[index] = label
                bar.update(len(batch))
        return labels

    def _labels(self, texts: list[str]) -> Any:
        import torch

        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self.most_tokens, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            return self._model(**inputs).logits.argmax(dim=-1).tolist()
