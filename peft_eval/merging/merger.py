"""Merging an adapter into its base one tensor at a time, with peft's own merge of each layer.

The base's modules are laid out with weights that take no memory; the adapter is loaded into them as
peft does. As each of the base's tensors comes by, it is put into its layer, merged there in float32
and taken out again. So every method that peft can merge layer by layer is merged by the very code
that peft uses, while memory stays at one tensor plus the adapter, and nothing is written to disk.

A merged model may have tensors that the base has not: biases, or an output layer of its own where the
adapter changed only one of two tied ends. Its config then differs too: see `config_overrides`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

from peft_eval.checkpoint.reading import ADAPTER_CONFIG, read_json
from peft_eval.errors import CheckpointError, RouteError
from peft_eval.merging.biases import room_for_biases
from peft_eval.merging.layers import AdaptedLayer, RebuiltLayer, adapted_layers, distance_to_unmerged
from peft_eval.merging.low_rank import LowRankChange
from peft_eval.merging.obstacles import merge_obstacle
from peft_eval.merging.skeleton import ADAPTER, adapted_skeleton, base_tensor_shapes
from peft_eval.merging.tensor_files import stored_tensors

__all__ = ["AdapterMerger", "base_tensor_shapes", "merge_obstacle"]


class AdapterMerger:
    """Turns the base's tensors into the merged model's, in whatever order they come.

    Args:
        adapter_folder: a peft-format adapter.
        base_folder: the base's folder; its config is read, its files' headers, and single tensors where
            merging one needs another (a weight and its bias).
        dtype: dtype of merged tensors; None keeps each tensor's own.

    Attributes:
        config_overrides: settings of the base's config that the merged model needs otherwise.

    Raises:
        RouteError: this adapter cannot be merged tensor by tensor; the message says why.
        BaseMismatchError: its shapes do not fit this base.
        CheckpointError: its tensors are not finite, not complete or match nothing.
    """

    def __init__(self, adapter_folder: Path, base_folder: Path, *, dtype: torch.dtype | None = None):
        self.adapter_folder = adapter_folder
        self._base_folder = base_folder
        self._dtype = dtype
        self.config_overrides: dict[str, Any] = {}
        obstacle = merge_obstacle(read_json(adapter_folder / ADAPTER_CONFIG))
        if obstacle:
            raise RouteError(f"cannot be merged: {obstacle}", place=str(adapter_folder))
        self._skeleton = adapted_skeleton(adapter_folder, base_folder)
        self._quantised = self._skeleton.quantised
        self._stored = stored_tensors(base_folder)
        self._shapes = {name: tensor.shape for name, tensor in self._stored.items()}
        self._saved = dict(self._skeleton.saved)
        self._layers: dict[str, AdaptedLayer] = {}
        try:
            for layer in adapted_layers(self._skeleton):
                self._layers |= dict.fromkeys(layer.tensor_names, layer)
            self._extra_shapes = self._plan_extras()
        except RouteError as error:
            raise RouteError(error.problem, place=str(adapter_folder)) from error
        self._refuse_what_is_left()
        self._changed = (self._layers.keys() | self._saved.keys()) & self._shapes.keys()
        self._pending = set(self._changed)
        self._extras: dict[str, torch.Tensor] = {}
        self._ready: dict[str, torch.Tensor] = {}

    @property
    def targets(self) -> set[str]:
        """Names of the base's tensors that merging changes, those among them that training saw quantised."""
        return set(self._changed) | (self._quantised.names if self._quantised else set())

    @property
    def extra_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the merged model's tensors that the base has not."""
        return dict(self._extra_shapes)

    def merge(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the merged tensor for the base's tensor `name`; others pass as they are."""
        self._pending.discard(name)
        seen = self._quantised.seen(name, tensor) if self._quantised else tensor
        if name not in self._changed:
            return seen.to(tensor.dtype)
        return self._merged(name, seen).to(device=tensor.device, dtype=self._dtype or tensor.dtype)

    def low_rank_change(self, name: str) -> LowRankChange | None:
        """Returns the base's tensor's change as W + s·B·A, None if it has none or another form."""
        layer = self._layers.get(name)
        if layer is None or type(layer) is not AdaptedLayer or name in self._saved or self._quantised:
            return None
        return LowRankChange.of(layer.layer, ADAPTER) if name == f"{layer.name}.weight" else None

    def leaves_alone(self, name: str) -> bool:
        """Tells whether merging passes the base's tensor on as it is."""
        if name not in self.targets:
            return True
        layer = self._layers.get(name)
        beside = name.rpartition(".")[2] == "bias" and layer is not None and name not in self._saved
        return beside and self.low_rank_change(f"{name.removesuffix('bias')}weight") is not None

    @property
    def merged_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of the merged model's tensors: the base's in the order of its files, then the extra ones."""
        whole = {name: tuple(tensor.shape) for name, tensor in self._saved.items()}
        return {**{name: whole.get(name, shape) for name, shape in self._shapes.items()}, **self._extra_shapes}

    @property
    def extra_dtype(self) -> torch.dtype:
        """Dtype of the tensors that the base has not."""
        return self._dtype or next(iter(self._stored.values())).dtype

    @property
    def layers(self) -> list[AdaptedLayer]:
        """The layers that merging changes, in the order of the model."""
        return list({layer.name: layer for layer in self._layers.values()}.values())

    @property
    def replaced(self) -> dict[str, torch.Tensor]:
        """Tensors of the merged model that the adapter brings whole."""
        return {name: tensor for name, tensor in self._saved.items() if name not in self._layers}

    def distance_to_unmerged(self, layer: AdaptedLayer, merged: Callable[[], dict[str, torch.Tensor]]) -> float | None:
        """Returns how far a layer's merged parameters are from its unmerged forward pass, relative to its outputs.

        Args:
            layer: one of `layers`.
            merged: gives its merged parameters by leaf name, as they were stored, in float32.

        Returns:
            The distance; None for a layer whose forward pass needs more than itself.
        """
        if layer.needs_its_surroundings:
            return None
        values = {leaf: value.float() for leaf, value in self._values_of(layer, {}).items()}
        if isinstance(layer, RebuiltLayer):
            layer = AdaptedLayer(layer.name, layer.rebuilt(values), layer.leaves)
        # A copy, since layers such as HiRA's keep what they computed.
        return distance_to_unmerged(dataclasses.replace(layer, layer=copy.deepcopy(layer.layer)), values, merged)

    def extra_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields the merged model's tensors that the base has not, in the dtype of merged tensors."""
        for name in self._extra_shapes:
            yield name, self.extra_tensor(name)

    def extra_tensor(self, name: str) -> torch.Tensor:
        """Returns one of them; what merging did not bring along is made from tensors read from the base's folder."""
        if name in self._layers or name in self._saved or name == self._skeleton.head:
            tensor = self._extras.pop(name, None)
            if tensor is None:
                tensor = self._merged(name, self._of_base(name))
        else:
            tensor = torch.zeros(self._extra_shapes[name])
        return tensor.to(self.extra_dtype)

    def merged(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields the merged model's tensors as the base's stream by, then those that the base has not.

        Raises:
            CheckpointError: the stream ended before every adapted tensor came by, so part of the
                adapter would have been lost.
        """
        self._pending = set(self._changed)
        for name, tensor in tensors:
            yield name, self.merge(name, tensor)
        if self._pending:
            listed = ", ".join(sorted(self._pending)[:5])
            raise CheckpointError(
                f"{len(self._pending)} adapted tensors never came by: {listed}", place=str(self.adapter_folder)
            )
        yield from self.extra_tensors()

    def _merged(self, name: str, tensor: torch.Tensor | None) -> torch.Tensor:
        """Returns one merged tensor; what comes out of a layer beside it is kept for when its turn comes."""
        layer = self._layers.get(name)
        if layer is None:
            kept = self._saved.get(name, tensor)
            assert kept is not None  # an extra tensor that is neither comes from the base
            return kept
        if name in self._ready:
            return self._ready.pop(name)
        outcome = layer.merge(self._values_of(layer, {name: tensor}))
        self._ready = {}
        for leaf, value in outcome.items():
            full = f"{layer.name}.{leaf}"
            if full in self._extra_shapes:
                self._extras[full] = value
            elif full != name:
                self._ready[full] = value
        return outcome[name.removeprefix(f"{layer.name}.")]

    def _values_of(self, layer: AdaptedLayer, known: dict[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
        """Returns a layer's parameters before merging by leaf name; those not known are read from the base's folder."""
        base = layer.layer.get_base_layer()
        values = {}
        for leaf in {*layer.leaves, *(key for key, _ in base.named_parameters(recurse=False))}:
            full = f"{layer.name}.{leaf}"
            value = self._saved[full] if full in self._saved else known[full] if full in known else self._of_base(full)
            if value is not None:
                values[leaf] = value
        return values

    def _of_base(self, name: str) -> torch.Tensor | None:
        """Reads a tensor of the base as training saw it; the tied output layer's is the embeddings'. None: no such."""
        if name == self._skeleton.head and name not in self._shapes and self._skeleton.tied:
            name = self._skeleton.embedding
        if name not in self._shapes:
            return None
        stored = self._stored[name]
        return self._quantised.seen(name, stored.read()) if self._quantised else stored.read_float32()

    def _plan_extras(self) -> dict[str, tuple[int, ...]]:
        """Returns the tensors that the merged model has beyond the base's, and notes what that asks of its config."""
        extras: dict[str, tuple[int, ...]] = {}
        biases = {f"{one.name}.bias" for one in self._layers.values() if one.adds_bias}
        if biases:
            settings, extras = room_for_biases(self._base_folder, biases)
            self.config_overrides |= settings
        skeleton = self._skeleton
        if skeleton.vocabulary is not None:
            self.config_overrides["vocab_size"] = skeleton.vocabulary
        if skeleton.tied and self._ends_differ():
            self.config_overrides["tie_word_embeddings"] = False
            if skeleton.head not in self._shapes:
                rows = skeleton.vocabulary or self._shapes[skeleton.embedding][0]
                extras[skeleton.head] = (rows, *self._shapes[skeleton.embedding][1:])
        return extras

    def _ends_differ(self) -> bool:
        """Tells whether the adapter makes the tied embeddings and output layer two different tensors."""
        ends = (self._skeleton.embedding, self._skeleton.head)
        if all(isinstance(getattr(self._layers.get(end), "layer", None), TrainableTokensLayer) for end in ends):
            if self._skeleton.head not in self._shapes:
                self._layers.pop(self._skeleton.head)
            return False
        saved = [self._saved.get(end) for end in ends]
        if saved[0] is not None and saved[1] is not None and torch.equal(saved[0], saved[1]):
            if self._skeleton.head not in self._shapes:
                self._saved.pop(self._skeleton.head)
            return any(end in self._layers for end in ends)
        return any(end in self._layers or end in self._saved for end in ends)

    def _refuse_what_is_left(self) -> None:
        """Refuses an adapter part of which no merged tensor would carry."""
        known = self._shapes.keys() | self._extra_shapes.keys()
        unreachable = sorted((self._layers.keys() | self._saved.keys()) - known)
        if unreachable:
            raise RouteError(
                f"cannot be merged: the base's files hold no {', '.join(unreachable[:3])} (renamed)",
                place=str(self.adapter_folder),
            )
        skeleton = self._skeleton
        if skeleton.vocabulary is not None:
            ends = {skeleton.embedding, *({skeleton.head} & known)}
            short = sorted(ends - self._saved.keys() - self._extra_shapes.keys())
            if short:
                raise RouteError(
                    f"cannot be merged: the adapter's vocabulary has {skeleton.vocabulary:,} rows, "
                    f"and it brings no {short[0]}",
                    place=str(self.adapter_folder),
                )
        modules = {name.rpartition(".")[0] for name in self._layers}
        inside = {name.removeprefix("base_model.model.") for name in skeleton.state if "base_model.model." in name}
        lost = sorted(name for name in inside if not any(name.startswith(f"{module}.") for module in modules))
        if lost or not (self._layers or self._saved):
            what = f"{lost[0]} changes no weight" if lost else "it changes no weight"
            raise RouteError(f"cannot be merged: {what} of the base", place=str(self.adapter_folder))
