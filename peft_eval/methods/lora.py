"""LoRA (arXiv 2106.09685), trained through the peft library: W + (alpha / rank) · B A.

A is (rank, in), B is (out, rank) and starts at zero, so the first step computes what the base does.
rsLoRA (arXiv 2312.03732) scales by alpha / sqrt(rank), DoRA (arXiv 2402.09353) adds a trained
magnitude per output.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from peft_eval.errors import ConfigError, PeftEvalError, raise_all
from peft_eval.methods.method import MethodOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "eva", "lora_ga")


class LoraOptions(MethodOptions):
    """LoRA's options; the defaults are those of the paper's author (PROTOCOLS A2).

    His rank grid is 8 to 512; 64, its geometric middle, is also what TÜLU 2's LoRA runs used.
    """

    rank: int = Field(64, ge=1, description="Rank of the update.")
    alpha: float | None = Field(None, gt=0, description="Scale of the update, divided by the rank. Default: the rank.")
    targets: list[str] | None = Field(
        None,
        description="Linear layers to adapt, by the end of their names, or all-linear. "
        "Default: peft's choice for the architecture (q_proj,v_proj for Llama).",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout before A.")
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank).")
    dora: bool = Field(False, description="Train a magnitude per output as well (DoRA).")
    init: str = Field("default", description="Start of A: default (Kaiming uniform) or gaussian.")

    @field_validator("targets")
    @classmethod
    def _names_targets(cls, targets: list[str] | None) -> list[str] | None:
        if targets is not None and (not targets or not all(targets)):
            raise ValueError("names no layer")
        if targets and ALL_LINEAR in targets and len(targets) > 1:
            raise ValueError("all-linear cannot be combined with names")
        return targets

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        if init.lower().startswith(CHANGES_THE_BASE):
            raise ValueError(
                f"{init!r} starts from changed base weights or from data, which is not supported yet: "
                "use default or gaussian"
            )
        if init not in ("default", "gaussian"):
            raise ValueError(f"{init!r} is unknown: use default or gaussian")
        return init

    @model_validator(mode="after")
    def _alpha_defaults_to_rank(self) -> LoraOptions:
        if self.alpha is None:
            object.__setattr__(self, "alpha", float(self.rank))  # frozen from here on
        return self


class LoraMethod:
    """LoRA and its variants that peft can merge without touching the base."""

    name = "lora"
    summary = "LoRA, rsLoRA or DoRA on chosen linear layers"
    options: type[MethodOptions] = LoraOptions
    kind: Literal["adapter", "full"] = "adapter"
    mergeable = True
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 5e-4,
        "weight_decay": 0.01,
        "scheduler": "linear",
        "warmup_ratio": 0.03,
    }

    def fit(self, model: PreTrainedModel, options: LoraOptions) -> LoraOptions:
        """Resolves the targets against the base's layers.

        Raises:
            ConfigError: a target matches no linear layer, or the rank exceeds a layer's dimension.
        """
        linears = linear_shapes(model)
        targets = options.targets or default_targets(model)
        chosen = _matches(linears, targets)
        errors: list[PeftEvalError] = [_no_such_target(name, linears) for name in targets if not chosen[name]]
        shapes = {layer: linears[layer] for layers in chosen.values() for layer in layers}
        too_small = sorted(layer for layer, shape in shapes.items() if options.rank > min(shape))
        if too_small:
            smallest = min(min(shapes[layer]) for layer in too_small)
            errors.append(
                ConfigError(
                    f"rank {options.rank} exceeds the smaller side of {too_small[0]} {shapes[too_small[0]]}",
                    place="--rank",
                    remedy=f"use at most {smallest}, or other --targets",
                )
            )
        raise_all(errors)
        return options.model_copy(update={"targets": targets})

    def prepare(self, model: PreTrainedModel, options: LoraOptions, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose LoRA weights alone are trained, in float32."""
        from peft import LoraConfig, get_peft_model

        targets = options.targets or default_targets(model)
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,  # type: ignore[arg-type]  # peft's annotation says int, its arithmetic is float
            target_modules=ALL_LINEAR if targets == [ALL_LINEAR] else targets,
            lora_dropout=options.dropout,
            use_rslora=options.rslora,
            use_dora=options.dora,
            init_lora_weights=True if options.init == "default" else "gaussian",
            bias="none",
            task_type="CAUSAL_LM",
        )
        adapted = get_peft_model(model, config)
        adapted.peft_config["default"].base_model_name_or_path = base_id
        return adapted


def linear_shapes(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Returns (in, out) of every linear layer that can be adapted, by name, the LM head excluded."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, nn.Linear):
            shapes[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            shapes[name] = (module.weight.shape[0], module.weight.shape[1])
    return shapes


def default_targets(model: PreTrainedModel) -> list[str]:
    """Returns peft's targets for the base's architecture, all linear layers where peft has none."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type)
    return list(known) if known else [ALL_LINEAR]


def _matches(linears: dict[str, tuple[int, int]], targets: list[str]) -> dict[str, list[str]]:
    if targets == [ALL_LINEAR]:
        return {ALL_LINEAR: list(linears)}
    return {target: [name for name in linears if name == target or name.endswith(f".{target}")] for target in targets}


def _no_such_target(target: str, linears: dict[str, tuple[int, int]]) -> ConfigError:
    ends = sorted({name.rpartition(".")[2] for name in linears})
    near = difflib.get_close_matches(target, ends, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"linear layers here: {', '.join(ends)}, or all-linear"
    return ConfigError(f"no linear layer is called {target!r}", place="--targets", remedy=remedy)
