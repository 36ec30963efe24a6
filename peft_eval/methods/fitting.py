"""Options of peft's types fitted to a base: default targets, sizes that follow from its shape, and what cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peft_eval.errors import ConfigError, PeftEvalError
from peft_eval.methods.presets import Preset
from peft_eval.methods.targets import ALL_LINEAR, linear_shapes, matches, rank_error, target_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# LLaMA-Adapter leaves the two lowest of its 32 layers without a prompt.
_LAYERS_WITHOUT_PROMPT = 2


def fitted(preset: Preset, model: PreTrainedModel, options: Any) -> tuple[dict[str, Any], list[PeftEvalError]]:
    """Returns the options that change for this base, and all that is wrong with the others."""
    changes: dict[str, Any] = {}
    errors: list[PeftEvalError] = []
    given = options.model_dump()
    if "targets" in given:
        targets = given["targets"] or default_targets(preset.peft_type, model)
        if targets is None:
            errors.append(
                ConfigError(
                    f"peft has no default targets of {preset.name} for a {model.config.model_type}",
                    place="--targets",
                    remedy="name the layers",
                )
            )
        else:
            changes["targets"] = targets
            found = matches(model, targets)
            errors += target_errors(model, found) if given["targets"] and _all_layers(given) else _nothing_found(found)
            errors += _rank_errors(preset, model, given, [name for names in found.values() for name in names])
            if preset.peft_type == "IA3" and given["feedforward_modules"] is None:
                changes["feedforward_modules"] = _feedforward(model, targets)
    if preset.peft_type == "ADAPTION_PROMPT" and given["adapter_layers"] is None:
        layers = model.config.get_text_config().num_hidden_layers
        changes["adapter_layers"] = max(1, layers - _LAYERS_WITHOUT_PROMPT)
    if preset.peft_type == "TRAINABLE_TOKENS":
        errors += _token_errors(model, given["token_indices"])
    errors += _layer_errors(model, given.get("layers_to_transform"))
    errors += _context_errors(model, given.get("num_virtual_tokens", 0))
    return changes, errors


def default_targets(peft_type: str, model: PreTrainedModel) -> list[str] | None:
    """Returns peft's targets for the base's architecture; all linear layers, for LoRA, where peft has none."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import constants

    tuners: dict[Any, Any] = PEFT_TYPE_TO_TUNER_MAPPING
    spelled = peft_type.replace("_", "")  # LNTUNING
    mapping = getattr(tuners[peft_type], "target_module_mapping", None) or getattr(
        constants, f"TRANSFORMERS_MODELS_TO_{spelled}_TARGET_MODULES_MAPPING", {}
    )
    known = mapping.get(model.config.model_type)
    if known is None:
        return [ALL_LINEAR] if peft_type == "LORA" else None
    return [known] if isinstance(known, str) else list(known)


def _all_layers(given: dict[str, Any]) -> bool:
    return given.get("layers_to_transform") is None


def _nothing_found(found: dict[str, list[str]]) -> list[PeftEvalError]:
    if any(found.values()):
        return []
    return [ConfigError(f"no layer is called {', '.join(found)}", place="--targets", remedy="name the layers")]


def _rank_errors(
    preset: Preset, model: PreTrainedModel, given: dict[str, Any], names: list[str]
) -> list[PeftEvalError]:
    option = "init_r" if preset.peft_type == "ADALORA" else "rank"
    rank = given.get(option)
    if rank is None or not preset.rank_fits:
        return []
    shapes = linear_shapes(model)
    error = rank_error(
        rank, {name: shapes[name] for name in names if name in shapes}, place=f"--{option.replace('_', '-')}"
    )
    return [error] if error else []


def _layer_errors(model: PreTrainedModel, numbers: int | list[int] | None) -> list[PeftEvalError]:
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    wanted = [numbers] if isinstance(numbers, int) else numbers or []
    if layers is None:
        return []
    outside = [number for number in wanted if not 0 <= number < layers]
    if not outside:
        return []
    problem = f"the base has no layer {outside[0]}"
    return [ConfigError(problem, place="--layers-to-transform", remedy=f"its layers are 0 to {layers - 1}")]


def _context_errors(model: PreTrainedModel, virtual_tokens: int) -> list[PeftEvalError]:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is None or virtual_tokens < context:
        return []
    problem = f"{virtual_tokens:,} virtual tokens leave nothing of the base's context of {context:,}"
    return [ConfigError(problem, place="--num-virtual-tokens")]


def _feedforward(model: PreTrainedModel, targets: list[str]) -> list[str]:
    """Returns which of (IA)^3's targets are scaled at their input: the feed-forward's, as peft knows them."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD

    return [name for name in FEEDFORWARD.get(model.config.model_type, []) if name in targets]


def _token_errors(model: PreTrainedModel, tokens: list[int]) -> list[PeftEvalError]:
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    outside = [token for token in tokens if not 0 <= token < rows]
    if outside:
        return [ConfigError(f"token {outside[0]} is outside the vocabulary of {rows:,}", place="--token-indices")]
    if not tokens:
        return [ConfigError("is required", place="--token-indices", remedy="e.g. --token-indices 5,17")]
    return []
