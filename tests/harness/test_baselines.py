"""The model-free baselines as lm-eval models."""

from __future__ import annotations

import subprocess
import sys

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from peft_eval.errors import ConfigError, RouteError
from peft_eval.harness.baselines import CopyDemo, CopyInput, register


def request(doc: dict, kind: str = "generate_until") -> Instance:
    return Instance(kind, doc, ("prompt", {}), 0, ("some_task", 0, 1))


def test_registered_under_their_names_once() -> None:
    register()
    register()
    model = get_model("copy-input").create_from_arg_string("", {"batch_size": 1, "device": None})
    assert isinstance(model, CopyInput)
    assert get_model("copy-demo") is CopyDemo


def test_answers_come_from_the_document() -> None:
    requests = [request({"input": " q ", "demo_output": "d"}), request({"input": "r", "demo_output": "e"})]
    assert CopyInput().generate_until(requests) == [" q ", "r"]
    assert CopyDemo().generate_until(requests) == ["d", "e"]


@pytest.mark.parametrize("doc", [{"question": "q"}, {"demo_output": None}])
def test_a_document_with_nothing_to_copy(doc: dict) -> None:
    with pytest.raises(RouteError, match="some_task has no text 'demo_output' to copy"):
        CopyDemo().generate_until([request(doc)])


def test_probabilities_are_refused() -> None:
    for method in (CopyInput().loglikelihood, CopyInput().loglikelihood_rolling):
        with pytest.raises(RouteError, match="some_task asks for log-likelihoods"):
            method([request({}, "loglikelihood")])


def test_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="copy-demo takes no option 'pretrained'"):
        get_model("copy-demo").create_from_arg_string("pretrained=x")


def test_registering_imports_nothing_heavy() -> None:
    code = (
        "import sys; from peft_eval.harness.baselines import register; register(); "
        "print(sorted({'torch', 'transformers', 'vllm', 'datasets', 'nltk'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
