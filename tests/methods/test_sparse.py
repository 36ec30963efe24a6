"""SaRA and SAM train the weights they should, with the gradients of those weights, and add what they say."""

import itertools

import numpy
import pytest
import torch

from peft_eval.errors import ConfigError
from peft_eval.methods.method import Course
from peft_eval.methods.sam import SamMethod
from peft_eval.methods.sara import SaraMethod
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import PROMPT, forward, tiny


def batches(count):
    generator = torch.Generator().manual_seed(3)
    for _ in range(count // 2):
        ids = torch.randint(3, 64, (2, 6), generator=generator)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def sam(model, **options):
    method = SamMethod()
    fitted = method.fit(model, method.options(**options))
    return method.prepare_in(model, fitted, base_id="", course=Course(10, batches)).eval()


def places(model, name):
    return model.base_model.model.get_submodule(name).sparse_places["default"].numpy()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_sara_chooses_the_weights_below_the_threshold(architecture):
    model = adapt(SaraMethod(), tiny(architecture), threshold=0.01)
    plain = dict(tiny(architecture).named_modules())
    layers = [name for name, module in model.base_model.model.named_modules() if hasattr(module, "sparse_places")]
    assert layers
    for name in layers:
        weight = plain[name].weight.detach().numpy().ravel()
        assert numpy.array_equal(places(model, name), numpy.flatnonzero(numpy.abs(weight) < 0.01))
    assert model.peft_config["default"].counts == {name: len(places(model, name)) for name in layers}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradients_are_those_of_the_weights_chosen(architecture):
    """Full fine-tuning's gradients at the same weights, taken at the places."""
    model = adapt(SaraMethod(), tiny(architecture), threshold=0.02)
    disturb(model)
    forward(model).square().sum().backward()
    plain = tiny(architecture)
    with torch.no_grad():
        changed = adapt(SaraMethod(), tiny(architecture), threshold=0.02)
        disturb(changed)
        plain.load_state_dict(changed.merge_and_unload().state_dict())
    forward(plain).square().sum().backward()
    checked = 0
    for name, module in model.base_model.model.named_modules():
        if hasattr(module, "sparse_places"):
            whole = plain.get_submodule(name).weight.grad.flatten()
            expected = whole[module.sparse_places["default"].long()]
            torch.testing.assert_close(module.sparse_values["default"].grad, expected, rtol=1e-3, atol=1e-4)
            checked += 1
    assert checked


@torch.no_grad()
def test_layer_is_its_formula():
    model = adapt(SaraMethod(), tiny("opt"), threshold=0.02, targets=["fc1"])
    disturb(model)
    layer = model.base_model.model.model.decoder.layers[1].fc1
    weight = layer.base_layer.weight.double().numpy().copy()
    weight.ravel()[layer.sparse_places["default"].numpy()] += layer.sparse_values["default"].double().numpy()
    x = torch.randn(2, 3, 32)
    expected = x.double().numpy() @ weight.T + layer.base_layer.bias.double().numpy()
    assert numpy.abs(layer(x).numpy() - expected).max() < 1e-5


def test_a_threshold_that_chooses_nothing_is_refused_with_the_smallest():
    method = SaraMethod()
    with pytest.raises(ConfigError, match=r"no weight of the chosen layers is below 1e-30 .the smallest is"):
        method.fit(tiny("llama"), method.options(threshold=1e-30))


@torch.no_grad()
def test_a_layer_of_which_nothing_is_chosen_stays_the_bases(tmp_path):
    base = tiny("llama")
    kept = base.model.layers[0].self_attn.q_proj
    kept.weight.copy_(kept.weight.sign())
    model = adapt(SaraMethod(), base, threshold=0.01, targets=["q_proj"])
    layers = model.base_model.model.model.layers
    assert type(layers[0].self_attn.q_proj).__name__ == "Linear"
    assert type(layers[1].self_attn.q_proj).__name__ == "SparseLayer"


def test_saras_penalty_is_the_nuclear_norm_of_the_chosen_weights():
    method = SaraMethod()
    model = adapt(method, tiny("llama"), threshold=0.05, rank_penalty=0.5, targets=["k_proj"])
    disturb(model)
    norms = []
    for layer in model.base_model.model.model.layers:
        part = layer.self_attn.k_proj
        weight = part.base_layer.weight.detach().double().numpy()
        matrix = numpy.zeros(weight.size)
        chosen = part.sparse_places["default"].numpy()
        matrix[chosen] = weight.ravel()[chosen] + part.sparse_values["default"].detach().double().numpy()
        norms.append(0.5 * numpy.linalg.svd(matrix.reshape(weight.shape), compute_uv=False).sum())
    torch.manual_seed(0)
    drawn = [method.penalty(model) for _ in range(8)]
    found = {min(range(2), key=lambda index: abs(norms[index] - value.item())) for value in drawn}
    assert found == {0, 1}  # another layer now and then
    assert all(min(abs(norm - value.item()) for norm in norms) < 1e-4 for value in drawn)
    drawn[0].backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    assert method.penalty(adapt(method, tiny("llama"), threshold=0.05)) is None


def test_saras_second_choice_leaves_outgrown_weights_as_they_are(tmp_path):
    method = SaraMethod()
    model = adapt(method, tiny("llama"), threshold=0.02, progressive_step=2, targets=["q_proj"])
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    values = layer.sparse_values["default"]
    optimiser = torch.optim.AdamW([values], lr=0.02, weight_decay=0.1)
    seen = []
    for step in range(1, 6):
        optimiser.zero_grad()
        forward(model).square().mean().backward()
        optimiser.step()
        method.after_step(model, step)
        seen.append(values.detach().clone())
    stays_small = layer.sparse_open["default"]
    weight = layer.base_layer.weight.flatten()[layer.sparse_places["default"].long()] + seen[1]
    assert torch.equal(stays_small, weight.abs() < 0.02)
    assert stays_small.any()
    assert not stays_small.all()
    for earlier, later in itertools.pairwise(seen[1:]):
        assert torch.equal(earlier[~stays_small], later[~stays_small])
        assert not torch.equal(earlier[stays_small], later[stays_small])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_sam_chooses_the_largest_summed_gradients_of_the_base(architecture):
    model = sam(tiny(architecture), fraction=0.05, choosing_examples=6)
    plain = tiny(architecture)
    for batch in batches(6):
        plain(**batch).loss.backward()
    layers = [name for name, module in model.base_model.model.named_modules() if hasattr(module, "sparse_places")]
    assert layers
    for name in layers:
        gradient = plain.get_submodule(name).weight.grad.numpy().ravel()
        count = int(0.05 * gradient.size)
        expected = numpy.sort(numpy.argsort(-(gradient**2), kind="stable")[:count])
        assert numpy.array_equal(places(model, name), expected)


def test_sam_leaves_no_gradients_on_the_base():
    model = sam(tiny("llama"))
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert all("sparse_values" in name for name in trained)
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(forward(model), forward(tiny("llama")))


def test_sam_asks_for_data_and_refuses_gradients_that_are_no_numbers():
    method = SamMethod()
    with pytest.raises(ConfigError, match="chooses weights by the data"):
        method.prepare(tiny("llama"), method.options(), base_id="")
    broken = tiny("llama")
    broken.model.layers[0].mlp.up_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"gradients of .* are not finite"):
        sam(broken)


@torch.no_grad()
def test_two_adapters_add_up():
    method = SaraMethod()
    model = adapt(method, tiny("llama"), threshold=0.02, targets=["q_proj"])
    disturb(model)
    fitted = method.options(threshold=0.03, targets=["q_proj", "up_proj"])
    model.add_adapter("other", method.adapter_config(model, fitted))
    for name, weight in model.named_parameters():
        if "other" in name:
            weight.normal_(std=0.05)
    model.base_model.set_adapter(["default", "other"])
    expected = model(PROMPT).logits
    model.merge_adapter()
    torch.testing.assert_close(model(PROMPT).logits, expected, rtol=0, atol=1e-5)
