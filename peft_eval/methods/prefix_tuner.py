"""Prefix tuning as a peft tuner, which peft's own is not: it stands beside other adapters, and can be gated.

Each self-attention gets `length` trained keys and values before its real ones (arXiv 2101.00190, section 4). They are
parameters of the layer, or written by a two-layer network: U_l · tanh(D · e + b) + c_l from embeddings e of (length,
hidden), with D of (mlp_size, hidden) shared by all layers and U_l of (2 · heads · size, mlp_size) a layer's own. What
is shared is kept, and saved, with the first layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from torch import nn

from peft_eval.errors import ConfigError
from peft_eval.methods.bottleneck_tuner import start
from peft_eval.methods.prefix_attention import Prefix, put, switch_attention, take
from peft_eval.methods.sublayer_tuner import SublayerAdapter, SublayerTuner, hidden_states
from peft_eval.methods.sublayers import Sublayer


@dataclass
class PrefixConfig(PeftConfig):
    """Keys and values before the real ones of each self-attention.

    Attributes:
        length: number of keys.
        mlp_size: width of the network that writes them; None: they are parameters themselves.
        gated: whether a gate multiplies them.
        target_modules: the attention modules; found in the base if None.
    """

    length: int = 30
    mlp_size: int | None = 512
    gated: bool = False
    target_modules: list[str] | None = None
    positions: list[str] = field(default_factory=lambda: ["attention"])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "PREFIX"  # type: ignore[assignment]  # as for every tuner of ours


class PrefixLayer(SublayerAdapter):
    """A self-attention with its prefixes."""

    method = "a prefix"
    adapter_layer_names = ("prefix_states", "prefix_embedding", "prefix_down", "prefix_up", "prefix_gate")
    other_param_names = ("shapes", "owners")

    def __init__(self, base_layer: nn.Module, entry: nn.Module | None = None):
        super().__init__(base_layer, entry)
        self.prefix_states = nn.ParameterDict()
        self.prefix_embedding = nn.ParameterDict()
        self.prefix_down = nn.ModuleDict()
        self.prefix_up = nn.ModuleDict()
        self.prefix_gate = nn.ModuleDict()
        self.shapes: dict[str, tuple[int, int, int, int]] = {}
        self.owners: dict[str, PrefixLayer] = {}  # no submodules: the first layer owns what is shared

    def add_adapter(
        self, name: str, config: Any, *, hidden: int, heads: int, size: int, owner: PrefixLayer | None
    ) -> None:
        """Adds a prefix at its start, which is random: embeddings and parameters are drawn from N(0, 1)."""
        self.shapes[name] = (2, config.length, heads, size)
        if config.mlp_size is None:
            self.prefix_states[name] = nn.Parameter(torch.randn(self.shapes[name]))
        else:
            if owner is None:
                self.prefix_embedding[name] = nn.Parameter(torch.randn(config.length, hidden))
                self.prefix_down[name] = nn.Linear(hidden, config.mlp_size)
            self.owners[name] = owner or self
            self.prefix_up[name] = nn.Linear(config.mlp_size, 2 * heads * size)
        if config.gated:
            self.prefix_gate[name] = gate = nn.Linear(hidden, 1)
            start(gate, "bert", is_up=False)

    def prefix(self, adapter: str, given: torch.Tensor) -> Prefix:
        """Returns an adapter's prefix for the attention's input, (batch, tokens, hidden)."""
        _, length, heads, size = self.shapes[adapter]
        if adapter in self.prefix_up:
            owner = self.owners[adapter]
            inner = torch.tanh(owner.prefix_down[adapter](owner.prefix_embedding[adapter]))
            states = self.prefix_up[adapter](inner).view(length, 2, heads, size).transpose(0, 1)
        else:
            states = self.prefix_states[adapter]
        keys, values = states.transpose(1, 2)
        if adapter not in self.prefix_gate:
            return Prefix(keys, values, None)
        gate: Any = self.prefix_gate[adapter]
        return Prefix(keys, values, gate(self._cast_input_dtype(given, gate.weight.dtype)).sigmoid())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the attention's output with the active prefix before its keys.

        Raises:
            ValueError: several prefixes are active.
            ConfigError: this kind of attention takes no prefix.
        """
        active = [name for name in self.active_adapters if name in self.shapes]
        if self.disable_adapters or not active:
            return self.base_layer(*args, **kwargs)
        if len(active) > 1:
            raise ValueError(f"{len(active)} prefixes are active, but one attention takes one: {', '.join(active)}")
        attention = self.get_base_layer()
        put(attention, self.prefix(active[0], hidden_states(args, kwargs)))
        try:
            result = self.base_layer(*args, **kwargs)
        finally:
            unused = take(attention)
        if unused is not None:
            raise ConfigError(f"{type(attention).__name__} does not use transformers' attention interface: no prefix")
        return result


class PrefixModel(SublayerTuner):
    """A base whose self-attention takes prefixes."""

    prefix = "prefix_"
    tuner_layer_cls = PrefixLayer

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        super()._prepare_model(peft_config, model)
        switch_attention(model, on=True)

    def _targets(self, peft_config: Any, sublayers: list[Sublayer]) -> dict[str, Sublayer]:
        return {sublayer.entry: sublayer for sublayer in sublayers if sublayer.kind == "attention"}

    def wrap(self, config: Any, module: nn.Module, name: str) -> SublayerAdapter:
        """Returns the wrapper of an attention module, without prefixes yet."""
        return PrefixLayer(module)

    def add(self, layer: Any, adapter_name: str, config: Any) -> None:
        """Adds a prefix, at its start, to a wrapper."""
        wrappers = (module for module in self.model.modules() if isinstance(module, PrefixLayer))
        owner = next((wrapper for wrapper in wrappers if adapter_name in wrapper.prefix_down), None)
        heads, size = key_shape(self.model, layer.get_base_layer())
        layer.add_adapter(adapter_name, config, hidden=self.hidden_size, heads=heads, size=size, owner=owner)

    def after_unloading(self) -> None:
        """Gives the base its own attention back."""
        switch_attention(self.model, on=False)


def key_shape(model: Any, attention: nn.Module) -> tuple[int, int]:
    """Returns the number and the size of an attention's key heads."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    named = (getattr(attention, name, None) for name in ("head_dim", "key_value_proj_dim", "head_size"))
    size = next((one for one in named if one), config.hidden_size // config.num_attention_heads)
    return heads, size
