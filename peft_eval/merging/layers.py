"""Merging one adapted layer of the base, by the layer's own merge, and asking it beforehand whether it can."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from peft_eval.errors import RouteError
from peft_eval.merging.skeleton import ADAPTER, COMPUTED_FROM_THE_BASE, Skeleton

# A merged layer must compute what the unmerged one does, relative to the largest output, in float32.
_TOLERANCE = 1e-3
_PROBE_ROWS = 3


@dataclass
class AdaptedLayer:
    """A layer of the base with an adapter.

    Attributes:
        name: its name in the base.
        layer: peft's wrapper of it.
        leaves: names of its own parameters that merging may change.
        adds_bias: whether merging gives it a bias that the base does not have.
    """

    name: str
    layer: Any
    leaves: tuple[str, ...]
    adds_bias: bool = False

    @property
    def tensor_names(self) -> list[str]:
        """The base's names of the tensors that merging may change."""
        return [f"{self.name}.{leaf}" for leaf in self.leaves]

    @property
    def needs_its_surroundings(self) -> bool:
        """Whether its forward pass is that of the whole module around the parameter."""
        return isinstance(self.layer, ParamWrapper)

    @torch.no_grad()
    def merge(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns the layer's merged parameters in float32, by leaf name.

        Args:
            values: the base's tensors by leaf name; one that is missing is zero.
        """
        base = self.layer.get_base_layer()
        before = {leaf: getattr(base, leaf) for leaf in {*self.leaves, *values}}
        for leaf, value in values.items():
            # A copy, since merging writes into it.
            real = value.to(device="cpu", dtype=torch.float32, copy=True)
            setattr(base, leaf, nn.Parameter(real, requires_grad=False))
        if self.adds_bias and values.get("bias") is None:
            base.bias = nn.Parameter(torch.zeros(_outputs(base)), requires_grad=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.layer.merge(adapter_names=[ADAPTER])
            merged = self.layer.get_base_layer()
            return {leaf: getattr(merged, leaf).data for leaf in self.leaves}
        finally:
            if self.layer.get_base_layer() is not base:  # LN-tuning's merge puts another module in the base's place
                self.layer.unmerge()
            for leaf, value in before.items():
                setattr(base, leaf, value)
            self.layer.merged_adapters.clear()


@dataclass
class RebuiltLayer(AdaptedLayer):
    """A layer whose adapter holds what was computed from the base's weight: built again around the real one."""

    skeleton: Any = None

    @torch.no_grad()
    def merge(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns the layer's merged parameters in float32, by leaf name."""
        fresh = self.rebuilt(values)
        return AdaptedLayer(self.name, fresh, self.leaves).merge(values)

    def rebuilt(self, values: dict[str, torch.Tensor]) -> Any:
        """Returns peft's wrapper of the layer around real parameters."""
        skeleton: Skeleton = self.skeleton
        module = copy.deepcopy(self.layer.get_base_layer())
        for leaf, value in values.items():
            setattr(module, leaf, nn.Parameter(value.to("cpu", torch.float32, copy=True), requires_grad=False))
        root = nn.Module()
        *owners, leaf = self.name.split(".")
        owner = root
        for part in owners:
            owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.add_module(leaf, module)
        config = copy.deepcopy(skeleton.config)
        config.task_type = None
        if hasattr(config, "modules_to_save"):
            config.modules_to_save = None
        model = PeftModel(root, config, adapter_name=ADAPTER, autocast_adapter_dtype=False).eval()  # type: ignore[arg-type]
        expected = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
        set_peft_model_state_dict(model, {name: skeleton.state[name] for name in expected}, adapter_name=ADAPTER)
        layer: Any = model.get_base_model().get_submodule(self.name)
        if hasattr(layer, "_calculate_frod_u_and_lambda"):  # FRoD's U follows from the weight and the basis as saved
            basis = layer.frod_V[ADAPTER]
            layer.frod_U[ADAPTER] = layer._calculate_frod_u_and_lambda(basis, module.weight)[0].float()
        return layer


def adapted_layers(skeleton: Skeleton) -> Iterator[AdaptedLayer]:
    """Yields every layer that the adapter changes, after asking each kind whether it merges.

    Raises:
        RouteError: a layer has no merge, or its merge does not compute what the unmerged layer does.
    """
    kind = getattr(skeleton.config.peft_type, "value", skeleton.config.peft_type)
    found: list[AdaptedLayer] = []
    for path, module in skeleton.model.get_base_model().named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        name = path.replace(".base_layer", "").removesuffix(".token_adapter")
        if kind in COMPUTED_FROM_THE_BASE:
            found.append(RebuiltLayer(name, module, _leaves(module), skeleton=skeleton))
        else:
            found.append(AdaptedLayer(name, module, _leaves(module)))
    if kind not in COMPUTED_FROM_THE_BASE:
        _ask(found)
    yield from found


def _leaves(layer: Any) -> tuple[str, ...]:
    """Returns the parameters of the base's layer that merging may change."""
    if isinstance(layer, ParamWrapper):
        return (layer.parameter_name,)
    named = getattr(layer, "merged_leaves", None)
    if named:
        return tuple(named)
    base = layer.get_base_layer()
    return tuple(leaf for leaf in ("weight", "bias") if getattr(base, leaf, None) is not None)


def _ask(layers: list[AdaptedLayer]) -> None:
    """Merges the smallest layer of each kind with random weights and compares it with the layer's own forward pass."""
    kinds: dict[Any, list[AdaptedLayer]] = {}
    for one in layers:
        base = one.layer.get_base_layer()
        kinds.setdefault((type(one.layer), type(base), getattr(base, "bias", None) is None), []).append(one)
    for alike in kinds.values():
        smallest = min(alike, key=lambda one: sum(p.numel() for p in one.layer.get_base_layer().parameters()))
        base = smallest.layer.get_base_layer()
        lacks_bias = hasattr(base, "bias") and base.bias is None
        problem = _problem(smallest)
        if problem and lacks_bias:
            smallest.adds_bias = True
            if "bias" not in smallest.leaves:
                smallest.leaves = (*smallest.leaves, "bias")
            if _problem(smallest) is None:
                problem = None
        if problem:
            raise RouteError(f"cannot be merged: {problem}")
        for one in alike:
            one.adds_bias, one.leaves = smallest.adds_bias, smallest.leaves
        if "bias" in smallest.leaves and lacks_bias:
            for one in alike:
                one.adds_bias = True


@torch.no_grad()
def _problem(one: AdaptedLayer) -> str | None:
    """Returns what is wrong with a layer's merge, None if it computes what the unmerged layer does."""
    one = replace(one, layer=copy.deepcopy(one.layer))  # layers such as HiRA's keep what they computed
    base = one.layer.get_base_layer()
    generator = torch.Generator().manual_seed(0)
    values = {
        leaf: torch.randn(parameter.shape, generator=generator) / max(1, parameter.shape[-1]) ** 0.5
        for leaf, parameter in base.named_parameters(recurse=False)
    }
    try:
        merged = one.merge(values)
    except (NotImplementedError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        return next(iter(str(error).splitlines()), "") or f"{type(one.layer).__name__} does not merge"
    if one.needs_its_surroundings:
        return None
    distance = distance_to_unmerged(one, values, lambda: merged)
    if distance > _TOLERANCE:
        return f"a merged {type(one.layer).__name__} differs from the unmerged one by {distance:.1e}"
    return None


@torch.no_grad()
def distance_to_unmerged(
    one: AdaptedLayer, values: dict[str, torch.Tensor], merged: Callable[[], dict[str, torch.Tensor]]
) -> float:
    """Returns how far merged parameters are from the layer's own forward pass, relative to its largest output.

    Args:
        one: the layer; what it computes with the base's parameters is what is right.
        values: the base's parameters by leaf name, float32.
        merged: gives those that merging changed, or that came new; not called before the base's are out of memory.
    """
    base = one.layer.get_base_layer()
    inputs = _inputs(base, torch.Generator().manual_seed(0))
    before = {leaf: parameter for leaf, parameter in base.named_parameters(recurse=False)}
    before |= {leaf: None for leaf in one.leaves if leaf not in before}
    try:
        _put(base, values)
        unmerged = one.layer(inputs)
        for leaf in one.leaves:
            values.pop(leaf, None)
            setattr(base, leaf, None)
        _put(base, merged())
        served = base(inputs)
    finally:
        for leaf, value in before.items():
            setattr(base, leaf, value)
    return float((served - unmerged).abs().max() / unmerged.abs().max().clamp_min(1e-9))


def _put(base: Any, values: dict[str, torch.Tensor]) -> None:
    for leaf, value in values.items():
        setattr(base, leaf, nn.Parameter(value, requires_grad=False))


def _inputs(base: Any, generator: torch.Generator) -> torch.Tensor:
    if isinstance(base, nn.Embedding):
        return torch.randint(base.num_embeddings, (1, 64), generator=generator)
    features = base.in_features if isinstance(base, nn.Linear) else base.weight.shape[0]
    return torch.randn(1, _PROBE_ROWS, features, generator=generator)


def _outputs(base: Any) -> int:
    """Returns how many numbers a layer computes for a token; a Conv1D's weight is (in, out)."""
    shape = base.weight.shape
    return int(shape[0] if isinstance(base, nn.Linear) or len(shape) == 1 else shape[1])
