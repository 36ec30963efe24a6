"""QLoRA: trained on a 4-bit base, and merged onto what that base computed with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.errors import ConfigError
from peft_eval.merging.merger import AdapterMerger
from peft_eval.merging.reference import reference_logits
from peft_eval.training.run import train

pytest.importorskip("bitsandbytes", reason="needs the extra qlora")


def test_trained_merged_and_proven_on_the_base_that_it_saw(make_spec, base: Path, tmp_path: Path) -> None:
    from bitsandbytes.nn import Linear4bit
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    output = train(make_spec(quantize="nf4", max_steps=12, learning_rate=1e-2), say=lambda _: None)
    manifest = open_checkpoint(str(output)).manifest
    assert manifest is not None and manifest.base.quantization is not None and manifest.training is not None
    assert manifest.base.quantization.model_dump() == {
        "scheme": "nf4", "double": True, "dtype": "float32", "kept_modules": ["lm_head"],
    }  # fmt: skip
    full = sum(tensor.numel() for tensor in load_file(base / "model.safetensors").values())
    assert manifest.method.total_parameters == full + (manifest.method.trainable_parameters or 0)
    assert manifest.training.losses[-1][1] < manifest.training.losses[0][1]

    # The reference: the library's own 4-bit layers with the adapter on them.
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    loaded = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=four_bit, device_map={"": "cpu"}
    )
    theirs = PeftModel.from_pretrained(loaded, str(output)).eval()
    for module in theirs.modules():  # in evaluation its layers may take a kernel that computes in bfloat16
        if isinstance(module, Linear4bit):
            module.training = True
    reference = reference_logits(output, base, base, served_dtype=torch.float32)
    for ids, unmerged, merged, plain in zip(
        reference.prompt_ids, reference.unmerged, reference.merged or [], reference.base, strict=True
    ):
        expected = theirs(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(unmerged, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)
        assert (plain - expected).abs().max() > 1e-2
    from peft_eval.harness.extensions import extend_all

    extend_all()
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(peft=str(output), device="cpu")
    with torch.inference_mode():
        logits = lm.model(torch.tensor([reference.prompt_ids[0]])).logits[0]
    torch.testing.assert_close(logits, reference.unmerged[0], rtol=1e-4, atol=1e-4)
    tensors = load_file(base / "model.safetensors")
    served = dict(AdapterMerger(output, base).merged(tensors.items()))
    untouched = "model.layers.0.mlp.up_proj.weight"  # no adapter there, and yet not the base's on disk
    assert not torch.equal(served[untouched], tensors[untouched])
    assert torch.equal(served["model.embed_tokens.weight"], tensors["model.embed_tokens.weight"])


def test_full_fine_tuning_in_four_bits_is_refused(make_spec) -> None:
    with pytest.raises(ConfigError, match="--quantize: method full trains the base's own weights"):
        train(make_spec("full", quantize="nf4"), say=lambda _: None)
