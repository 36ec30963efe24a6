"""Merging an adapter into its base one tensor at a time, with peft's own merge of each layer.

The base's modules are laid out with weights that take no memory; the adapter is loaded into them as
peft does. As each of the base's tensors comes by, it is put into its layer, merged there in float32
and taken out again. So every method that peft can merge layer by layer is merged by the very code
that peft uses, while memory stays at one tensor plus the adapter, and nothing is written to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig

from peft_eval.checkpoint.architecture import model_class
from peft_eval.checkpoint.reading import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json
from peft_eval.errors import BaseMismatchError, CheckpointError, RouteError

_ADAPTER = "default"
# peft settings under which merging one weight at a time onto the plain base is wrong or impossible.
_NOT_MERGED_HERE = (
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "use_bdlora",
    "monteclora_config",
)
# These initialisations move part of the base into the adapter, so the saved delta fits an altered base only.
_ALTER_THE_BASE = ("pissa", "olora", "corda", "loftq")


def merge_obstacle(adapter_config: dict[str, Any]) -> str | None:
    """Returns why an adapter cannot be merged tensor by tensor, None if it can.

    Args:
        adapter_config: the content of `adapter_config.json`.
    """
    kind = str(adapter_config.get("peft_type", "")).upper()
    if adapter_config.get("num_virtual_tokens") is not None:
        return f"{kind} adds virtual tokens, it has no merged form"
    if adapter_config.get("bias", "none") != "none":
        return f"it trains biases of the base (bias={adapter_config['bias']!r})"
    for name in _NOT_MERGED_HERE:
        if adapter_config.get(name):
            return f"{name} is set"
    start = str(adapter_config.get("init_lora_weights", "")).lower()
    if start.startswith(_ALTER_THE_BASE):
        return f"init_lora_weights={start!r} altered the base it was trained on"
    return None


def base_tensor_shapes(base_folder: Path) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every tensor in a model folder, from the files' headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(base_folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (safe_open is no mapping)
                shapes[name] = tuple(opened.get_slice(name).get_shape())
    return shapes


def _weightless_model(base_folder: Path) -> nn.Module:
    """Builds the base's modules with float32 weights of the right shape that share one zero."""
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(base_folder)
        model = model_class(config).from_config(config, dtype=torch.float32)
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        owner, _, leaf = name.rpartition(".")
        zeros = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(zeros, requires_grad=False))
    return model


def load_adapter(model: PeftModel, adapter_folder: Path) -> None:
    """Loads an adapter's tensors into a model that has its layers, strictly.

    Raises:
        CheckpointError: a tensor is not finite, has no place in the model, or is missing.
        BaseMismatchError: a tensor's shape does not fit the base.
    """
    state = load_file(adapter_folder / ADAPTER_WEIGHTS)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name} has NaN or infinity", place=str(adapter_folder), remedy="train it again")
    try:
        loaded: Any = set_peft_model_state_dict(model, state, adapter_name=_ADAPTER, low_cpu_mem_usage=True)
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if "size mismatch" in line), str(error))
        raise BaseMismatchError(
            f"the adapter does not fit this base: {reason}", place=str(adapter_folder), remedy="pass its own base"
        ) from error
    missing = [name for name in loaded.missing_keys if f".{_ADAPTER}" in name]
    for problem, names in (("match nothing in the base", loaded.unexpected_keys), ("are missing", missing)):
        if names:
            listed = ", ".join(sorted(names)[:5])
            raise CheckpointError(f"{len(names)} adapter tensors {problem}: {listed}", place=str(adapter_folder))


class AdapterMerger:
    """Turns the base's tensors into the merged model's, in whatever order they come.

    Args:
        adapter_folder: a peft-format adapter.
        base_folder: the base's folder; its config is read, and its files' headers.
        dtype: dtype of merged tensors; None keeps each tensor's own.

    Raises:
        RouteError: this adapter cannot be merged tensor by tensor; the message says why.
        BaseMismatchError: its shapes do not fit this base.
        CheckpointError: its tensors are not finite, not complete or match nothing.
    """

    def __init__(self, adapter_folder: Path, base_folder: Path, *, dtype: torch.dtype | None = None):
        self.adapter_folder = adapter_folder
        self._dtype = dtype
        obstacle = merge_obstacle(read_json(adapter_folder / ADAPTER_CONFIG))
        if obstacle:
            raise RouteError(f"cannot be merged: {obstacle}", place=str(adapter_folder))
        config = PeftConfig.from_pretrained(str(adapter_folder))
        config.inference_mode = True
        config.base_model_name_or_path = str(base_folder)
        try:
            self._model = get_peft_model(
                _weightless_model(base_folder),  # type: ignore[arg-type]
                config,
                adapter_name=_ADAPTER,
                low_cpu_mem_usage=True,
                autocast_adapter_dtype=False,
            )
        except ValueError as error:
            raise BaseMismatchError(
                f"the adapter does not fit this base: {error}", place=str(adapter_folder), remedy="pass its own base"
            ) from error
        load_adapter(self._model, adapter_folder)
        self._refuse_tied_embeddings()
        self._steps = dict(self._merge_steps())
        self._pending = set(self._steps)
        unreachable = sorted(self._pending - base_tensor_shapes(base_folder).keys())
        if unreachable:
            raise RouteError(
                f"cannot be merged: the base's files hold no {', '.join(unreachable[:3])} (tied or renamed)",
                place=str(adapter_folder),
            )

    def _refuse_tied_embeddings(self) -> None:
        if not getattr(self._model.get_base_model().config, "tie_word_embeddings", False):
            return
        for name, module in self._model.get_base_model().named_modules():
            adapted = module.get_base_layer() if isinstance(module, BaseTunerLayer) else None
            if isinstance(adapted, nn.Embedding):
                raise RouteError(
                    f"cannot be merged: {name} is tied to the output layer, which the adapter leaves alone",
                    place=str(self.adapter_folder),
                )

    @property
    def targets(self) -> set[str]:
        """Names of the base's tensors that merging changes."""
        return set(self._steps)

    def _merge_steps(self) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
        for name, module in self._model.get_base_model().named_modules():
            if isinstance(module, BaseTunerLayer):
                yield f"{name}.weight", lambda tensor, layer=module: _merge_layer(layer, tensor)  # type: ignore[misc]
            elif isinstance(module, ModulesToSaveWrapper):
                for leaf, saved in module.modules_to_save[_ADAPTER].named_parameters():
                    yield f"{name}.{leaf}", lambda tensor, kept=saved: kept.data  # type: ignore[misc]

    def merge(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the merged tensor for the base's tensor `name`, of the same shape; others pass as they are."""
        step = self._steps.get(name)
        if step is None:
            return tensor
        self._pending.discard(name)
        return step(tensor).to(device=tensor.device, dtype=self._dtype or tensor.dtype)

    def merged(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields the merged model's tensors as the base's stream by.

        Raises:
            CheckpointError: the stream ended before every adapted tensor came by, so part of the
                adapter would have been lost.
        """
        self._pending = set(self._steps)
        for name, tensor in tensors:
            yield name, self.merge(name, tensor)
        if self._pending:
            listed = ", ".join(sorted(self._pending)[:5])
            raise CheckpointError(
                f"{len(self._pending)} adapted tensors never came by: {listed}", place=str(self.adapter_folder)
            )


@torch.no_grad()
def _merge_layer(layer: Any, tensor: torch.Tensor) -> torch.Tensor:
    base = layer.get_base_layer()
    empty = base.weight
    base.weight = nn.Parameter(tensor.to(device="cpu", dtype=torch.float32, copy=True), requires_grad=False)
    try:
        layer.merge(adapter_names=[_ADAPTER])
        return base.weight.data
    finally:
        base.weight = empty
        layer.merged_adapters.clear()
