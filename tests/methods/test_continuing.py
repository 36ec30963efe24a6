"""A run's state holds all that a method trains: loaded into a fresh start it gives the same model, strictly."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from peft_eval import plugins
from peft_eval.checkpoint.writing import ADAPTER_WEIGHTS, load_adapter_weights, save_adapter
from peft_eval.errors import CheckpointError
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import forward, tiny

OPTIONS = {
    "adapter": {"size": 8},
    "scaled_parallel": {},
    "compacter": {"size": 8},
    "prefix": {"mlp_size": 8},
    "prefix_flat": {},
    "unipelt": {"lora_rank": 4},
    "lora+ln_tuning": {"lora_rank": 4},
}


@pytest.mark.parametrize("name", OPTIONS)
@torch.no_grad()
def test_weights_come_back(name, tmp_path):
    method = plugins.methods()[name]
    model = adapt(method, tiny("llama"), **OPTIONS[name])
    disturb(model)
    save_adapter(model, tmp_path)
    fresh = adapt(method, tiny("llama"), **OPTIONS[name])
    assert not torch.equal(forward(fresh), forward(model))
    load_adapter_weights(fresh, tmp_path)
    assert torch.equal(forward(fresh), forward(model))
    trained = {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert {key for key, weight in fresh.named_parameters() if weight.requires_grad} == trained
    weights = load_file(tmp_path / ADAPTER_WEIGHTS)
    assert len(weights) == len(trained)
    weights.popitem()
    save_file(weights, tmp_path / ADAPTER_WEIGHTS)
    with pytest.raises(CheckpointError, match="1 weights do not fit the model"):
        load_adapter_weights(fresh, tmp_path)
