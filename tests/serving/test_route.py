from __future__ import annotations

from pathlib import Path

import peft
import pytest

from peft_eval.errors import BaseMismatchError, ConfigError, RouteError
from peft_eval.serving.loader import LOAD_FORMAT
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


def test_what_vllm_cannot_serve_names_the_route_that_can(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, peft.PromptTuningConfig(num_virtual_tokens=4))
    with pytest.raises(RouteError, match="--model hf"):
        choose_route(str(tmp_path))
    assert choose_route(str(tmp_path), unmerged=True).name == "hf"
