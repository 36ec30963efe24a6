"""Tuners that the peft library lacks, made known to it so that `PeftModel.from_pretrained` loads their checkpoints.

peft keeps its types in a closed enum, but looks classes up in dictionaries by `peft_type`; a plain
string there is enough for `get_peft_model`, `save_pretrained` and `from_pretrained`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from peft_eval.errors import PluginError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Tuner:
    """A type of adapter beyond peft's own; classes are named as `module:attribute` and imported when used.

    Attributes:
        peft_type: as `adapter_config.json` names it, upper case.
        config: its subclass of `peft.PeftConfig`.
        model: its subclass of `peft.tuners.tuners_utils.BaseTuner`.
        prefix: what its parameters' names contain, by which peft tells them from the base's.
        blocks: a function `(adapter_config: dict, tensors: dict[str, Tensor]) -> list[Block]` that gives the
            adapter in dense form, if an engine can serve it so.
    """

    peft_type: str
    config: str
    model: str
    prefix: str
    blocks: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A trained bottleneck beside one sublayer of the base, in dense form, as an engine serves it.

    The sublayer's output o becomes o + scale · (up · act(down · h + down_bias) + up_bias), where h is o itself
    (sequential) or the sublayer's input (parallel). What is added to the residual stream is that sum.

    Attributes:
        module: the module whose output o is, by its name in the base: the sublayer's last one, e.g.
            `model.layers.0.self_attn`, Gemma's `model.layers.0.post_feedforward_layernorm`, OPT's `...layers.0.fc2`.
        reads: what h is.
        down: (bottleneck, hidden).
        up: (hidden, bottleneck).
        down_bias: (bottleneck,) or None.
        up_bias: (hidden,) or None.
        activation: a key of `transformers.activations.ACT2FN`.
        scale: the factor.
        entry: for `reads="input"`, the module whose input h is, where that is not `module`'s own: the sublayer's first
            one, e.g. OPT's `...layers.0.fc1`.
    """

    module: str
    reads: Literal["output", "input"]
    down: torch.Tensor
    up: torch.Tensor
    down_bias: torch.Tensor | None
    up_bias: torch.Tensor | None
    activation: str
    scale: float = 1.0
    entry: str | None = None


class LateClass:
    """Stands for a class in peft's tables until it is used, and then is as good as the class.

    peft calls what its tables hold and asks for attributes, no more. So importing peft imports none of our tuners,
    and a tuner's module, which imports peft itself, is never asked for while it is half there.

    Args:
        target: the class, as `module:attribute`.
    """

    def __init__(self, target: str):
        self.target = target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes an instance of the class."""
        return self.resolved(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the class."""
        return getattr(self.resolved, name)

    @property
    def resolved(self) -> Any:
        """The class itself.

        Raises:
            PluginError: there is no such module or attribute.
        """
        return imported(self.target)


def imported(target: str) -> Any:
    """Imports `module:attribute`.

    Raises:
        PluginError: there is no such module or attribute.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{target} cannot be imported: {error}", remedy="update or uninstall its package") from error


def register(tuner: Tuner) -> None:
    """Makes one tuner known to peft, once.

    Raises:
        PluginError: peft, or another package, has a type of that name.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    configs: dict[Any, Any] = PEFT_TYPE_TO_CONFIG_MAPPING
    known = configs.get(tuner.peft_type)
    if known is not None:
        theirs = known.target if isinstance(known, LateClass) else f"{known.__module__}:{known.__name__}"
        if theirs != tuner.config:
            raise PluginError(
                f"adapter type {tuner.peft_type!r} comes from both {theirs} and {tuner.config}",
                remedy="uninstall one of them, or ask its author to rename it",
            )
        return
    configs[tuner.peft_type] = LateClass(tuner.config)
    models: dict[Any, Any] = PEFT_TYPE_TO_TUNER_MAPPING
    prefixes: dict[Any, Any] = PEFT_TYPE_TO_PREFIX_MAPPING
    models[tuner.peft_type] = LateClass(tuner.model)
    prefixes[tuner.peft_type] = tuner.prefix


def register_all() -> None:
    """Makes every method's tuners known to peft; the import hook calls this when peft is imported."""
    for tuner in all_tuners().values():
        register(tuner)


def all_tuners() -> dict[str, Tuner]:
    """Returns the tuners of every installed method, by adapter type.

    Raises:
        PluginError: two methods bring different tuners for one type.
    """
    from peft_eval.plugins import methods

    found: dict[str, Tuner] = {}
    for method in methods().values():
        for tuner in getattr(method, "tuners", ()):
            known = found.setdefault(tuner.peft_type, tuner)
            if known != tuner:
                raise PluginError(
                    f"adapter type {tuner.peft_type!r} comes from both {known.config} and {tuner.config}",
                    remedy="uninstall one of them, or ask its author to rename it",
                )
    return found
