"""The base's modules without its weights, with an adapter in them: what merging asks for the adapter's layers."""

from __future__ import annotations

import contextlib
import copy
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from peft_eval.checkpoint.architecture import model_class, read_config, unusable
from peft_eval.checkpoint.reading import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from peft_eval.errors import BaseMismatchError, CheckpointError
from peft_eval.merging.memory_limit import MemoryLimit
from peft_eval.merging.quantised import QuantisedBase, quantised_base
from peft_eval.merging.tensor_files import stored_tensors
from peft_eval.methods.tuner import register_all
from peft_eval.plain_files import shown

ADAPTER = "default"
# Types that put what they compute from the base's weights into the adapter, and do not save it: each of their layers
# is built again around the real weight.
COMPUTED_FROM_THE_BASE = frozenset({"OSF", "PSOFT", "ADAMSS", "FROD"})


@dataclass
class Skeleton:
    """A base without weights, with a loaded adapter.

    Attributes:
        model: the `PeftModel`; the base's parameters are zeros that take no memory.
        config: the adapter's configuration.
        state: the adapter's tensors by the names in its file, but those in `saved`.
        saved: whole tensors of the base that the adapter's file replaces, by the base's names.
        base_names: names of the base's parameters.
        embedding: name of the input embeddings' weight.
        head: name of the output layer's weight.
        tied: whether the two are one tensor.
        vocabulary: rows of the embeddings if the adapter changed their number, else None.
        quantised: how training saw the base's tensors, if it saw them quantised.
    """

    model: PeftModel
    config: PeftConfig
    state: dict[str, torch.Tensor]
    saved: dict[str, torch.Tensor]
    base_names: frozenset[str]
    embedding: str
    head: str
    tied: bool
    vocabulary: int | None
    quantised: QuantisedBase | None


def base_tensor_shapes(base_folder: Path) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every tensor in a model folder, from the files' headers alone."""
    return {name: tensor.shape for name, tensor in stored_tensors(base_folder).items()}


def weightless_model(base_folder: Path, **overrides: Any) -> Any:
    """Builds the base's modules with float32 parameters of the right shape that share one zero.

    Args:
        base_folder: the base; its config is read.
        overrides: other values for settings of its config.
    """
    config = read_config(base_folder, **overrides)
    try:
        with torch.device("meta"):
            model = model_class(config).from_config(config, dtype=torch.float32)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise unusable(base_folder, error) from error
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        owner, _, leaf = name.rpartition(".")
        zeros = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(zeros, requires_grad=False))
    return model


def adapted_skeleton(adapter_folder: Path, base_folder: Path) -> Skeleton:
    """Lays out a base's modules and loads an adapter into them, strictly.

    Raises:
        CheckpointError: a tensor is not finite, has no place in the model, or is missing.
        BaseMismatchError: the adapter does not fit the base.
    """
    register_all()
    config = adapter_config(adapter_folder)
    config.inference_mode = True
    config.base_model_name_or_path = str(base_folder)
    state = finite_state(adapter_folder)
    base = weightless_model(base_folder)
    names = {id(module): name for name, module in base.named_modules()}
    embedding = names[id(base.get_input_embeddings())] + ".weight"
    head = names.get(id(base.get_output_embeddings()), "") + ".weight"
    shapes = {name: tuple(tensor.shape) for name, tensor in base.named_parameters(remove_duplicate=False)}
    saved = {clean: state[name] for name in state if (clean := _name_in_base(name)) in shapes}
    rows = {len(tensor) for name, tensor in saved.items() if name in (embedding, head)}
    vocabulary = rows.pop() if len(rows) == 1 else None
    if vocabulary == shapes[embedding][0]:
        vocabulary = None
    if vocabulary is not None:
        base = weightless_model(base_folder, vocab_size=vocabulary)
        shapes = {name: tuple(tensor.shape) for name, tensor in base.named_parameters(remove_duplicate=False)}
    for name, tensor in saved.items():
        if tuple(tensor.shape) != shapes[name]:
            raise BaseMismatchError(
                f"the adapter does not fit this base: size mismatch for {name}: {tuple(tensor.shape)}, the base has "
                f"{shapes[name]}",
                place=str(adapter_folder),
                remedy="pass its own base",
            )
    quantised = quantised_base(adapter_folder, base)
    model = _with_adapter(base, config, adapter_folder)
    own = load_adapter(model, state, set(saved), adapter_folder)
    return Skeleton(
        model,
        config,
        own,
        saved,
        frozenset(shapes),
        embedding,
        head,
        bool(getattr(base.config, "tie_word_embeddings", False)),
        vocabulary,
        quantised,
    )


def adapter_config(adapter_folder: Path) -> PeftConfig:
    """Reads an adapter's configuration as peft does.

    Raises:
        CheckpointError: peft cannot use it.
    """
    try:
        return PeftConfig.from_pretrained(str(adapter_folder))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{ADAPTER_CONFIG} cannot be used: {shown(error, 200)}", place=str(adapter_folder), remedy="train it again"
        ) from error


def _name_in_base(name: str) -> str:
    """Returns what a tensor of an adapter's file would be called in the base."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save.", ".")


def finite_state(adapter_folder: Path) -> dict[str, torch.Tensor]:
    """Reads an adapter's tensors.

    Raises:
        CheckpointError: one of them holds NaN or infinity.
    """
    try:
        state: dict[str, torch.Tensor] = load_file(adapter_folder / ADAPTER_WEIGHTS)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{ADAPTER_WEIGHTS} cannot be read: {error}", place=str(adapter_folder)) from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name} has NaN or infinity", place=str(adapter_folder), remedy="train it again")
    return state


def _with_adapter(base: Any, config: PeftConfig, place: Path) -> PeftModel:
    kind = getattr(config.peft_type, "value", config.peft_type)
    largest = max((parameter.numel() for parameter in base.parameters()), default=0)
    with warnings.catch_warnings(), MemoryLimit(place / ADAPTER_WEIGHTS, largest), misfits_named(place):
        warnings.simplefilter("ignore")
        model = get_peft_model(
            base,
            copy.deepcopy(config),
            adapter_name=ADAPTER,
            # Tensors on the meta device wait for what the file holds; what is not saved would stay there.
            low_cpu_mem_usage=kind in COMPUTED_FROM_THE_BASE,
            autocast_adapter_dtype=False,
        )
    assert isinstance(model, PeftModel)
    return model.eval()


@contextlib.contextmanager
def misfits_named(place: Path) -> Iterator[None]:
    """Turns what peft raises at an adapter that it cannot put into a base into an error for the user.

    Raises:
        BaseMismatchError: the adapter's configuration does not fit the base.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ArithmeticError, re.error) as error:
        raise BaseMismatchError(
            f"the adapter does not fit this base: {error}", place=str(place), remedy="pass its own base"
        ) from error


def load_adapter(
    model: PeftModel, state: dict[str, torch.Tensor], saved: set[str], place: Path
) -> dict[str, torch.Tensor]:
    """Loads an adapter's tensors into a model that has its layers, strictly.

    Args:
        model: the model.
        state: the tensors of the adapter's file.
        saved: the base's names of those among them that replace a tensor of the base.
        place: for error messages.

    Returns:
        The tensors that are the adapter's own.

    Raises:
        CheckpointError: a tensor has no place in the model, or is missing.
        BaseMismatchError: a tensor's shape does not fit the base.
    """
    expected = set(get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False))
    own = {name: tensor for name, tensor in state.items() if _name_in_base(name) not in saved}
    kept = {name: tensor for name, tensor in state.items() if name in expected and name not in own}
    _materialise_copies(model)
    kind = getattr(model.peft_config[ADAPTER].peft_type, "value", model.peft_config[ADAPTER].peft_type)
    try:
        loaded: Any = set_peft_model_state_dict(
            model, {**own, **kept}, adapter_name=ADAPTER, low_cpu_mem_usage=kind in COMPUTED_FROM_THE_BASE
        )
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if "size mismatch" in line), str(error))
        raise BaseMismatchError(
            f"the adapter does not fit this base: {reason}", place=str(place), remedy="pass its own base"
        ) from error
    for problem, names in (
        ("match nothing in the base", set(loaded.unexpected_keys)),
        ("are missing", expected - state.keys()),
    ):
        if names:
            listed = ", ".join(sorted(names)[:5])
            raise CheckpointError(f"{len(names)} adapter tensors {problem}: {listed}", place=str(place))
    return own


def _materialise_copies(model: PeftModel) -> None:
    """Gives memory to the adapter's copies of the base's parameters, which may be zeros without any."""
    for name, parameter in model.named_parameters():
        copied = parameter.dim() == 1 or ".modules_to_save." in name
        if copied and parameter.device.type != "meta" and not any(parameter.stride()):
            parameter.data = torch.zeros_like(parameter.data, memory_format=torch.contiguous_format)
