from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch

from peft_eval.errors import ProbeError
from peft_eval.merging.reference import Distance, reference_logits
from peft_eval.serving.probe import prove_effect
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

LORA = dict(r=4, target_modules=["q_proj", "down_proj"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


def test_distance_is_largest_and_mean_over_everything() -> None:
    distance = Distance.between([torch.zeros(2, 2), torch.zeros(1)], [torch.tensor([[0, 1], [2, 0.0]]), torch.ones(1)])
    assert (distance.largest, distance.mean) == (2.0, pytest.approx(4 / 5))


def test_float32_merging_is_exact_to_the_bound(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.LoraConfig(**LORA))
    reference = reference_logits(tmp_path, base, base, served_dtype=torch.float32)
    proof = prove_effect(reference, "adapter", "float32")
    assert proof.merge_relative is not None
    assert 0 <= proof.merge_relative <= 1e-5
    assert proof.effect.largest > 1e-2


def test_bfloat16_rounding_is_measured(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.LoraConfig(**LORA))
    reference = reference_logits(tmp_path, base, base, served_dtype=torch.bfloat16)
    assert reference.merge_distance is not None
    assert reference.merge_distance.largest > 1e-3


def test_a_fresh_adapter_changes_nothing_and_is_refused(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.LoraConfig(**LORA), scale=0)
    reference = reference_logits(tmp_path, base, base, served_dtype=None)
    with pytest.raises(ProbeError, match="changes nothing"):
        prove_effect(reference, "adapter", None)


def test_a_merge_that_lies_is_refused(base: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    write_adapter(base, tmp_path, peft.LoraConfig(**LORA))
    reference = reference_logits(tmp_path, base, base, served_dtype=torch.float32)
    with pytest.raises(ProbeError, match="merged and unmerged model differ"):
        prove_effect(replace(reference, merged=reference.base), "adapter", "float32")
