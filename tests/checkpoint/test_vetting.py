"""What is sound passes: the layout of the hub's cache, code that is not needed, templates as models have them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peft_eval.checkpoint.trial import try_out
from peft_eval.checkpoint.vetting import vet_folder
from peft_eval.data.chat import TULU_TEMPLATE
from peft_eval.errors import CheckpointError
from tests.hostile.corpus.cases import adapter

CHATML = (
    "{%- if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- endif %}{%- for message in messages %}{%- if message.role != 'system' %}{{ '<|im_start|>' + message.role }}"
    "{%- if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}{%- else %}"
    "{{ message.content }}{%- endif %}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ bos_token + message['content'] }}"
    "{% if loop.index0 > 2 %}{% break %}{% endif %}{% endfor %}"
)
WITH_TOOLS = (
    "{%- macro render(spec, depth=0) -%}{%- for name, inner in spec.items() -%}{{ '  ' * depth + name }}"
    "{%- if inner is mapping -%}{{ render(inner, depth + 1) }}{%- endif -%}{%- endfor -%}{%- endmacro -%}"
    "{%- set date = strftime_now('%d %b %Y') if strftime_now is defined else '' -%}"
    "{%- set ns = namespace(last=messages|length - 1) -%}{%- for message in messages[::-1] -%}"
    "{%- set ns.last = ns.last - 1 -%}{%- endfor -%}{{ render({'a': {'b': {}}}) ~ date ~ (messages | tojson) }}"
)


@pytest.mark.parametrize(
    "template", [TULU_TEMPLATE, CHATML, STRICT, WITH_TOOLS], ids=["tulu", "chatml", "strict", "tools"]
)
def test_templates_as_models_have_them_pass(tmp_path: Path, template: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    try_out(tmp_path, {}, [])


def test_a_snapshot_in_the_hubs_cache_passes(tmp_path: Path) -> None:
    snapshot, blobs = (
        tmp_path / "models--org--name" / "snapshots" / ("a" * 40),
        tmp_path / "models--org--name" / "blobs",
    )
    snapshot.mkdir(parents=True)
    adapter(snapshot)
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        shutil.move(path, blobs / str(number))
        path.symlink_to(Path("..", "..", "blobs", str(number)))
    vet_folder(snapshot)


def test_a_link_within_the_folder_passes(tmp_path: Path) -> None:
    adapter(tmp_path)
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "LICENSE").symlink_to("README.md")
    vet_folder(tmp_path)


def test_code_that_is_not_needed_is_not_looked_at(tmp_path: Path) -> None:
    config = {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}, "rope_theta": 500_000_000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling.py").write_text("raise SystemExit")
    vet_folder(tmp_path)


def test_infinity_in_a_models_configuration_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba2", "time_step_limit": [0.0, Infinity]}')
    vet_folder(tmp_path)


def test_what_passed_is_not_tried_again_and_what_did_not_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for text, sound in (("{{ messages }}", True), ("{{ messages.__class__ }}", False)):
        folder = tmp_path / str(sound)
        folder.mkdir()
        (folder / "chat_template.jinja").write_text(text)
        for _ in range(2):
            if sound:
                try_out(folder, {}, [])
            else:
                with pytest.raises(CheckpointError, match="__class__"):
                    try_out(folder, {}, [])
    assert len(list((tmp_path / "cache" / "peft_eval" / "tried").iterdir())) == 1
