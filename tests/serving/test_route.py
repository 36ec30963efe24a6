from __future__ import annotations

import json
import shutil
from pathlib import Path

import peft
import pytest

from peft_eval.errors import BaseMismatchError, ConfigError, RouteError
from peft_eval.methods.tuner import register_all
from peft_eval.serving.loader import LOAD_FORMAT, with_route
from peft_eval.serving.route import choose_route
from tests.adapters import write_adapter
from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


def test_a_lora_is_merged(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.LoraConfig(r=4, target_modules=["q_proj"]))
    route = choose_route(str(tmp_path))
    assert (route.name, route.model_folder) == ("merge", base)
    assert route.engine["load_format"] == LOAD_FORMAT
    assert route.tokenizer_folder == base


def test_the_checkpoints_own_tokenizer_goes_first(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.LoraConfig(r=4, target_modules=["q_proj"]))
    tiny_tokenizer(tmp_path)
    assert choose_route(str(tmp_path)).tokenizer_folder == base  # the same files
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert choose_route(str(tmp_path)).tokenizer_folder == tmp_path
    (tmp_path / "chat_template.jinja").unlink()
    tiny_tokenizer(tmp_path, vocab=300)
    assert choose_route(str(tmp_path)).tokenizer_folder == tmp_path


def test_a_tokenizer_larger_than_the_base_is_refused_by_number(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.LoraConfig(r=4, target_modules=["q_proj"]))
    tiny_tokenizer(tmp_path, vocab=390)
    with pytest.raises(BaseMismatchError, match=r"390 tokens, the base's vocabulary 384"):
        choose_route(str(tmp_path))


def test_full_weights_are_their_own_base(base: Path) -> None:
    route = choose_route(str(base))
    assert (route.name, route.model_folder, route.engine) == ("full", base, {})
    with pytest.raises(ConfigError, match="beside full weights"):
        choose_route(str(base), pretrained=str(base))


def test_a_bottleneck_is_put_beside_the_sublayers(base: Path, tmp_path: Path) -> None:
    from peft_eval.methods.bottleneck_tuner import BottleneckConfig

    register_all()
    write_adapter(base, tmp_path, BottleneckConfig(size=4))
    route = choose_route(str(tmp_path))
    assert (route.name, route.backend, route.prompt_ids) == ("wrapped", "vllm", ())
    # Two adapters of unlike structure must not share a compiled graph.
    write_adapter(base, tmp_path / "other", BottleneckConfig(size=8))
    assert choose_route(str(tmp_path / "other")).engine["additional_config"] != route.engine["additional_config"]
    write_adapter(base, tmp_path / "gated", BottleneckConfig(size=4, gated=True))
    gated = choose_route(str(tmp_path / "gated"))
    assert (gated.name, gated.backend) == ("hf", "hf")
    assert "gate depends on the input" in gated.reason


def test_a_prompt_becomes_virtual_tokens(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.PromptTuningConfig(num_virtual_tokens=4))
    route = choose_route(str(tmp_path))
    assert (route.name, route.prompt_ids) == ("prompt", (384, 385, 386, 387))
    assert route.engine["hf_overrides"] == {"vocab_size": 388}
    assert choose_route(str(tmp_path), unmerged=True).name == "hf"


def test_what_vllm_cannot_serve_goes_to_hf_and_says_why(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.PrefixTuningConfig(num_virtual_tokens=4))
    route = choose_route(str(tmp_path))
    assert (route.name, route.backend) == ("hf", "hf")
    assert "PREFIX_TUNING" in route.reason


def test_a_route_that_is_asked_for_is_taken_or_refused_with_those_there_are(base: Path, tmp_path: Path) -> None:
    from peft_eval.methods.bottleneck_tuner import BottleneckConfig

    register_all()
    write_adapter(base, tmp_path / "bottleneck", BottleneckConfig(size=4))
    write_adapter(base, tmp_path / "lora", peft.LoraConfig(r=4, target_modules=["q_proj"]))
    bottleneck, lora = str(tmp_path / "bottleneck"), str(tmp_path / "lora")
    assert choose_route(lora, wanted="merge").name == "merge"
    assert choose_route(lora, wanted="hf").backend == "hf"
    with pytest.raises(RouteError, match=r"route=merge: .*\(its routes: wrapped, hf\)"):
        choose_route(bottleneck, wanted="merge")
    with pytest.raises(RouteError, match=r"route=wrapped: LORA has no form of blocks .*\(its routes: merge, hf\)"):
        choose_route(lora, wanted="wrapped")
    with pytest.raises(RouteError, match=r"route=prompt: LORA .*\(its routes: merge, hf\)"):
        choose_route(lora, wanted="prompt")
    with pytest.raises(RouteError, match="route=merge runs in vLLM"):
        choose_route(lora, unmerged=True, wanted="merge")
    with pytest.raises(RouteError, match="full weights"):
        choose_route(str(base), wanted="merge")
    with pytest.raises(ConfigError, match="did you mean wrapped"):
        choose_route(lora, wanted="wraped")


def test_an_untested_kind_of_base_goes_to_hf_unless_insisted(base: Path, tmp_path: Path) -> None:
    from peft_eval.methods.bottleneck_tuner import BottleneckConfig

    register_all()
    config = json.loads((base / "config.json").read_text())
    other = shutil.copytree(base, tmp_path / "base")
    (other / "config.json").write_text(json.dumps({**config, "model_type": "olmo"}))
    write_adapter(base, tmp_path / "adapter", BottleneckConfig(size=4))
    route = choose_route(str(tmp_path / "adapter"), pretrained=str(other))
    assert (route.backend, "not tested inside vLLM with bases of type olmo" in route.reason) == ("hf", True)
    assert choose_route(str(tmp_path / "adapter"), pretrained=str(other), wanted="wrapped").backend == "vllm"


def test_encoder_decoders_go_to_hf(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    other = shutil.copytree(base, tmp_path / "base")
    (other / "config.json").write_text(json.dumps({**config, "model_type": "t5", "is_encoder_decoder": True}))
    write_adapter(base, tmp_path / "adapter", peft.LoraConfig(r=4, target_modules=["q_proj"]))
    route = choose_route(str(tmp_path / "adapter"), pretrained=str(other))
    assert (route.name, route.backend) == ("hf", "hf")
    assert "no encoder-decoder bases (t5)" in route.reason
    assert (choose_route(str(other)).name, choose_route(str(other)).backend) == ("full", "hf")


def test_what_the_route_sets_cannot_be_set_beside_it() -> None:
    joined = with_route({"hf_overrides": {"a": 1}, "dtype": "float32"}, {"hf_overrides": {"vocab_size": 8}})
    assert joined == {"hf_overrides": {"a": 1, "vocab_size": 8}, "dtype": "float32"}
    with pytest.raises(RouteError, match="hf_overrides="):
        with_route({"hf_overrides": {"vocab_size": 9}}, {"hf_overrides": {"vocab_size": 8}})
    with pytest.raises(RouteError, match="load_format='dummy' cannot be set beside peft="):
        with_route({"load_format": "dummy"}, {"load_format": LOAD_FORMAT})
